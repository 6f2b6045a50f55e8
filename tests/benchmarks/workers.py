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

"""Points per second of several workers on one queue."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.benchmarks.backlog import drain, make
from tests.benchmarks.bench import Bench
from tests.benchmarks.listener import OURS
from tests.benchmarks.table import Row, compare

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
