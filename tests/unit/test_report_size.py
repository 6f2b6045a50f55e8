# SPDX-License-Identifier: Apache-2.0


"""No report is much larger than its trace, whatever the trace says.

At most twice the trace's notifications as JSON, and 200 kB.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import pytest

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.report import json as json_report
from profiler_bridge.report import osprofiler, spans, tree
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import Payload, notifications
from profiler_bridge.trace import Trace
from tests.unit.test_trace import BASE, build, child

MEGABYTE = 1_000_000
TIMES = 2
MORE = 200_000

# Each takes another share of the text that it becomes in some format.
CHARACTERS = {
    "plain": "x",
    "markup": "<",
    "ampersand": "&",
    "entity": "&a;",
    "quote": '"',
    "backslash": "\\",
    "space": " ",
    "control": "\x1b",
    "wide": "\u4e2d",
    "private": "\U000f0000",
    "emoji": "\U0001f600",
    "lone surrogate": "\ud800",
    "list": "IN()",
}


def many(count: int, make: Callable[[int], list[Payload]]) -> list[Payload]:
    return [
        payload for number in range(2, count + 2) for payload in make(number)
    ]


def everywhere(text: str) -> list[Payload]:
    return child(
        *(1, 0),
        name=text,
        service=text,
        project=text,
        host=text,
        error=text,
        info={
            "db": {"statement": text, "params": [text]},
            "function": {"name": text, "args": text, "kwargs": text},
            text: {text: text},
        },
    )


def one_large(field: str) -> list[Payload]:
    """One large span, with many small ones below it."""
    large: dict[str, Any] = {field: "x" * MEGABYTE}
    small = many(500, lambda number: child(number, 1, name=f"{number}"))
    return child(1, **large) + small


def all_long(field: str) -> list[Payload]:
    def long(number: int) -> list[Payload]:
        text: dict[str, Any] = {field: f"{number}" + "x" * 10_000}
        return child(number, **text)

    return many(200, long)


def of_names_and_errors(text: str) -> list[Payload]:
    return many(
        1000,
        lambda number: child(
            number,
            name=f"{number}{text}",
            error=text,
            info={"request": {"method": f"{number}", "path": text}},
        ),
    )


def of_statements(text: str) -> list[Payload]:
    return many(
        1000,
        lambda number: child(
            number, info={"db": {"statement": f"SELECT a{number} {text}"}}
        ),
    )


def different(spans: int) -> list[Payload]:
    return many(
        spans,
        lambda n: child(
            n, n + spans, name=f"{n}", service=f"{n}", host=f"{n}"
        ),
    )


FIELDS = ("name", "service", "project", "host", "error")
TRACES: dict[str, Callable[[], list[Payload]]] = {
    **{f"{field} of 1 MB": partial(one_large, field) for field in FIELDS},
    **{f"{field}s of 10 kB": partial(all_long, field) for field in FIELDS},
    **{
        f"{kind} of 100 kB": partial(everywhere, text * 100_000)
        for kind, text in CHARACTERS.items()
    },
    **{
        f"{kind} in many": partial(of_names_and_errors, text * 100)
        for kind, text in CHARACTERS.items()
    },
    **{
        f"{kind} in statements": partial(of_statements, text * 100)
        for kind, text in CHARACTERS.items()
    },
    "tiny": lambda: many(
        5000, lambda n: child(n, service=None, project=None, host="h")
    ),
    "starts, each of another host": lambda: many(
        5000, lambda n: child(n, host=f"{n}")[:1]
    ),
    "starts, each of another service": lambda: many(
        5000, lambda n: child(n, service=f"{n}", host=f"{n}")[:1]
    ),
    "few, tiny and all different": partial(different, 500),
    "tiny and all different": partial(different, 5000),
    "tiny and all at once": lambda: many(
        5000, lambda n: child(n, at=n, duration=10**7)
    ),
    "a chain": lambda: many(5000, lambda n: child(n, n - 1)),
    "numbers": lambda: child(1, info={"a": [1] * 300_000}),
    "different numbers": lambda: child(1, info={"a": [*range(100_000)]}),
    "empty strings": lambda: child(1, info={"a": [""] * 300_000}),
    "parameters": lambda: child(1, info={"db": {"params": [1] * 300_000}}),
    "values": lambda: child(1, info={f"{n}": n for n in range(100_000)}),
    "sections": lambda: child(
        1, info={f"{n}": {"a": n} for n in range(100_000)}
    ),
    "fields": lambda: child(
        1, info={"a": {f"{n}": n for n in range(100_000)}}
    ),
    "fields of a long section": lambda: child(
        1, info={"x" * 100_000: {f"{n}": n for n in range(1000)}}
    ),
    "fields of many": lambda: many(
        300, lambda n: child(n, info={"a": {f"{n}": n for n in range(100)}})
    ),
}


@lru_cache(1)
def made(kind: str) -> tuple[Trace, int]:
    """A trace, and how large its report may be."""
    trace = build(TRACES[kind]())
    size = sum(len(end.text) for end in trace.notifications())
    return trace, TIMES * size + MORE


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", TRACES)
def test_show(kind: str, format_: str) -> None:
    trace, most = made(kind)
    assert sum(len(p.encode()) for p in FORMATS[format_](trace)) <= most


@pytest.mark.parametrize("kind", TRACES)
def test_tree_on_a_terminal(kind: str) -> None:
    trace, most = made(kind)
    options = tree.TreeOptions(colours=True, bars=True, fold=False)
    assert sum(len(p.encode()) for p in tree.render(trace, options)) <= most


TABLES = [
    ["list"],
    *(
        ["stats", "--by", by]
        for by in ("operation", "kind", "host", "statement")
    ),
    ["diff", BASE, BASE],
]
STORED = [
    "name of 1 MB",
    "service of 1 MB",
    "host of 1 MB",
    "names of 10 kB",
    "emoji in many",
    "wide in statements",
    "list in statements",
    "few, tiny and all different",
]


@pytest.mark.parametrize("kind", STORED)
def test_tables(
    kind: str, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, most = made(kind)
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write([*trace.notifications()])
    storage.close()
    app = ["--connection-string", sqlite_url]
    for table in TABLES:
        for format_ in ("table", "csv", "json", "value", "yaml"):
            args = [*app, *table, "-f", format_]
            assert BridgeApp("profiler_bridge.report", "").run(args) == 0
            size = len(capsys.readouterr().out.encode())
            assert size <= most, (table, format_)


def test_what_is_cut_in_a_table_says_so(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write(notifications(child(1, name="x" * 1000)))
    storage.close()
    args = ["--connection-string", sqlite_url, "stats", "-f"]
    BridgeApp("profiler_bridge.report", "").run([*args, "table"])
    shown = capsys.readouterr().out
    # An operation has 200 at most.
    assert "x" * 100 + "... (200 characters)" in shown
    assert "x" * 101 not in shown
    BridgeApp("profiler_bridge.report", "").run([*args, "json"])
    [row] = json.loads(capsys.readouterr().out)
    assert row["Operation"] == "x" * 199 + "…"


def test_osprofilers_report_has_whole_names_while_they_are_not_too_many() -> (
    None
):
    long = "x" * 10_000
    report = osprofiler.report(build(child(1, name=long)))
    [node] = report["children"]
    assert node["info"]["name"] == long
    assert f"meta.raw_payload.{long}-stop" in node["info"]
    assert [*report["stats"]] == [long]


def test_osprofilers_report_cuts_names_only_beside_payloads() -> None:
    payloads = child(1, name="x" * MEGABYTE) + child(2, 1, name="y" * 100)
    trace = build(payloads)
    report = osprofiler.report(trace)
    [node] = report["children"]
    name = node["info"]["name"]
    assert name.strip("x") == "..."
    assert {*report["stats"]} == {name, "y" * 100}
    assert node["info"][f"meta.raw_payload.{name}-start"] == payloads[0]
    assert node["info"][f"meta.raw_payload.{name}-stop"] == payloads[1]
    again = json_report.read("".join(json_report.render(trace)))
    assert [span.name for span in again.spans] == [
        span.name for span in trace.spans
    ]


def test_attributes_of_many_fields_are_one() -> None:
    info = {"a": {f"{number}": number for number in range(10_000)}}
    [span] = build(child(1, info=info)).spans
    values = spans.attributes(span, frozenset())
    assert json.loads(str(values["osprofiler.start"]))["a"] == info["a"]
    assert len(values) < 10
    [span] = build(child(1, info={"a": {"b": 1, "c": "d"}})).spans
    values = spans.attributes(span, frozenset())
    assert (values["osprofiler.a.b"], values["osprofiler.a.c"]) == (1, "d")
