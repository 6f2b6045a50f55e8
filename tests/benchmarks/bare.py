# SPDX-License-Identifier: Apache-2.0

"""What a database's client costs with nothing around it.

The same points, in as many writes and transactions, each in one table; or, in
Redis, each under one key. No trace is found by it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pymysql
import redis
import sqlalchemy as sa

from profiler_bridge.notification import Notification

_TABLE = "CREATE TABLE bare (base_id VARCHAR(36), point TEXT)"


def write(url: str, batches: Sequence[Sequence[Notification]]) -> float:
    """Seconds of CPU that writing takes."""
    rows = [[(one.base_id, one.text) for one in batch] for batch in batches]
    with _WRITERS[sa.make_url(url).get_backend_name()](url) as insert:
        began = time.process_time()
        for some in rows:
            insert(some)
        return time.process_time() - began


_Insert = Callable[[Sequence[tuple[str, str]]], object]


def _into_table(connection: Any, statement: str) -> _Insert:
    """As clients insert many rows, which are then committed."""
    cursor = connection.cursor()
    cursor.execute(_TABLE)

    def insert(rows: Sequence[tuple[str, str]]) -> None:
        cursor.executemany(statement, rows)
        connection.commit()

    return insert


@contextlib.contextmanager
def _sqlite(url: str) -> Iterator[_Insert]:
    with contextlib.closing(
        sqlite3.connect(str(sa.make_url(url).database))
    ) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        yield _into_table(connection, "INSERT INTO bare VALUES (?, ?)")


@contextlib.contextmanager
def _mysql(url: str) -> Iterator[_Insert]:
    arguments = sa.make_url(url).translate_connect_args(username="user")
    with pymysql.connect(**arguments) as connection:
        yield _into_table(connection, "INSERT INTO bare VALUES (%s, %s)")


@contextlib.contextmanager
def _postgresql(url: str) -> Iterator[_Insert]:
    arguments = sa.make_url(url).translate_connect_args(
        username="user", database="dbname"
    )
    with psycopg.connect(**arguments, autocommit=True) as connection:
        connection.execute(_TABLE)
        cursor = connection.cursor()

        def insert(rows: Sequence[tuple[str, str]]) -> None:
            values = ", ".join(["(%s, %s)"] * len(rows))
            cursor.execute(
                f"INSERT INTO bare VALUES {values}".encode(),
                [value for row in rows for value in row],
            )

        yield insert


@contextlib.contextmanager
def _redis(url: str) -> Iterator[_Insert]:
    with redis.Redis.from_url(url) as client:
        yield lambda rows: client.mset(
            {f"{base_id}:{point[-60:]}": point for base_id, point in rows}
        )


_WRITERS = {
    "sqlite": _sqlite,
    "mysql": _mysql,
    "postgresql": _postgresql,
    "redis": _redis,
}
