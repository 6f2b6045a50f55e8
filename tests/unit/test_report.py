# SPDX-License-Identifier: Apache-2.0

"""Reports: osprofiler's dictionary and JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given

from profiler_bridge.report import json as json_report
from profiler_bridge.report import osprofiler, tree
from profiler_bridge.testing.helpers import shuffled
from profiler_bridge.testing.sample import (
    TEXTS,
    Payload,
    notifications,
    request,
    seeded,
)
from profiler_bridge.trace import Trace
from tests.osprofiler_report import equal_reports, osprofiler_report
from tests.unit.test_trace import build, child, payload_lists, shape


def in_order(payloads: list[Payload]) -> list[Payload]:
    """The order in which osprofiler is told: of time, starts first."""
    return sorted(
        payloads,
        key=lambda payload: (
            payload["timestamp"],
            payload["trace_id"],
            payload["name"],
        ),
    )


def lines(trace: Trace) -> list[str]:
    return "".join(tree.render(trace)).splitlines()


def parsed(trace: Trace) -> Any:
    return json.loads("".join(json_report.render(trace)))


# osprofiler's dictionary


@given(payload_lists())
def test_report_equals_osprofilers(payloads: list[Payload]) -> None:
    """With spans whose start, stop or parent is missing too."""
    theirs = osprofiler_report(in_order(payloads))
    assert osprofiler.report(build(payloads)) == theirs


@given(payload_lists(skew=True))
def test_report_equals_osprofilers_with_clocks_that_disagree(
    payloads: list[Payload],
) -> None:
    """Except the order of siblings in one millisecond, which is chance."""
    theirs = osprofiler_report(in_order(payloads))
    assert equal_reports(osprofiler.report(build(payloads)), theirs)


@pytest.mark.parametrize("error", [None, "DBDeadlock"])
def test_report_of_a_request_equals_osprofilers(error: str | None) -> None:
    payloads = request(seeded(1), calls=50, error=error)
    trace = Trace.build(
        payloads[0]["base_id"], notifications(shuffled(payloads, 1))
    )
    assert osprofiler.report(trace) == osprofiler_report(payloads)


def test_report_keeps_hyphens_in_names() -> None:
    """The only difference: osprofiler cuts names at the first hyphen."""
    payloads = child(1, name="neutron-api-call")
    ours, theirs = (
        osprofiler.report(build(payloads)),
        osprofiler_report(payloads),
    )
    assert set(ours["stats"]) == {"neutron-api-call"}
    assert set(theirs["stats"]) == {"neutron"}
    ours["children"][0]["info"]["name"] = "neutron"
    assert ours["children"] == theirs["children"]


def test_report_of_nothing() -> None:
    assert osprofiler.report(build()) == osprofiler_report([])


def test_report_has_the_payloads_as_they_came() -> None:
    start, stop = child(1)
    info = osprofiler.report(build([start, stop]))["children"][0]["info"]
    assert info["meta.raw_payload.db-start"] == start
    assert info["meta.raw_payload.db-stop"] == stop


def test_report_of_many_levels_equals_osprofilers() -> None:
    payloads = deep(1500)
    assert equal_reports(
        osprofiler.report(build(payloads)), osprofiler_report(payloads)
    )


def deep(levels: int) -> list[Payload]:
    return [
        payload
        for number in range(1, levels + 1)
        for payload in child(number, number - 1, at=number)
    ]


# JSON


@given(payload_lists(cycles=True))
def test_json_is_the_report(payloads: list[Payload]) -> None:
    trace = build(payloads)
    assert parsed(trace) == osprofiler.report(trace)


def test_json_of_nothing() -> None:
    assert parsed(build()) == osprofiler.report(build())


@given(payload_lists(skew=True, cycles=True))
def test_json_is_read_again(payloads: list[Payload]) -> None:
    trace = build(payloads)
    again = json_report.read("".join(json_report.render(trace)))
    assert shape(again) == shape(trace)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_json_of_any_text(text: str) -> None:
    trace = build(
        child(
            *(1, 0),
            name=text,
            service=text,
            host=text,
            error=text,
            info={text: text},
        )
    )
    rendered = "".join(json_report.render(trace))
    assert rendered.isascii()
    assert json.loads(rendered) == osprofiler.report(trace)


def test_json_has_no_nan() -> None:
    values = [float("nan"), float("inf"), -float("inf"), {"a": [1.5, None]}]
    text = "".join(
        json_report.render(
            build(child(1, info={"db": {"params": values}}, error="e"))
        )
    )

    def fail(constant: str) -> None:
        raise AssertionError(constant)

    report = json.loads(text, parse_constant=fail)
    payload = report["children"][0]["info"]["meta.raw_payload.db-start"]
    assert payload["info"]["db"]["params"] == [
        *("NaN", "Infinity", "-Infinity"),
        {"a": [1.5, None]},
    ]
    assert json_report.read(text).spans[0].exception == "e"


def test_json_has_a_node_a_line() -> None:
    payloads = request(seeded(1))
    trace = Trace.build(payloads[0]["base_id"], notifications(payloads))
    rendered = "".join(json_report.render(trace))
    assert len(rendered.splitlines()) == 1 + len(trace.spans)


def test_json_of_many_levels() -> None:
    """Checked without a parser, as those cannot nest so deep."""
    levels = 10_000
    rendered = "".join(json_report.render(build(deep(levels))))
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', rendered)
    opened: list[str] = []
    deepest = 0
    for token in tokens:
        if token in "[{":
            opened.append(token)
            deepest = max(deepest, len(opened))
        elif token in "]}":
            assert opened.pop() + token in ("[]", "{}")
    assert opened == []
    assert deepest > 2 * levels
    assert tokens.count('"children"') == levels + 1
    for line in rendered.splitlines()[:-1]:
        assert json.loads(line.removesuffix(",") + "]}")["info"]
