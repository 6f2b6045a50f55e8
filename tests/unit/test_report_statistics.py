# SPDX-License-Identifier: Apache-2.0

"""Where the time of many traces went."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report import statistics
from profiler_bridge.report.quantiles import ERROR
from profiler_bridge.report.statistics import By, Group, Statistics
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
    span,
)
from profiler_bridge.trace import Trace
from tests import recorded
from tests.unit.test_trace import build, payload_lists, uid


def http(method: str, path: str) -> dict[str, Any]:
    return {"request": {"method": method, "path": path}}


def sql(statement: str) -> dict[str, Any]:
    return {"db": {"statement": statement}}


def trace(
    number: int,
    duration: int = SECOND,
    inner: Iterable[int] = (),
    *,
    path: str = "/v2.1/servers",
    statement: str = "SELECT a FROM t WHERE id = 7",
    started: int = STARTED,
    **fields: Any,
) -> Trace:
    """A request, and in it, one after the other, statements.

    :param duration: microseconds, as those of the statements
    """
    base = uid(number)
    payloads = span(
        *(base, uid(1), base, started, duration, "wsgi"),
        info=http("GET", path),
        **fields,
    )
    at = started
    for place, lasts in enumerate(inner, 2):
        payloads += span(
            *(base, uid(place), uid(1), at, lasts),
            info=sql(statement),
            **{**fields, "error": None},
        )
        at += lasts
    return Trace.build(base, notifications(payloads))


def summed(traces: Iterable[Trace], by: By = By.OPERATION) -> Statistics:
    sums = Statistics(by)
    for trace in traces:
        sums.add(trace)
    return sums


def test_totals_of_a_known_distribution() -> None:
    """From 1 to 1000 ms, a statement in each of 1000 traces."""
    sums = summed(
        trace(number, 2 * SECOND, [number * MILLISECOND])
        for number in range(1, 1001)
    )
    group = sums.groups["shop:api", "SELECT t"]
    assert (group.count, group.traces, group.errors) == (1000, 1000, 0)
    assert group.durations.total == group.self_time == 500_500 * MILLISECOND
    assert group.durations.mean == 500_500
    for percent_, expected in ((50, 500), (95, 950), (99, 990)):
        assert group.durations.percentile(percent_) == pytest.approx(
            expected * MILLISECOND, rel=ERROR
        )
    assert group.durations.percentile(100) == SECOND
    top = sums.groups["shop:api", "GET /v2.1/servers"]
    assert top.self_time == 2000 * SECOND - group.durations.total
    assert sums.self_time == 2000 * SECOND


def test_services_of_two_projects_are_two() -> None:
    """Glance and Ironic both call theirs "api"."""
    traces = [
        trace(number, lasts, path="/", project=project)
        for number, (project, lasts) in enumerate(
            [("glance", 5 * MILLISECOND), ("ironic", 500 * MILLISECOND)] * 30
        )
    ]
    groups = summed(traces).groups
    assert {key: group.durations.mean for key, group in groups.items()} == {
        ("glance:api", "GET /"): 5 * MILLISECOND,
        ("ironic:api", "GET /"): 500 * MILLISECOND,
    }


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (By.SERVICE, {("shop:api",): 1, ("shop:conductor",): 6}),
        (By.HOST, {("node-1",): 1, ("node-2",): 6}),
        (By.KIND, {("wsgi",): 1, ("rpc",): 2, ("db",): 4}),
        (
            By.STATEMENT,
            {
                (
                    "SELECT servers.id FROM servers WHERE servers.name ="
                    " %(name_1)s",
                ): 2,
                ("UPDATE servers SET state=? WHERE id = ?",): 2,
            },
        ),
        (By.ROOT, {("shop:api", "POST /v1/servers"): 1}),
    ],
)
def test_sums_by(by: By, keys: dict[tuple[str, ...], int]) -> None:
    payloads = request(seeded(1), calls=2, error="DBDeadlock")
    whole = Trace.build(payloads[0]["base_id"], notifications(payloads))
    sums = summed([whole], by)
    assert {key: group.count for key, group in sums.groups.items()} == keys
    assert sum(group.errors for group in sums.groups.values()) == 1


def test_statement_that_is_most_repeated_in_a_trace() -> None:
    sums = summed(
        [trace(number, inner=[1000] * number) for number in (2, 5, 3)],
        By.STATEMENT,
    )
    [(key, group)] = sums.groups.items()
    assert key == ("SELECT a FROM t WHERE id = ?",)
    assert (group.count, group.most, group.base_id) == (10, 5, uid(5))


def test_roots_are_answered_when_the_last_of_them_is() -> None:
    """Not by the sum of their spans."""
    sums = summed(
        (
            trace(number, number * MILLISECOND, [1000, 2000], error=error)
            for number, error in enumerate(["E", None, None, None], 10)
        ),
        By.ROOT,
    )
    [(key, group)] = sums.groups.items()
    assert key == ("shop:api", "GET /v2.1/servers")
    assert (group.count, group.traces, group.errors) == (4, 4, 1)
    assert group.durations.percentile(50) == 11 * MILLISECOND
    assert group.base_id == uid(13)


def test_a_root_that_is_not_answered() -> None:
    start, _ = span(uid(1), uid(2), uid(1), name="wsgi", info=http("GET", "/"))
    sums = summed(
        [Trace.build(uid(1), notifications([start])), trace(2, path="/")],
        By.ROOT,
    )
    [group] = sums.groups.values()
    assert (group.count, group.traces, group.durations.total) == (2, 1, SECOND)


def test_traces_without_a_root_that_started() -> None:
    _, stop = span(uid(1), uid(2), uid(1))
    orphan = span(uid(2), uid(3), uid(9))
    for payloads in ([stop], orphan):
        whole = Trace.build(payloads[0]["base_id"], notifications(payloads))
        assert list(summed([whole], By.ROOT).groups) == [("", "")]


def test_what_is_late_can_be_left_out() -> None:
    [create] = recorded.traces(recorded.server_create())
    whole, request_only = Statistics(), Statistics(without_late=True)
    for sums in (whole, request_only):
        sums.add(create)
    counts = [
        sum(group.count for group in sums.groups.values())
        for sums in (whole, request_only)
    ]
    assert counts == [1227, 1227 - 35]
    assert str(request_only).endswith("UTC, without 35 late spans")
    [name] = summed([create], By.ROOT).groups
    assert name == ("nova:osapi_compute", "POST /v2.1/servers")


@given(st.lists(payload_lists(skew=True), max_size=4), st.sampled_from(By))
def test_the_order_of_traces_does_not_matter(
    traces: list[list[Payload]], by: By
) -> None:
    built = [build(payloads) for payloads in traces]
    one, other = summed(built, by), summed(built[::-1], by)
    assert one.traces == len(traces)
    assert str(one) == str(other)
    assert {key: _sums(group) for key, group in one.groups.items()} == {
        key: _sums(group) for key, group in other.groups.items()
    }
    assert one.self_time == sum(
        group.self_time for group in one.groups.values()
    )


def _sums(group: Group) -> tuple[object, ...]:
    return (
        *(group.count, group.errors, group.self_time, group.most),
        *(group.durations.percentile(percent) for percent in (0, 50, 95, 100)),
        group.times.total,
    )


@pytest.mark.parametrize("limit", ["_MOST_GROUPS", "_MOST_TEXT"])
@pytest.mark.parametrize("by", [By.OPERATION, By.STATEMENT])
def test_more_operations_than_there_is_room_for(
    by: By, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, limit, 100)
    made = [
        trace(number, inner=[5, 5], statement=f"SELECT a FROM t{number}")
        for number in range(200)
    ]
    sums = summed(made, by)
    others = sums.groups[sums.others]
    assert others.count > 150
    assert others.times.count == others.traces < 200
    total = 200 * (3 if by is By.OPERATION else 2)
    assert sum(group.count for group in sums.groups.values()) == total
    assert len(sums.groups) <= 101
    assert summed(made[:3], by).groups.keys().isdisjoint([sums.others])


def test_memory_does_not_grow_with_traces() -> None:
    def peak(traces: Iterator[Trace]) -> int:
        tracemalloc.start()
        summed(traces)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def made(count: int) -> Iterator[Trace]:
        for number in range(count):
            yield trace(number, inner=range(1, 10_000, 500))

    peak(made(10))
    assert peak(made(300)) < 2 * peak(made(30))


@pytest.mark.parametrize(
    ("starts", "text"),
    [
        ([], "0 traces"),
        ([0], "1 trace, 2026-02-03 04:05:06 UTC"),
        ([0, 1000], "2 traces, 2026-02-03 04:05:06 UTC"),
        (
            [306 * SECOND, 0, 5],
            "3 traces, 2026-02-03 04:05:06 to 04:10:12 UTC",
        ),
        (
            [86_400 * SECOND, 0],
            "2 traces, 2026-02-03 04:05:06 to 2026-02-04 04:05:06 UTC",
        ),
        ([0] * 1000, "1,000 traces, 2026-02-03 04:05:06 UTC"),
    ],
)
def test_says_of_what_it_is(starts: list[int], text: str) -> None:
    traces = (
        trace(number, started=STARTED + start)
        for number, start in enumerate(starts)
    )
    assert str(summed(traces)) == text


def test_a_trace_of_nothing() -> None:
    assert str(summed([build()])) == "1 trace"


texts = st.sampled_from(
    ["", " ", "?", "7", "SELECT a FROM t", "select", "-- x", "(", "é", "_a"]
)
sections = st.dictionaries(
    st.sampled_from(["statement", "method", "path", "name", "args"]),
    texts | st.none() | st.lists(texts, max_size=1),
)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from(["db", "request", "requests", "function"]),
                sections | st.none() | texts,
            ),
            st.sampled_from(["db", "wsgi"]),
            st.sampled_from([None, "api", "a:b"]),
            st.sampled_from([None, "nova", "a"]),
        ),
        max_size=20,
    ),
    st.sampled_from([by for by in By if by is not By.ROOT]),
)
def test_what_is_alike_has_the_same_key(
    made: list[tuple[dict[str, Any], str, str, str]], by: By
) -> None:
    """Or spans would be summed up with others."""
    keys: dict[object, object] = {}
    for info, name, service, project in made:
        payload, _ = span(
            *(uid(0), uid(1), uid(0)),
            name=name,
            info=info,
            service=service,
            project=project,
        )
        [first] = notifications([payload])
        key = statistics.KEYS[by](first)
        assert keys.setdefault(statistics._SIGNS[by](first), key) == key
