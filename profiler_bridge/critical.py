# SPDX-License-Identifier: Apache-2.0

"""What the end of a request waited for: its critical path. Pure.

The client is above all requests of a trace, as if it were their parent. From
the end of the last one the path goes back in time. What a span waited for is
the child that ended last; before that one began, for the child that ended last
by then. In between there is the span itself. So of children that ran at once
one is on the path, and what goes on after its parent's end, such as a cast, is
not below it: nobody waited.

The client is all that most clients tell of the time between their requests.
There the path has what went on without being waited for by a span, such as the
server that is built while the client asks again and again whether it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from profiler_bridge.late import late_spans, requests
from profiler_bridge.trace import Span, Trace


class Segment(NamedTuple):
    """A time in which the end waited for one thing.

    :param start: microseconds since 1970
    :param end: greater than that, likewise
    :param span: None where nothing that is known ran
    """

    start: int
    end: int
    span: Span | None


#: When spans ran, by trace_id: microseconds since 1970.
_Times = Mapping[str, tuple[int, int]]


def critical_path(trace: Trace) -> tuple[Segment, ...]:
    """Say of each microsecond what the trace's end waited for then.

    The path leads from the start of the first request to the end of the last
    one; where a trace has no request, from root to root, and without any of
    these from orphan to orphan. Between two requests it has the work that ran
    then, though no span waited for it: the one that ended last; of several
    that still ran, the one that began first. Late spans are never on it, see
    :func:`~profiler_bridge.late.late_spans`.

    Of spans that end at once the one that began first counts, of those the
    one with the least trace_id. Where a span's end or start is missing, it ran
    as long as what is known to be below it. Clocks are believed, and what
    seems to have begun before its parent is cut: for clocks that disagree
    there is :meth:`~profiler_bridge.trace.Trace.adjusted`.

    :returns: earliest first; each begins where the one before it ends.
        Without spans, or where all requests take no time, empty.
    """
    tops: Sequence[Span] = requests(trace) or trace.roots
    if not tops:
        return ()
    late = late_spans(trace)
    times = _times(trace, late)
    start, end = _around(times[top.trace_id] for top in tops)
    path = _back(None, _latest(tops, times), start, end, times)
    path = _filled(path, tops, times)
    path = _filled(path, _detached(trace, tops, times), times)
    return tuple(path)[::-1]


def time_on_path(path: Iterable[Segment]) -> dict[str | None, int]:
    """Sum a path up by span.

    :returns: microseconds by trace_id; under None those in which nothing that
        is known ran. What is not on the path is not in it.
    """
    times: dict[str | None, int] = {}
    for start, end, span in path:
        key = None if span is None else span.trace_id
        times[key] = times.get(key, 0) + end - start
    return times


def _times(trace: Trace, late: Set[str]) -> _Times:
    """When spans ran, as far as it is known; of those that are not late."""
    times: dict[str, tuple[int, int]] = {}
    # Children first: where an end is missing, theirs say more.
    for _, span in reversed([*trace.walk()]):
        if span.trace_id in late:
            continue
        start = end = span.started
        if span.start is None or span.stop is None:
            start, end = _around(
                [
                    (start, end),
                    *(
                        times[child.trace_id]
                        for child in span.children
                        if child.trace_id in times
                    ),
                ]
            )
        if span.start is not None:
            start = span.started
        if span.stop is not None:
            end = max(span.stop.timestamp, start)
        times[span.trace_id] = start, end
    return times


def _around(times: Iterable[tuple[int, int]]) -> tuple[int, int]:
    starts, ends = zip(*times, strict=True)
    return min(starts), max(ends)


def _latest(spans: Iterable[Span], times: _Times) -> Iterator[Span]:
    """Those that took time, in the order in which the path asks for them."""
    ran = []
    for span in spans:
        start, end = times.get(span.trace_id, (0, 0))
        if start < end:
            ran.append((-end, start, span.trace_id, span))
    ran.sort()
    return (span for *_, span in ran)


def _back(
    top: Span | None,
    children: Iterator[Span],
    start: int,
    end: int,
    times: _Times,
) -> Iterator[Segment]:
    """What the end of a span waited for, latest first.

    :param top: None for the client
    :param children: its own, as :func:`_latest` gives them
    """
    waiting = [(top, start, children)]
    while waiting:
        span, start, children = waiting[-1]
        for child in children:
            began, ended = times[child.trace_id]
            if start < ended <= end:
                if ended < end:
                    yield Segment(ended, end, span)
                end = ended
                below = _latest(child.children, times)
                waiting.append((child, max(began, start), below))
                break
        else:
            if start < end:
                yield Segment(start, end, span)
            end = start
            waiting.pop()


def _filled(
    path: Iterable[Segment], spans: Iterable[Span], times: _Times
) -> Iterator[Segment]:
    """A path with what ran where nothing did; both latest first."""
    ended = [*_latest(spans, times)][::-1]
    running: list[tuple[int, str, Span]] = []
    paths: dict[str, list[Segment]] = {}
    for segment in path:
        start, end, known = segment
        if known is not None:
            yield segment
            continue
        while start < end:
            while ended and times[ended[-1].trace_id][1] >= end:
                span = ended.pop()
                began = times[span.trace_id][0]
                heapq.heappush(running, (began, span.trace_id, span))
            if running and running[0][0] < end:
                began, trace_id, span = running[0]
                if trace_id not in paths:
                    below = _latest(span.children, times)
                    own = _back(span, below, *times[trace_id], times)
                    paths[trace_id] = [*own][::-1]
                before = max(began, start)
                yield from _take(paths[trace_id], before, end)
            else:
                before = start
                if ended:
                    before = max(times[ended[-1].trace_id][1], start)
                yield Segment(before, end, None)
            end = before


def _take(path: list[Segment], start: int, end: int) -> Iterator[Segment]:
    """A part of a path, latest first.

    :param path: earliest first; what lies after the part is taken away,
        because nobody asks for it any more
    """
    while path and path[-1].end > start:
        segment = path[-1]
        if segment.start < end:
            yield Segment(
                max(segment.start, start), min(segment.end, end), segment.span
            )
        if segment.start < start:
            break
        path.pop()


def _detached(
    trace: Trace, tops: Sequence[Span], times: _Times
) -> Iterator[Span]:
    """What no span waited for: it goes on, or begins, after its parent's end.

    And what is below nothing, but for those above all.
    """
    known = {top.trace_id for top in tops}
    for root in trace.roots:
        if root.trace_id not in known:
            yield root
    for parent in trace.spans:
        if parent.trace_id in times:
            over = times[parent.trace_id][1]
            for child in parent.children:
                if child.trace_id in times and times[child.trace_id][1] > over:
                    yield child
