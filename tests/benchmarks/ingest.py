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

"""Points per second of one worker, and its CPU time per point.

From a backlog in RabbitMQ into each database, against a listener that does
nothing, and against the bridge that anyone would write first.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.backlog import Drain, drain, make
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.listener import NAIVE, NO_OP, OURS
from tests.benchmarks.table import Row, compare

_MICRO = 1e6


def run(bench: Bench) -> Iterator[Row]:
    bodies = make(bench.size(20_000, 2_000))
    for name in DATABASES:
        # Slow, and as slow with few messages as with many.
        few = bodies[: bench.size(10_000 if name == "Redis" else 2_000, 500)]
        no_op: list[Drain] = []
        ours: list[Drain] = []
        naive: list[Drain] = []
        for _ in bench.turns(5):
            no_op.append(drain(bench, bodies, NO_OP))
            with bench.database(name) as url:
                ours.append(drain(bench, bodies, OURS, url))
            with bench.database(name) as url:
                naive.append(drain(bench, few, NAIVE, url))
        yield compare(
            f"ingest, {name}",
            "points/s",
            [each.rate for each in ours],
            "no-op listener",
            [each.rate for each in no_op],
            at_least=bench.wanted(
                0.90 if name in ("SQLite", "Redis") else 0.85
            ),
        )
        yield compare(
            f"ingest, {name}",
            "points/s",
            [each.rate for each in ours],
            "naive bridge",
            [each.rate for each in naive],
            at_least=bench.wanted(2.2 if name == "Redis" else 5),
        )
        yield compare(
            f"worker's CPU time, {name}",
            "us/point",
            [each.cpu * _MICRO for each in ours],
            "no-op listener",
            [each.cpu * _MICRO for each in no_op],
        )
