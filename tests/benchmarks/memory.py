# SPDX-License-Identifier: Apache-2.0

"""The most memory that a worker of the daemon has under a large backlog."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from profiler_bridge import exceptions
from profiler_bridge.notification import FORMAT, VERSION
from profiler_bridge.testing.sample import Payload
from tests import bus
from tests.benchmarks import notifier, payloads
from tests.benchmarks.backlog import publish, stored_points
from tests.benchmarks.bench import Bench
from tests.benchmarks.listener import memory, peak_memory
from tests.benchmarks.table import Row, single
from tests.daemon import Daemon, wait_for

_MIB = 1 << 20
_SECONDS = 900


def run(bench: Bench) -> Iterator[Row]:
    count = bench.size(500_000, 5_000)
    for kind, bodies in (
        ("messages of one point", payloads.bodies),
        ("many-point messages", notifier.messages_of_many),
    ):
        publish(bench.rabbitmq, bodies(count))
        peak, _ = _store(bench, count)
        yield single(
            f"peak memory of a worker, {kind}, backlog of {count:,} points",
            "MiB",
            [peak / _MIB],
            at_most=bench.wanted(200),
        )
    for size, messages, limit in ((1, 200, 200), (16, 20, 450)):
        bodies_of_size = [*_large(size * 1_000_000, bench.size(messages, 4))]
        publish(bench.rabbitmq, (body for body, _ in bodies_of_size))
        peak, after = _store(
            bench, sum(points for _, points in bodies_of_size)
        )
        name = f"{len(bodies_of_size)} messages of {size} MB"
        yield single(
            f"peak memory of a worker, {name}",
            "MiB",
            [peak / _MIB],
            at_most=bench.wanted(limit),
        )
        yield single(
            f"memory of a worker after {name}",
            "MiB",
            [after / _MIB],
        )


def _large(size: int, count: int) -> Iterator[tuple[bytes, int]]:
    """Bodies of so many bytes at most, and how many points are in each.

    One has a long statement, and the next has many points.
    """
    points = payloads.points(1_000_000)
    for number in range(count):
        some: list[Payload] = []
        rest = size - 1_000
        if number % 2:
            while rest > 0:
                some.append(next(points))
                rest -= len(json.dumps(some[-1])) + 2
            some.pop()
        else:
            some = [next(points), next(points)]
            some[1]["info"]["db"] = {"statement": "x" * (rest - 2_000)}
        payload = {FORMAT: VERSION, "points": some}
        yield json.dumps(bus.envelope(payload)).encode(), len(some)


def _store(bench: Bench, count: int) -> tuple[int, int]:
    """Have a worker store so many points.

    :returns: bytes of memory, at its peak and a second later
    """
    with bench.database("SQLite") as url:
        daemon = Daemon(
            bench.folder(),
            {
                "DEFAULT": {"transport_url": bench.rabbitmq.transport_url},
                "osprofiler": {"connection_string": url},
            },
        )

        def all_stored() -> bool:
            time.sleep(0.5)
            with contextlib.suppress(exceptions.StorageError):
                return stored_points(url, count) == count
            return False

        with daemon:
            wait_for(all_stored, "the backlog in the database", _SECONDS)
            time.sleep(1)
            peak = max(map(peak_memory, daemon.workers()))
            after = max(map(memory, daemon.workers()))
            daemon.terminate()
    return peak, after
