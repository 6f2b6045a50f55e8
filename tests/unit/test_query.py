# SPDX-License-Identifier: Apache-2.0

"""Summaries from pieces, in whatever order and however often they came."""

from __future__ import annotations

import copy
import json
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.query import TraceQuery
from profiler_bridge.roots import Ends, Roots
from profiler_bridge.summary import (
    ALL_TRACES,
    AT_LEAST,
    LONGEST,
    MOST_RESOURCES,
    WITH_ERRORS,
    PartialSummary,
    TraceSummary,
    about_term,
    digest,
    duration_terms,
    index_terms,
    root_name,
    root_term,
    service_name,
    service_term,
    summarize,
    term_names,
)
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    TEXTS,
    Payload,
    notifications,
    request,
    seeded,
)
from tests.unit.test_trace import BASE, build, child, payload_lists

# Pieces with few different values, so that much is equal in two of them.
numbers = st.integers(0, 3)
spans = st.sets(st.sampled_from(["0" * 16, "1" * 16, "2" * 16]))
names = st.sets(st.sampled_from(["", "api", *TEXTS.values()]), max_size=3)
ends = st.builds(Ends) | st.builds(
    Ends,
    ids=spans.filter(bool),
    started=st.none() | numbers,
    stopped=st.none() | numbers,
)
partials = st.builds(
    PartialSummary,
    started=numbers,
    finished=numbers,
    starts=spans,
    stops=spans,
    parents=spans,
    errors=spans,
    services=names,
    hosts=names,
    names=names,
    about=names,
    roots=st.builds(
        Roots,
        requests=ends,
        others=ends,
        operations=st.dictionaries(
            st.sampled_from(["", "a", "💥"]), st.tuples(numbers, numbers)
        ),
    ),
)


def piece(payloads: list[Payload]) -> PartialSummary:
    return PartialSummary.of(notifications(payloads))


def merged(*pieces: PartialSummary) -> PartialSummary:
    whole = copy.deepcopy(pieces[0])
    for other in pieces[1:]:
        whole.merge(other)
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
    pieces = [[payload] for payload in payloads]
    while len(pieces) > 1 and rng.random() < 0.7:
        pieces.append(pieces.pop(0) + pieces.pop(rng.randrange(len(pieces))))
    pieces += rng.sample(pieces, rng.randrange(len(pieces) + 1))
    rng.shuffle(pieces)
    summary = summarize(BASE, map(piece, pieces))
    assert summary == piece(payloads).summary(BASE)


@given(payload_lists(skew=True))
def test_summary_agrees_with_the_trace(payloads: list[Payload]) -> None:
    """But for rings, of which a summary knows nothing."""
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
        span.exception is not None for span in trace.spans
    )
    known = {payload["trace_id"] for payload in payloads}
    assert summary.missing_parents == len(
        {payload["parent_id"] for payload in payloads} - known - {BASE}
    )


def test_a_span_that_is_its_own_parent() -> None:
    """As its trace says: it has no place in the tree."""
    payloads = child(1) + child(2, 2)
    assert not build(payloads).verdict.complete
    assert not piece(payloads).summary(BASE).complete
    assert PartialSummary.from_text(piece(payloads).to_text()) == piece(
        payloads
    )
    root = child(0)
    assert root[0]["trace_id"] == BASE
    assert not build(root).verdict.complete
    assert not piece(root).summary(BASE).complete


@given(payload_lists())
def test_names_of_all_notifications(payloads: list[Payload]) -> None:
    summary = piece(payloads).summary(BASE)
    assert summary.services == tuple(
        sorted(
            {
                f"{payload['project']}:{payload['service'] or ''}"
                for payload in payloads
            }
        )
    )
    assert set(summary.names) == {
        payload["name"].partition("-")[0] for payload in payloads
    }


def test_the_name_is_that_of_a_root_which_changes_something() -> None:
    """The rest is in the tests of roots."""

    def request_of(method: str, path: str) -> dict[str, object]:
        return {"request": {"method": method, "path": path}}

    headless = child(1, at=0, duration=0)[1:]
    inner = child(2, 1, at=1, info=request_of("DELETE", "/inner"))
    early = child(3, at=2, info=request_of("GET", "/a"))
    late = child(4, at=3, info=request_of("POST", "/b"))
    summary = piece([*late, *headless, *inner, *early]).summary(BASE)
    assert (summary.name, summary.requests) == ("POST /b", 2)
    assert summary.title == "POST /b +1"
    assert summary.roots == ("GET /a", "POST /b")


def test_name_of_a_root_that_tells_nothing() -> None:
    assert piece(child(1, name="wsgi")).summary(BASE).name == "wsgi"


def test_what_comes_after_the_answer() -> None:
    """A root of which the stop is missing is not answered."""
    answer = child(1, at=1, duration=2, name="wsgi")
    work = child(2, 1, at=2, duration=5)
    summary = piece([*answer, *work]).summary(BASE)
    assert summary.answered is not None
    assert summary.after == summary.duration - summary.answered > 0
    unanswered = piece([answer[0], *work]).summary(BASE)
    assert (unanswered.answered, unanswered.after) == (None, None)


UUID = "0b0a4a4e-2a5b-4ad5-9d3b-0a5f9a3b1c11"


def test_what_a_request_is_about() -> None:
    info = {"request": {"method": "GET", "path": f"/v2/{UUID.upper()}"}}
    partial = piece(child(1, info=info))
    assert partial.summary(BASE).about == (UUID,)
    assert about_term(UUID) in index_terms([partial])


def test_a_piece_is_found_by_a_bounded_number_of_resources() -> None:
    payloads = [
        payload
        for number in range(1, 200)
        for payload in child(
            number,
            info={"request": {"path": f"/{uuid.UUID(int=number)}"}},
        )
    ]
    assert len(piece(payloads).about) == MOST_RESOURCES


OLD = {
    "started": 1,
    "finished": 2,
    "spans": "0" * 16,
    "services": ["api", "conductor"],
    "root": [1, f"GET /v3/users/{UUID}"],
}


@pytest.mark.parametrize(
    ("projects", "services"),
    [
        (["nova"], ("nova:api", "nova:conductor")),
        ([], ("api", "conductor")),
        (["glance", "nova"], ("api", "conductor")),
    ],
)
def test_what_an_older_release_stored(
    projects: list[str], services: tuple[str, ...]
) -> None:
    for version in ({}, {"version": 1}):
        text = json.dumps({**OLD, "projects": projects, **version})
        summary = PartialSummary.from_text(text).summary(BASE)
        assert summary.services == services
        assert summary.name == "GET /v3/users/{id}"
        assert summary.answered is None


def test_request() -> None:
    payloads = request(seeded(1), calls=3, error="DBDeadlock")
    summary = piece(payloads).summary(payloads[0]["base_id"])
    assert summary == TraceSummary(
        base_id=payloads[0]["base_id"],
        started=STARTED,
        finished=STARTED + 25 * MILLISECOND,
        name="POST /v1/servers",
        requests=1,
        answered=25 * MILLISECOND,
        roots=("POST /v1/servers",),
        about=(),
        spans=10,
        unfinished=0,
        headless=0,
        missing_parents=0,
        errors=1,
        services=("shop:api", "shop:conductor"),
        hosts=("node-1", "node-2"),
        names=("db", "rpc", "wsgi"),
    )
    assert summary.complete
    assert summary.duration == 25 * MILLISECOND


def test_terms() -> None:
    fine = child(1, service=None, project=None)
    failed = request(seeded(1), error="DBDeadlock")
    names = {
        service_name("shop:api"),
        service_name("shop:conductor"),
        root_name("POST /v1/servers"),
        root_name("db"),
    }
    pieces = [piece(fine), piece(failed)]
    assert term_names(pieces) == names
    assert index_terms(pieces) == {
        ALL_TRACES,
        WITH_ERRORS,
        *map(digest, names),
    }


def test_names_are_no_other_terms() -> None:
    others = {ALL_TRACES, WITH_ERRORS, LONGEST, *duration_terms(10**9)}
    for name in ("all", "error", "duration", "duration:10000", ""):
        for term in (service_term, root_term, about_term):
            assert term(name) not in others


def test_terms_of_durations() -> None:
    assert duration_terms(9_999) == set()
    assert len(duration_terms(10_000)) == 1
    assert duration_terms(999_999) < duration_terms(1_000_000)
    assert len(duration_terms(10**12)) == len(AT_LEAST)


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
        (TraceQuery(services=["api"]), True),
        (TraceQuery(services=["shop:conductor", "!bank"]), True),
        (TraceQuery(services=["api", "ap"]), False),
        (TraceQuery(services=[""]), False),
        (TraceQuery(services=["shop"]), True),
        (TraceQuery(services=["!shop"]), False),
        (TraceQuery(projects=["shop"]), True),
        (TraceQuery(projects=["api"]), False),
        (TraceQuery(roots=["POST /v1/*"]), True),
        (TraceQuery(roots=["POST"]), False),
        (TraceQuery(roots=["!GET*", "!DELETE*"]), True),
        (TraceQuery(about=[UUID]), False),
        (TraceQuery(about=[f"!{UUID}"]), True),
        (TraceQuery(operations=["not looked at"]), True),
        (TraceQuery(error=True), False),
        (TraceQuery(limit=0, marker="not looked at"), True),
    ],
)
def test_matches(query: TraceQuery, matches: bool) -> None:
    summary = piece(request(seeded(1))).summary("")
    assert query.matches(summary) == matches
