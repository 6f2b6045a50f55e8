# SPDX-License-Identifier: Apache-2.0

"""Whether what is stored shows a service that is set up wrongly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from profiler_bridge import exceptions
from profiler_bridge.late import is_mixed, late_spans
from profiler_bridge.preflight.findings import Finding, Result, finding
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage.traces import Storage
from profiler_bridge.trace import Trace

# How many traces are read, of at most how many spans, for how many seconds;
# and how many services are named, as anybody can make some up.
_NEWEST = 20
_LARGEST = 5_000
_TIME_LIMIT = 5.0
_MOST_NAMED = 8


def check_traces(storage: Storage) -> Iterator[Finding]:
    """Look whether a thread of a service keeps a request's profiler.

    Nova's do, which runs on threads unless told otherwise. What they do later
    goes into the trace of the first request, see
    :mod:`profiler_bridge.late`.

    :returns: nothing of a storage without traces, or that cannot be read
    """
    looked_at = kept = 0
    services: set[str] = set()
    for trace in _newest(storage):
        late = late_spans(trace)
        looked_at += 1
        kept += bool(late) or is_mixed(trace)
        services.update(
            span.first.qualified_service or "unknown"
            for span in trace.spans
            if span.trace_id in late
        )
    if kept:
        named = sorted(services)[:_MOST_NAMED]
        of = f" ({', '.join(named)})" if named else ""
        yield finding(
            "traces",
            Result.WARNING,
            f"{storage}: {kept} of the newest {looked_at} have in them what"
            f" threads did after the request{of}: a thread keeps the profiler."
            " Start such services, as Nova's on threads, through"
            " profiler-bridge-instrument",
        )
    elif looked_at:
        yield finding(
            "traces",
            Result.OK,
            f"{storage}: the newest {looked_at} have their own request in"
            " them, and no other",
        )


def _newest(storage: Storage) -> Iterator[Trace]:
    query = TraceQuery(limit=_NEWEST, time_limit=_TIME_LIMIT)
    end = time.monotonic() + _TIME_LIMIT
    # That a storage cannot be read is told by its own check.
    with contextlib.suppress(exceptions.StorageError):
        for summary in storage.list_traces(query):
            if time.monotonic() > end:
                return
            # One may be purged meanwhile.
            with contextlib.suppress(exceptions.TraceNotFound):
                if summary.spans <= _LARGEST:
                    yield storage.trace(summary.base_id)
