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

"""Summaries from pieces, in whatever order and however often they came."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.query import (
    ALL_TRACES,
    WITH_ERRORS,
    PartialSummary,
    TraceQuery,
    TraceSummary,
    index_terms,
    service_term,
    summarize,
)
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import TEXTS
from tests.unit.test_trace import BASE, build, child, payload_lists

# Pieces with few different values, so that much is equal in two of them.
numbers = st.integers(0, 3)
spans = st.sets(st.sampled_from(["0" * 16, "1" * 16, "2" * 16]))
names = st.sets(st.sampled_from(["", "api", *TEXTS.values()]), max_size=3)
partials = st.builds(
    PartialSummary,
    started=numbers,
    finished=numbers,
    starts=spans,
    stops=spans,
    parents=spans,
    errors=spans,
    projects=names,
    services=names,
    hosts=names,
    names=names,
    root=st.none() | st.tuples(numbers, st.sampled_from(["", "a", "💥"])),
)


def piece(payloads: list[Payload]) -> PartialSummary:
    return PartialSummary.of(notifications(payloads))


def merged(*pieces: PartialSummary) -> PartialSummary:
    whole = copy.deepcopy(pieces[0])
    for each in pieces[1:]:
        whole.merge(each)
    return whole


@given(partials, partials)
def test_merge_is_commutative(
    one: PartialSummary, other: PartialSummary
) -> None:
    assert merged(one, other) == merged(other, one)


@given(partials, partials, partials)
def test_merge_is_associative(
    one: PartialSummary, two: PartialSummary, three: PartialSummary
) -> None:
    assert merged(merged(one, two), three) == merged(one, merged(two, three))


@given(partials)
def test_merge_is_idempotent(one: PartialSummary) -> None:
    assert merged(one, one) == one


@given(partials, partials)
def test_merge_leaves_the_other_as_it_is(
    one: PartialSummary, other: PartialSummary
) -> None:
    before = copy.deepcopy(other)
    one.merge(other)
    one.services.add("later")
    assert other == before


@given(partials)
def test_text_and_back(one: PartialSummary) -> None:
    assert PartialSummary.from_text(one.to_text()) == one


@given(partials)
def test_text_is_ascii_on_one_line(one: PartialSummary) -> None:
    assert one.to_text().isascii()
    assert one.to_text().isprintable()


@given(payload_lists(skew=True, cycles=True))
def test_same_piece_same_text(payloads: list[Payload]) -> None:
    """In whatever order its notifications are."""
    assert piece(payloads).to_text() == piece(payloads[::-1]).to_text()


@given(
    payload_lists(skew=True, cycles=True), st.randoms(use_true_random=False)
)
def test_cut_in_pieces_in_any_order_and_some_twice(
    payloads: list[Payload], rng: random.Random
) -> None:
    pieces = [[each] for each in payloads]
    while len(pieces) > 1 and rng.random() < 0.7:
        pieces.append(pieces.pop(0) + pieces.pop(rng.randrange(len(pieces))))
    pieces += rng.sample(pieces, rng.randrange(len(pieces) + 1))
    rng.shuffle(pieces)
    found = summarize(BASE, (piece(each) for each in pieces))
    assert found == piece(payloads).summary(BASE)


@given(payload_lists(skew=True))
def test_summary_agrees_with_the_trace(payloads: list[Payload]) -> None:
    """Where there are no rings, of which a summary knows nothing."""
    trace = build(payloads)
    summary = piece(payloads).summary(BASE)
    assert summary.complete == trace.verdict.complete
    assert (summary.started, summary.finished) == (
        trace.started,
        trace.finished,
    )
    assert (summary.spans, summary.unfinished, summary.headless) == (
        len(trace.spans),
        trace.verdict.unfinished,
        trace.verdict.headless,
    )
    assert summary.errors == sum(
        each.exception is not None for each in trace.spans
    )
    known = {each["trace_id"] for each in payloads}
    assert summary.missing_parents == len(
        {each["parent_id"] for each in payloads} - known - {BASE}
    )


@given(payload_lists())
def test_names_of_all_notifications(payloads: list[Payload]) -> None:
    summary = piece(payloads).summary(BASE)
    assert summary.services == tuple(
        sorted({each["service"] for each in payloads} - {None})
    )
    assert set(summary.names) == {
        each["name"].partition("-")[0] for each in payloads
    }


def test_root_is_the_earliest_that_started() -> None:
    def get(path: str) -> dict[str, object]:
        return {"request": {"method": "GET", "path": path}}

    headless = child(1, at=0, duration=0)[1:]
    inner = child(2, 1, at=1, info=get("/inner"))
    early, late = child(3, at=2, info=get("/a")), child(4, at=3)
    whole = piece([*late, *headless, *inner, *early]).summary(BASE)
    assert whole.root == "GET /a"


def test_root_that_tells_nothing_is_its_name() -> None:
    assert piece(child(1, name="wsgi")).summary(BASE).root == "wsgi"


def test_of_roots_that_started_together_one_is_chosen_always() -> None:
    one = child(1, name="a")[:1]
    two = child(2, name="b")[:1]
    assert (
        piece(one + two).root
        == piece(two + one).root
        == merged(piece(two), piece(one)).root
    )


def test_root_is_not_long() -> None:
    start, _ = child(1, info={"function": {"name": "💥" * 1000}})
    root = piece([start]).summary(BASE).root
    assert root == "💥" * 200


def test_request() -> None:
    payloads = request(seeded(1), calls=3, error="DBDeadlock")
    found = piece(payloads).summary(payloads[0]["base_id"])
    assert found == TraceSummary(
        base_id=payloads[0]["base_id"],
        started=STARTED,
        finished=STARTED + 25 * MILLISECOND,
        root="POST /v1/servers",
        spans=10,
        unfinished=0,
        headless=0,
        missing_parents=0,
        errors=1,
        projects=("shop",),
        services=("api", "conductor"),
        hosts=("node-1", "node-2"),
        names=("db", "rpc", "wsgi"),
    )
    assert found.complete
    assert found.duration == 25 * MILLISECOND


def test_terms() -> None:
    fine = child(1, service=None)
    failed = request(seeded(1), error="DBDeadlock")
    assert index_terms([piece(fine), piece(failed)]) == {
        ALL_TRACES,
        WITH_ERRORS,
        service_term("api"),
        service_term("conductor"),
    }
    assert index_terms([piece(fine)]) == {ALL_TRACES}


def test_terms_of_services_are_no_other_terms() -> None:
    for service in (ALL_TRACES, WITH_ERRORS, ""):
        assert service_term(service) not in (ALL_TRACES, WITH_ERRORS)


@pytest.mark.parametrize(
    ("query", "term"),
    [
        (TraceQuery(), ALL_TRACES),
        (TraceQuery(service="api"), service_term("api")),
        (TraceQuery(service=""), service_term("")),
        (TraceQuery(error=True), WITH_ERRORS),
        (TraceQuery(service="api", error=True), WITH_ERRORS),
    ],
)
def test_term_of_a_query(query: TraceQuery, term: str) -> None:
    assert query.term == term


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        (TraceQuery(), True),
        (TraceQuery(since=STARTED), True),
        (TraceQuery(since=STARTED + 1), False),
        (TraceQuery(until=STARTED), False),
        (TraceQuery(until=STARTED + 1), True),
        (TraceQuery(since=STARTED, until=STARTED + SECOND), True),
        (TraceQuery(since=0, until=0), False),
        (TraceQuery(service="api"), True),
        (TraceQuery(service="conductor"), True),
        (TraceQuery(service="ap"), False),
        (TraceQuery(service=""), False),
        (TraceQuery(error=True), False),
        (TraceQuery(limit=0, marker="not looked at"), True),
    ],
)
def test_matches(query: TraceQuery, matches: bool) -> None:
    summary = piece(request(seeded(1))).summary("")
    assert query.matches(summary) == matches


@given(payload_lists(), st.builds(TraceQuery, error=st.booleans()))
def test_what_matches_stands_under_the_term(
    payloads: list[Payload], query: TraceQuery
) -> None:
    """Or it would not be found."""
    partial = piece(payloads)
    if query.matches(partial.summary(BASE)):
        assert query.term in index_terms([partial])
