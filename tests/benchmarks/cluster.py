# SPDX-License-Identifier: Apache-2.0

"""Redis Cluster, of three masters and three replicas, beside a server alone.

What a write costs the worker, and how long a page of the list takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import STARTED, notifications, seeded
from tests import servers
from tests.benchmarks import payloads
from tests.benchmarks.bench import Bench
from tests.benchmarks.layouts import chunks
from tests.benchmarks.table import Row, compare

_MICRO = 1e6
_POINTS = 20
_AT_ONCE = 500
_PAGES = (20, 100)


def run(bench: Bench) -> Iterator[Row]:
    batches = _batches(bench.size(20_000, 2_000) // _POINTS)
    points = sum(map(len, batches))
    with servers.RedisCluster() as many:
        alone, cluster = get_storage(bench.redis.url), get_storage(many.url)
        costs: dict[Storage, list[float]] = {alone: [], cluster: []}
        for _ in bench.turns(5):
            bench.redis.execute("FLUSHALL")
            many.clear()
            for storage, own in costs.items():
                storage.prepare()
                own.append(_seconds(storage, batches) / points * _MICRO)
        yield compare(
            f"CPU time of storing {_AT_ONCE} points a write, Redis Cluster",
            "us/point",
            costs[cluster],
            "Redis alone",
            costs[alone],
        )
        taken = bench.milliseconds(
            9,
            {
                (storage, limit): partial(
                    storage.list_traces, TraceQuery(limit=limit)
                )
                for limit in _PAGES
                for storage in costs
            },
        )
        for limit in _PAGES:
            yield compare(
                f"list of {limit} traces, Redis Cluster",
                "ms",
                taken[cluster, limit],
                "Redis alone",
                taken[alone, limit],
                at_most=bench.wanted(2),
            )


def _batches(traces: int) -> Sequence[Sequence[Notification]]:
    rng = seeded(1)
    return [
        *chunks(
            [
                one
                for number in range(traces)
                for one in notifications(
                    payloads.trace(rng, STARTED + number, _POINTS)
                )
            ],
            _AT_ONCE,
        )
    ]


def _seconds(
    storage: Storage, batches: Sequence[Sequence[Notification]]
) -> float:
    began = time.process_time()
    for batch in batches:
        storage.write(batch)
    return time.process_time() - began
