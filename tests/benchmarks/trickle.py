# SPDX-License-Identifier: Apache-2.0

"""CPU time of writing traces that arrive bit by bit, as a busy cloud's do.

What a write costs must not depend on how much of its traces there is already.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence

from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import osprofiler
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import (
    STARTED,
    Payload,
    notifications,
    seeded,
)
from tests.benchmarks import bare, payloads
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.layouts import chunks
from tests.benchmarks.size import measure
from tests.benchmarks.table import Row, compare, single

_MICRO = 1e6
_TRACES = 200
_OF_EACH = 2
_AT_ONCE = 10
_WORKERS = 4

Batch = Sequence[Notification]


def run(bench: Bench) -> Iterator[Row]:
    few, many = (bench.size(5_000, 800), bench.size(50_000, 1_600))
    whole = payloads.trace(seeded(1), points=bench.size(20_000, 400))
    for name in DATABASES:
        growth = bench.wanted(1.4 if name == "SQLite" else 1.2)
        for kind, cut in (
            (f"{_TRACES} traces, {_OF_EACH} points of each a write", _mixed),
            (f"{_TRACES} traces, {_OF_EACH} points of one a write", _alone),
        ):
            costs: dict[int, list[float]] = {few: [], many: []}
            bare_costs: list[float] = []
            for _ in bench.turns(5):
                with bench.database(name) as url:
                    seconds = bare.write(url, cut(few))
                bare_costs.append(seconds / few * _MICRO)
                for points in costs:
                    batches = cut(points)
                    with bench.database(name) as url:
                        seconds = _write(url, batches, _TRACES)
                    costs[points].append(seconds / points * _MICRO)
            yield single(
                f"{kind}, {many:,} points, {name}",
                "us/point",
                costs[many],
                at_most=bench.wanted(60),
            )
            yield compare(
                f"{kind}, {many:,} points, {name}",
                "us/point",
                costs[many],
                "bare client",
                bare_costs,
            )
            yield compare(
                f"{kind}, {many:,} points, {name}",
                "us/point",
                costs[many],
                f"{few:,} points",
                costs[few],
                at_most=growth,
            )
        yield from _one_trace(bench, name, whole)
        yield from _sizes(bench, name)


def _traces(points: int) -> list[list[Notification]]:
    rng = seeded(points)
    return [
        notifications(
            payloads.trace(
                rng,
                STARTED + number,
                points // _TRACES,
                service=payloads.SERVICES[number % 4],
            )
        )
        for number in range(_TRACES)
    ]


def _steps(points: int) -> Iterator[list[Batch]]:
    """Write a part of every trace, again and again."""
    parts = [chunks(t, _OF_EACH) for t in _traces(points)]
    return ([*step] for step in zip(*parts, strict=True))


def _mixed(points: int) -> list[Batch]:
    return [[*itertools.chain(*step)] for step in _steps(points)]


def _alone(points: int) -> list[Batch]:
    return [part for step in _steps(points) for part in step]


def _write(url: str, batches: Sequence[Batch], traces: int) -> float:
    """Seconds of CPU that writing takes."""
    storage = get_storage(url)
    storage.prepare()
    seconds = _seconds(storage, batches)
    _check(storage, sum(map(len, batches)), traces)
    storage.close()
    return seconds


def _seconds(storage: Storage, batches: Sequence[Batch]) -> float:
    """Of CPU, with what was there before frozen, as a worker has it.

    A worker has a batch at a time. Here all are in memory, and to search them
    for cyclic garbage would take as long as to write them.
    """
    gc.collect()
    gc.freeze()
    try:
        began = time.process_time()
        for batch in batches:
            storage.write(batch)
        return time.process_time() - began
    finally:
        gc.unfreeze()


def _check(storage: Storage, points: int, traces: int) -> None:
    summaries = storage.list_traces(TraceQuery(limit=10 * traces))
    assert len(summaries) == traces
    assert 2 * sum(summary.spans for summary in summaries) == points
    assert all(summary.complete for summary in summaries)


def _one_trace(
    bench: Bench, name: str, whole: Sequence[Payload]
) -> Iterator[Row]:
    """Ten points a write, until it is large."""
    made = notifications(whole)
    base_id = made[0].base_id
    oldest_first = [*chunks(made, _AT_ONCE)]
    newest_first = [*chunks(reversed(made), _AT_ONCE)]
    shuffled = [*chunks(seeded(2).sample(made, len(made)), _AT_ONCE)]
    writes: dict[str, tuple[float, Callable[[str], float]]] = {
        "oldest first": (2, lambda url: _write(url, oldest_first, 1)),
        "newest first": (2, lambda url: _write(url, newest_first, 1)),
        f"shuffled over {_WORKERS} workers": (
            2.5,
            lambda url: _write_by_workers(url, shuffled, len(made)),
        ),
    }
    seconds: dict[str, list[float]] = {order: [] for order in writes}
    in_parts: list[float] = []
    at_once: list[float] = []
    for _ in bench.turns(5):
        for order, (_, write) in writes.items():
            with bench.database(name) as url:
                seconds[order].append(write(url))
                if order == "oldest first":
                    in_parts.append(_report(url, base_id, len(made)))
        with bench.database(name) as url:
            _write(url, [made], 1)
            at_once.append(_report(url, base_id, len(made)))
    for order, (limit, _) in writes.items():
        yield single(
            f"one trace of {len(made):,} points, {_AT_ONCE} a write, {order},"
            f" {name}",
            "s",
            seconds[order],
            at_most=bench.wanted(limit),
        )
    yield compare(
        f"report of {len(made):,} points written {_AT_ONCE} at a time, {name}",
        "ms",
        in_parts,
        "written at once",
        at_once,
        at_most=bench.wanted(1.6),
    )


def _write_by_workers(
    url: str, batches: Sequence[Batch], points: int
) -> float:
    """Seconds of CPU of all workers, without their start."""
    storage = get_storage(url)
    storage.prepare()
    texts = [[one.text for one in batch] for batch in batches]
    context = multiprocessing.get_context("forkserver")
    with context.Pool(_WORKERS) as pool:
        seconds = sum(
            pool.starmap(
                _work,
                [(url, texts[at::_WORKERS]) for at in range(_WORKERS)],
                chunksize=1,
            )
        )
    _check(storage, points, 1)
    storage.close()
    return seconds


def _work(url: str, texts: Sequence[Sequence[str]]) -> float:
    batches = [[*map(Notification.from_text, batch)] for batch in texts]
    storage = get_storage(url)
    storage.check()
    seconds = _seconds(storage, batches)
    storage.close()
    return seconds


def _report(url: str, base_id: str, points: int) -> float:
    """Milliseconds that a report takes; the best of three."""
    storage = get_storage(url)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        report = osprofiler.report(storage.trace(base_id))
        taken.append((time.perf_counter() - began) * 1e3)
    storage.close()
    assert sum(row["count"] for row in report["stats"].values()) * 2 == points
    return min(taken)


def _sizes(bench: Bench, name: str) -> Iterator[Row]:
    """Shown, for whoever plans a disk."""
    points = bench.size(20_000, 800)
    for kind, batches in (
        ("a point a write", _by_ones(points)),
        ("two points a write", _alone(points)),
        ("ten points a write", _by_tens(points)),
    ):
        with bench.database(name) as url:
            empty = measure(bench, name, url) if name == "Redis" else 0
            _write(url, batches, _TRACES)
            size = measure(bench, name, url) - empty
        yield single(
            f"size of traces that trickle, {kind}, {name}",
            "bytes/point",
            [size / points],
        )


def _by_ones(points: int) -> list[Batch]:
    return [
        [one] for step in zip(*_traces(points), strict=True) for one in step
    ]


def _by_tens(points: int) -> list[Batch]:
    return [part for trace in _traces(points) for part in chunks(trace, 10)]
