# SPDX-License-Identifier: Apache-2.0

"""Databases of every kind, as tests look at them and change them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.sql import schema
from profiler_bridge.testing.storage import (
    assert_presentable,
)
from tests import servers


def connect(url: str) -> Any:
    """A connection of the database's own client, without SQLAlchemy."""
    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite":
        return contextlib.closing(sqlite3.connect(parts.database or ""))
    if parts.get_backend_name() == "postgresql":
        return psycopg.connect(
            host=parts.host,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            dbname=parts.database,
        )
    return pymysql.connect(
        host=parts.host,
        port=parts.port or 0,
        user=parts.username,
        password=str(parts.password),
        database=parts.database,
    )


def rows(url: str, sql: str) -> list[Any]:
    with connect(url) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return list(cursor.fetchall())


def changed(url: str, **parts: Any) -> str:
    """The URL with other parts."""
    other = sa.make_url(url).set(**parts)
    return other.render_as_string(hide_password=False)


def server_of(
    url: str, request: pytest.FixtureRequest
) -> servers.MariaDB | servers.PostgreSQL:
    backend = sa.make_url(url).get_backend_name()
    server: servers.MariaDB | servers.PostgreSQL = request.getfixturevalue(
        "mariadb" if backend == "mysql" else backend
    )
    return server


def execute(url: str, request: pytest.FixtureRequest, sql: str) -> None:
    """Run a statement with rights that the bridge's user does not have."""
    if url.startswith("sqlite"):
        with connect(url) as connection, connection:
            connection.execute(sql)
    else:
        server_of(url, request).execute(sql, sa.make_url(url).database)


def touch(url: str) -> None:
    """Make SQLite's file; databases of servers are there already."""
    if url.startswith("sqlite"):
        Path(sa.make_url(url).database or "").touch()


def tables_of(url: str) -> list[Any]:
    """What the database itself says of the tables."""
    names = ", ".join(f"'{name}'" for name in sorted(schema.METADATA.tables))
    backend = sa.make_url(url).get_backend_name()
    if backend == "sqlite":
        sql = f"SELECT sql FROM sqlite_schema WHERE name IN ({names})"
        return sorted(" ".join(text.split()) for (text,) in rows(url, sql))
    if backend == "postgresql":
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable,"
            " character_maximum_length, collation_name, column_default"
            f" FROM information_schema.columns WHERE table_name IN ({names})"
        )
        indexes = (
            f"SELECT indexdef FROM pg_indexes WHERE tablename IN ({names})"
        )
        return sorted(rows(url, columns)) + sorted(rows(url, indexes))
    return [
        rows(url, f"SHOW CREATE TABLE {name}")
        for name in sorted(schema.METADATA.tables)
    ]


def misconfigured(url: str, says: str) -> None:
    """Preparing and checking say the same, in one line without a password."""
    storage = get_storage(url)
    with pytest.raises(exceptions.StorageMisconfigured, match=says) as caught:
        storage.prepare()
    assert_presentable(caught.value, url)
    with pytest.raises(exceptions.StorageMisconfigured, match=says) as caught:
        storage.check()
    assert_presentable(caught.value, url)


@contextlib.contextmanager
def closed(server: servers.PostgreSQL, url: str) -> Iterator[None]:
    """A database that throws everybody out and lets nobody in.

    PostgreSQL itself goes on: after a crash it takes long to come back, the
    longer the more databases other tests have made.
    """
    name = sa.make_url(url).database
    server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}'"
    )
    yield
    server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextlib.contextmanager
def killed(server: servers.MariaDB) -> Iterator[None]:
    server.kill()
    yield
    server.start()
