# SPDX-License-Identifier: Apache-2.0

"""Notifications paired into spans, and spans into a tree."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.notification import format_timestamp, parse_timestamp
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.testing.helpers import shuffled
from profiler_bridge.testing.sample import (
    MILLISECOND,
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
    span,
)
from profiler_bridge.trace import Span, Trace, Verdict


def uid(number: int) -> str:
    """An id whose shortened form is its own too."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


BASE = uid(0)


def child(
    number: int,
    parent: int = 0,
    at: int = 0,
    duration: int = 10,
    **fields: Any,
) -> list[Payload]:
    """The span ``uid(number)`` of trace BASE; times are milliseconds."""
    return span(
        *(BASE, uid(number), uid(parent)),
        *(STARTED + at * MILLISECOND, duration * MILLISECOND),
        **fields,
    )


@st.composite
def payload_lists(
    draw: st.DrawFn, *, skew: bool = False, cycles: bool = False
) -> list[Payload]:
    """What is left of a trace, in any order.

    Moments are few, so that many notifications are of the same one.
    """
    moments = st.sampled_from([0, 1, 999, 1000, 2500])
    kept: list[Payload] = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        parents = st.integers(0, 12 if cycles else number - 1)
        start, stop = span(
            BASE,
            uid(number),
            uid(draw(parents | st.integers(900, 902))),
            STARTED + draw(moments),
            draw(moments) * (draw(st.sampled_from([-1, 1])) if skew else 1),
            draw(st.sampled_from(["wsgi", "rpc", "db"])),
            service=draw(st.sampled_from(["api", "conductor", None])),
            error=draw(st.sampled_from([None, None, "DBDeadlock"])),
            info={"function": {"name": draw(st.sampled_from(["a", "b"]))}},
        )
        kept += draw(
            st.sampled_from([[start, stop], [start, stop], [start], [stop]])
        )
    return draw(st.permutations(kept))


@st.composite
def with_duplicates(draw: st.DrawFn) -> list[Payload]:
    """A trace with further starts and stops of its spans."""
    payloads = draw(payload_lists(skew=True, cycles=True))
    more = draw(st.lists(st.sampled_from(payloads), max_size=5))
    other = [
        payload | {"project": draw(st.sampled_from(["shop", "x", "y"]))}
        for payload in more
    ]
    return draw(st.permutations([*payloads, *other]))


def build(*payloads: Sequence[Payload]) -> Trace:
    return Trace.build(
        BASE, notifications(payload for piece in payloads for payload in piece)
    )


def shape(trace: Trace) -> list[Any]:
    """All of a trace, comparable."""
    return [
        trace.verdict,
        [texts(span) for span in trace.spans],
        *((depth, *texts(span)) for depth, span in trace.walk()),
    ]


def texts(span: Span) -> tuple[str | None, str | None]:
    return (
        span.start.text if span.start else None,
        span.stop.text if span.stop else None,
    )


def tree(trace: Trace) -> list[tuple[int, int]]:
    """Depth and number of each span."""
    return [
        (depth, int(span.trace_id[:8], 16)) for depth, span in trace.walk()
    ]


def durations(spans: Iterable[Span]) -> list[float | None]:
    return [
        None if span.duration is None else span.duration / MILLISECOND
        for span in spans
    ]


def test_nothing() -> None:
    trace = build()
    assert (trace.roots, trace.spans, list(trace.walk())) == ((), (), [])
    assert (trace.started, trace.finished) == (0, 0)


def test_complete_request() -> None:
    payloads = request(seeded(1))
    trace = Trace.build(payloads[0]["base_id"], notifications(payloads))
    assert trace.verdict == Verdict()
    assert trace.verdict.complete
    assert str(trace.verdict) == "complete"
    assert [(depth, span.name) for depth, span in trace.walk()] == [
        (0, "wsgi"),
        *((1, "rpc"), (2, "db"), (2, "db")),
        *((1, "rpc"), (2, "db"), (2, "db")),
    ]
    assert trace.started == STARTED
    assert trace.finished == parse_timestamp(payloads[-1]["timestamp"])


def test_span_with_both_ends() -> None:
    (span,) = build(child(1, duration=7, error="DBDeadlock")).spans
    assert span.started == STARTED
    assert span.duration == 7 * MILLISECOND
    assert span.exception == "DBDeadlock"
    assert (span.trace_id, span.parent_id) == (uid(1), BASE)


def test_unfinished() -> None:
    trace = build(child(1)[:1])
    assert durations(trace.spans) == [None]
    assert trace.spans[0].exception is None
    assert trace.verdict == Verdict(unfinished=1)
    assert not trace.verdict.complete
    assert str(trace.verdict) == "1 unfinished"


def test_headless() -> None:
    trace = build(child(1)[1:])
    assert durations(trace.spans) == [None]
    assert trace.spans[0].started == STARTED + 10 * MILLISECOND
    assert trace.verdict == Verdict(headless=1)
    assert not trace.verdict.complete
    assert str(trace.verdict) == "1 headless"


def test_orphans() -> None:
    """Each stands at the top, so that nothing is hidden."""
    trace = build(child(1), child(2, 9, at=1), child(3, 9, at=2), child(4, 3))
    assert tree(trace) == [(0, 1), (0, 2), (0, 3), (1, 4)]
    assert trace.verdict.orphans == 2
    assert not trace.verdict.complete


def test_several_roots() -> None:
    trace = build(child(2, at=5), child(1, at=1))
    assert tree(trace) == [(0, 1), (0, 2)]
    assert trace.verdict == Verdict()


def test_children_stand_in_the_order_of_their_starts() -> None:
    trace = build(
        child(1), child(2, 1, at=3), child(3, 1, at=1), child(4, 1, at=2)
    )
    assert tree(trace) == [(0, 1), (1, 3), (1, 4), (1, 2)]


def test_redelivery_is_no_duplicate() -> None:
    trace = build(child(1), child(1))
    assert trace.verdict == Verdict()


def test_of_several_starts_the_first_counts() -> None:
    later = child(1, at=2)[:1]
    trace = build(later, child(1))
    assert durations(trace.spans) == [10]
    assert trace.verdict == Verdict(duplicates=1)
    assert trace.verdict.complete
    assert str(trace.verdict) == "complete, 1 duplicate"


def test_of_several_stops_the_last_counts() -> None:
    later = child(1, at=2)[1:]
    trace = build(later, child(1))
    assert durations(trace.spans) == [12]
    assert trace.verdict == Verdict(duplicates=1)


@pytest.mark.parametrize("phase", [0, 1])
def test_redelivery_of_a_duplicate(phase: int) -> None:
    """A duplicate that is delivered twice counts once."""
    others = [child(1, at=at)[phase] for at in (1, 2)]
    once, twice = build(child(1), others), build(child(1), others, others)
    assert twice.verdict == once.verdict


def test_its_own_parent() -> None:
    trace = build(child(1, 1))
    assert tree(trace) == [(0, 1)]
    assert trace.verdict == Verdict(cycles=1)
    assert not trace.verdict.complete


def test_ring_is_cut_above_its_earliest_span() -> None:
    trace = build(child(1, 3, at=5), child(2, 1, at=1), child(3, 2, at=2))
    assert tree(trace) == [(0, 2), (1, 3), (2, 1)]
    assert trace.verdict.cycles == 1


def test_rings_beside_a_tree_and_with_spans_below_them() -> None:
    trace = build(
        *(child(1), child(2, 1)),
        *(child(3, 4, at=1), child(4, 3, at=2), child(5, 4, at=3)),
        *(child(6, 6, at=6), child(7, 6, at=7)),
    )
    assert tree(trace) == [
        *((0, 1), (1, 2)),
        *((0, 3), (1, 4), (2, 5)),
        *((0, 6), (1, 7)),
    ]
    assert trace.verdict.cycles == 2


def test_long_ring() -> None:
    size = 10_000
    payloads = [
        payload
        for number in range(1, size + 1)
        for payload in child(number, number % size + 1, at=number)
    ]
    trace = build(shuffled(payloads, 1))
    assert trace.verdict.cycles == 1
    assert [number for _, number in tree(trace)] == [
        1,
        *range(size, 1, -1),
    ]


@given(with_duplicates(), st.randoms(use_true_random=False))
def test_order_makes_no_difference(
    payloads: list[Payload], rng: random.Random
) -> None:
    other = payloads.copy()
    rng.shuffle(other)
    assert shape(build(payloads)) == shape(build(other))


@given(with_duplicates())
def test_redelivery_makes_no_difference(payloads: list[Payload]) -> None:
    assert shape(build(payloads, payloads)) == shape(build(payloads))


@given(with_duplicates())
def test_every_span_stands_in_the_tree_once(payloads: list[Payload]) -> None:
    trace = build(payloads)
    walked = [span.trace_id for _, span in trace.walk()]
    assert sorted(walked) == sorted(
        {payload["trace_id"] for payload in payloads}
    )
    assert sorted(walked) == sorted(span.trace_id for span in trace.spans)


@given(with_duplicates())
def test_children_stand_below_their_parent(payloads: list[Payload]) -> None:
    above: list[Span] = []
    for depth, current in build(payloads).walk():
        del above[depth:]
        assert len(above) == depth
        if above:
            assert current in above[-1].children
            assert current.parent_id == above[-1].trace_id
        above.append(current)


@given(payload_lists(skew=True))
def test_without_rings_only_what_is_missing_is_at_the_top(
    payloads: list[Payload],
) -> None:
    trace = build(payloads)
    known = {payload["trace_id"] for payload in payloads}
    assert trace.verdict.cycles == 0
    assert len(trace.roots) == sum(
        span.parent_id not in known for span in trace.spans
    )


def test_clocks_are_adjusted_within_the_years_that_there_are() -> None:
    last = "9999-12-31T23:59:59.999999"
    start, _ = child(1, host="a")
    start["timestamp"] = last
    trace = build([start], child(2, 1, host="b", duration=10**9))
    moved = trace.adjusted().spans[-1]
    assert format_timestamp(moved.started) == last
    assert moved.duration == 0
    for render in FORMATS.values():
        assert "".join(render(trace.adjusted()))


def test_stop_before_the_start() -> None:
    """Two clocks. Times are shown as they are, and nothing is missing."""
    trace = build(child(1, duration=-3))
    assert durations(trace.spans) == [-3]
    assert trace.started == STARTED - 3 * MILLISECOND
    assert trace.finished == STARTED
    assert trace.verdict == Verdict(skewed=1)
    assert trace.verdict.complete


def test_child_before_its_parent() -> None:
    trace = build(child(1), child(2, 1, at=-1))
    assert tree(trace) == [(0, 1), (1, 2)]
    assert trace.verdict == Verdict(skewed=1)


def test_many_notifications() -> None:
    payloads = request(seeded(1), calls=16_667)
    assert len(payloads) > 100_000
    trace = Trace.build(
        payloads[0]["base_id"], notifications(shuffled(payloads, 1))
    )
    assert trace.verdict == Verdict()
    assert len(trace.roots[0].children) == 16_667
    assert sum(1 for _ in trace.walk()) == len(payloads) // 2


def test_many_levels() -> None:
    payloads = [
        payload
        for number in range(1, 10_001)
        for payload in child(number, number - 1, at=number)
    ]
    trace = build(shuffled(payloads, 1))
    assert trace.verdict == Verdict()
    assert tree(trace) == [(depth, depth + 1) for depth in range(10_000)]


@pytest.mark.parametrize(
    ("children", "milliseconds"),
    [
        ([], 10),
        ([child(2, 1, 2, 3)], 7),
        ([child(2, 1, 0, 10)], 0),
        ([child(2, 1, 2, 3), child(3, 1, 5, 3)], 4),
        ([child(2, 1, 2, 4), child(3, 1, 4, 4)], 4),
        ([child(2, 1, 2, 6), child(3, 1, 3, 1)], 4),
        ([child(2, 1, 8, 100)], 8),
        ([child(2, 1, -5, 100)], 0),
        ([child(2, 1, 20, 5)], 10),
        ([child(2, 1, 2, 3)[:1]], 10),
        ([child(2, 1, 2, 3), child(3, 2, 2, 3)], 7),
    ],
)
def test_self_time(children: list[list[Payload]], milliseconds: int) -> None:
    trace = build(child(1), *children)
    (span,) = (span for span in trace.spans if span.trace_id == uid(1))
    assert span.self_time == milliseconds * MILLISECOND


@pytest.mark.parametrize("phase", [0, 1])
def test_self_time_of_what_has_no_duration(phase: int) -> None:
    assert build([child(1)[phase]]).spans[0].self_time is None


@given(payload_lists())
def test_self_time_is_a_part_of_the_duration(payloads: list[Payload]) -> None:
    for built in build(payloads).spans:
        if built.duration is not None:
            assert built.self_time is not None
            assert 0 <= built.self_time <= built.duration


# Clocks


def two_hosts(at: int, lasts: int) -> Trace:
    """A call from one host to another, whose clock may be wrong.

    :param at: where the call seems to begin, milliseconds after its caller
    """
    call = child(2, 1, at, lasts, name="rpc", host="node-2")
    return build(child(1), call, child(3, 2, at, 1, host="node-2"))


@pytest.mark.parametrize(
    ("at", "lasts", "begins"),
    [(-500, 4, 3), (-500, 12, 0), (5, 4, 5), (500, 4, 500)],
)
def test_adjusted(at: int, lasts: int, begins: int) -> None:
    trace = two_hosts(at, lasts)
    adjusted = trace.adjusted()
    moved = [span.started - STARTED for _, span in adjusted.walk()]
    assert moved == [0, begins * MILLISECOND, begins * MILLISECOND]
    assert trace.verdict.skewed == (at < 0)
    assert adjusted.verdict.skewed == 0
    assert [span.duration for _, span in adjusted.walk()] == [
        10 * MILLISECOND,
        lasts * MILLISECOND,
        MILLISECOND,
    ]
