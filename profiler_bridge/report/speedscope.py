# SPDX-License-Identifier: Apache-2.0

"""A trace for https://www.speedscope.app.

The format, of which this is the evented kind:
https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources and
https://www.speedscope.app/file-format-schema.json
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from profiler_bridge.report import spans
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.lanes import Bar, lay_out
from profiler_bridge.report.spans import Place
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

_Frames = dict[tuple[str, str], int]


def render(trace: Trace) -> Iterator[str]:
    """Give one event a line.

    Each lane is a profile, and each operation a frame: spans that did the
    same in the same place share it, so that speedscope adds them up. Times
    count from the trace's first notification.
    """
    started = trace.started
    took = trace.finished - started
    heading = Heading.of(trace)
    about = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "profiler_bridge",
        "name": f"{heading.title}, {trace.base_id}: {heading}",
        "activeProfileIndex": 0,
    }
    frames: _Frames = {}
    yield f'{spans.encode(about)[:-1]},"profiles":['
    between = "\n"
    for place, lanes in lay_out(trace).items():
        for number, lane in enumerate(lanes, start=1):
            profile = {
                "type": "evented",
                "name": f"{place} lane {number}",
                "unit": "microseconds",
                "startValue": 0,
                "endValue": took,
            }
            yield f'{between}{spans.encode(profile)[:-1]},"events":[\n'
            yield from spans.items(
                _events(lane, place, started, frames, heading.late)
            )
            yield "\n]}"
            between = ",\n"
    yield '\n],"shared":{"frames":[\n'
    yield from spans.items({"name": n, "file": file} for n, file in frames)
    yield "\n]}}\n"


def _events(
    lane: list[Bar],
    place: Place,
    started: int,
    frames: _Frames,
    late: Set[str],
) -> Iterator[dict[str, Any]]:
    # The open frames, each with the time when it closes.
    stack: list[tuple[int, int]] = []

    def close(depth: int) -> Iterator[dict[str, Any]]:
        while len(stack) > depth:
            frame, end = stack.pop()
            yield {"type": "C", "frame": frame, "at": end - started}

    for bar in lane:
        yield from close(bar.depth)
        named = (_frame_name(bar.span, late), str(place))
        frame = frames.setdefault(named, len(frames))
        stack.append((frame, bar.end))
        yield {"type": "O", "frame": frame, "at": bar.start - started}
    yield from close(0)


def _frame_name(span: Span, late: Set[str]) -> str:
    name = spans.label(span)
    if span.stop is None:
        name += " (unfinished)"
    if span.start is None:
        name += " (no start)"
    if span.trace_id in late:
        name += " (late)"
    error = spans.error(span)
    return name if error is None else f"{name} ! {printable(error)}"
