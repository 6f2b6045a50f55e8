# SPDX-License-Identifier: Apache-2.0

"""Bytes per point, against the layouts of osprofiler's own drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import notifications
from tests import servers
from tests.benchmarks import layouts, payloads
from tests.benchmarks.bench import SQL, Bench
from tests.benchmarks.table import Row, compare

_BATCH = 500


def run(bench: Bench) -> Iterator[Row]:
    points = bench.size(100_000, 5_000)
    for name in SQL:
        with bench.database(name) as url:
            _fill(url, points)
            ours = measure(bench, name, url)
        with bench.database(name) as url:
            layouts.fill_sql(url, payloads.points(points))
            theirs = measure(bench, name, url)
        yield _row(name, points, ours, theirs, bench.wanted(0.7))
    with servers.Redis(appendonly=False) as server:
        before = _redis_size(server)
        _fill(server.url, points)
        ours = _redis_size(server) - before
        server.execute("FLUSHALL")
        before = _redis_size(server)
        layouts.fill_redis(server.url, payloads.points(points))
        theirs = _redis_size(server) - before
    yield _row("Redis", points, ours, theirs, bench.wanted(1.6))


def _row(
    name: str, points: int, ours: int, theirs: int, at_most: float | None
) -> Row:
    return compare(
        f"size of {points:,} points, {name}",
        "bytes/point",
        [ours / points],
        "osprofiler's layout",
        [theirs / points],
        at_most=at_most,
    )


def _fill(url: str, points: int) -> None:
    storage = get_storage(url)
    storage.prepare()
    for chunk in layouts.chunks(payloads.points(points), _BATCH):
        storage.write(notifications(chunk))
    storage.close()


def measure(bench: Bench, name: str, url: str) -> int:
    """Bytes of tables and indexes, when nobody has the database open.

    For Redis it is all memory that the server uses.
    """
    if name == "SQLite":
        return Path(url.removeprefix("sqlite:///")).stat().st_size
    if name == "Redis":
        return _redis_size(bench.redis)
    database = url.rpartition("/")[2].partition("?")[0]
    if name == "PostgreSQL":
        [(size,)] = bench.postgresql.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE"
            " relkind = 'r' AND relnamespace = 'public'::regnamespace",
            database,
        )
        return int(size)
    tables = bench.mariadb.execute("SHOW TABLES", database)
    for (table,) in tables:
        bench.mariadb.execute(f"ANALYZE TABLE {table}", database)
    [(size,)] = bench.mariadb.execute(
        "SELECT sum(data_length + index_length) FROM information_schema.tables"
        f" WHERE table_schema = '{database}'"
    )
    return int(size)


def _redis_size(server: servers.Redis) -> int:
    return int(server.execute("INFO", "memory")["used_memory"])
