# SPDX-License-Identifier: Apache-2.0

"""The report for Graphviz, held to the rules of its language.

What stands in quotes is one string, and gives the text back
(https://graphviz.org/doc/info/lang.html).
"""

from __future__ import annotations

import html
import re

from hypothesis import given

from profiler_bridge.text import printable
from profiler_bridge.trace import Trace
from tests.report_cases import (
    CASES,
    build,
    cases,
    render,
    span,
    words,
)

QUOTED = r'"((?:[^"\\\n]|\\["\\n])*)"'
DOT_LINES = re.compile(
    rf"digraph {QUOTED} {{"
    rf"|  graph \[label={QUOTED}, labelloc=t\]"
    r"|  node \[shape=box\]"
    rf"|  (?P<node>n\d+) \[label={QUOTED}(, style=(dashed|dotted))?"
    r"(, color=red)?\]"
    r"|  (?P<parent>n\d+) -> (?P<child>n\d+)"
    r"|}"
)


def check_dot(trace: Trace) -> None:
    nodes, children = set(), set()
    for line in render("dot", trace).splitlines():
        match = DOT_LINES.fullmatch(line)
        assert match, line
        if match["node"]:
            assert match["node"] not in nodes
            nodes.add(match["node"])
        if match["child"]:
            assert {match["parent"], match["child"]} <= nodes
            assert match["child"] not in children
            children.add(match["child"])
    assert len(nodes) == len(trace.spans)
    assert len(children) == len(nodes) - len(trace.roots)


def labels(trace: Trace) -> list[str]:
    """The labels of the nodes, as Graphviz shows them."""
    quoted = re.findall(rf"n\d+ \[label={QUOTED}", render("dot", trace))
    return [
        html.unescape(
            re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), label)
        )
        for label in quoted
    ]


@cases
def test_dot(trace: Trace) -> None:
    check_dot(trace)


def test_dot_labels() -> None:
    assert labels(CASES["simple"]) == [
        "GET /servers - 1.00 ms\nnova:api",
        "SELECT - 200 us\n… ?\nnova:api",
        "http GET /v3 - 600 us\nGET keystone/v3\nnova:api",
    ]
    assert labels(CASES["unfinished"])[0] == "work - unfinished\nnova:api"
    assert labels(CASES["headless"])[0] == "work - no start\nnova:api"
    assert labels(CASES["error"])[0].endswith("\n! ValueError: no such flavor")


@given(words)
def test_dot_labels_show_what_was_sent(word: str) -> None:
    (label,) = labels(build(span(1, name=f"x{word}")))
    assert label == f"x{printable(word)} - 10 us\nnova:api"


def test_dot_says_what_the_trace_was() -> None:
    text = render("dot", CASES["forest"])
    assert (
        rf'label="work +1 - 20 us\n{CASES["forest"].base_id}\n1 orph' in text
    )


def test_dot_colours() -> None:
    assert render("dot", CASES["late"]).count("style=dotted") == 2
    assert render("dot", CASES["unfinished"]).count("style=dashed") == 2
    assert render("dot", CASES["headless"]).count("style=dashed") == 1
    assert render("dot", CASES["error"]).count("color=red") == 2
    assert not re.search("dashed|red", render("dot", CASES["simple"]))
