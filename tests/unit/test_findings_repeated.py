# SPDX-License-Identifier: Apache-2.0

"""What a trace repeats: SQL, requests, tokens."""

from __future__ import annotations

from typing import Any

import pytest

from profiler_bridge.report.findings import Finding, Limits, Rule, findings
from tests.examples import STARTED, Example, call, sql

API = "nova:api@one"
COMPUTE = "nova:compute@two"
NEUTRON = "neutron:server@one"
KEYSTONE = "keystone:public@one"

INSTANCE = "SELECT a FROM instances WHERE id = %(id)s"
FLAVOR = "SELECT a FROM flavors WHERE id = %(id)s"


def request(path: str, method: str = "GET", query: str = "") -> dict[str, Any]:
    return {"request": {"method": method, "path": path, "query": query}}


def of(made: Example, rule: Rule, **limits: Any) -> list[Finding]:
    told = findings(made.trace(), Limits(**limits))
    return [finding for finding in told if finding.rule is rule]


class Served(Example):
    """A request of 10 s to Nova, and what is in it; times in ms."""

    def __init__(self, length: float = 10_000) -> None:
        super().__init__(7, STARTED)
        self.length = length
        self.top = self.span(API, "wsgi", 0, length, request("/v2.1/servers"))

    def execute(
        self,
        *statements: str,
        start: float = 10,
        took: float = 12,
        parent: str | None = None,
        **params: object,
    ) -> list[str]:
        """One after the other, each with parameters of its own."""
        return [
            self.span(
                *(API, "db", start + number * 20, start + number * 20 + took),
                sql(statement, **{"id": number, **params}),
                parent or self.top,
            )
            for number, statement in enumerate(statements)
        ]


# SQL


def test_one_statement_for_one_thing_after_the_other() -> None:
    made = Served()
    spans = made.execute(*[INSTANCE] * 5)
    [finding] = of(made, Rule.REPEATED_SQL)
    assert finding == (
        Rule.REPEATED_SQL,
        "nova:api",
        "SELECT instances",
        "SELECT instances ran 5 times below GET /v2.1/servers, with 5"
        " different parameters",
        tuple(spans),
        STARTED + 10_000,
        60_000,
        60_000,
    )


def test_lists_of_any_length_are_of_one_shape() -> None:
    made = Served()
    made.execute(*["SELECT a FROM tags WHERE b IN (1)"] * 4, id=1)
    made.execute(
        *["SELECT a FROM tags WHERE b IN (1, 2)"] * 2, start=200, id=1
    )
    [finding] = of(made, Rule.REPEATED_SQL)
    assert finding.title == (
        "SELECT tags ran 6 times (4 of one text, 2 of another) below"
        " GET /v2.1/servers, always with the same parameters"
    )
    made.execute("SELECT a FROM tags WHERE b IN (1, 2, 3)", start=300, id=1)
    [finding] = of(made, Rule.REPEATED_SQL)
    assert "7 times (4 of one text, 3 of 2 others)" in finding.title


def test_statements_in_turn_are_one_finding() -> None:
    made = Served()
    made.execute(*["BEGIN", INSTANCE, "COMMIT", FLAVOR] * 5, took=7)
    [finding] = of(made, Rule.REPEATED_SQL)
    assert finding.title.startswith(
        "(SELECT instances; SELECT flavors) ran 5 times in turn below"
    )
    # With what opened a transaction for them, and without what closed it.
    assert len(finding.spans) == 15
    assert finding.total == 15 * 7_000


def test_statements_that_do_not_take_turns_are_two() -> None:
    made = Served()
    made.execute(*[INSTANCE] * 5, *[FLAVOR] * 5)
    assert [finding.operation for finding in of(made, Rule.REPEATED_SQL)] == [
        "SELECT instances",
        "SELECT flavors",
    ]


def test_all_callers_of_a_repeated_statement_are_told() -> None:
    made = Served()
    made.execute(*[INSTANCE] * 6)
    other = made.span(API, "f", 1000, 1100, call("nova.compute.f"), made.top)
    made.execute(INSTANCE, start=1010, parent=other)
    [finding] = of(made, Rule.REPEATED_SQL)
    assert len(finding.spans) == 7
    assert finding.title.startswith(
        "SELECT instances ran 7 times below 2 spans, 6 of them below"
    )


def test_five_percent_are_enough_where_50_ms_are_not_reached() -> None:
    made = Served(length=1000)
    made.execute(*[INSTANCE] * 5, took=9.9)
    assert of(made, Rule.REPEATED_SQL) == []
    made = Served(length=990)
    made.execute(*[INSTANCE] * 5, took=9.9)
    assert len(of(made, Rule.REPEATED_SQL)) == 1


@pytest.mark.parametrize(
    ("statements", "took"),
    [
        ([INSTANCE] * 4, 20),
        ([INSTANCE] * 5, 9),
        (["BEGIN", "COMMIT"] * 20, 20),
        ([f"SELECT a FROM t{number}" for number in range(9)], 20),
    ],
    ids=["too few", "too short", "transactions", "different"],
)
def test_no_repeated_sql(statements: list[str], took: float) -> None:
    made = Served()
    made.execute(*statements, took=took)
    assert of(made, Rule.REPEATED_SQL) == []


def test_once_each_below_many_callers_is_no_repetition() -> None:
    made = Served()
    for number in range(20):
        start = 100 * number + 100
        one = made.span(
            *(API, "f", start, start + 50), call("nova.f"), made.top
        )
        made.execute(INSTANCE, start=start + 1, parent=one)
    assert of(made, Rule.REPEATED_SQL) == []
    assert len(of(made, Rule.REPEATED_SQL, repeats=1)) == 1


# Requests


def ask(
    made: Served,
    start: float,
    path: str = "/v2.0/ports",
    took: float = 60,
    where: str = NEUTRON,
    **asked: str,
) -> str:
    return made.span(
        *(where, "wsgi", start, start + took),
        request(path, **asked),
        made.top,
    )


def test_the_same_request_sent_twice() -> None:
    made = Served()
    spans = [ask(made, 100, query="a=1"), ask(made, 300, query="a=1")]
    [finding] = of(made, Rule.REPEATED_REQUEST)
    assert finding == (
        Rule.REPEATED_REQUEST,
        "nova:api",
        "GET /v2.0/ports",
        "GET /v2.0/ports was asked for 2 times, with the same path and query,"
        " by nova:api in GET /v2.1/servers",
        tuple(spans),
        STARTED + 100_000,
        120_000,
        120_000,
    )


def test_a_long_work_between_does_not_make_it_a_poll() -> None:
    made = Served()
    ask(made, 100)
    for start in range(200, 2000, 200):
        ask(made, start, f"/v2.0/networks/{start}", took=150)
    ask(made, 2100)
    assert len(of(made, Rule.REPEATED_REQUEST)) == 1


def test_a_service_may_ask_itself() -> None:
    made = Served()
    for start in (100, 300):
        asked = ask(made, start, where=API)
        made.execute(INSTANCE, start=start + 1, parent=asked)
    assert len(of(made, Rule.REPEATED_REQUEST)) == 1


def test_a_request_that_is_profiled_at_both_ends_counts_once() -> None:
    made = Served()
    for start in (100, 300):
        sent = made.span(
            *(API, "http", start, start + 60),
            {"requests": {"method": "GET", "path": "/v2.0/ports"}},
            made.top,
        )
        made.span(
            *(NEUTRON, "wsgi", start + 5, start + 55),
            request("/v2.0/ports"),
            sent,
        )
    [finding] = of(made, Rule.REPEATED_REQUEST)
    assert len(finding.spans) == 2
    assert finding.operation == "http GET /v2.0/ports"
    stops = [p for p in made.payloads if p["name"] == "http-stop"]
    stops[0]["info"]["requests"] = {"status_code": 503}
    assert of(made, Rule.REPEATED_REQUEST) == []


def test_who_polls_does_not_send_a_request_twice() -> None:
    made = Served()
    for start in range(100, 3000, 400):
        ask(made, start)
        # All of what is asked at one time.
        ask(made, start + 70, "/v2.0/networks")
    assert of(made, Rule.REPEATED_REQUEST) == []
    assert len(of(made, Rule.REPEATED_REQUEST, pause=400_000)) == 2


def test_who_polls_in_a_function_does_not_either() -> None:
    """What is around the questions says not that something was done."""
    made = Served()
    wait = made.span(API, "f", 50, 4000, call("nova.wait_for_port"), made.top)
    for start in (100, 1100, 2100):
        made.span(
            *(NEUTRON, "wsgi", start, start + 60),
            request("/v2.0/ports/7"),
            wait,
        )
    assert of(made, Rule.REPEATED_REQUEST) == []


def test_who_polls_while_a_cast_is_done_does_not_either() -> None:
    made = Served()
    made.span(COMPUTE, "rpc", 50, 4000, call("nova.Manager.build"), made.top)
    for start in (100, 1100, 2100):
        ask(made, start)
    assert of(made, Rule.REPEATED_REQUEST) == []


def test_clients_may_ask_again() -> None:
    made = Served(length=100)
    for start in (110, 220):
        made.span(API, "wsgi", start, start + 100, request("/v2.1/servers"))
    assert of(made, Rule.REPEATED_REQUEST) == []


def test_no_request_sent_twice() -> None:
    """Others ask, something was changed, it failed, or it was not the same."""
    made = Served()
    ask(made, 100)
    ask(made, 200, query="fields=id")
    ask(made, 300, "/v2.0/ports", method="POST")
    ask(made, 400)
    ask(made, 500, "/v2.0/ports/1", method="PUT")
    ask(made, 600)
    other = made.span(COMPUTE, "rpc", 650, 750, call("nova.f"), made.top)
    made.span(NEUTRON, "wsgi", 660, 740, request("/v2.0/ports"), other)
    for start in (800, 900):
        ask(made, start, "/v2.0/quotas", method="POST")
    ask(made, 1000, "/v2.0/agents")
    made.payloads[-1]["info"]["etype"] = "Timeout"
    ask(made, 1100, "/v2.0/agents")
    ask(made, 1200, "/v2.0/subnets")
    made.payloads.pop()
    ask(made, 1300, "/v2.0/subnets")
    assert of(made, Rule.REPEATED_REQUEST) == []


def test_short_requests_are_not_worth_telling() -> None:
    made = Served()
    ask(made, 100, took=10)
    ask(made, 120, took=10)
    assert of(made, Rule.REPEATED_REQUEST) == []
    assert len(of(made, Rule.REPEATED_REQUEST, share=0.2)) == 1


# Tokens


def validate(made: Served, start: float, where: str = API) -> None:
    parent = made.top
    if where != API:
        parent = ask(made, start, f"/v2.0/x{start:.0f}", where=where)
    made.span(
        *(KEYSTONE, "wsgi", start, start + 50),
        request("/v3/auth/tokens"),
        parent,
    )


def test_tokens_validated_again_and_again() -> None:
    made = Served()
    for start, where in ((1, API), (100, API), (1000, NEUTRON)):
        validate(made, start, where)
    [finding] = of(made, Rule.REPEATED_TOKEN)
    assert finding.operation == "GET /v3/auth/tokens"
    assert finding.title == (
        "tokens were validated 3 times, for nova:api (2 times), neutron:server"
    )
    assert finding.critical == finding.total == 150_000
    # They are not sent twice as well.
    assert of(made, Rule.REPEATED_REQUEST) == []


def test_no_tokens_validated_again_and_again() -> None:
    made = Served()
    validate(made, 1)
    validate(made, 1000, NEUTRON)
    # A client gets tokens.
    for start in (20_000, 20_200):
        made.span(
            *(KEYSTONE, "wsgi", start, start + 100),
            request("/v3/auth/tokens", "POST"),
        )
    assert of(made, Rule.REPEATED_TOKEN) == []
    assert len(of(made, Rule.REPEATED_TOKEN, tokens=2)) == 1
    assert of(made, Rule.REPEATED_TOKEN, tokens=2, time=10**9) == []
