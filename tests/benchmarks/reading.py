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

"""A report and a page of the list, where little and where much is stored.

In one process with osprofiler's redis driver, which reads the same points
from its own layout.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.base import Storage
from profiler_bridge.testing.sample import STARTED, notifications
from tests import servers
from tests.benchmarks import layouts, payloads
from tests.benchmarks.bench import Bench
from tests.benchmarks.payloads import EVERY, SERVICES, TRACE
from tests.benchmarks.table import Row, compare

_BATCH = 500
_TURNS = 9
_THEIRS = "osprofiler's redis driver"


def run(bench: Bench) -> Iterator[Row]:
    sizes = (1_000, 10_000) if bench.quick else (10_000, 100_000, 1_000_000)
    # A server of its own: nothing is to last, and no other reads and writes.
    with servers.Redis(appendonly=False) as server:
        urls = map(server.url_for, itertools.count())
        drivers = {size: _fill_theirs(next(urls), size) for size in sizes}
        folder = bench.folder()
        for name, storages in (
            (
                "SQLite",
                {
                    size: _fill(f"sqlite:///{folder}/{size}", size)
                    for size in sizes
                },
            ),
            ("Redis", {size: _fill(next(urls), size) for size in sizes}),
        ):
            yield from _stored(bench, name, storages, drivers)
            yield from _queries(bench, name, storages[sizes[-1]], sizes[-1])
            for storage in storages.values():
                storage.close()


def _fill(url: str, points: int) -> Storage:
    storage = get_storage(url)
    storage.prepare()
    for chunk in layouts.chunks(payloads.points(points), _BATCH):
        storage.write(notifications(chunk))
    return storage


def _fill_theirs(url: str, points: int) -> Any:
    layouts.fill_redis(url, payloads.points(points))
    return layouts.redis_driver(url)


def _stored(
    bench: Bench,
    name: str,
    storages: dict[int, Storage],
    drivers: dict[int, Any],
) -> Iterator[Row]:
    """How much is stored should not matter."""
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    for size, storage in storages.items():
        middle = STARTED + size // TRACE // 2 * EVERY
        found = storage.list_traces(TraceQuery(until=middle))
        # Each reads every one of them in turn.
        ours, theirs = itertools.tee(
            itertools.cycle(each.base_id for each in found)
        )
        calls |= {
            ("report", size): partial(_report, storage.report, ours),
            ("their report", size): partial(
                _report, partial(_their_report, drivers[size]), theirs
            ),
            ("page", size): partial(storage.list_traces, TraceQuery()),
            ("their page", size): partial(_their_page, drivers[size]),
        }
    taken = bench.milliseconds(_TURNS, calls)
    for size in storages:
        yield compare(
            f"report of {TRACE} points, {size:,} stored, {name}",
            "ms",
            taken["report", size],
            _THEIRS,
            taken["their report", size],
            inverse=True,
        )
    smallest, *_, largest = storages
    yield compare(
        f"report of {TRACE} points, {largest:,} stored, {name}",
        "ms",
        taken["report", largest],
        f"{smallest:,} stored",
        taken["report", smallest],
        at_most=bench.wanted(1.3),
    )
    for size in storages:
        yield compare(
            f"newest 20 of {size // TRACE:,} traces, {name}",
            "ms",
            taken["page", size],
            _THEIRS,
            taken["their page", size],
            inverse=True,
            at_least=bench.wanted(50) if size == largest else None,
        )


def _report(
    report: Callable[[str], object], base_ids: Iterator[str]
) -> object:
    return report(next(base_ids))


def _their_report(driver: Any, base_id: str) -> object:
    fresh = copy.copy(driver)
    fresh.result = {}  # it keeps what it reported before
    return fresh.get_report(base_id)


def _their_page(driver: Any) -> object:
    traces = driver.list_traces()
    return sorted(traces, key=lambda each: str(each["timestamp"]))[-20:]


def _queries(
    bench: Bench, name: str, storage: Storage, size: int
) -> Iterator[Row]:
    """What filters cost, and where every summary is looked at."""
    traces = size // TRACE
    middle = STARTED + traces // 2 * EVERY
    queries = {
        "the newest": TraceQuery(),
        "until the middle": TraceQuery(until=middle),
        "with errors": TraceQuery(error=True),
        "of a service": TraceQuery(service=SERVICES[1]),
        "at least 1 s": TraceQuery(min_duration=EVERY),
        "the longest": TraceQuery(sort=Sort.DURATION),
    }
    newest, *others = queries
    taken = bench.milliseconds(
        _TURNS,
        {
            what: partial(storage.list_traces, query)
            for what, query in queries.items()
        },
    )
    for what in others:
        yield compare(
            f"page of {traces:,} traces: {what}, {name}",
            "ms",
            taken[what],
            newest,
            taken[newest],
        )
