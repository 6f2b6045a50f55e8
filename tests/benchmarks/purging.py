# SPDX-License-Identifier: Apache-2.0

"""20,000 traces are purged by rules; and storing beside that.

Traces are as Keystone's: of ten points, five written at once. One in twenty
has an error, one in ten is slow; of these a half and a quarter go, too.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event

from profiler_bridge import rules
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.purging import Pace, Purge
from profiler_bridge.storage.retention import KeepRule, Retention
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    notifications,
    seeded,
)
from tests.benchmarks import payloads
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.table import Row, compare, single

_POINTS = 10
_GROUP = 5
_SLOW = 2 * SECOND
# What it was with one trace in a transaction: 10,300 in 41 s, PostgreSQL.
_BEFORE = 4.0
# Of the time, as in the daemon.
_SHARE = 0.05
_TURNS = 7
_ROUNDS = 40


def run(bench: Bench) -> Iterator[Row]:
    count = bench.size(20_000, 200)
    for name in DATABASES:
        with bench.database(name) as url:
            storage = get_storage(url)
            storage.prepare()
            yield _by_rules(bench, storage, count, name)
            _fill(storage, count)
            storage.close()
            yield _beside(bench, url, name)


def _fill(storage: Storage, count: int, seed: int = 1) -> dict[str, str]:
    """Store traces, one each second.

    :returns: by base_id, oldest first, what they are
    """
    rng = seeded(seed)
    kinds = {}
    group = []
    for number in range(count):
        slow = number % 10 == 0
        trace = payloads.trace(
            rng,
            STARTED + number * SECOND,
            _POINTS,
            error=number % 20 == 1,
            lasts_at_least=_SLOW + 1 if slow else 0,
        )
        kinds[trace[0]["base_id"]] = (
            "slow" if slow else "error" if number % 20 == 1 else "plain"
        )
        group += trace
        if number % _GROUP == _GROUP - 1:
            storage.write(notifications(group))
            group = []
    return kinds


def _by_rules(bench: Bench, storage: Storage, count: int, name: str) -> Row:
    kinds = _fill(storage, count)
    # When the last one that is of no rule has just come to be old. A slow one
    # ends two seconds after it started.
    now = STARTED + (count + 60) * SECOND
    retention = Retention(
        60,
        [
            KeepRule("errors", [rules.parse("error")], 60 + count // 2),
            KeepRule(
                "slow", [rules.parse("slower than 2s")], 57 + count * 3 // 4
            ),
        ],
    )
    kept = {
        base_id
        for number, (base_id, kind) in enumerate(kinds.items())
        if (kind == "error" and number >= count // 2)
        or (kind == "slow" and number > count // 4)
    }
    purge = Purge(retention)
    began = time.perf_counter()
    gone = storage.purge_by(purge, now)
    taken = (time.perf_counter() - began) * 1e3
    left = {
        trace.base_id for trace in storage.list_traces(TraceQuery(limit=None))
    }
    if left != kept or gone != count - len(kept):
        raise RuntimeError(
            f"{name}: {len(left - kept)} did not go, {len(kept - left)} did"
        )
    storage.purge_by(Purge(Retention(1)), now + 10**6 * SECOND)
    return single(
        f"purge by rules of {count:,} traces, {name}",
        "ms/trace",
        [taken / gone],
        at_most=bench.wanted(_BEFORE / 10) if name == "PostgreSQL" else None,
    )


def _beside(bench: Bench, url: str, name: str) -> Row:
    """Write while a purge goes on, and while it rests, in turns."""
    context = multiprocessing.get_context("fork")
    may_work, rests = context.Event(), context.Event()
    purger = context.Process(
        target=_purge, args=[url, may_work, rests], daemon=True
    )
    purger.start()
    storage = get_storage(url)
    rng = seeded(2)
    taken: dict[bool, list[float]] = {True: [], False: []}
    number = 0
    for turn in range(-1, bench.turns(_TURNS).stop):
        for beside in (False, True):
            if beside:
                may_work.set()
            else:
                may_work.clear()
                rests.wait()
            groups = []
            for _ in range(bench.size(_ROUNDS, 2)):
                group = []
                for _ in range(2 * _GROUP):
                    number += 1
                    group += payloads.trace(
                        rng, STARTED + 10**7 * SECOND + number, _POINTS
                    )
                groups.append(notifications(group))
            began = time.perf_counter()
            for written in groups:
                storage.write(written)
            ended = time.perf_counter()
            if turn >= 0:
                points = sum(map(len, groups))
                taken[beside].append(points / (ended - began))
    old = TraceQuery(until=STARTED + 10**6 * SECOND, limit=1)
    if not bench.quick and not storage.list_traces(old):
        raise RuntimeError(f"{name}: all was purged before the end")
    purger.kill()
    purger.join()
    storage.close()
    return compare(
        f"storing beside a purge, {name}",
        "points/s",
        taken[True],
        "without",
        taken[False],
        at_least=bench.wanted(0.9),
    )


def _purge(url: str, may_work: Event, rests: Event) -> None:
    """As the daemon does it, while it may."""

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        if not may_work.is_set():
            rests.set()
            may_work.wait()
            rests.clear()

    pause(0)
    get_storage(url).purge_by(
        Purge(Retention(60)),
        STARTED + 10**6 * SECOND,
        pace=Pace(_SHARE, pause),
    )
    while True:
        pause(0.01)
