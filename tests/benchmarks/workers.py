# SPDX-License-Identifier: Apache-2.0

"""Points per second of several workers on one queue, and their shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.benchmarks.backlog import drain, make
from tests.benchmarks.bench import Bench
from tests.benchmarks.listener import OURS
from tests.benchmarks.notifier import MANY, messages_of_many
from tests.benchmarks.table import Row, compare, single

_WORKERS = (1, 2, 4)


def run(bench: Bench) -> Iterator[Row]:
    bodies = make(bench.size(20_000, 2_000))
    for name in ("SQLite", "MariaDB"):
        rates: dict[int, list[float]] = {count: [] for count in _WORKERS}
        for _ in bench.turns(3):
            for count in _WORKERS:
                with bench.database(name) as url:
                    drained = drain(bench, bodies, OURS, url, count)
                rates[count].append(drained.rate)
        for count in _WORKERS[1:]:
            yield compare(
                f"{count} workers, {os.cpu_count()} processors, {name}",
                "points/s",
                rates[count],
                "1 worker",
                rates[1],
            )
    large = [*messages_of_many(bench.size(100_000, 5_000))]
    shares = []
    for _ in bench.turns(5):
        with bench.database("SQLite") as url:
            shares.append(drain(bench, large, OURS, url, 4).largest_share)
    yield single(
        f"largest share of CPU time of 4 workers, {len(large)} messages of"
        f" {MANY} points",
        "of 1",
        shares,
        at_most=bench.wanted(0.4),
    )
