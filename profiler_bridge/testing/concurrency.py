# SPDX-License-Identifier: Apache-2.0

"""Writers that crash, while others write parts of the same traces.

Traces of a few points arrive at four writers, one point at a time, but for the
last two: these arrive at the same moment at two writers. Now and then a writer
crashes between its write and what has to follow, and forgets what it knew; its
messages are delivered again, to another. Half of the traces arrive in the
order of time: then the first to write knows the start, and has to be told of
services that come later. The others arrive shuffled: then it may be the last
who knows the start.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Inserted, StoragePlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    Intermediary,
    StorageTests,
    paged,
    write,
)
from profiler_bridge.testing.processes import (
    WRITERS,
    in_processes,
    inboxes,
    wait_for_others,
)
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    new_id,
    seeded,
    span,
)

SERVICES = ("api", "compute", "images", "network", "volumes")
# How many traces begin to arrive at a time.
_AT_ONCE = 8
# How often a writer crashes.
_CRASHES = 0.2

#: What writes, as :class:`Storage` does.
MakeStorage = Callable[[StoragePlugin], Storage]


@dataclass(frozen=True)
class Parts:
    """A trace that arrives in parts.

    :param points: in the order of time; at most one of each service
    :param services: those of the points
    :param failed: whether one of them is an error
    """

    base_id: str
    started: int
    points: Sequence[Payload]
    services: Sequence[str]
    failed: bool


def make_traces(count: int = 200) -> list[Parts]:
    """Traces of three to five points; at each moment two of them start."""
    rng = seeded(1)
    traces = []
    for number in range(count):
        base_id = new_id(rng)
        started = STARTED + number // 2 * SECOND
        services = rng.sample(SERVICES, 3 + number % 3)
        fails = rng.randrange(len(services)) if number % 4 == 0 else None
        points = []
        for at, service in enumerate(services):
            moment = started + at * MILLISECOND
            error = "DBDeadlock" if at == fails else None
            start, stop = span(
                *(base_id, new_id(rng), base_id, moment, 0),
                service=service,
                error=error,
            )
            points.append(stop if error else start)
        traces.append(
            Parts(base_id, started, points, services, fails is not None)
        )
    return traces


def arrivals(traces: Sequence[Parts]) -> list[list[Payload]]:
    """Batches, which arrive at one writer after the other.

    :returns: :data:`WRITERS` at a time; no two points of a trace in one
    """
    moments = (len(traces) - 1) // _AT_ONCE + 3
    batches: list[list[Payload]] = [[] for _ in range(moments * WRITERS)]
    rng = seeded(2)
    for number, trace in enumerate(traces):
        points = list(trace.points)
        if number % 4 >= 2:
            rng.shuffle(points)
        for at, point in enumerate(points):
            # The last two at the same moment, at different writers.
            moment = number // _AT_ONCE + (at + len(points) % 2) // 2
            writer = (number + at) % WRITERS
            batches[moment * WRITERS + writer].append(point)
    return batches


class _Crash(Exception):
    """Between a write and what has to follow it."""


class _Crashing(Intermediary):
    def __init__(self, plugin: StoragePlugin, rng: random.Random) -> None:
        super().__init__(plugin)
        self._rng = rng

    def insert(
        self, pieces: Any, marks: Any, entries: Any, names: Any = ()
    ) -> Inserted:
        inserted = self.plugin.insert(pieces, marks, entries, names)
        if pieces and self._rng.random() < _CRASHES:
            raise _Crash
        return inserted


def _write_and_crash(
    connection_string: str,
    writer: int,
    batches: Sequence[Sequence[Payload]],
    make_storage: MakeStorage,
) -> int:
    """Write what arrives here, and what another had when it crashed.

    :returns: how often this one crashed
    """
    inbox = inboxes()[writer]
    next_inbox = inboxes()[(writer + 1) % WRITERS]
    crashes = 0
    with contextlib.closing(get_storage(connection_string).plugin) as plugin:
        crashing: Any = _Crashing(plugin, seeded(writer))
        storage = make_storage(crashing)
        for arrived in range(writer, len(batches), WRITERS):
            wait_for_others()
            number: int | None = arrived
            while number is not None:
                try:
                    write(storage, batches[number])
                except _Crash:
                    crashes += 1
                    storage = make_storage(crashing)  # it knows nothing
                    next_inbox.put(number)
                number = None if inbox.empty() else inbox.get()
        wait_for_others()
        while not inbox.empty():
            write(make_storage(plugin), batches[inbox.get()])
    return crashes


def write_and_crash(
    connection_string: str,
    traces: Sequence[Parts],
    make_storage: MakeStorage = Storage,
) -> None:
    """Write traces, of which everything is delivered until it is written."""
    batches = arrivals(traces)
    crashes = in_processes(
        _write_and_crash,
        [
            (connection_string, writer, batches, make_storage)
            for writer in range(WRITERS)
        ],
    )
    assert any(crashes)


def assert_listed(storage: Storage, traces: Sequence[Parts]) -> None:
    """Every trace is at its start, under all of its terms, and once."""
    latest_first = sorted(
        traces, key=lambda trace: (trace.started, trace.base_id), reverse=True
    )
    assert paged(storage, 5) == [trace.base_id for trace in latest_first]
    assert paged(storage, 5, error=True) == [
        trace.base_id for trace in latest_first if trace.failed
    ]
    for service in SERVICES:
        assert paged(storage, 5, services=[service]) == [
            trace.base_id
            for trace in latest_first
            if service in trace.services
        ]
    assert [
        summary.started
        for summary in storage.list_traces(TraceQuery(limit=len(traces)))
    ] == [trace.started for trace in latest_first]


class Concurrency(StorageTests):
    """Many writers, of whom some crash."""

    def test_concurrent_writers_that_crash(
        self, connection_string: str, storage: Storage
    ) -> None:
        traces = make_traces()
        write_and_crash(connection_string, traces)
        assert_listed(storage, traces)
        self.assert_stored(
            connection_string,
            [point for trace in traces for point in trace.points],
        )
