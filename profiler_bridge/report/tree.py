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

"""A trace as an indented tree for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiler_bridge.notification import format_timestamp
from profiler_bridge.report.text import milliseconds, printable
from profiler_bridge.trace import Span, Trace

# Deeper spans are not indented further: nobody reads past this column.
_MAX_INDENT = 40
_MAX_DETAIL = 100
_BAR = 24
# So many alike in a row, and they are shown as one line.
_FOLD = 3

_RED, _YELLOW, _CYAN, _DIM, _RESET = (
    *("\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[2m"),
    "\x1b[0m",
)


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """How a tree is drawn.

    :param terminal: with colours and bars
    :param max_depth: hide what is deeper; 1 shows the roots
    :param min_duration: hide spans that took fewer microseconds, unless they
        failed or are unfinished
    :param fold: show siblings that are alike as one line
    """

    terminal: bool = False
    max_depth: int | None = None
    min_duration: int | None = None
    fold: bool = True


def render(
    trace: Trace,
    options: TreeOptions = TreeOptions(),
) -> Iterator[str]:
    """Give a heading, then a line for each span or row of spans alike."""
    yield f"trace {trace.base_id}\n"
    yield (
        f"{format_timestamp(trace.started)} UTC,"
        f" {milliseconds(trace.finished - trace.started)} ms,"
        f" {len(trace.spans)} spans: {trace.verdict}\n\n"
    )
    bar = " " * (_BAR + 2) if options.terminal else ""
    yield (
        f"{'start ms':>12} {'total ms':>12} {'self ms':>12}  {bar}operation\n"
    )
    for depth, spans in _rows(trace.roots, options):
        yield _line(trace, depth, spans, options)


def _rows(
    roots: Sequence[Span], options: TreeOptions
) -> Iterator[tuple[int, list[Span]]]:
    """What stands in a line each, with its depth; parents first."""
    waiting = [_siblings(roots, options)]
    while waiting:
        spans = next(waiting[-1], None)
        if spans is None:
            waiting.pop()
            continue
        yield len(waiting) - 1, spans
        if options.max_depth is None or len(waiting) < options.max_depth:
            # Spans that are shown as one have no children.
            waiting.append(_siblings(spans[0].children, options))


def _siblings(
    spans: Sequence[Span], options: TreeOptions
) -> Iterator[list[Span]]:
    shown = (
        span
        for span in spans
        if options.min_duration is None
        or span.duration is None
        or span.duration >= options.min_duration
        or span.exception is not None
    )
    for look, alike in itertools.groupby(shown, _look):
        row = list(alike)
        if options.fold and look is not None and len(row) >= _FOLD:
            yield row
        else:
            yield from ([span] for span in row)


def _look(span: Span) -> tuple[object, ...] | None:
    """What spans have in common that can be shown as one; None: nothing."""
    if span.children or span.duration is None or span.exception is not None:
        return None
    first = span.first
    return (
        *(first.name, first.describe(), first.project, first.service),
        first.host,
    )


def _line(
    trace: Trace, depth: int, spans: list[Span], options: TreeOptions
) -> str:
    first = spans[0]
    total = [span.duration for span in spans if span.duration is not None]
    own = [span.self_time for span in spans if span.self_time is not None]
    missing = "unfinished" if first.stop is None else "no start"
    text = (
        f"{milliseconds(first.started - trace.started):>12}"
        f" {milliseconds(sum(total)) if total else missing:>12}"
        f" {milliseconds(sum(own)) if own else '-':>12}  "
    )
    label = "  " * min(depth, _MAX_INDENT) + _label(first)
    if len(spans) > 1:
        label += f"  x {len(spans)}"
    if not options.terminal:
        return f"{text}{label}\n"
    if first.exception is not None:
        label = f"{_RED}{label}{_RESET}"
    elif first.duration is None:
        label = f"{_YELLOW}{label}{_RESET}"
    bar = _bar(trace, first.started, spans[-1])
    return f"{text}{_CYAN}{bar}{_RESET}  {label}\n"


def _bar(trace: Trace, started: int, last: Span) -> str:
    """Where in the trace it ran; an unfinished span to the trace's end."""
    whole = max(trace.finished - trace.started, 1)
    finished = trace.finished if last.stop is None else last.stop.timestamp
    begin, end = (
        max(0, min(_BAR, round((each - trace.started) * _BAR / whole)))
        for each in (started, finished)
    )
    begin = min(begin, _BAR - 1)
    width = max(end - begin, 1)
    drawn = "\N{BOX DRAWINGS HEAVY HORIZONTAL}" * width
    if last.stop is None:
        drawn = drawn[:-1] + "\N{BLACK RIGHT-POINTING TRIANGLE}"
    return (" " * begin + drawn).ljust(_BAR)


def _label(span: Span) -> str:
    first = span.first
    where = ":".join(filter(None, (first.project, first.service)))
    parts = [first.name, first.describe()[:_MAX_DETAIL]]
    if where or first.host:
        parts.append(f"[{where}@{first.host}]" if first.host else f"[{where}]")
    if span.exception is not None and span.stop is not None:
        message = span.stop.info.get("message")
        parts.append(
            f"! {span.exception}" + (f": {message}" if message else "")
        )
    return " ".join(printable(part) for part in parts if part)
