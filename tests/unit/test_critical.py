# SPDX-License-Identifier: Apache-2.0

"""What the end of a request waited for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given

from profiler_bridge.critical import critical_path
from profiler_bridge.late import PAUSE, late_spans
from profiler_bridge.operation import operation
from profiler_bridge.roots import Roots
from profiler_bridge.testing.sample import (
    MILLISECOND,
    STARTED,
    Payload,
    seeded,
    span,
)
from profiler_bridge.trace import Span, Trace
from tests import recorded
from tests.unit.test_trace import BASE, build, child, payload_lists, uid

# In milliseconds, as child() takes times.
GAP = PAUSE // MILLISECOND


def path(*payloads: list[Payload]) -> list[tuple[int, int, int | None]]:
    """The path in milliseconds, with the numbers of spans."""
    return [
        (
            (start - STARTED) // MILLISECOND,
            (end - STARTED) // MILLISECOND,
            None if of is None else int(of.trace_id[:8], 16),
        )
        for start, end, of in critical_path(build(*payloads))
    ]


def wsgi(number: int, at: int, duration: int) -> list[Payload]:
    return child(number, at=at, duration=duration, name="wsgi")


REQUEST = wsgi(1, 0, 100)


def test_nothing() -> None:
    assert path() == []
    assert path(wsgi(1, 0, 0)) == []


def test_a_span_and_its_children_in_turn() -> None:
    assert path(REQUEST) == [(0, 100, 1)]
    assert path(
        REQUEST, child(2, 1, 10, 20), child(3, 1, 30, 20), child(4, 3, 40, 10)
    ) == [(0, 10, 1), (10, 30, 2), (30, 40, 3), (40, 50, 4), (50, 100, 1)]


def test_of_children_at_once_one_was_waited_for() -> None:
    """The one that ended last, not the others that it did not wait for."""
    last = [(0, 20, 1), (20, 90, 3), (90, 100, 1)]
    assert path(REQUEST, child(2, 1, 10, 70), child(3, 1, 20, 70)) == last
    assert path(REQUEST, child(2, 1, 30, 10), child(3, 1, 20, 70)) == last
    # Before it began, the one that had ended.
    assert path(
        REQUEST,
        *(child(2, 1, 10, 70), child(3, 1, 20, 70), child(4, 1, 5, 10)),
    ) == [(0, 5, 1), (5, 15, 4), (15, 20, 1), *last[1:]]


def test_of_spans_that_end_at_once_the_first_to_begin() -> None:
    assert path(
        REQUEST,
        *(child(2, 1, 20, 70), child(4, 1, 10, 80), child(3, 1, 10, 80)),
    ) == [(0, 10, 1), (10, 90, 3), (90, 100, 1)]


def test_a_cast_is_not_waited_for() -> None:
    assert path(REQUEST, child(2, 1, 90, 20)) == [(0, 100, 1)]
    assert path(REQUEST, child(2, 1, 110, 20)) == [(0, 100, 1)]


def test_work_that_ran_between_requests() -> None:
    """As the server that is built while the client asks for it."""
    build_, again = child(2, 1, 50, 200), wsgi(9, 300, 10)
    assert path(REQUEST, build_, again) == [
        *((0, 100, 1), (100, 250, 2), (250, 300, None), (300, 310, 9)),
    ]
    # While it went on something was asked: the request comes before it.
    assert path(
        REQUEST, wsgi(8, 120, 10), build_, child(3, 2, 90, 60), again
    ) == [
        *((0, 100, 1), (100, 120, 3), (120, 130, 8), (130, 150, 3)),
        *((150, 250, 2), (250, 300, None), (300, 310, 9)),
    ]
    # What it casts itself goes on when it has ended.
    assert path(REQUEST, build_, child(3, 2, 240, 40), again) == [
        *((0, 100, 1), (100, 240, 2), (240, 280, 3)),
        *((280, 300, None), (300, 310, 9)),
    ]
    # Back from what ended last.
    assert path(REQUEST, build_, child(3, 1, 150, 200), again) == [
        *((0, 100, 1), (100, 150, 2), (150, 300, 3), (300, 310, 9)),
    ]


def test_requests_at_once() -> None:
    """A request that went on while the last one began fills the time."""
    assert path(wsgi(1, 0, 100), wsgi(2, 50, 100)) == [
        (0, 50, 1),
        (50, 150, 2),
    ]
    # But one that had ended is what the last one may have waited for.
    assert path(wsgi(1, 0, 100), wsgi(2, 50, 100), wsgi(3, 10, 30)) == [
        *((0, 10, 1), (10, 40, 3), (40, 50, 1), (50, 150, 2)),
    ]


def test_where_there_are_requests_other_roots_fill_gaps() -> None:
    other = child(2, at=90, duration=50)
    assert path(REQUEST, other) == [(0, 100, 1)]
    assert path(REQUEST, other, wsgi(9, 200, 10)) == [
        *((0, 100, 1), (100, 140, 2), (140, 200, None), (200, 210, 9)),
    ]
    # So do orphans; where there is nothing else they are the path.
    orphan = child(3, 7, at=110, duration=50)
    assert path(REQUEST, orphan, wsgi(9, 200, 10)) == [
        *((0, 100, 1), (100, 110, None), (110, 160, 3)),
        *((160, 200, None), (200, 210, 9)),
    ]
    assert path(orphan) == [(110, 160, 3)]


def test_late_spans_are_never_on_it() -> None:
    beat = child(2, 1, at=101 + GAP, duration=10)
    again = wsgi(9, 3 * GAP, 10)
    assert path(REQUEST, beat, again)[1] == (100, 101 + GAP, None)
    # It is late only when all requests were over.
    late_beat = child(3, 1, at=5 * GAP, duration=10)
    assert path(REQUEST, late_beat) == [(0, 100, 1)]


def test_where_an_end_is_missing_what_is_below_tells() -> None:
    below = child(3, 2, 20, 50)
    rest = [(20, 70, 3), (70, 100, 1)]
    start, stop = child(2, 1, 10, 80)
    assert path(REQUEST, [start], below) == [(0, 10, 1), (10, 20, 2), *rest]
    assert path(REQUEST, [stop], below) == [
        *((0, 20, 1), (20, 70, 3), (70, 90, 2), (90, 100, 1)),
    ]
    # Of one with nothing below it nobody knows how long it ran.
    assert path(REQUEST, [start]) == [(0, 100, 1)]
    assert path(REQUEST, [stop]) == [(0, 100, 1)]
    # A request that goes on: what is known so far.
    assert path(REQUEST[:1]) == []
    assert path(REQUEST[:1], below[:1], child(2, 1, 10, 80)) == [
        (0, 10, 1),
        (10, 90, 2),
    ]


def test_where_clocks_disagree() -> None:
    early = child(2, 1, -10, 60, host="node-2")
    inside = child(3, 2, -5, 10, host="node-2")
    trace = build(REQUEST, early, inside)
    # As they are: what seems to have been before the request is cut.
    assert path(REQUEST, early, inside) == [
        *((0, 5, 3), (5, 50, 2), (50, 100, 1)),
    ]
    adjusted = [
        (segment.end - segment.start) // MILLISECOND
        for segment in critical_path(trace.adjusted())
    ]
    assert adjusted == [20, 5, 10, 45, 20]
    # A stop before the start: it takes no time.
    assert path(REQUEST, child(2, 1, 50, -20)) == [(0, 100, 1)]


@pytest.fixture(scope="module")
def create() -> Trace:
    [trace] = recorded.traces(recorded.server_create())
    return trace


def check_accounted(trace: Trace) -> None:
    """Each microsecond until it was answered once, and while its span ran."""
    segments = critical_path(trace)
    assert all(
        one.end == other.start and one.span is not other.span
        for one, other in pairwise(segments)
    )
    assert all(segment.start < segment.end for segment in segments)
    if not trace.verdict.complete:
        return
    answered = Roots.of(trace.notifications()).answered(frozenset())
    assert sum(end - start for start, end, _ in segments) == answered
    for start, end, of in segments:
        if of is not None:
            assert of.stop is not None
            assert of.started <= start
            assert end <= of.stop.timestamp


def test_recorded_traces_are_accounted_for(create: Trace) -> None:
    traces = [create, *recorded.traces(recorded.keystone())]
    assert len(traces) == 4
    for trace in traces:
        check_accounted(trace)
        check_accounted(trace.adjusted())


def test_what_a_server_create_waited_for(create: Trace) -> None:
    times: Counter[str | None] = Counter()
    late = late_spans(create)
    for start, end, of in critical_path(create):
        did = None if of is None else operation(of.first)
        times[did] += end - start
        assert of is None or of.trace_id not in late
    # Mostly while the client was asleep, and the server was up already.
    assert times[None] == 3_376_812
    assert times["PUT /v2.0/ports/{id}"] == 763_994
    assert times["GET /v3/auth/tokens"] == 2_483_637
    assert times["SELECT tags"] == 760_291


def test_a_request_whose_clock_was_put_back() -> None:
    trace = build(child(1, name="wsgi", at=5000, duration=-5000))
    assert critical_path(trace) == ()
    trace = build(
        child(1, name="wsgi", at=5000, duration=-5000), child(2, 1, at=5000)
    )
    check_accounted(trace)


@given(payload_lists() | payload_lists(skew=True, cycles=True))
def test_each_moment_is_accounted_for(payloads: list[Payload]) -> None:
    check_accounted(build(payloads))


class Asked:
    """The path as nobody would compute it: each microsecond is asked alone.

    From the end back, looking at all spans again for each step.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.late = late_spans(trace)
        first = [
            root for root in trace.roots if root.parent_id == trace.base_id
        ]
        self.requests = (
            [root for root in first if root.name == "wsgi"]
            or first
            or [*trace.roots]
        )
        parents = {
            child.trace_id: parent
            for parent in trace.spans
            for child in parent.children
        }
        self.detached = [
            span
            for span in trace.spans
            if span not in self.requests
            and (
                span.trace_id not in parents
                or self.end(span) > self.end(parents[span.trace_id])
            )
        ]

    def start(self, span: Span) -> int:
        if span.start is not None:
            return span.start.timestamp
        below = [self.start(child) for child in self.not_late(span.children)]
        return min([span.started, *below])

    def end(self, span: Span) -> int:
        if span.stop is not None:
            return max(span.stop.timestamp, self.start(span))
        below = [self.end(child) for child in self.not_late(span.children)]
        return max([span.started, *below])

    def not_late(self, spans: Iterable[Span]) -> list[Span]:
        return [span for span in spans if span.trace_id not in self.late]

    def took_time(self, spans: Iterable[Span]) -> list[Span]:
        return [
            span
            for span in self.not_late(spans)
            if self.end(span) > self.start(span)
        ]

    def whom(
        self,
        moment: int,
        span: Span | None,
        children: Sequence[Span],
        start: int,
        end: int,
    ) -> Span | None:
        """Whom the end of a span waited for."""
        while True:
            known = [
                (-self.end(child), self.start(child), child.trace_id, child)
                for child in self.took_time(children)
                if start < self.end(child) <= end
            ]
            if not known:
                return span
            last = min(known)[-1]
            if moment >= self.end(last):
                return span
            end = max(self.start(last), start)
            if moment >= end:
                return self.whom(
                    moment, last, last.children, end, self.end(last)
                )

    def who_ran(
        self, moment: int, spans: Sequence[Span], end: int
    ) -> Span | None:
        """Who ran in a gap that has this end."""
        while True:
            known = [
                (
                    -min(self.end(span), end),
                    self.start(span),
                    *(span.trace_id, span),
                )
                for span in self.took_time(spans)
                if self.start(span) < end
            ]
            if not known or moment >= -min(known)[0]:
                return None
            last = min(known)[-1]
            end = self.start(last)
            if moment >= end:
                return self.whom(
                    *(moment, last, last.children),
                    *(self.start(last), self.end(last)),
                )

    def path(self) -> list[Span | None]:
        """Of each microsecond, from the first start to the last end."""
        first = min(map(self.start, self.requests), default=0)
        last = max(map(self.end, self.requests), default=0)
        whole = [
            self.whom(moment, None, self.requests, first, last)
            for moment in range(first, last)
        ]
        for spans in self.requests, self.detached:
            known = whole.copy()
            for number, whom in enumerate(known):
                if whom is None:
                    end = number
                    while end < len(known) and known[end] is None:
                        end += 1
                    whole[number] = self.who_ran(
                        first + number, spans, first + end
                    )
        return whole


def small_tree(rng: random.Random) -> list[Payload]:
    """Calls, casts and all else that a trace may have, in few moments."""
    payloads: list[Payload] = []
    count = rng.randint(1, 7)
    for number in range(1, count + 1):
        # 9 is nobody: an orphan.
        parent = rng.choice([0, 0, 9, *range(1, number), *range(1, number)])
        start, stop = span(
            *(BASE, uid(number), uid(parent)),
            *(
                STARTED + rng.randint(0, 14),
                rng.choice([-2, 0, 1, 2, 3, 5, 8]),
            ),
            rng.choice(["wsgi", "rpc"]),
        )
        payloads += rng.choice([[start, stop]] * 6 + [[start], [stop]])
    return payloads


def test_small_trees_as_each_microsecond_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiler_bridge.late.PAUSE", 3)
    rng = seeded(20)
    seen: Counter[str] = Counter()
    for _ in range(10_000):
        trace = build(small_tree(rng))
        segments = critical_path(trace)
        asked = Asked(trace)
        assert [
            segment.span for segment in segments for _ in range(*segment[:2])
        ] == asked.path()
        seen["late"] += bool(asked.late)
        on_path = [segment.span for segment in segments]
        seen["nothing"] += None in on_path
        seen["detached"] += any(span in on_path for span in asked.detached)
        seen["below"] += any(
            span not in asked.requests and span not in asked.detached
            for span in on_path
            if span is not None
        )
    # What was to be compared was there, and often.
    assert min(seen.values()) > 500, seen
