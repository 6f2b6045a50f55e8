# SPDX-License-Identifier: Apache-2.0

"""What of a load has come to the storage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from profiler_bridge.query import TraceQuery
from profiler_bridge.simulation.load import Load
from profiler_bridge.simulation.shapes import PROJECT
from profiler_bridge.storage.traces import Storage

# So many seconds without another point are the end of waiting.
_STALLED = 10.0
# A look takes no more than this part of the time.
_SHARE = 0.2
_LEAST_PAUSE = 0.2
_MOST_PAUSE = 3.0


@dataclass(frozen=True)
class Arrival:
    """What a storage has of a load's traces.

    :param complete: traces that have all of their spans, from both ends
    :param traces: those of which there is something
    :param seconds: after the last point was sent, until the last trace was
        complete, as far as looks at the storage can tell; None: some are not
    """

    complete: int
    traces: int
    seconds: float | None


def wait(
    storage: Storage,
    load: Load,
    requests: int,
    began: int,
    ended: float,
    stopped: Callable[[], bool],
) -> Arrival:
    """Wait until all traces are complete, or nothing more comes of them.

    :param requests: how many traces there are to be
    :param began: when the first request came, microseconds since 1970
    :param ended: when the last point was sent, by the monotonic clock
    :raises StorageError: it cannot be read
    """
    expected = {
        load.base_id(request): len(load.shape(request).spans)
        for request in range(requests)
    }
    # By the start: the clock was set back meanwhile at most by this.
    query = TraceQuery(since=began - 1_000_000, projects=[PROJECT], limit=None)
    seen = -1
    moved = time.monotonic()
    while True:
        looked = time.monotonic()
        here = {
            summary.base_id: summary
            for summary in storage.list_traces(query)
            if summary.base_id in expected
        }
        complete = sum(
            summary.complete and summary.spans == expected[base_id]
            for base_id, summary in here.items()
        )
        points = sum(
            2 * summary.spans - summary.unfinished - summary.headless
            for summary in here.values()
        )
        now = time.monotonic()
        if complete == requests:
            return Arrival(complete, len(here), max(0.0, looked - ended))
        if points > seen:
            seen, moved = points, now
        if stopped() or now - moved > _STALLED:
            return Arrival(complete, len(here), None)
        time.sleep(
            min(_MOST_PAUSE, max(_LEAST_PAUSE, (now - looked) / _SHARE))
        )
