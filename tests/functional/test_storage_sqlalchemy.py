# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""SQLAlchemyStorage: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from profiler_bridge.testing.sample import Payload
from profiler_bridge.testing.storage import StorageConformance
from tests import servers

PAYLOADS = "SELECT payload FROM bridge_notifications"


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


class SQLConformance(StorageConformance):
    def raw_payloads(self, connection_string: str) -> list[Payload]:
        stored = rows(connection_string, PAYLOADS)
        return [json.loads(text) for (text,) in stored]


class TestSQLite(SQLConformance):
    @pytest.fixture
    def connection_string(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.fixture
    def absent_connection_string(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/absent/traces.sqlite"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, connection_string: str) -> Iterator[None]:
        with connect(connection_string) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield


class TestMariaDB(SQLConformance):
    @pytest.fixture
    def connection_string(self, mariadb_url: str) -> str:
        return mariadb_url

    @pytest.fixture
    def purging_connection_string(
        self, mariadb: servers.MariaDB, mariadb_url: str
    ) -> str:
        return mariadb.database("CREATE, SELECT, INSERT, DELETE")

    @pytest.fixture
    def absent_connection_string(self) -> str:
        return f"mysql+pymysql://u:s%40cret@127.0.0.1:{servers.free_port()}/db"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, mariadb: servers.MariaDB) -> Iterator[None]:
        mariadb.stop()
        yield
        mariadb.start()


class TestPostgreSQL(SQLConformance):
    @pytest.fixture
    def connection_string(self, postgresql_url: str) -> str:
        return postgresql_url

    @pytest.fixture
    def absent_connection_string(self) -> str:
        port = servers.free_port()
        return f"postgresql+psycopg://u:s%40cret@127.0.0.1:{port}/db"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, postgresql: servers.PostgreSQL) -> Iterator[None]:
        postgresql.stop()
        yield
        postgresql.start()
