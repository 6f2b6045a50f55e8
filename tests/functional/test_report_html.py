# SPDX-License-Identifier: Apache-2.0

"""The HTML report, in a real browser: what it shows, and how it is used."""

from __future__ import annotations

import itertools
import json
import uuid
from typing import Any

import pytest

from profiler_bridge.notification import (
    Notification,
    format_timestamp,
    parse_timestamp,
)
from profiler_bridge.report import html
from profiler_bridge.trace import Trace
from tests import recorded
from tests.browser import Page


class Notifications:
    """Of one trace, as osprofiler sends them."""

    def __init__(self) -> None:
        self.base_id = str(uuid.UUID(int=1))
        self.payloads: list[dict[str, Any]] = []
        self._ids = itertools.count(2)

    def span(
        self,
        name: str,
        begin: float,
        end: float,
        parent: str | None = None,
        info: dict[str, Any] | None = None,
        stop_info: dict[str, Any] | None = None,
        has: str = "start stop",
        **fields: str,
    ) -> str:
        """Add a span; times are in milliseconds. Return its trace_id."""
        trace_id = str(uuid.UUID(int=next(self._ids)))
        for phase, when, own_info in (
            ("start", begin, info or {}),
            ("stop", end, stop_info or {}),
        ):
            if phase in has:
                payload = {
                    "base_id": self.base_id,
                    "trace_id": trace_id,
                    "parent_id": parent or self.base_id,
                    "name": f"{name}-{phase}",
                    "timestamp": format_timestamp(START + round(when * 1000)),
                    "project": "nova",
                    "service": "api",
                    "info": {"host": "one", **own_info},
                    **fields,
                }
                self.payloads.append(payload)
        return trace_id

    def trace(self) -> Trace:
        return Trace.build(
            self.base_id, map(Notification.from_payload, self.payloads)
        )


def query(statement: str, params: object = ()) -> dict[str, Any]:
    return {"db": {"statement": statement, "params": params}}


# How many rows there are, with the head.
ROWS = "document.getElementById('grid').ariaRowCount"
START = parse_timestamp("2026-01-31T23:59:59.123456")
FAILURE = {"etype": "DBDeadlock", "message": "Deadlock found"}


def request() -> Notifications:
    """A request with something of everything."""
    sent = Notifications()
    root = sent.span(
        "wsgi",
        0,
        100,
        info={
            "request": {
                "method": "POST",
                "path": "/servers",
                "query": "a=1",
                "scheme": "http",
            }
        },
    )
    call = sent.span(
        "rpc",
        10,
        90.5,
        root,
        info={"function": {"name": "build", "args": "(1,)", "kwargs": "{}"}},
        stop_info={"function": {"result": "done"}},
        service="compute",
    )
    for number in range(3):
        sent.span(
            "db",
            20 + number,
            20.5 + number,
            call,
            query(f"SELECT name FROM ports\nWHERE id = {number}", [number]),
            service="compute",
        )
    sent.span("driver", 30, 40.001, call, stop_info=FAILURE, service="compute")
    sent.span("spawn", 50, 0, call, has="start", service="compute")
    sent.span("fetch", 0, 25, call, has="stop", service="compute")
    return sent


def show_all(page: Page, trace: Trace) -> None:
    """Show a trace with every span in a row of its own."""
    page.show(trace)
    # On a narrow page there is no such button, but levels to choose.
    page.evaluate("document.getElementById('expand').click()")


def test_a_row_says_what_ran_where_and_for_how_long(page: Page) -> None:
    show_all(page, request().trace())
    rows = page.rows()
    assert [
        (row["name"], row["what"], row["where"], row["duration"], row["self"])
        for row in rows
    ] == [
        ("POST /servers", "", "nova:api @ one", "100 ms", "19.5 ms"),
        ("build", "", "nova:compute @ one", "80.5 ms", "69.0 ms"),
        *[
            (
                "SELECT ports",
                f"\N{HORIZONTAL ELLIPSIS} WHERE id = {number}",
                "",
                "500 \u00b5s",
                "500 \u00b5s",
            )
            for number in range(3)
        ],
        ("fetch", "", "", "headless", ""),
        ("driver", "", "", "10.0 ms", "10.0 ms"),
        ("spawn", "", "", "unfinished", ""),
    ]
    assert [row["level"] for row in rows] == list("12333333")


def test_a_tooltip_has_all_that_ran(page: Page) -> None:
    show_all(page, request().trace())
    box = page.box("#rows .row:nth-child(3) .name")
    page.mouse("mouseMoved", box["x"] + 5, box["y"] + 5)
    assert (
        page.evaluate(
            "document.querySelector("
            "'#rows .row:nth-child(3) .operation').title"
        )
        == "SELECT ports\nSELECT name FROM ports\nWHERE id = 0"
    )


def test_the_header_tells_of_the_whole(page: Page) -> None:
    page.show(request().trace())
    assert page.text("h1") == "POST /servers"
    facts = page.text("#facts")
    for fact in (
        str(uuid.UUID(int=1)),
        "2026-01-31T23:59:59.123456 UTC",
        "100 ms",
        "1 unfinished, 1 headless",
    ):
        assert fact in facts
    assert page.evaluate("document.title") == (
        f"POST /servers ({uuid.UUID(int=1)})"
    )


def test_bars_stand_where_the_time_went(page: Page) -> None:
    page.show(request().trace())
    assert page.bar("build") == pytest.approx((0.1, 0.905), abs=0.01)
    assert page.bar("driver") == pytest.approx((0.3, 0.4), abs=0.01)
    ticks = page.text("#ruler").split("\n")
    assert ticks[:2] in (["0 ms", "20 ms"], ["0 ms", "50 ms"])


def test_errors_and_missing_ends_are_marked(page: Page) -> None:
    page.show(request().trace())
    rows = {row["name"]: row for row in page.rows()}
    assert rows["driver"]["mark"] == "error"
    assert rows["driver"]["failure"] == "DBDeadlock: Deadlock found"
    assert rows["build"]["mark"] == rows["build"]["failure"] == ""
    assert page.bar("spawn") == pytest.approx((0.5, 1), abs=0.01)
    assert page.bar("fetch") == pytest.approx((0, 0.25), abs=0.01)
    for name in ("unfinished", "headless"):
        # Fading towards where it is open.
        assert page.evaluate(
            f"getComputedStyle(document.querySelector('#rows .{name}'))"
            ".maskImage.startsWith('linear-gradient')"
        )


def test_an_error_without_a_name_is_one(page: Page) -> None:
    sent = Notifications()
    sent.span("db", 0, 1, stop_info={"etype": " "})
    page.show(sent.trace())
    assert page.rows()[0]["mark"] == "error"
    assert "\u2717 1" in page.text("#facts")


def test_folds_and_unfolds(page: Page) -> None:
    show_all(page, request().trace())
    page.click("#rows .row:nth-child(2) .toggle")
    assert page.names() == ["POST /servers", "build"]
    assert page.rows()[1]["expanded"] == "false"
    assert page.rows()[1]["what"] == " (+6 inside)"
    page.click("#collapse")
    assert page.names() == ["POST /servers"]
    assert page.evaluate("document.activeElement.id") == "collapse"
    page.click("#expand")
    assert len(page.names()) == 8
    assert [row.get("expanded") for row in page.rows()[:3]] == [
        "true",
        "true",
        None,
    ]


def test_keys_move_fold_and_open(page: Page) -> None:
    page.show(request().trace())
    reached: list[str] = []
    while not reached or reached[-1] != "grid":
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        assert len(reached) < 30
    assert {"show-timeline", "query", "next", "problems", "zoom"} < {*reached}
    assert page.selected() == "POST /servers"
    page.press("0", "0")
    page.press("ArrowDown")
    assert page.selected() == "build"
    page.press("ArrowLeft")
    assert page.names() == ["POST /servers", "build"]
    page.press("ArrowRight")
    assert len(page.names()) == 8
    page.press("ArrowRight")
    assert page.selected() == "SELECT ports"
    # First the run that it is in, then to the parent.
    page.press("ArrowLeft")
    assert len(page.names()) == 6
    assert page.selected() == "SELECT ports"
    page.press("ArrowLeft")
    assert page.selected() == "build"
    page.press("End")
    assert page.selected() == "spawn"
    active = page.evaluate(
        "document.getElementById(document.activeElement"
        ".getAttribute('aria-activedescendant')).innerText"
    )
    assert "spawn" in active
    page.press("Home")
    assert page.selected() == "POST /servers"
    page.press("Enter")
    assert "Details" in page.evaluate(
        "document.querySelector('aside:not([hidden])').ariaLabel"
    )
    page.press("ArrowDown")
    assert page.text("#details h2") == "build"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "details"
    page.press("Escape")
    assert page.evaluate("document.getElementById('details').hidden")
    assert page.evaluate("document.activeElement.id") == "grid"


def test_searches(page: Page) -> None:
    show_all(page, request().trace())
    page.click("#collapse")
    page.press("/", "/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.type("FROM ports where")
    assert page.text("#status") == "3 found"
    page.press("Enter", "\r")
    assert page.text("#status") == "1 of 3"
    assert page.selected() == "SELECT ports"
    page.press("Enter", "\r", modifiers=8)
    assert page.text("#status") == "3 of 3"
    page.click("#next")
    assert page.text("#status") == "1 of 3"
    assert page.evaluate("document.querySelectorAll('.row.hit').length") == 3
    page.click("#query")
    page.press("Escape")
    assert page.text("#status") == ""
    assert page.evaluate("document.querySelectorAll('.row.hit').length") == 0


@pytest.mark.parametrize(
    ("wanted", "hits"),
    [
        ("driver", ["driver"]),
        ("post /SERVERS", ["POST /servers"]),
        ("nova:api", ["POST /servers"]),
        ("deadlock found", ["driver"]),
        ("dbdeadlock", ["driver"]),
        ("wsgi", ["POST /servers"]),
        ("done", ["build"]),
        ("id = 2", ["SELECT ports"]),
        (str(uuid.UUID(int=3)), ["build"]),
        ("statement", []),
    ],
)
def test_search_reads_the_whole_span(
    page: Page, wanted: str, hits: list[str]
) -> None:
    show_all(page, request().trace())
    page.press("/", "/")
    page.type(wanted)
    assert (
        page.evaluate(
            "[...document.querySelectorAll('.row.hit .name')]"
            ".map(element => element.textContent)"
        )
        == hits
    )


def test_shows_problems_only(page: Page) -> None:
    show_all(page, request().trace())
    page.click("#problems")
    assert page.names() == [
        "POST /servers",
        "build",
        "fetch",
        "driver",
        "spawn",
    ]
    # What is searched for is shown all the same.
    page.press("/", "/")
    page.type("id = 1")
    page.press("Enter", "\r")
    assert page.selected() == "SELECT ports"


def late() -> Trace:
    """A request, and what its thread did afterwards."""
    sent = Notifications()
    asked = {"request": {"method": "GET", "path": "/servers"}}
    root = sent.span("wsgi", 0, 100, info=asked)
    beat = sent.span("heartbeat", 5000, 5010, root)
    sent.span("db", 5001, 5002, beat, query("UPDATE services SET seen = 1"))
    sent.span("work", 50, 200, root)
    return sent.trace()


def test_late_spans_are_marked_and_left_out(page: Page) -> None:
    page.show(late())
    # The request is what is shown at first.
    assert page.names() == ["GET /servers", "work"]
    page.click("#without-late")
    assert page.names() == ["GET /servers", "work", "heartbeat"]
    page.click("#expand")
    marks = {row["name"]: row["mark"] for row in page.rows()}
    assert marks == {
        "GET /servers": "",
        "work": "",
        "heartbeat": "late",
        "UPDATE services": "late",
    }
    assert "100 ms (+4.91 s after)" in page.text("#facts")
    assert page.text("#remarks").startswith("\u26a0 2 spans are late: they")
    assert page.text("#late-filter").strip() == "Without late (2)"
    assert "late: began when" in page.text("#legend")
    page.click("#without-late")
    assert page.names() == ["GET /servers", "work"]
    assert page.bar("work") == pytest.approx((0.25, 1), abs=0.01)
    # What is searched for is shown all the same.
    page.press("/", "/")
    page.type("seen = 1")
    page.press("Enter", "\r")
    assert page.selected() == "UPDATE services"
    assert not page.evaluate("document.getElementById('without-late').checked")


def test_a_recorded_server_create(page: Page) -> None:
    [create] = recorded.traces(recorded.server_create())
    page.show(create)
    assert page.text("h1") == "POST /v2.1/servers +13"
    assert "18.9 s (+127 s after)" in page.text("#facts")
    late, mixed, _ = page.text("#remarks").strip().split("\n\n")
    assert late.startswith("\u26a0 35 spans are late: ")
    assert mixed == "\u26a0 mixed: seems to hold several requests"
    # What is late is folded, and what is alike; the rest is in view.
    folded = int(page.evaluate(ROWS))
    page.click("#expand")
    assert page.evaluate(ROWS) == str(1 + 1192)
    assert folded < 1 + 1192
    page.click("#show-totals")
    assert table(page, 0)[0].startswith("GET /v3/auth/tokens 4 0 4.29 s")
    assert table(page, 1)[0].startswith("neutron:neutron-server ")


def test_nothing_is_said_of_late_where_nothing_is(page: Page) -> None:
    page.show(request().trace())
    assert "late" not in page.text("#remarks")
    for part in ("late-filter", "late-legend"):
        assert page.evaluate(f"document.getElementById('{part}').hidden")


def test_zooms_into_a_span_and_out(page: Page) -> None:
    show_all(page, request().trace())
    page.evaluate("document.getElementById('grid').focus()")
    page.press("End")
    page.press("ArrowUp")
    assert page.selected() == "driver"
    page.press("z", "z")
    assert page.bar("driver") == pytest.approx((0.02, 0.98), abs=0.01)
    assert page.names() == ["POST /servers", "build", "driver"]
    page.press("Escape")
    assert page.bar("driver") == pytest.approx((0.3, 0.4), abs=0.01)
    assert len(page.names()) == 8


@pytest.mark.parametrize("element", ["#ruler", "#overview"])
def test_a_drag_zooms(page: Page, element: str) -> None:
    page.show(request().trace())
    box = page.box(element)
    y = box["y"] + 5
    page.mouse("mousePressed", box["x"] + box["width"] * 0.6, y)
    page.mouse("mouseMoved", box["x"] + box["width"] * 0.3, y)
    page.mouse("mouseReleased", box["x"] + box["width"] * 0.2, y)
    assert page.bar("driver") == pytest.approx((0.25, 0.5), abs=0.02)
    page.click("#unzoom")
    assert page.bar("driver") == pytest.approx((0.3, 0.4), abs=0.01)


def details(page: Page) -> dict[str, str]:
    pairs: list[tuple[str, str]] = page.evaluate(
        "[...document.querySelectorAll('#details dt')].map("
        "term => [term.textContent, term.nextSibling.firstChild.textContent])"
    )
    return dict(pairs)


def test_details_tell_all_of_a_span(page: Page) -> None:
    show_all(page, request().trace())
    page.click("#rows .row:nth-child(2)")
    assert page.text("#details h2") == "build"
    fields = details(page)
    assert fields["function name"] == "build"
    assert fields["function args"] == "(1,)"
    assert fields["function result"] == "done"
    assert fields["Duration"] == "80.5 ms (80,500 \u00b5s)"
    assert fields["Self"] == "69.0 ms (68,999 \u00b5s)"
    assert fields["Started"] == "2026-01-31T23:59:59.133456 UTC (+10.0 ms)"
    assert fields["Stopped"] == "2026-01-31T23:59:59.213956 UTC"
    assert fields["Span"] == str(uuid.UUID(int=3))
    assert fields["Parent"] == str(uuid.UUID(int=2))
    assert fields["Spans inside"] == "6"
    page.click("#rows .row:nth-child(3)")
    fields = details(page)
    assert fields["SQL"] == "SELECT name FROM ports\nWHERE id = 0"
    assert json.loads(fields["Parameters"]) == [0]
    page.click("#rows .row:nth-child(7)")
    fields = details(page)
    assert fields["Exception"] == "DBDeadlock"
    assert fields["Message"] == "Deadlock found"


def test_details_show_notifications_as_sent(page: Page) -> None:
    """However the page packs them."""
    sent = request()
    sent.payloads[0]["info"] |= {
        "odd @ # keys": ["@", "#", "@#", -1, 2.5e-7, True, None, {}, []],
        'quoted "key"\\': 'a "value"\\',
        "times": [format_timestamp(START), str(uuid.UUID(int=2))],
        "\u00e9": "\u00e9\U0001f600",
    }
    sent.payloads[1]["timestamp"] = "2026-02-01T00:00:00.5"
    sent.span("orphan", 60, 61, str(uuid.UUID(int=99)))
    show_all(page, sent.trace())
    shown: list[dict[str, Any]] = []
    for number in range(1, len(page.rows()) + 1):
        page.click(f"#rows .row:nth-child({number})")
        shown += map(
            json.loads,
            page.evaluate(
                "[...document.querySelectorAll('#details details pre')]"
                ".map(element => element.textContent)"
            ),
        )

    def order(payload: dict[str, Any]) -> tuple[str, str]:
        return payload["trace_id"], payload["name"]

    assert sorted(shown, key=order) == sorted(sent.payloads, key=order)


def test_numbers_that_javascript_lacks_are_not_rounded(page: Page) -> None:
    sent = Notifications()
    params = [12345678901234567890, float("nan"), float("-inf"), 7]
    sent.span("db", 0, 1, info=query("SELECT 1", params))
    page.show(sent.trace())
    page.click("#rows .row")
    assert json.loads(details(page)["Parameters"]) == [
        "12345678901234567890",
        "NaN",
        "-Infinity",
        7,
    ]


def table(page: Page, number: int, section: str = "#totals") -> list[str]:
    text = page.evaluate(
        f"document.querySelectorAll('{section} table')[{number}]"
        ".tBodies[0].innerText"
    )
    return [" ".join(line.split()) for line in text.strip().split("\n")]


def test_totals_by_operation_service_and_host(page: Page) -> None:
    page.show(request().trace())
    page.click("#show-totals")
    assert table(page, 0) == [
        "build 1 0 80.5 ms 69.0 ms 69.0% 69.0 ms",
        "POST /servers 1 0 100 ms 19.5 ms 19.5% 19.5 ms",
        "driver 1 1 10.0 ms 10.0 ms 10.0% 10.0 ms",
        "SELECT ports 3 0 1.50 ms 1.50 ms 1.5% 1.50 ms",
        *table(page, 0)[4:],
    ]
    assert sorted(table(page, 0)[4:]) == [
        "fetch 1 0 0 \u00b5s 0 \u00b5s 0.0% 0 \u00b5s",
        "spawn 1 0 0 \u00b5s 0 \u00b5s 0.0% 0 \u00b5s",
    ]
    assert table(page, 1) == [
        "nova:compute 7 1 92.0 ms 80.5 ms 80.5% 80.5 ms",
        "nova:api 1 0 100 ms 19.5 ms 19.5% 19.5 ms",
    ]
    assert table(page, 2) == ["one 8 1 192 ms 100 ms 100.0% 100 ms"]
    assert table(page, 3)[0] == (
        "build nova:compute @ one 80.5 ms 69.0% 69.0 ms"
    )


def test_tables_sort_and_lead_to_their_spans(page: Page) -> None:
    page.show(request().trace())
    page.click("#show-totals")
    page.click("#totals th:nth-child(4) button")
    assert table(page, 0)[0].startswith("POST /servers")
    assert (
        page.evaluate(
            "document.querySelector('#totals th:nth-child(4)').ariaSort"
        )
        == "descending"
    )
    page.click("#totals th:nth-child(4) button")
    assert table(page, 0)[-1].startswith("POST /servers")
    page.click("#totals th:nth-child(1) button")
    assert table(page, 0)[0].startswith("POST")
    page.click("#totals tbody tr:nth-child(2) button")
    assert page.selected() == "SELECT ports"
    assert page.text("#status") == "1 of 3"


def test_repeated_statements(page: Page) -> None:
    page.show(request().trace())
    page.click("#show-statements")
    assert table(page, 0, "#statements") == [
        "SELECT name FROM ports WHERE id = ? 500 \u00b5s 1.50 ms 3"
    ]
    page.click("#statements tbody button")
    assert page.selected() == "SELECT ports"
    assert page.text("#status") == "1 of 3"


@pytest.mark.parametrize(
    ("statements", "counted"),
    [
        (["SELECT a WHERE b = 'x'", "SELECT a WHERE b = 'it''s'"],
         "SELECT a WHERE b = ?"),
        (["UPDATE t SET a=1.5, b2=-3", "UPDATE  t SET a=2, b2=-0x1f"],
         "UPDATE t SET a=?, b2=-?"),
        (["DELETE FROM t WHERE a IN (1, 2)", "DELETE FROM t WHERE a IN (?)"],
         "DELETE FROM t WHERE a IN (...)"),
        (["SELECT 1 WHERE a IN (%(a_1)s, %(a_2)s)",
          "SELECT 2 WHERE a IN (%(a_1)s)"],
         "SELECT ? WHERE a IN (...)"),
        (["SELECT 1 WHERE (a, b) IN ((1, 2), (3, 4))",
          "SELECT 1 WHERE (a, b) IN ((5, 6))"],
         "SELECT ? WHERE (a, b) IN (...)"),
        (["SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = 1)",
          "SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = 2)"],
         "SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = ?)"),
        (["SELECT 'never closed\\'", "SELECT 'nor this"], "SELECT ?"),
        (['SELECT "a1" FROM t_2 WHERE x = $1'] * 2,
         'SELECT "a1" FROM t_2 WHERE x = $1'),
    ],
)  # fmt: skip
def test_statements_that_differ_in_literals_are_one(
    statements: list[str], counted: str
) -> None:
    sent = Notifications()
    for number, statement in enumerate(statements):
        sent.span("db", number, number + 0.25, info=query(statement))
    (repeated,) = html._repeated_statements(sent.trace())
    assert repeated.statement == counted
    assert repeated.total == 500
    assert len(repeated.spans) == 2
