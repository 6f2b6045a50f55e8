# SPDX-License-Identifier: Apache-2.0

"""A trace as Chrome's trace events, which Perfetto opens.

The Trace Event Format:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
and how Perfetto reads it:
https://perfetto.dev/docs/getting-started/other-formats
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import count
from typing import Any

from profiler_bridge.notification import format_timestamp
from profiler_bridge.report import spans
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.lanes import Bar, lay_out
from profiler_bridge.trace import Trace

_MAX_NAME = 100
# Perfetto drops events that are nested deeper than 512 in a thread.
_MAX_LEVELS = 512


def render(trace: Trace) -> Iterator[str]:
    """Give one event a line.

    Each place is a process, and each of its lanes a thread. Times count from
    the trace's first notification. An unfinished span begins and does not
    end: viewers draw it to the end of the trace.
    """
    heading = Heading.of(trace)
    other = {
        "base_id": trace.base_id,
        "title": heading.title,
        "started": f"{format_timestamp(trace.started)} UTC",
        "verdict": str(heading),
    }
    yield '{"traceEvents":[\n'
    yield from spans.items(_events(trace, heading.late))
    yield f'\n],"displayTimeUnit":"ms","otherData":{spans.encode(other)}}}\n'


def _events(trace: Trace, late: Set[str]) -> Iterator[dict[str, Any]]:
    started = trace.started
    # One count for both: Perfetto names threads by their number alone.
    numbers = count(1)
    for place, lanes in lay_out(trace, _MAX_LEVELS).items():
        pid = next(numbers)
        yield _name("process_name", pid, pid, str(place))
        for number, lane in enumerate(lanes, start=1):
            tid = next(numbers)
            yield _name("thread_name", pid, tid, f"lane {number}")
            for bar in lane:
                yield _event(bar, started, late) | {"pid": pid, "tid": tid}


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {
        "ph": "M",
        "name": what,
        "pid": pid,
        "tid": tid,
        "args": {"name": name},
    }


def _event(bar: Bar, started: int, late: Set[str]) -> dict[str, Any]:
    span = bar.span
    event: dict[str, Any] = {
        "ph": "B" if span.stop is None else "X",
        "name": spans.label(span)[:_MAX_NAME],
        "cat": spans.kind(span),
        "ts": bar.start - started,
        "args": spans.attributes(span, late),
    }
    if span.stop is not None:
        event["dur"] = bar.end - bar.start
    error = spans.error(span)
    if error is not None:
        event["args"]["error"] = error
        event["cname"] = "terrible"  # the red of chrome://tracing
    return event
