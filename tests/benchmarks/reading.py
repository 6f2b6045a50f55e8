# SPDX-License-Identifier: Apache-2.0

"""A report and a page of the list, where little and where much is stored.

In one process with osprofiler's redis driver, which reads the same points
from its own layout.
"""

from __future__ import annotations

import copy
import gc
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.report import osprofiler
from profiler_bridge.report.statistics import By, Statistics
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import STARTED, notifications
from profiler_bridge.trace import Trace
from tests import servers
from tests.benchmarks import layouts, payloads
from tests.benchmarks.bench import Bench
from tests.benchmarks.payloads import EVERY, SERVICES, TRACE
from tests.benchmarks.table import Row, compare, single

_BATCH = 500
_TURNS = 9
_THEIRS = "osprofiler's redis driver"
_SUMMED_BY = (By.OPERATION, By.STATEMENT, By.ROOT)


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
            yield from _summed_up(bench, name, storages[sizes[-1]])
            for storage in storages.values():
                storage.close()


def _summed_up(bench: Bench, name: str, storage: Storage) -> Iterator[Row]:
    """What the statistics of many traces take beside reading them."""
    traces = bench.size(2_000, 50)
    base_ids = [
        summary.base_id
        for summary in storage.list_traces(TraceQuery(limit=traces))
    ]
    read = "reading and decoding"
    calls: dict[str, Callable[[str], object]] = {
        read: storage.notifications,
        **{by: _summing(storage, Statistics(by)) for by in _SUMMED_BY},
        "without late": _summing(storage, Statistics(without_late=True)),
    }
    taken: dict[str, list[float]] = {what: [] for what in calls}
    for _ in bench.turns(3):
        for what, seconds in _in_turn(base_ids, calls).items():
            taken[what].append(seconds)
    for what in [*taken][1:]:
        yield compare(
            f"CPU of stats, {what}, {traces:,} traces, {name}",
            "s",
            taken[what],
            read,
            taken[read],
            at_most=bench.wanted(1.3),
        )
    yield single(
        f"peak memory of stats, {traces:,} traces, {name}",
        "MiB",
        [_peak_memory(str(storage), traces)],
        at_most=bench.wanted(100),
    )


def _summing(
    storage: Storage, statistics: Statistics
) -> Callable[[str], object]:
    return lambda base_id: statistics.add(
        Trace.build(base_id, storage.notifications(base_id))
    )


def _in_turn(
    base_ids: Iterable[str], calls: Mapping[str, Callable[[str], object]]
) -> dict[str, float]:
    """Seconds of CPU that each takes for all, without garbage collection.

    Trace by trace: what else a machine does meanwhile is the same for all.
    A server's time is not in it.
    """
    taken = dict.fromkeys(calls, 0.0)
    gc.collect()
    gc.disable()
    try:
        for base_id in base_ids:
            for what, call in calls.items():
                began = time.process_time()
                call(base_id)
                taken[what] += time.process_time() - began
    finally:
        gc.enable()
    return taken


_STATS = """
from pathlib import Path
from profiler_bridge.cmd.report import main
main()
print(Path('/proc/self/status').read_text())
"""


def _peak_memory(url: str, traces: int) -> float:
    """Of the command, in MiB."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", _STATS, "--connection-string", url),
            *("stats", "--limit", str(traces)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert peak
    return int(peak[1]) / 1024


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
    """The amount of stored data should not matter."""
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    for size, storage in storages.items():
        middle = STARTED + size // TRACE // 2 * EVERY
        page = storage.list_traces(TraceQuery(until=middle))
        # Each reads every one of them in turn.
        ours, theirs = itertools.tee(
            itertools.cycle(summary.base_id for summary in page)
        )
        calls |= {
            ("report", size): partial(
                _report, partial(_our_report, storage), ours
            ),
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


def _our_report(storage: Storage, base_id: str) -> object:
    return osprofiler.report(storage.trace(base_id))


def _their_report(driver: Any, base_id: str) -> object:
    fresh = copy.copy(driver)
    fresh.result = {}  # it keeps what it reported before
    return fresh.get_report(base_id)


def _their_page(driver: Any) -> object:
    traces = driver.list_traces()
    return sorted(traces, key=lambda trace: str(trace["timestamp"]))[-20:]


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
        "of a service": TraceQuery(services=[SERVICES[1]]),
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
