# SPDX-License-Identifier: Apache-2.0

"""Findings: gaps, slow statements, errors; their cost and order; any trace."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from profiler_bridge.critical import critical_path
from profiler_bridge.report.findings import (
    DEFAULTS,
    Finding,
    Limits,
    Rule,
    findings,
    text,
)
from profiler_bridge.report.findings.totals import Totals
from profiler_bridge.testing.sample import TEXTS, Payload
from profiler_bridge.trace import Trace
from tests import recorded
from tests.examples import STARTED, Example, call, sql
from tests.report_cases import CASES
from tests.unit.test_findings_repeated import (
    API,
    COMPUTE,
    INSTANCE,
    Served,
    of,
    request,
)
from tests.unit.test_trace import build, child, payload_lists

ANY = Limits(1, 1, 0, 0.0, 0, 0, 0)


# Gaps


def test_a_gap_in_which_nothing_known_ran() -> None:
    made = Served(length=100)
    build = made.span(COMPUTE, "rpc", 90, 400, call("a.Manager.f"), made.top)
    last = made.span(API, "wsgi", 3000, 3100, request("/v2.1/servers/7"))
    [gap] = of(made, Rule.GAP)
    assert gap == (
        Rule.GAP,
        "",
        "a.Manager.f -> GET /v2.1/servers/{id}",
        "nothing that is known ran for 2.60 s, between a.Manager.f and the"
        " client's GET /v2.1/servers/{id}",
        (build, last),
        STARTED + 400_000,
        2_600_000,
        2_600_000,
    )


def test_gaps_between_the_same_are_one_finding() -> None:
    made = Served(length=100)
    for start in (1000, 2000, 3000):
        made.span(API, "wsgi", start, start + 100, request("/v2.1/servers"))
    [gap] = of(made, Rule.GAP)
    assert gap.title.startswith("nothing that is known ran for 2.70 s in 3")


def test_no_gap_while_something_runs() -> None:
    """Or for a moment; what a service does itself is known to run."""
    made = Served(length=5000)
    made.span(API, "wsgi", 5099, 5200, request("/v2.1/servers/7"))
    assert of(made, Rule.GAP) == []
    assert len(of(made, Rule.GAP, gap=99_000)) == 1


# Slow statements


def test_a_slow_statement() -> None:
    made = Served()
    made.execute(INSTANCE, took=99.9)
    assert of(made, Rule.SLOW_SQL) == []
    [span] = made.execute(INSTANCE, start=200, took=1234)
    assert of(made, Rule.SLOW_SQL) == [
        (
            Rule.SLOW_SQL,
            "nova:api",
            "SELECT instances",
            "SELECT instances took 1.23 s below GET /v2.1/servers",
            (span,),
            STARTED + 200_000,
            1_234_000,
            1_234_000,
        )
    ]
    made.execute(INSTANCE, start=2000, took=200)
    [finding] = of(made, Rule.SLOW_SQL)
    assert finding.title == (
        "SELECT instances took 100 ms or longer 2 times, and 1.23 s once below"
        " GET /v2.1/servers"
    )


def test_what_is_slow_and_no_statement() -> None:
    made = Served()
    made.span(API, "f", 10, 2000, call("nova.f"), made.top)
    made.execute(INSTANCE, start=3000, took=3000)
    made.payloads.pop()
    assert of(made, Rule.SLOW_SQL) == []


# All of them


@pytest.fixture(scope="module")
def create() -> Trace:
    [trace] = recorded.traces(recorded.server_create())
    return trace


def told(trace: Trace) -> list[tuple[str, int, str]]:
    return [
        (finding.rule.value, len(finding.spans), finding.operation)
        for finding in findings(trace)
    ]


def test_findings_of_a_server_create(create: Trace) -> None:
    """The whole list, so that what is new in it is looked at."""
    assert told(create) == [
        ("repeated-token", 4, "GET /v3/auth/tokens"),
        (
            *("gap", 2),
            "ComputeManager.external_instance_event -> GET /v2.1/servers/{id}",
        ),
        ("repeated-request", 2, "GET /allocations/{id}"),
        ("repeated-sql", 121, "SELECT tags"),
        ("repeated-sql", 117, "SELECT project"),
        (
            *("repeated-sql", 48),
            "SELECT user, local_user, password, federated_user +1",
        ),
        ("repeated-sql", 56, "SELECT extradhcpopts"),
        ("repeated-sql", 58, "SELECT role"),
        ("repeated-sql", 56, "SELECT implied_role"),
        ("repeated-sql", 24, "SELECT assignment"),
        (
            *("repeated-sql", 20),
            "SELECT ports, standardattributes, securitygroupportbindings,"
            " portdnses +11",
        ),
    ]


def test_tags_of_a_server_create(create: Trace) -> None:
    """As often as a look at the spans' texts says, and at the path."""
    tags = [
        span
        for span in create.spans
        if "WHERE tags.standard_attr_id IN ("
        in span.first.info.get("db", {}).get("statement", "")
    ]
    ids = {span.trace_id for span in tags}
    [finding] = [
        finding
        for finding in findings(create)
        if finding.operation == "SELECT tags"
    ]
    assert {*finding.spans} == ids
    assert len(ids) == len(finding.spans) == 121
    assert finding.total == sum(span.duration or 0 for span in tags)
    assert finding.critical == sum(
        segment.end - segment.start
        for segment in critical_path(create)
        if segment.span and segment.span.trace_id in ids
    )
    assert finding.title.startswith(
        "SELECT tags ran 121 times (103 of one text, 18 of another) below"
    )


def test_findings_of_healthy_requests_to_keystone() -> None:
    roles = ("repeated-sql", 24, "SELECT role")
    implied = ("repeated-sql", 16, "SELECT implied_role")
    projects = ("repeated-sql", 26, "SELECT project")
    post, *gets = recorded.traces(recorded.keystone())
    assert told(post) == []
    for trace in gets:
        assert told(trace) == [projects, roles, implied]
        last = findings(trace)[-1]
        assert last.title.startswith("SELECT implied_role ran 8 times below")


def test_what_costs_most_on_the_critical_path_is_first(create: Trace) -> None:
    costs = [finding.critical for finding in findings(create)]
    assert costs == sorted(costs, reverse=True)
    assert all(
        0 <= finding.critical <= finding.total for finding in findings(create)
    )


def test_what_is_late_is_not_of_the_request() -> None:
    made = Served(length=100)
    beat = made.span(
        *(API, "f", 60_000, 70_000, call("a.Service.beat"), made.top), "Gone"
    )
    made.execute(*[INSTANCE] * 9, start=60_001, took=200, parent=beat)
    assert findings(made.trace()) == []


def test_no_rule_tells_of_more_than_20() -> None:
    made = Served()
    for number in range(50):
        made.span(
            *(API, "f", 10, 20, call(f"a.C.f{number}"), made.top), "Gone"
        )
    assert len(findings(made.trace())) == 20


@pytest.mark.parametrize("limits", [DEFAULTS, ANY], ids=["default", "any"])
@given(payload_lists(skew=True, cycles=True))
def test_any_trace(limits: Limits, payloads: list[Payload]) -> None:
    check(build(payloads), limits)


@pytest.mark.parametrize("limits", [DEFAULTS, ANY], ids=["default", "any"])
@pytest.mark.parametrize("trace", CASES.values(), ids=CASES.keys())
def test_cases(trace: Trace, limits: Limits) -> None:
    check(trace, limits)


@pytest.mark.parametrize("hostile", TEXTS.values(), ids=TEXTS)
def test_any_text(hostile: str) -> None:
    """In every place that a rule reads."""
    info = {
        "db": {"statement": hostile, "params": {hostile: hostile}},
        "function": {"name": hostile},
    }
    asked = {"method": "GET", "path": hostile, "query": hostile}
    odd = {"method": {}, "path": [hostile]}
    names: dict[str, Any] = {
        "service": hostile,
        "project": hostile,
        "error": hostile,
    }
    trace = build(
        child(1, 0, duration=500, info={"request": asked}, **names),
        *(
            child(number, 1, number, info=info, **names)
            for number in range(2, 9)
        ),
        child(9, 1, 10, info={"requests": asked}, service="other"),
        child(10, 1, 11, info={"requests": asked}, service="other"),
        child(11, 0, 9000, info={"request": odd}),
    )
    check(trace, ANY)


def check(trace: Trace, limits: Limits) -> None:
    known = {span.trace_id for span in trace.spans}
    length = sum(end - start for start, end, _ in critical_path(trace))
    told: list[Finding] = findings(trace, limits)
    for finding in told:
        assert finding.spans
        assert known.issuperset(finding.spans)
        assert 0 <= finding.critical <= length
        for line in (finding.title, finding.operation, finding.service):
            assert line.isprintable()
        assert len(finding.title) < 3000
    shown = "".join(text.render(trace, told))
    totals = Totals(limits=limits)
    totals.add(trace)
    shown += "".join(text.render_totals(totals, 80))
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f\u2028]*", shown)
    assert sum(group.critical for group in totals.groups.values()) == sum(
        finding.critical for finding in told
    )


def test_findings_of_many_traces() -> None:
    totals = Totals()
    costs = []
    for number, took in enumerate((20, 40, 30)):
        made = Example(number, STARTED)
        top = made.span(API, "wsgi", 0, 1000, request("/v2.1/servers"))
        for start in range(0, 500, 50):
            made.span(API, "db", start, start + took, sql(INSTANCE, id=1), top)
        totals.add(made.trace())
        costs.append((took * 10_000, made.base_id))
    totals.add(build(child(1, 0)))
    assert str(totals).startswith("4 traces, 2026-02-03 04:05:06")
    assert str(totals).endswith(" UTC, 3 with findings")
    [(key, group)] = totals.ordered()
    assert key == (Rule.REPEATED_SQL, "nova:api", "SELECT instances")
    assert group.traces == 3
    assert group.critical == group.total == sum(cost for cost, _ in costs)
    assert (group.most, group.base_id) == max(costs)
    assert group.title.startswith("SELECT instances ran 10 times below")


def test_findings_of_many_traces_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiler_bridge.report.statistics._MOST_GROUPS", 5)
    totals = Totals()
    for number in range(9):
        made = Example(number, STARTED)
        made.span(
            API, "f", 0, 10, call(f"a.C.f{number}"), error=f"Gone{number}"
        )
        totals.add(made.trace())
    assert len(totals.groups) == 6
    assert totals.groups[totals.others].traces == 4
    assert "  (others)\n" in "".join(text.render_totals(totals))
