# SPDX-License-Identifier: Apache-2.0

"""The tree for a terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report import tree
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.text import width
from profiler_bridge.testing.sample import (
    MILLISECOND,
    TEXTS,
    notifications,
    request,
    seeded,
)
from profiler_bridge.trace import Trace
from tests import recorded
from tests.unit.test_report import deep
from tests.unit.test_trace import BASE, build, child, payload_lists

# How many lines stand above the first span, where nothing is to be remarked.
HEAD = 5
# How many columns stand before the first operation.
TIMES = 39
DEFAULT = tree.TreeOptions()


def lines(trace: Trace, options: tree.TreeOptions = DEFAULT) -> list[str]:
    return "".join(tree.render(trace, options)).splitlines()


def operations(trace: Trace, options: tree.TreeOptions = DEFAULT) -> list[str]:
    """What stands behind the times, of each line below the heading."""
    below = lines(trace, options)
    return [line[TIMES:] for line in below[below.index("") + 2 :]]


def alike(first: int, names: str, parent: int = 1) -> list[Any]:
    return [
        child(number, parent, at=number, name=name)
        for number, name in enumerate(names, first)
    ]


def test_a_request() -> None:
    payloads = request(seeded(1), calls=1, error="DBDeadlock")
    base_id = payloads[0]["base_id"]
    assert lines(Trace.build(base_id, notifications(payloads))) == [
        "POST /v1/servers: 11.0 ms",
        f"trace {base_id}, 2026-02-03T04:05:06.000007 UTC",
        "4 spans: complete",
        "",
        "   start      total     self critical  operation",
        "    0 us    11.0 ms  5.00 ms  5.00 ms  POST /v1/servers"
        " [shop:api@node-1]",
        " 2.00 ms    6.00 ms  4.00 ms  4.00 ms    build"
        " [shop:conductor@node-2]",
        " 3.00 ms    1.00 ms  1.00 ms  1.00 ms      SELECT servers … WHERE"
        " servers.name = %(name_1)s",
        " 5.00 ms    1.00 ms  1.00 ms  1.00 ms      UPDATE servers !"
        " DBDeadlock: it broke … SET state=? WHERE id = ?",
    ]


def sql(statement: str) -> dict[str, Any]:
    return {"db": {"statement": statement}}


def test_what_the_operation_leaves_out() -> None:
    infos: list[dict[str, Any]] = [
        sql("SELECT a, b FROM t WHERE t.a = 5"),
        sql("select a from t, u"),
        sql("UPDATE t SET a=1 WHERE a = 2"),
        sql("DELETE FROM t WHERE a = 2"),
        sql("INSERT INTO t (a) VALUES (1)"),
        sql("SAVEPOINT sp_1"),
        {"request": {"method": "GET", "path": "/v2.1/flavors/tiny"}},
        {"request": {"method": "GET", "path": "/v2.1/flavors"}},
        {"function": {"name": "nova.compute.manager.ComputeManager.build"}},
    ]
    trace = build(*(child(n, 0, n, info=i) for n, i in enumerate(infos, 1)))
    assert [
        line.replace(" [shop:api@node-1]", "") for line in operations(trace)
    ] == [
        "SELECT t … WHERE t.a = 5",
        "SELECT t, u",
        "UPDATE t … SET a=1 WHERE a = 2",
        "DELETE t … WHERE a = 2",
        "INSERT t … VALUES (1)",
        "SAVEPOINT … sp_1",
        "GET /v2.1/flavors/{id} GET /v2.1/flavors/tiny",
        "GET /v2.1/flavors",
        "ComputeManager.build",
    ]


def test_a_place_is_said_where_it_is_another_than_the_parents() -> None:
    trace = build(
        *(child(1), child(2, 1), child(3, 2, service="compute")),
        *(child(4, 3, service="compute", host="two"), child(5, 1, host="two")),
    )
    assert operations(trace) == [
        "db [shop:api@node-1]",
        "  db",
        "    db [shop:compute@node-1]",
        "      db [shop:compute@two]",
        "  db [shop:api@two]",
    ]


def late_trace(error: str | None = None) -> Trace:
    """A request, and what its thread did every ten seconds after it."""
    return build(
        child(
            1, name="wsgi", info={"request": {"method": "GET", "path": "/v3"}}
        ),
        *(
            payload
            for number in range(2, 10, 2)
            for payload in (
                child(number, 1, number * 5000, name="heartbeat"),
                child(number + 1, number, number * 5000 + 1, error=error),
            )
        ),
    )


def test_late_spans_are_one_line_and_remarked() -> None:
    trace = late_trace()
    text = lines(trace)
    assert text[0] == "GET /v3: 10.0 ms (+40.0 s after)"
    assert text[3].startswith("8 spans are late: they began after the req")
    assert operations(trace) == [
        "GET /v3 [shop:api@node-1]",
        "  heartbeat × 4 (late, 4 inside)",
    ]
    unfolded = operations(trace, tree.TreeOptions(fold=False))
    assert len(unfolded) == 9
    assert sum(line.endswith("(late)") for line in unfolded) == 8


def test_late_spans_that_failed_are_shown() -> None:
    shown = operations(late_trace(error="DBDeadlock"))
    assert len(shown) == 9
    assert sum("! DBDeadlock" in line for line in shown) == 4


def test_a_trace_of_several_requests_is_remarked() -> None:
    [trace] = recorded.traces(recorded.server_create())
    remarks = lines(trace)[3:5]
    assert remarks[0].startswith("35 spans are late: ")
    assert remarks[1] == "mixed: seems to hold several requests"


@pytest.mark.parametrize("columns", [80, 160])
def test_a_recorded_server_create(columns: int) -> None:
    [trace] = recorded.traces(recorded.server_create())
    options = tree.TreeOptions(width=columns, bars=True)
    text = lines(trace, options)
    assert text[0] == "POST /v2.1/servers +13: 18.9 s (+127 s after)"
    assert text[2] == "1227 spans: complete"
    assert max(map(width, text)) <= columns
    shown = [*tree.rows(trace, options, Heading.of(trace).late)]
    assert len(shown) < 1110
    assert sum(len(row.spans) + row.inside for row in shown) == 1227
    assert any("Service.save × 6 (late, 12 ins" in line for line in text)
    assert ("━" in "".join(text)) == (columns == 160)


def test_what_is_on_the_critical_path() -> None:
    """The time that the end waited for it; nothing for what nobody did."""
    request = {"request": {"method": "GET", "path": "/v3"}}
    trace = build(
        child(1, duration=100, name="wsgi", info=request),
        *(child(2, 1, 10, 60), child(3, 1, 20, 70), child(4, 1, 92, 5)),
        # Three in one line, of which one is not on the path.
        *(child(5, 3, 30, 5), child(6, 3, 33, 10), child(7, 3, 60, 10)),
        child(9, 1, 95, 10, name="goes on"),
        child(8, at=150, name="wsgi", info=request),
    )
    text = lines(trace)
    at = text.index("")
    assert text[at - 1] == (
        "critical path: 160 ms; in 45.0 ms of it nothing known ran"
    )
    assert [
        (line[30:38].strip(), line[TIMES:].strip().partition(" [")[0])
        for line in text[at + 2 :]
    ] == [
        ("25.0 ms", "GET /v3"),
        ("", "db"),
        ("50.0 ms", "db"),
        ("20.0 ms", "db × 3"),
        ("5.00 ms", "db"),
        ("5.00 ms", "goes on"),
        ("10.0 ms", "GET /v3"),
    ]


def test_a_recorded_request_to_keystone() -> None:
    trace = recorded.traces(recorded.keystone())[0]
    text = lines(trace, tree.TreeOptions(width=80))
    assert text[0] == "POST /v3/auth/tokens: 622 ms"
    assert " [keystone:public@vm]" in text[HEAD]
    assert text[HEAD + 2][TIMES:] == "  SELECT project … WHERE project.id = ?"
    [folded] = [line for line in text if "implied_role" in line]
    assert folded[:40].split()[2:4] == ["6.77", "ms"]
    assert folded.endswith("(BEGIN; SELECT implied_role) × 4")


@given(payload_lists(cycles=True), st.integers(40, 130))
def test_no_line_is_wider_than_asked_for(
    payloads: list[Any], columns: int
) -> None:
    for options in (
        tree.TreeOptions(width=columns, bars=True),
        tree.TreeOptions(width=columns, fold=False, ascii=True),
    ):
        text = lines(build(payloads), options)
        below = text[text.index("") :]
        assert max(map(width, below)) <= max(columns, 61)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_wide_and_hostile_text_stays_in_its_line(text: str) -> None:
    trace = build(child(1, name=text, service=text, host=text, error=text))
    shown = lines(trace, tree.TreeOptions(width=80, bars=True))
    assert max(map(width, shown)) <= 80


def test_a_failure_is_said_whatever_else_is_not() -> None:
    trace = build(
        *(child(1, duration=100), child(2, 1, name="x" * 40, error="E" * 40)),
        child(3, 1, 20, name="short", error="E"),
    )
    text = lines(trace, tree.TreeOptions(width=89))
    assert [line[TIMES:] for line in text[HEAD:]] == [
        "db [shop:api@node-1]",
        f"  {'x' * 40}",
        f"    ! {'E' * 40}: i…",
        "  short ! E: it broke",
    ]
    assert not text[HEAD + 2][:TIMES].strip()


def test_how_often_is_said_whatever_else_is_not() -> None:
    names = ["x" * 100, "y" * 100] * 3
    trace = build(
        child(1, duration=100),
        *(child(n, 1, n, name=name) for n, name in enumerate(names, 2)),
    )
    assert operations(trace, tree.TreeOptions(width=80))[1].endswith("… × 3")


def test_ascii_has_nothing_beyond_it() -> None:
    trace = build(
        *(child(1, duration=100), *alike(2, "aaa")),
        child(9, 1, 50, info=sql("SELECT a FROM t WHERE b = 1"))[:1],
    )
    options = tree.TreeOptions(width=160, bars=True, ascii=True)
    text = lines(trace, options)
    assert "".join(text).isascii()
    assert "a x 3" in "".join(text)
    assert "=" in text[HEAD]
    assert ">" in text[-1]


def test_colours_are_only_where_they_are_wanted() -> None:
    trace = build(child(1, error="E"), child(2, 1)[:1])
    for options in (
        tree.TreeOptions(),
        tree.TreeOptions(width=160, bars=True),
    ):
        assert "\x1b" not in "".join(lines(trace, options))
    options = tree.TreeOptions(width=160, bars=True, colours=True)
    coloured = "\n".join(lines(trace, options))
    plain = "\n".join(lines(trace, tree.TreeOptions(width=160, bars=True)))
    assert re.sub("\x1b\\[[0-9]+m|\x1b\\[0m", "", coloured) == plain


def test_down_to_a_depth() -> None:
    trace = build(deep(10))
    for depth in range(1, 12):
        options = tree.TreeOptions(max_depth=depth)
        text = "".join(tree.render(trace, options))
        assert len(text.splitlines()) == HEAD + min(depth, 10)


def test_without_what_was_fast() -> None:
    """Failures and what is unfinished are shown however fast they were."""
    trace = build(
        *(child(1, duration=9), child(2, 1, duration=1)),
        child(3, 1, duration=1, error="DBDeadlock"),
        child(4, 1)[:1],
    )
    options = tree.TreeOptions(min_duration=5000)
    assert [line[9:19].strip() for line in lines(trace, options)[HEAD:]] == [
        "9.00 ms",
        "1.00 ms",
        "unfinished",
    ]


def test_of_nothing() -> None:
    assert lines(build())[:2] == [
        "(empty trace): 0 us",
        f"trace {BASE}, 1970-01-01T00:00:00.000000 UTC",
    ]


def test_says_what_is_missing() -> None:
    trace = build(child(1)[:1], child(2, 1, at=1)[1:], child(3, 9, at=2))
    text = lines(trace)
    assert text[0] == "db: 12.0 ms"
    assert text[2] == "3 spans: 1 unfinished, 1 headless, 1 orphaned"
    assert [line[:28] for line in text[HEAD:]] == [
        "    0 us unfinished        -",
        " 11.0 ms   no start        -",
        " 2.00 ms    10.0 ms  10.0 ms",
    ]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_has_a_harmless_line_a_span(text: str) -> None:
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
    for options in (
        tree.TreeOptions(),
        tree.TreeOptions(colours=True, bars=True, width=160),
    ):
        rendered = "".join(tree.render(trace, options))
        # What failed may have a line of its own.
        assert HEAD + 1 <= rendered.count("\n") <= HEAD + 2
        ours = re.sub("\x1b\\[3[136]m|\x1b\\[[02]m", "", rendered)
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
def test_of_an_error_of_any_type(info: dict[str, Any]) -> None:
    start, stop = child(1)
    rendered = lines(build([start, stop | {"info": info}]))
    assert len(rendered) == HEAD + 1
    assert "!" in rendered[HEAD]
    assert rendered[HEAD].isprintable()


def test_shows_what_failed_below_what_is_too_short() -> None:
    trace = build(
        *(child(1, duration=100), child(2, 1, duration=2)),
        *(child(3, 2, duration=1, error="Broken"), child(4, 2, duration=1)),
        child(5, 1, duration=3),
        *(child(6, 1, duration=4), child(7, 6, duration=50)),
        *(child(8, 1, duration=5), child(9, 8)[:1]),
    )
    options = tree.TreeOptions(min_duration=20 * MILLISECOND, fold=False)
    shown = lines(trace, options)[HEAD:]
    durations = [line[9:19].strip() for line in shown]
    assert sorted(durations) == sorted(
        [
            *("100 ms", "2.00 ms", "1.00 ms", "4.00 ms", "50.0 ms"),
            *("5.00 ms", "unfinished"),
        ]
    )
    assert "! Broken" in shown[2]


def test_cuts_long_statements() -> None:
    statement = "SELECT " + ", ".join(f"column_{n}" for n in range(1000))
    text = lines(build(child(1, info=sql(statement))))
    assert len(text[HEAD]) < 200


def test_of_clocks_that_disagree() -> None:
    text = lines(build(child(1), child(2, 1, at=-1), child(3, 1, 1, -3)))
    assert [line[:19] for line in text[HEAD:]] == [
        " 2.00 ms    10.0 ms",
        " 1.00 ms    10.0 ms",
        " 3.00 ms   -3.00 ms",
    ]


def test_of_many_levels() -> None:
    text = lines(build(deep(10_000)))
    assert len(text) == HEAD + 10_000
    assert max(map(len, text)) < 200
