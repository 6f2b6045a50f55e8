# SPDX-License-Identifier: Apache-2.0

"""Which span of one trace is which of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from profiler_bridge.late import late_spans
from profiler_bridge.operation import operation
from profiler_bridge.report.alignment import Pair, align, walk
from profiler_bridge.testing.sample import Payload
from profiler_bridge.trace import Trace
from tests import recorded
from tests.unit.test_trace import build, child, payload_lists

SIGNS = {(True, True): "", (False, True): "+", (True, False): "-"}


def shown(before: Trace, after: Trace) -> list[str]:
    """What is beside each other: with a plus what is new, a minus if gone."""
    return [
        " " * depth
        + SIGNS[pair.before is not None, pair.after is not None]
        + operation(pair.span.first)
        for depth, pair in walk(align(before, after))
    ]


def siblings(names: str) -> list[Payload]:
    return [
        payload
        for number, name in enumerate(names, start=1)
        for payload in child(number, at=10 * number, name=name)
    ]


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        ("", "", []),
        ("abc", "abc", ["a", "b", "c"]),
        ("ac", "abc", ["a", "+b", "c"]),
        ("abc", "ac", ["a", "-b", "c"]),
        ("ab", "ba", ["b", "a"]),
        ("axb", "ba", ["-x", "b", "a"]),
        ("xaby", "ab", ["-x", "a", "b", "-y"]),
        ("aa", "aaaa", ["a", "a", "+a", "+a"]),
        ("aaaa", "aa", ["a", "a", "-a", "-a"]),
        ("abab", "aab", ["a", "a", "b", "-b"]),
        ("", "ab", ["+a", "+b"]),
    ],
)
def test_siblings(before: str, after: str, rows: list[str]) -> None:
    assert shown(build(siblings(before)), build(siblings(after))) == rows


def test_children_are_paired_below_what_is_a_pair() -> None:
    before = build(
        child(1, name="a"), child(2, name="b"), child(3, 1, name="x")
    )
    after = build(
        child(1, name="a"), child(2, name="b"), child(3, 2, name="x")
    )
    assert shown(before, after) == ["a", " -x", "b", " +x"]


def test_the_service_tells_apart_and_the_host_does_not() -> None:
    before = build(child(1, service="api", host="one"))
    assert shown(before, build(child(9, service="api", host="two"))) == ["db"]
    assert shown(before, build(child(9, service="worker"))) == [
        *("+db", "-db")
    ]
    # An error and a missing end are what differs, not who it is.
    failed = build(child(1, service="api", error="E"))
    assert shown(before, failed) == ["db"]
    assert shown(before, build(child(1)[:1])) == ["db"]


def test_what_is_left_out_is_with_all_below_it() -> None:
    trace = build(child(1), child(2, 1), child(3, 2), child(4, 1))
    out = {trace.spans[1].trace_id}
    rows = [*walk(align(trace, trace, out, out))]
    assert [depth for depth, _ in rows] == [0, 1]


def ids(pairs: Sequence[Pair], side: int) -> Counter[str]:
    return Counter(
        pair.sides[side].trace_id  # type: ignore[union-attr]
        for pair in pairs
        if pair.sides[side] is not None
    )


def changes(before: Trace, after: Trace) -> tuple[set[str], set[str]]:
    """What is gone, and what is new."""
    gone, new = set(), set()
    for _, pair in walk(align(before, after)):
        if pair.after is None:
            gone.add(pair.span.trace_id)
        if pair.before is None:
            new.add(pair.span.trace_id)
    return gone, new


@given(payload_lists(cycles=True), payload_lists(cycles=True))
def test_any_two_traces(one: list[Any], other: list[Any]) -> None:
    before, after = build(one), build(other)
    pairs = [pair for _, pair in walk(align(before, after))]
    for number, trace in enumerate((before, after)):
        assert ids(pairs, number) == Counter(
            span.trace_id for span in trace.spans
        )
    for pair in pairs:
        for number, side in enumerate(pair.sides):
            below = {
                child.sides[number].trace_id  # type: ignore[union-attr]
                for child in pair.children
                if child.sides[number] is not None
            }
            assert below == {
                child.trace_id for child in (side.children if side else ())
            }
        if pair.before and pair.after:
            assert operation(pair.before.first) == operation(pair.after.first)
    assert changes(after, before) == changes(before, after)[::-1]
    assert changes(before, before) == (set(), set())


def test_a_recorded_trace_is_like_itself() -> None:
    [trace] = recorded.traces(recorded.server_create())
    late = late_spans(trace)
    pairs = [pair for _, pair in walk(align(trace, trace, late, late))]
    assert len(pairs) + len(late) == len(trace.spans) == 1227
    assert all(pair.before is pair.after for pair in pairs)


def test_of_many_siblings_each_is_looked_at_once() -> None:
    """A number of steps that grows faster would take minutes here."""
    names = [chr(ord("a") + number % 20) for number in range(20_000)]
    before = build(siblings("".join(names)))
    after = build(siblings("".join(reversed(names))))
    rows = align(before, after)
    assert len(rows) == 20_000
    assert all(pair.before and pair.after for pair in rows)
