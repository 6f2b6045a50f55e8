# SPDX-License-Identifier: Apache-2.0

"""All formats for other tools, for any trace there may be."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler_bridge.report import spans
from profiler_bridge.report.lanes import Bar, lay_out
from profiler_bridge.trace import Trace
from tests.report_cases import (
    CASES,
    build,
    load,
    span,
    words,
)
from tests.unit.test_report_chrome import check_chrome, chrome
from tests.unit.test_report_dot import check_dot
from tests.unit.test_report_otlp import check_otlp
from tests.unit.test_report_speedscope import check_speedscope
from tests.unit.test_report_zipkin import check_zipkin


@pytest.mark.parametrize(
    ("name", "info", "expected"),
    [
        ("wsgi", {}, "wsgi"),
        ("anything", {"request": {}}, "wsgi"),
        ("anything", {"requests": {}}, "http"),
        ("https", {}, "http"),
        ("neutron.db", {}, "db"),
        ("anything", {"db": {}}, "db"),
        ("rpc", {"function": {"name": "f"}}, "rpc"),
        ("driver", {"function": {"name": "f"}}, "function"),
        ("driver", {"db": "not an object"}, "other"),
    ],
)
def test_kind(name: str, info: dict[str, Any], expected: str) -> None:
    (only,) = build(span(1, name=name, info=info)).spans
    assert spans.kind(only) == expected
    # The stop alone tells as much, where it tells anything.
    (only,) = build(span(1, None, None, name=name, stop_info=info)).spans
    assert spans.kind(only) == expected


CHECKS = [check_otlp, check_zipkin, check_chrome, check_speedscope, check_dot]

# No time is asserted, neither here.
unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
moments = st.integers(0, 12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
    ),
    max_leaves=5,
)
infos = st.dictionaries(
    st.sampled_from(["db", "request", "requests", "function", "etype"])
    | words,
    values
    | st.dictionaries(
        st.sampled_from(["params", "statement", "method", "name"]) | words,
        values,
    ),
    max_size=3,
)


@st.composite
def traces(draw: st.DrawFn, info: bool = False) -> Trace:
    """Spans anywhere below and beside each other, in two places."""
    payloads = []
    for number in range(draw(st.integers(1, 3 if info else 12))):
        start, stop = draw(
            st.tuples(moments, moments)
            | st.tuples(moments, st.none())
            | st.tuples(st.none(), moments)
        )
        payloads.append(
            span(
                number + 1,
                draw(st.none() | st.integers(1, 13)),
                start,
                stop,
                name="x" + draw(words) if info else "work",
                info=draw(infos) if info else None,
                stop_info=draw(infos) if info else None,
                service=draw(st.sampled_from("ab")),
            )
        )
    return build(*payloads)


@unhurried
@given(traces())
def test_lanes(trace: Trace) -> None:
    laid = lay_out(trace)
    bars = [bar for lanes in laid.values() for lane in lanes for bar in lane]
    assert len(bars) == len(trace.spans) == len({id(b.span) for b in bars})
    for place, lanes in laid.items():
        for lane in lanes:
            open_: list[Bar] = []
            for bar in lane:
                assert spans.place(bar.span) == place
                del open_[bar.depth :]
                assert len(open_) == bar.depth
                if open_:
                    assert bar.span in open_[-1].span.children
                open_.append(bar)
            for one, other in combinations(lane, 2):
                assert (
                    one.end <= other.start
                    or one.start <= other.start <= other.end <= one.end
                )


@unhurried
@given(traces())
def test_every_format_of_any_trace(trace: Trace) -> None:
    for check in CHECKS:
        check(trace)


@unhurried
@given(traces(info=True))
def test_every_format_of_any_payload(trace: Trace) -> None:
    for check in CHECKS:
        check(trace)


def test_a_child_lies_on_its_parent_where_it_can() -> None:
    def depths(case: str) -> list[list[int]]:
        (lanes,) = lay_out(CASES[case]).values()
        return [[bar.depth for bar in lane] for lane in lanes]

    assert depths("simple") == [[0, 1, 1]]
    assert depths("outlives") == [[0], [0]]
    assert depths("unfinished") == [[0, 1, 1]]
    assert depths("siblings at once") == [[0, 1, 1], [0], [0]]


@pytest.fixture(scope="module")
def deep() -> Trace:
    return build(
        *(
            span(number, number - 1 or None, number, 20_001 - number)
            for number in range(1, 10_001)
        )
    )


@pytest.fixture(scope="module")
def large() -> Trace:
    """100,000 notifications: a root, and most spans below it at once."""
    return build(
        span(1, stop=200_000),
        *(
            span(number, 1, number, 100_000 + number)
            for number in range(2, 25_001)
        ),
        *(
            span(number, number - 25_000 + 1, number, number + 10)
            for number in range(25_001, 50_001)
        ),
    )


@pytest.mark.parametrize("check", CHECKS)
def test_ten_thousand_deep(
    check: Callable[[Trace], None], deep: Trace
) -> None:
    check(deep)


def test_chrome_levels(deep: Trace) -> None:
    """Perfetto drops what is nested deeper than 512 in a thread."""
    lanes = [event for event in chrome(deep) if event["name"] == "thread_name"]
    assert len(lanes) == -(-10_000 // 512)


@pytest.mark.parametrize("format_", ["chrome", "otlp", "speedscope", "zipkin"])
def test_large(format_: str, large: Trace) -> None:
    assert load(format_, large)


def test_large_dot(large: Trace) -> None:
    check_dot(large)
