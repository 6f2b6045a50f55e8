# SPDX-License-Identifier: Apache-2.0

"""A page of what filters choose, among 20,000 traces, against the newest page.

Durations are spread as those of a cloud's requests are, and once all alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    new_id,
    notifications,
    seeded,
)
from tests.benchmarks import payloads
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, compare

_POINTS = 100
_TURNS = 9
_HOUR = 3600 * SECOND
_ALIKE = 400 * MILLISECOND
# Of every hundred traces one began with each of these, and the others with
# one of the rest.
_RARE = ("POST", "/v3/servers")
_COMMON = [
    (method, f"/v3/{collection}")
    for method in ("GET", "POST", "DELETE")
    for collection in ("flavors", "images", "networks", "ports", "volumes")
]


def run(bench: Bench) -> Iterator[Row]:
    count = bench.size(20_000, 200)
    for alike in (False, True):
        for name in ("SQLite", "PostgreSQL", "Redis"):
            with bench.database(name) as url:
                storage = get_storage(url)
                storage.prepare()
                servers = _fill(storage, count, alike)
                if len(storage.list_traces(TraceQuery(limit=None))) != count:
                    raise RuntimeError(f"{name} does not have all traces")
                kind = "alike" if alike else "spread"
                yield from _pages(
                    bench,
                    storage,
                    servers[count // 200],
                    f"of {count:,} traces, durations {kind}, {name}",
                )
                storage.close()


def _fill(storage: Storage, count: int, alike: bool) -> list[str]:
    """Store traces, five at a time.

    :returns: UUIDs that one request each is about
    """
    rng = seeded(count)
    servers = []
    group = []
    for number in range(count):
        method, path = (
            _RARE if number % 100 == 50 else _COMMON[number % len(_COMMON)]
        )
        if number % 100 == 51:
            servers.append(new_id(rng))
            path = f"{path}/{servers[-1]}"
        spread = round(rng.lognormvariate(math.log(_ALIKE), 1.2))
        group += payloads.trace(
            rng,
            STARTED + number * payloads.EVERY,
            _POINTS,
            service=payloads.SERVICES[number % len(payloads.SERVICES)],
            asked=(method, path),
            lasts_at_least=_ALIKE if alike else spread,
        )
        if number % 5 == 4:
            storage.write(notifications(group))
            group = []
    storage.write(notifications(group))
    return servers


def _pages(
    bench: Bench, storage: Storage, server: str, where: str
) -> Iterator[Row]:
    newest = TraceQuery()
    queries = {
        "the newest": newest,
        "of a rare root": TraceQuery(roots=["POST /v3/serv*"]),
        "of common roots": TraceQuery(roots=["* /v3/*s"]),
        "of no root": TraceQuery(roots=["PATCH*"]),
        "about a server": TraceQuery(about=[server]),
        "about nothing": TraceQuery(about=[new_id(seeded(7))]),
        "of at least 3 s": TraceQuery(min_duration=3 * SECOND),
        "of at least an hour": TraceQuery(min_duration=_HOUR),
        "the longest": TraceQuery(sort=Sort.DURATION),
    }
    taken = bench.milliseconds(
        _TURNS,
        {
            what: partial(storage.list_traces, query)
            for what, query in queries.items()
        },
    )
    first, *others = queries
    for what in others:
        yield compare(
            f"page {what}, {where}",
            "ms",
            taken[what],
            first,
            taken[first],
            at_most=bench.wanted(10),
        )
