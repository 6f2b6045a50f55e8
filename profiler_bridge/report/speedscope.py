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
"""A trace for https://www.speedscope.app.

The format, of which this is the evented kind:
https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources and
https://www.speedscope.app/file-format-schema.json
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiler_bridge.report import spans
from profiler_bridge.report.spans import Bar, Place
from profiler_bridge.report.text import printable
from profiler_bridge.trace import Span, Trace

_Frames = dict[tuple[str, str], int]


def render(trace: Trace) -> Iterator[str]:
    """Give an event a line: a profile a lane, and a frame an operation.

    Times count from the trace's first notification. Spans that did the same
    in the same place share a frame, so that speedscope adds them up.
    """
    started = trace.started
    took = trace.finished - started
    about = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "profiler_bridge",
        "name": f"{trace.base_id}: {trace.verdict}",
        "activeProfileIndex": 0,
    }
    frames: _Frames = {}
    yield f'{spans.encode(about)[:-1]},"profiles":['
    between = "\n"
    for place, lanes in spans.lanes(trace).items():
        for number, lane in enumerate(lanes, start=1):
            profile = {
                "type": "evented",
                "name": f"{place} lane {number}",
                "unit": "microseconds",
                "startValue": 0,
                "endValue": took,
            }
            yield f'{between}{spans.encode(profile)[:-1]},"events":[\n'
            yield from spans.items(_events(lane, place, started, frames))
            yield "\n]}"
            between = ",\n"
    yield '\n],"shared":{"frames":[\n'
    yield from spans.items({"name": n, "file": file} for n, file in frames)
    yield "\n]}}\n"


def _events(
    lane: list[Bar], place: Place, started: int, frames: _Frames
) -> Iterator[dict[str, Any]]:
    # The frames that are open, with the times when they close.
    stack: list[tuple[int, int]] = []

    def close(depth: int) -> Iterator[dict[str, Any]]:
        while len(stack) > depth:
            frame, end = stack.pop()
            yield {"type": "C", "frame": frame, "at": end - started}

    for bar in lane:
        yield from close(bar.depth)
        named = (_frame_name(bar.span), str(place))
        frame = frames.setdefault(named, len(frames))
        stack.append((frame, bar.end))
        yield {"type": "O", "frame": frame, "at": bar.start - started}
    yield from close(0)


def _frame_name(span: Span) -> str:
    name = spans.label(span)
    if span.stop is None:
        name += " (unfinished)"
    if span.start is None:
        name += " (no start)"
    error = spans.error(span)
    return name if error is None else f"{name} ! {printable(error)}"
