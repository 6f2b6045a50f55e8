# SPDX-License-Identifier: Apache-2.0

"""Spans that are in a trace, and not of its request."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import pytest
from hypothesis import given

from profiler_bridge.late import PAUSE, is_mixed, late_spans, requests
from profiler_bridge.testing.sample import MILLISECOND, Payload
from profiler_bridge.trace import Span, Trace
from tests import recorded
from tests.unit.test_trace import build, child, payload_lists, uid

# In milliseconds, as child() takes times.
GAP = PAUSE // MILLISECOND


def late(*payloads: list[Payload]) -> list[int]:
    """The numbers of the spans that are late."""
    late = late_spans(build(*payloads))
    return [n for n in range(1, 20) if uid(n) in late]


def without(trace: Trace, left_out: Set[str]) -> Trace:
    return Trace.build(
        trace.base_id,
        [
            notification
            for notification in trace.notifications()
            if notification.trace_id not in left_out
        ],
    )


def below(span: Span) -> set[str]:
    """A span, and all below it."""
    descendants, waiting = set(), [span]
    while waiting:
        span = waiting.pop()
        descendants.add(span.trace_id)
        waiting += span.children
    return descendants


@pytest.fixture(scope="module")
def create() -> Trace:
    [trace] = recorded.traces(recorded.server_create())
    return trace


def test_late_spans_of_a_server_create(create: Trace) -> None:
    """Heartbeats, periodic calls and what another command, a delete, did."""
    late = late_spans(create)
    assert len(late) == 35
    whole = [span for span in create.spans if span.trace_id in late]
    answered = max(root.stop.timestamp for root in create.roots if root.stop)
    assert min(span.started for span in whole) - answered == 2_873_604
    assert not any(".build_and_run" in span.first.text for span in whole)
    # Nothing is late of what is left.
    assert not late_spans(without(create, late))


@pytest.mark.parametrize("roots", [9, 10, 11, 12, 13])
def test_the_same_are_late_where_nobody_waits(
    create: Trace, roots: int
) -> None:
    """As without --wait: the client asks no more while the server is built."""
    asked = set().union(*map(below, create.roots[roots:]))
    assert late_spans(without(create, asked)) == late_spans(create)


def test_the_same_are_late_where_roots_are_lost(create: Trace) -> None:
    roots = {root.trace_id for root in create.roots[10:]}
    trace = without(create, roots)
    assert trace.verdict.orphans > 0
    assert late_spans(trace) == late_spans(create)


def test_nothing_is_late_in_keystone() -> None:
    for trace in recorded.traces(recorded.keystone()):
        assert not late_spans(trace)
        assert not is_mixed(trace)


def test_a_create_is_mixed_by_what_is_late(create: Trace) -> None:
    """The delete asks the thread of the create for another event."""
    assert is_mixed(create)
    assert not is_mixed(without(create, late_spans(create)))


REQUEST = child(1, name="wsgi", duration=10)


def test_what_goes_on_is_not_late() -> None:
    cast = child(2, 1, at=5, duration=10_000)
    step = child(3, 1, at=10_005 + GAP, duration=10_000)
    assert late(REQUEST, cast, step) == []
    assert late(REQUEST, cast, step, child(4, 1, at=20_005 + 2 * GAP)) == []
    assert late(REQUEST, cast, step, child(4, 1, at=20_006 + 2 * GAP)) == [4]
    # Without what went on in between it is late, with all below it.
    later = child(4, 3, at=10_006 + GAP, duration=1)
    assert late(REQUEST, step, later) == [3, 4]


def test_what_is_late_keeps_nothing_else_from_being_late() -> None:
    beats = [child(n, 1, at=n * 10_000) for n in range(2, 9)]
    assert late(REQUEST, *beats) == [2, 3, 4, 5, 6, 7, 8]


def test_what_runs_while_its_parent_does_is_not_late() -> None:
    """However long the parent waits, with nothing else in the trace."""
    cast = child(2, 1, at=5, duration=100_000)
    assert late(REQUEST, cast, child(3, 2, at=90_000)) == []
    assert late(REQUEST, cast[:1], child(3, 2, at=90_000)) == []
    # For others an unfinished span is over.
    assert late(REQUEST, cast[:1], child(3, 1, at=90_000)) == [3]


def test_nothing_is_late_while_a_request_is_unfinished() -> None:
    other = child(2, name="wsgi", at=20)
    beat = child(3, 1, at=90_000)
    assert late(REQUEST, other, beat) == [3]
    assert late(REQUEST, other[:1], beat) == []
    assert late(child(2, 1)) == []
    assert late() == []


def test_roots_that_are_no_requests_may_be_late() -> None:
    assert late(REQUEST, child(2, at=90_000)) == [2]
    # Where there is no request, they are what the trace is about.
    assert late(child(2), child(3, at=90_000)) == []


def test_a_request_is_not_late_where_a_clock_was_put_back() -> None:
    request = child(1, name="wsgi", at=5000 + GAP, duration=-5000 - GAP)
    assert late(request) == []
    assert late(request, child(2, 1, at=6000 + GAP)) == []
    assert late(request, child(2, 1, at=90_000 + GAP)) == [2]


def test_of_orphans_nobody_knows() -> None:
    assert late(REQUEST, child(2, 9, at=90_000)) == []


def test_what_is_below_is_late_though_it_seems_to_be_earlier() -> None:
    assert late(REQUEST, child(2, 1, at=90_000), child(3, 2, at=0)) == [2, 3]


@given(payload_lists() | payload_lists(skew=True, cycles=True))
def test_what_is_below_is_late(payloads: list[Payload]) -> None:
    trace = build(payloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("profiler_bridge.late.PAUSE", 500)
        late = late_spans(trace)
    for span in trace.spans:
        if span.trace_id in late:
            assert below(span) <= late
    assert not any(span.trace_id in late for span in requests(trace))


@given(payload_lists())
def test_nothing_is_late_of_what_is_left(payloads: list[Payload]) -> None:
    trace = build(payloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("profiler_bridge.late.PAUSE", 500)
        assert not late_spans(without(trace, late_spans(trace)))


def rpc(number: int, parent: int, name: str, at: int = 0) -> list[Payload]:
    info: dict[str, Any] = {"function": {"name": name}}
    return child(number, parent, at, name="rpc", info=info)


CALL = rpc(2, 1, "nova.compute.rpcapi.ComputeAPI.build")
BUILD = "nova.compute.manager.ComputeManager.build"


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [rpc(3, 2, BUILD)],
        # A fanout.
        [rpc(3, 2, BUILD), rpc(4, 2, BUILD, at=GAP)],
        # The conductor is asked by the server, not the caller.
        [rpc(3, 2, "nova.conductor.manager.ConductorManager.object_action")],
        [rpc(3, 2, "oslo_messaging.expected_exceptions.<locals>.inner")],
        [rpc(3, 2, "nova.scheduler.rpcapi.SchedulerAPI.select")],
        [child(3, 2, name="rpc")],
        [child(3, 2, info={"function": {"name": "nova.x.Other.method"}})],
        [rpc(3, 1, "nova.compute.manager.ComputeManager.other")],
    ],
)
def test_one_request_is_not_mixed(answers: list[list[Payload]]) -> None:
    assert not is_mixed(build(REQUEST, CALL, *answers))


@pytest.mark.parametrize(
    "answers",
    [
        [rpc(3, 2, "nova.compute.manager.ComputeManager.other")],
        [rpc(3, 2, BUILD), rpc(4, 2, BUILD, at=GAP + 1)],
    ],
)
def test_several_requests_are_mixed(answers: list[list[Payload]]) -> None:
    assert is_mixed(build(REQUEST, CALL, *answers))
