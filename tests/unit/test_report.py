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

"""Reports: osprofiler's dictionary and JSON, and the tree for a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report import json as json_report
from profiler_bridge.report import osprofiler, tree
from profiler_bridge.report.text import milliseconds, printable
from profiler_bridge.testing.sample import (
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import TEXTS, shuffled
from profiler_bridge.trace import Trace
from tests.osprofiler_report import equal_reports, osprofiler_report
from tests.unit.test_trace import BASE, build, child, payload_lists, shape


def in_order(payloads: list[Payload]) -> list[Payload]:
    """The order in which osprofiler is told: of time, starts first."""
    return sorted(
        payloads,
        key=lambda each: (each["timestamp"], each["trace_id"], each["name"]),
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
    """But for the order of siblings in one millisecond, which is chance."""
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
    """osprofiler cuts them at the first one: the one difference."""
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
        each
        for number in range(1, levels + 1)
        for each in child(number, number - 1, at=number)
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


def test_json_has_a_node_a_line() -> None:
    payloads = request(seeded(1))
    trace = Trace.build(payloads[0]["base_id"], notifications(payloads))
    rendered = "".join(json_report.render(trace))
    assert len(rendered.splitlines()) == 1 + len(trace.spans)


def test_json_of_many_levels() -> None:
    """Checked without a parser, whose recursion ends long before."""
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


# The tree


def test_tree_of_a_request() -> None:
    payloads = request(seeded(1), calls=1, error="DBDeadlock")
    base_id = payloads[0]["base_id"]
    assert lines(Trace.build(base_id, notifications(payloads))) == [
        f"trace {base_id}",
        "2026-02-03T04:05:06.000007 UTC, 11.000 ms, 4 spans: complete",
        "",
        "    start ms     total ms      self ms  operation",
        "       0.000       11.000        5.000  wsgi POST /v1/servers"
        " [shop:api@node-1]",
        "       2.000        6.000        4.000    rpc build"
        " [shop:conductor@node-2]",
        "       3.000        1.000        1.000      db SELECT servers.id FROM"
        " servers WHERE servers.name = %(name_1)s [shop:conductor@node-2]",
        "       5.000        1.000        1.000      db UPDATE servers SET"
        " state=? WHERE id = ? [shop:conductor@node-2]"
        " ! DBDeadlock: it broke",
    ]


def test_tree_folds_siblings_that_are_alike() -> None:
    alike = [child(number, 1, at=number) for number in range(2, 7)]
    trace = build(child(1, duration=100), *alike, child(7, 1, 50, error="E"))
    assert [line.partition("  db")[2] for line in lines(trace)[4:]] == [
        " [shop:api@node-1]",
        " [shop:api@node-1]  x 5",
        " [shop:api@node-1] ! E: it broke",
    ]
    unfolded = "".join(tree.render(trace, tree.TreeOptions(fold=False)))
    assert len(unfolded.splitlines()) == 4 + 7


def test_tree_down_to_a_depth() -> None:
    trace = build(deep(10))
    for depth in range(1, 12):
        options = tree.TreeOptions(max_depth=depth)
        text = "".join(tree.render(trace, options))
        assert len(text.splitlines()) == 4 + min(depth, 10)


def test_tree_without_what_was_fast() -> None:
    """Failures and what is unfinished are shown however fast they were."""
    trace = build(
        *(child(1, duration=9), child(2, 1, duration=1)),
        child(3, 1, duration=1, error="DBDeadlock"),
        child(4, 1)[:1],
    )
    options = tree.TreeOptions(min_duration=5000)
    text = "".join(tree.render(trace, options)).splitlines()
    assert [line.split()[1] for line in text[4:]] == [
        "9.000",
        "1.000",
        "unfinished",
    ]


def test_tree_of_nothing() -> None:
    assert lines(build())[0] == f"trace {BASE}"


def test_tree_says_what_is_missing() -> None:
    trace = build(child(1)[:1], child(2, 1, at=1)[1:], child(3, 9, at=2))
    text = lines(trace)
    assert "3 spans: 1 unfinished, 1 headless, 1 orphaned" in text[1]
    assert [line.split()[:3] for line in text[4:]] == [
        ["0.000", "unfinished", "-"],
        ["11.000", "no", "start"],
        ["2.000", "10.000", "10.000"],
    ]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tree_has_a_harmless_line_a_span(text: str) -> None:
    """Whatever is in its fields: no cursor moves, and no line is forged."""
    trace = build(
        child(
            *(1, 0),
            name=text,
            project=text,
            service=text,
            host=text,
            error=text,
            info={"request": {"method": text, "path": text}},
        )
    )
    for options in (tree.TreeOptions(), tree.TreeOptions(terminal=True)):
        rendered = "".join(tree.render(trace, options))
        assert rendered.count("\n") == 5
        ours = re.sub("\x1b\\[3[136]m|\x1b\\[0m", "", rendered)
        assert ours.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "info",
    [
        {"etype": 5, "message": [1]},
        {"etype": {"a": "\x1b"}, "message": {"b": "\n"}},
        {"etype": ["\x1b"], "host": 5},
        {"etype": "", "message": ""},
    ],
)
def test_tree_of_an_error_of_any_type(info: dict[str, Any]) -> None:
    start, stop = child(1)
    rendered = lines(build([start, stop | {"info": info}]))
    assert len(rendered) == 5
    assert "!" in rendered[4]
    assert rendered[4].isprintable()


def test_tree_cuts_long_statements() -> None:
    statement = "SELECT " + ", ".join(f"column_{n}" for n in range(1000))
    text = lines(build(child(1, info={"db": {"statement": statement}})))
    assert len(text[4]) < 200


def test_tree_of_clocks_that_disagree() -> None:
    text = lines(build(child(1), child(2, 1, at=-1), child(3, 1, 1, -3)))
    assert [line.split()[:2] for line in text[4:]] == [
        ["2.000", "10.000"],
        ["1.000", "10.000"],
        ["3.000", "-3.000"],
    ]


def test_tree_of_many_levels() -> None:
    text = lines(build(deep(10_000)))
    assert len(text) == 10_004
    assert max(map(len, text)) < 200


# Text


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_printable(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_printable_keeps_what_is_harmless(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a b é 💥", "a b é 💥"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\0", r"a\nb\tc\x00"),
        ("\u202eabc", r"\u202eabc"),
        ("\udc80", r"\udc80"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_printable_escapes(text: str, escaped: str) -> None:
    assert printable(text) == escaped


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0.000"), (1, "0.001"), (1_234_567, "1234.567"), (-1, "-0.001")],
)
def test_milliseconds(microseconds: int, text: str) -> None:
    assert milliseconds(microseconds) == text


def test_milliseconds_of_centuries() -> None:
    assert milliseconds(STARTED) == f"{STARTED // 1000}.007"
