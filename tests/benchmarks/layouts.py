# SPDX-License-Identifier: Apache-2.0

"""What osprofiler's own drivers would have stored, written by them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from profiler_bridge.testing.sample import Payload

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from oslo_serialization import jsonutils
    from osprofiler.drivers.redis_driver import Redis
    from osprofiler.drivers.sqlalchemy_driver import SQLAlchemyDriver

_ROWS = 500
T = TypeVar("T")


def redis_driver(url: str) -> Any:
    return Redis(url, project="nova", service="api", host="vm", conf={})


class _Committing:
    """The driver's connection, which commits nothing by itself."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def execute(self, statement: sa.Insert) -> None:
        self._connection.execute(statement)
        self._connection.commit()


def sqlalchemy_driver(url: str) -> Any:
    """osprofiler's driver with its table made, and each row committed."""
    driver: Any = SQLAlchemyDriver(
        url, project="nova", service="api", host="vm"
    )
    driver._conn.commit()
    driver._conn = _Committing(driver._conn)
    return driver


class _Collecting:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def execute(self, statement: sa.Insert) -> None:
        self.rows.append(dict(statement.compile().params))


def fill_sql(url: str, payloads: Iterable[Payload]) -> sa.Table:
    """Insert the rows that osprofiler's driver makes, many at once.

    :returns: the driver's table
    """
    driver = sqlalchemy_driver(url)
    table: sa.Table = driver._data_table
    engine: sa.Engine = driver._engine
    collecting = driver._conn = _Collecting()
    for chunk in chunks(payloads, _ROWS):
        for payload in chunk:
            driver.notify(payload)
        with engine.begin() as connection:
            connection.execute(table.insert(), collecting.rows)
        collecting.rows.clear()
    engine.dispose()
    return table


def fill_redis(url: str, payloads: Iterable[Payload]) -> None:
    """Push what osprofiler's driver pushes, many at once."""
    driver = redis_driver(url)
    for chunk in chunks(payloads, _ROWS):
        with driver.db.pipeline(transaction=False) as pipeline:
            for payload in chunk:
                pipeline.lpush(
                    driver.namespace_opt + payload["base_id"],
                    jsonutils.dumps(payload),
                )
            pipeline.execute()
    driver.db.close()


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
