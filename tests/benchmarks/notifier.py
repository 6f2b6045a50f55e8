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

"""What the notifier costs a profiled request, and what it saves the bridge.

A request makes a point each millisecond, which is more than services do. The
other side is osprofiler's own ``messaging://``. Then one worker drains the
same points, as messages of many and as messages of one.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from oslo_config import cfg

from profiler_bridge.notification import FORMAT, VERSION
from tests import bus
from tests.benchmarks import payloads
from tests.benchmarks.backlog import Drain, drain, make
from tests.benchmarks.bench import Bench
from tests.benchmarks.listener import OURS
from tests.benchmarks.table import Row, compare

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from osprofiler import notifier

    import profiler_bridge.osprofiler  # noqa: F401 - registers bridge://

#: Points of a full message, by default.
MANY = 500
_EVERY = 0.001
_MICRO = 1e6

Notify = Callable[[dict[str, Any]], None]


def run(bench: Bench) -> Iterator[Row]:
    yield from _request(bench)
    yield from _worker(bench)


def _request(bench: Bench) -> Iterator[Row]:
    points = [
        {
            key: value
            for key, value in point.items()
            if key not in ("project", "service")
        }
        for point in payloads.points(bench.size(5_000, 1_000))
    ]
    percentiles: dict[str, list[list[float]]] = {"bridge": [], "messaging": []}
    for _ in bench.turns(5):
        for driver, found in percentiles.items():
            notify = notifier.create(
                f"{driver}://",
                conf=_conf(),
                context={},
                transport_url=bench.rabbitmq.transport_url,
                project="nova",
                service="api",
                host="vm",
            )
            notify(points[0])  # connects
            if driver == "bridge":
                notify.__self__._notifier.flush(60)
            taken = _time(notify, points)
            if driver == "bridge":
                notify.__self__._notifier.stop(60)
            else:
                notify.__self__.transport.cleanup()
            notifier.clear_notifier_cache()
            found.append(statistics.quantiles(taken, n=100))
    for percent, times in ((50, 30), (99, 10)):
        ours, other = (
            [each[percent - 1] * _MICRO for each in found]
            for found in percentiles.values()
        )
        yield compare(
            f"time in notify(), p{percent}",
            "us/point",
            ours,
            "messaging://",
            other,
            inverse=True,
            at_least=bench.wanted(times),
        )


def _time(notify: Notify, points: list[dict[str, Any]]) -> list[float]:
    """Seconds that each call takes."""
    taken = []
    for point in points:
        began = time.perf_counter()
        notify(point)
        taken.append(time.perf_counter() - began)
        time.sleep(_EVERY)
    return taken


def _conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return conf


def _worker(bench: Bench) -> Iterator[Row]:
    single = make(bench.size(20_000, 2_000))
    many = [*messages_of_many(bench.size(100_000, 10_000))]
    for name in ("Redis", "SQLite"):
        ours: list[Drain] = []
        other: list[Drain] = []
        for _ in bench.turns(5):
            with bench.database(name) as url:
                ours.append(drain(bench, many, OURS, url))
            with bench.database(name) as url:
                other.append(drain(bench, single, OURS, url))
        yield compare(
            f"ingest of many-point messages, {name}",
            "points/s",
            [each.rate * MANY for each in ours],
            "single-point messages",
            [each.rate for each in other],
            at_least=bench.wanted(5),
        )
        yield compare(
            f"worker's CPU time, many-point messages, {name}",
            "us/point",
            [each.cpu * _MICRO / MANY for each in ours],
            "single-point messages",
            [each.cpu * _MICRO for each in other],
            inverse=True,
        )


def messages_of_many(count: int) -> Iterator[bytes]:
    """Bodies as our notifier makes them, of so many points together."""
    points = payloads.points(count)
    while some := [*itertools.islice(points, MANY)]:
        payload = {FORMAT: VERSION, "points": some}
        yield json.dumps(bus.envelope(payload)).encode()
