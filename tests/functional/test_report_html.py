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

"""The HTML report, in a real browser."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import itertools
import json
import os
import re
import select
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.notification import (
    Notification,
    format_timestamp,
    parse_timestamp,
)
from profiler_bridge.report import html
from profiler_bridge.trace import Trace
from tests import servers


class Chromium(servers.Server):
    """A headless browser, spoken to in its DevTools protocol over pipes."""

    stop_timeout = 10

    def __init__(self) -> None:
        self.program = servers.find("chromium", "chromium", "chromium-browser")
        super().__init__()
        self._ids = itertools.count(1)
        self._received = b""
        self.events: list[dict[str, Any]] = []

    def command(self) -> list[str]:
        return [
            self.program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            f"--user-data-dir={self.data}",
            "--remote-debugging-pipe",
        ]

    def prepare(self) -> None:
        self._theirs, self._ours = [], []
        for theirs, ours in (os.pipe(), os.pipe()[::-1]):
            # Away from 3 and 4, where Chromium expects its ends.
            self._theirs.append(fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 10))
            self._ours.append(ours)
            os.close(theirs)

    def _options(self) -> dict[str, Any]:
        def place_pipes() -> None:
            os.dup2(self._theirs[0], 3)
            os.dup2(self._theirs[1], 4)

        return super()._options() | {
            "preexec_fn": place_pipes,
            "close_fds": False,
        }

    def check(self) -> None:
        self.call("Browser.getVersion")

    def close(self) -> None:
        super().close()
        for each in self._theirs + self._ours:
            os.close(each)

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        """Give a command; return its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._ours[0], json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while b"\0" not in self._received:
            if select.select([self._ours[1]], [], [], 0.5)[0]:
                self._received += os.read(self._ours[1], 2**20)
            elif not self.running or time.monotonic() > deadline:
                raise RuntimeError(f"Chromium does not answer:\n{self.tail()}")
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


class Page:
    """A tab of the browser that shows a trace."""

    def __init__(self, chromium: Chromium, folder: Path) -> None:
        self.chromium = chromium
        self.path = folder / "trace.html"
        self.target = self._new_target()
        self.session = chromium.call(
            "Target.attachToTarget", targetId=self.target, flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(1280, 800)

    def _new_target(self) -> str:
        target = self.chromium.call("Target.createTarget", url="about:blank")
        return str(target["targetId"])

    def call(self, method: str, **params: Any) -> Any:
        return self.chromium.call(method, self.session, **params)

    def close(self) -> None:
        self.chromium.call("Target.closeTarget", targetId=self.target)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def show(self, trace: Trace) -> None:
        self.path.write_text("".join(html.render(trace)), "ascii")
        self.call("Page.navigate", url=self.path.as_uri())
        self.wait_for("document.readyState === 'complete'")
        self.wait_for("document.getElementById('facts').children.length")

    def evaluate(self, expression: str) -> Any:
        result = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        assert servers.wait_until(lambda: self.evaluate(expression), 30), (
            expression
        )

    def next_frame(self) -> None:
        self.evaluate(
            "new Promise(done => requestAnimationFrame("
            "() => requestAnimationFrame(() => done())))"
        )

    def events(self, *methods: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.chromium.events
            if each.get("sessionId") == self.session
            and each["method"] in methods
        ]

    def text(self, selector: str) -> str:
        """What a reader sees of an element."""
        return str(
            self.evaluate(
                f"document.querySelector({json.dumps(selector)}).innerText"
            )
        )

    def box(self, selector: str) -> dict[str, float]:
        box: dict[str, float] = self.evaluate(
            f"document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect().toJSON()"
        )
        return box

    def mouse(self, event: str, x: float, y: float, clicks: int = 1) -> None:
        self.call(
            "Input.dispatchMouseEvent",
            type=event,
            x=x,
            y=y,
            button="left",
            clickCount=clicks,
        )

    def click(self, selector: str) -> None:
        """Click on the middle of an element, or on what covers it."""
        box = self.box(selector)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        for event in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=event,
                key=key,
                text=text if event == "keyDown" else "",
                modifiers=modifiers,
                # Without it the browser does nothing of its own with a key.
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13}.get(key, 0),
            )

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def rows(self) -> list[dict[str, str]]:
        """The rows that are drawn, from the top."""
        rows: list[dict[str, str]] = self.evaluate(
            """
            [...document.querySelectorAll("#rows .row:not([hidden])")]
              .map(row => ({
                ...Object.fromEntries([...row.attributes]
                  .filter(({ name }) => name.startsWith("aria-"))
                  .map(({ name, value }) => [name.slice(5), value])),
                ...Object.fromEntries([...row.querySelectorAll("[class]")]
                  .map(cell => [cell.classList[0], cell.textContent])),
              }))
              .sort((a, b) => a.rowindex - b.rowindex)
            """
        )
        return rows

    def names(self) -> list[str]:
        return [row["name"] for row in self.rows()]

    def selected(self) -> str:
        (name,) = [
            row["name"] for row in self.rows() if row["selected"] == "true"
        ]
        return name

    def bar(self, name: str) -> tuple[float, float]:
        """Where a span's bar begins and ends: 0 and 1 are the ruler's."""
        bar: list[float] = self.evaluate(
            f"""
            (() => {{
              const row = [...document.querySelectorAll("#rows .row")].find(
                row => row.querySelector(".name").textContent === "{name}");
              const bar = row.querySelector(".bar").getBoundingClientRect();
              const all = row.querySelector(".time").getBoundingClientRect();
              return [bar.left, bar.right].map(
                x => (x - all.left) / all.width);
            }})()
            """
        )
        return bar[0], bar[1]


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
        for phase, when, told in (
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
                    "info": {"host": "one", **told},
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


START = parse_timestamp("2026-01-31T23:59:59.123456")
FAILURE = {"etype": "DBDeadlock", "message": "Deadlock found"}


def request() -> Notifications:
    """A request with something of everything."""
    told = Notifications()
    root = told.span(
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
    call = told.span(
        "rpc",
        10,
        90.5,
        root,
        info={"function": {"name": "build", "args": "(1,)", "kwargs": "{}"}},
        stop_info={"function": {"result": "done"}},
        service="compute",
    )
    for number in range(3):
        told.span(
            "db",
            20 + number,
            20.5 + number,
            call,
            query(f"SELECT name FROM ports\nWHERE id = {number}", [number]),
            service="compute",
        )
    told.span("driver", 30, 40.001, call, stop_info=FAILURE, service="compute")
    told.span("spawn", 50, 0, call, has="start", service="compute")
    told.span("fetch", 0, 25, call, has="stop", service="compute")
    return told


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium, tmp_path: Path) -> Iterator[Page]:
    """A page of which nothing may go wrong or out."""
    page = Page(chromium, tmp_path)
    yield page
    assert page.events("Runtime.exceptionThrown", "Log.entryAdded") == []
    assert page.events("Page.javascriptDialogOpening") == []
    asked = {
        each["params"]["request"]["url"]
        for each in page.events("Network.requestWillBeSent")
    }
    assert asked == {page.path.as_uri()}
    assert page.evaluate("performance.getEntriesByType('resource')") == []
    page.close()


def test_a_row_says_what_ran_where_and_for_how_long(page: Page) -> None:
    page.show(request().trace())
    rows = page.rows()
    assert [
        (row["name"], row["what"], row["where"], row["duration"], row["self"])
        for row in rows
    ] == [
        ("wsgi", "POST /servers", "nova:api @ one", "100.000", "19.500"),
        ("rpc", "build", "nova:compute @ one", "80.500", "68.999"),
        *[
            (
                "db",
                f"SELECT name FROM ports WHERE id = {number}",
                "nova:compute @ one",
                "0.500",
                "0.500",
            )
            for number in range(2)
        ],
        ("db", rows[4]["what"], "nova:compute @ one", "0.500", "0.500"),
        ("fetch", "", "nova:compute @ one", "headless", ""),
        ("driver", "", "nova:compute @ one", "10.001", "10.001"),
        ("spawn", "", "nova:compute @ one", "unfinished", ""),
    ]
    assert [row["level"] for row in rows] == list("12333333")


def test_the_header_tells_of_the_whole(page: Page) -> None:
    page.show(request().trace())
    assert page.text("h1") == "POST /servers"
    facts = page.text("#facts")
    for fact in (
        str(uuid.UUID(int=1)),
        "2026-01-31T23:59:59.123456 UTC",
        "100.000 ms",
        "1 unfinished, 1 headless",
    ):
        assert fact in facts
    assert page.evaluate("document.title") == f"Trace {uuid.UUID(int=1)}"


def test_bars_stand_where_the_time_went(page: Page) -> None:
    page.show(request().trace())
    assert page.bar("rpc") == pytest.approx((0.1, 0.905), abs=0.01)
    assert page.bar("driver") == pytest.approx((0.3, 0.4), abs=0.01)
    ticks = page.text("#ruler").split("\n")
    assert ticks[:2] in (["0 ms", "20 ms"], ["0 ms", "50 ms"])


def test_errors_and_missing_ends_are_marked(page: Page) -> None:
    page.show(request().trace())
    rows = {row["name"]: row for row in page.rows()}
    assert rows["driver"]["mark"] == "error"
    assert rows["driver"]["failure"] == "DBDeadlock: Deadlock found"
    assert rows["rpc"]["mark"] == rows["rpc"]["failure"] == ""
    assert page.bar("spawn") == pytest.approx((0.5, 1), abs=0.01)
    assert page.bar("fetch") == pytest.approx((0, 0.25), abs=0.01)
    for name in ("unfinished", "headless"):
        # Fading towards where it is open.
        assert page.evaluate(
            f"getComputedStyle(document.querySelector('#rows .{name}'))"
            ".maskImage.startsWith('linear-gradient')"
        )


def test_an_error_without_a_name_is_one(page: Page) -> None:
    told = Notifications()
    told.span("db", 0, 1, stop_info={"etype": " "})
    page.show(told.trace())
    assert page.rows()[0]["mark"] == "error"
    assert "\u2717 1" in page.text("#facts")


def test_folds_and_unfolds(page: Page) -> None:
    page.show(request().trace())
    page.click("#rows .row:nth-child(2) .toggle")
    assert page.names() == ["wsgi", "rpc"]
    assert page.rows()[1]["expanded"] == "false"
    assert page.rows()[1]["what"] == "build (+6 inside)"
    page.click("#collapse")
    assert page.names() == ["wsgi"]
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
        assert len(reached) < 20
    assert {"show-timeline", "query", "next", "problems", "zoom"} < {*reached}
    assert page.selected() == "wsgi"
    page.press("ArrowDown")
    assert page.selected() == "rpc"
    page.press("ArrowLeft")
    assert page.names() == ["wsgi", "rpc"]
    page.press("ArrowRight")
    assert len(page.names()) == 8
    page.press("ArrowRight")
    assert page.selected() == "db"
    page.press("ArrowLeft")
    assert page.selected() == "rpc"
    page.press("End")
    assert page.selected() == "spawn"
    active = page.evaluate(
        "document.getElementById(document.activeElement"
        ".getAttribute('aria-activedescendant')).innerText"
    )
    assert "spawn" in active
    page.press("Home")
    assert page.selected() == "wsgi"
    page.press("Enter")
    assert "Details" in page.evaluate(
        "document.querySelector('aside:not([hidden])').ariaLabel"
    )
    page.press("ArrowDown")
    assert page.text("#details h2") == "rpc"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "details"
    page.press("Escape")
    assert page.evaluate("document.getElementById('details').hidden")
    assert page.evaluate("document.activeElement.id") == "grid"


def test_searches(page: Page) -> None:
    page.show(request().trace())
    page.click("#collapse")
    page.press("/", "/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.type("FROM ports where")
    assert page.text("#found") == "3 found"
    page.press("Enter", "\r")
    assert page.text("#found") == "1 of 3"
    assert page.selected() == "db"
    page.press("Enter", "\r", modifiers=8)
    assert page.text("#found") == "3 of 3"
    page.click("#next")
    assert page.text("#found") == "1 of 3"
    assert page.evaluate("document.querySelectorAll('.row.hit').length") == 3
    page.click("#query")
    page.press("Escape")
    assert page.text("#found") == ""
    assert page.evaluate("document.querySelectorAll('.row.hit').length") == 0


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("driver", ["driver"]),
        ("post /SERVERS", ["wsgi"]),
        ("nova:api", ["wsgi"]),
        ("deadlock found", ["driver"]),
        ("dbdeadlock", ["driver"]),
        ("done", ["rpc"]),
        ("id = 2", ["db"]),
        (str(uuid.UUID(int=3)), ["rpc"]),
        ("statement", []),
    ],
)
def test_search_reads_the_whole_span(
    page: Page, wanted: str, found: list[str]
) -> None:
    page.show(request().trace())
    page.press("/", "/")
    page.type(wanted)
    assert (
        page.evaluate(
            "[...document.querySelectorAll('.row.hit .name')]"
            ".map(each => each.textContent)"
        )
        == found
    )


def test_shows_problems_only(page: Page) -> None:
    page.show(request().trace())
    page.click("#problems")
    assert page.names() == ["wsgi", "rpc", "fetch", "driver", "spawn"]
    # What is searched for is shown all the same.
    page.press("/", "/")
    page.type("id = 1")
    page.press("Enter", "\r")
    assert page.selected() == "db"


def test_zooms_into_a_span_and_out(page: Page) -> None:
    page.show(request().trace())
    page.evaluate("document.getElementById('grid').focus()")
    page.press("End")
    page.press("ArrowUp")
    assert page.selected() == "driver"
    page.press("z", "z")
    assert page.bar("driver") == pytest.approx((0.02, 0.98), abs=0.01)
    assert page.names() == ["wsgi", "rpc", "driver"]
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
        "each => [each.textContent, each.nextSibling.textContent])"
    )
    return dict(pairs)


def test_details_tell_all_of_a_span(page: Page) -> None:
    page.show(request().trace())
    page.click("#rows .row:nth-child(2)")
    assert page.text("#details h2") == "rpc"
    told = details(page)
    assert told["function name"] == "build"
    assert told["function args"] == "(1,)"
    assert told["function result"] == "done"
    assert told["Duration"] == "80.500 ms"
    assert told["Self"] == "68.999 ms"
    assert told["Started"] == "2026-01-31T23:59:59.133456 UTC (+10.000 ms)"
    assert told["Stopped"] == "2026-01-31T23:59:59.213956 UTC"
    assert told["Span"] == str(uuid.UUID(int=3))
    assert told["Parent"] == str(uuid.UUID(int=2))
    assert told["Spans inside"] == "6"
    page.click("#rows .row:nth-child(3)")
    told = details(page)
    assert told["SQL"] == "SELECT name FROM ports\nWHERE id = 0"
    assert json.loads(told["Parameters"]) == [0]
    page.click("#rows .row:nth-child(7)")
    told = details(page)
    assert told["Exception"] == "DBDeadlock"
    assert told["Message"] == "Deadlock found"


def test_details_show_notifications_as_sent(page: Page) -> None:
    """However the page packs them."""
    told = request()
    told.payloads[0]["info"] |= {
        "odd @ # keys": ["@", "#", "@#", -1, 2.5e-7, True, None, {}, []],
        'quoted "key"\\': 'a "value"\\',
        "times": [format_timestamp(START), str(uuid.UUID(int=2))],
        "\u00e9": "\u00e9\U0001f600",
    }
    told.payloads[1]["timestamp"] = "2026-02-01T00:00:00.5"
    told.span("orphan", 60, 61, str(uuid.UUID(int=99)))
    page.show(told.trace())
    shown: list[dict[str, Any]] = []
    for number in range(1, len(page.rows()) + 1):
        page.click(f"#rows .row:nth-child({number})")
        shown += map(
            json.loads,
            page.evaluate(
                "[...document.querySelectorAll('#details details pre')]"
                ".map(each => each.textContent)"
            ),
        )

    def order(payload: dict[str, Any]) -> tuple[str, str]:
        return payload["trace_id"], payload["name"]

    assert sorted(shown, key=order) == sorted(told.payloads, key=order)


def test_numbers_that_javascript_lacks_are_not_rounded(page: Page) -> None:
    told = Notifications()
    params = [12345678901234567890, float("nan"), float("-inf"), 7]
    told.span("db", 0, 1, info=query("SELECT 1", params))
    page.show(told.trace())
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
        "rpc 1 0 80.500 69.0% 68.999",
        "wsgi 1 0 100.000 19.5% 19.500",
        "driver 1 1 10.001 10.0% 10.001",
        "db 3 0 1.500 1.5% 1.500",
        *table(page, 0)[4:],
    ]
    assert sorted(table(page, 0)[4:]) == [
        "fetch 1 0 0.000 0.0% 0.000",
        "spawn 1 0 0.000 0.0% 0.000",
    ]
    assert table(page, 1) == [
        "nova:compute 7 1 92.001 80.5% 80.500",
        "nova:api 1 0 100.000 19.5% 19.500",
    ]
    assert table(page, 2) == ["one 8 1 192.001 100.0% 100.000"]
    assert table(page, 3)[0] == (
        "rpc build nova:compute @ one 80.500 69.0% 68.999"
    )


def test_tables_sort_and_lead_to_their_spans(page: Page) -> None:
    page.show(request().trace())
    page.click("#show-totals")
    page.click("#totals th:nth-child(4) button")
    assert table(page, 0)[0].startswith("wsgi")
    assert (
        page.evaluate(
            "document.querySelector('#totals th:nth-child(4)').ariaSort"
        )
        == "descending"
    )
    page.click("#totals th:nth-child(4) button")
    assert table(page, 0)[-1].startswith("wsgi")
    page.click("#totals th:nth-child(1) button")
    assert table(page, 0)[0].startswith("db")
    page.click("#totals tbody button")
    assert page.selected() == "db"
    assert page.text("#found") == "1 of 3"


def test_repeated_statements(page: Page) -> None:
    page.show(request().trace())
    page.click("#show-statements")
    assert table(page, 0, "#statements") == [
        "SELECT name FROM ports WHERE id = ? 0.500 1.500 3"
    ]
    page.click("#statements tbody button")
    assert page.selected() == "db"
    assert page.text("#found") == "1 of 3"


@pytest.mark.parametrize(
    ("statements", "counted"),
    [
        (["SELECT a WHERE b = 'x'", "SELECT a WHERE b = 'it''s'"],
         "SELECT a WHERE b = ?"),
        (["UPDATE t SET a=1.5, b2=-3", "UPDATE  t SET a=2, b2=-0x1f"],
         "UPDATE t SET a=?, b2=-?"),
        (["DELETE FROM t WHERE a IN (1, 2)", "DELETE FROM t WHERE a in (?)"],
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
    told = Notifications()
    for number, statement in enumerate(statements):
        told.span("db", number, number + 0.25, info=query(statement))
    (repeated,) = html._repeated_statements(told.trace())
    assert repeated.statement == counted
    assert repeated.total == 500
    assert len(repeated.spans) == 2


EVIL = [
    "</script><script>window.ran=1</script>",
    "<!--<script>",
    "<img src=x onerror=window.ran=1>",
    "<svg/onload=window.ran=1>",
    "'\"><iframe srcdoc='<script>parent.ran=1</script>'>",
    "javascript:window.ran=1",
    '" onmouseover="window.ran=1" autofocus onfocus="window.ran=1" x="',
    "</style><style>*{display:none}</style>",
    "]]>--></title></textarea><a href=javascript:window.ran=1>click</a>",
    "{{constructor.constructor('window.ran=1')()}}${window.ran=1}",
    "url(http://127.0.0.1:9/)}*{background:red",
    "\u2028\u2029&lt;b&gt;&#60;",
    "__proto__",
]


def test_a_hostile_trace_runs_nothing(page: Page) -> None:
    told = Notifications()
    parent = None
    for number, evil in enumerate(EVIL):
        nested = {evil: {evil: [evil, {evil: evil}]}, evil + "2": evil}
        parent = told.span(
            evil,
            number,
            50 - number,
            parent,
            info={
                "host": evil,
                "request": {
                    "method": evil,
                    "path": evil,
                    "query": evil,
                    "scheme": evil,
                },
                "db": {"statement": evil, "params": nested},
                "function": {"name": evil, "args": evil, "kwargs": evil},
                **nested,
            },
            stop_info={"etype": evil, "message": evil},
            project=evil,
            service=evil,
        )
        told.span("db", 20, 21, parent, query(evil))
        told.span("db", 22, 23, parent, query(evil), {"etype": [evil]})
    trace = told.trace()
    page.show(Trace.build(EVIL[0], trace.notifications()))
    assert page.names()[0] == EVIL[0]
    assert page.rows()[0]["where"] == f"{EVIL[0]}:{EVIL[0]} @ {EVIL[0]}"
    page.click("#rows .row")
    page.evaluate("document.getElementById('grid').focus()")
    for _ in trace.spans:
        assert page.text("#details h2") == page.selected()
        page.press("ArrowDown")
    page.press("/", "/")
    page.type("<img src=x onerror")
    page.press("Enter", "\r")
    assert EVIL[2] in page.text("#details")
    for view in ("#show-totals", "#show-statements"):
        page.click(view)
        page.next_frame()
    assert EVIL[2].replace("1", "?") in page.text("#statements")
    assert page.evaluate("window.ran") is None
    assert set(
        page.evaluate(
            "[...document.querySelectorAll('*')].map(each => each.localName)"
        )
    ) <= {
        *("html", "head", "meta", "title", "style", "body", "noscript"),
        *("header", "main", "section", "aside", "details", "summary"),
        *("h1", "h2", "p", "dl", "dt", "dd", "div", "span", "i", "pre"),
        *("fieldset", "legend", "label", "input", "button", "output"),
        *("canvas", "table", "caption", "thead", "tbody", "tr", "th", "td"),
        "script",
    }
    assert page.evaluate("document.scripts.length") == 2
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].flatMap(each =>"
            " each.getAttributeNames()).filter(name =>"
            " /^(on|href|src|action|srcdoc)/.test(name))"
        )
        == []
    )


def test_what_cannot_be_seen_is_shown(page: Page) -> None:
    told = Notifications()
    told.span(
        "a\u202eb\x1b\x00c\ud800\u200b\xa0d",
        0,
        1,
        info=query("SELECT\n\t1\u2066\r\x07"),
    )
    page.show(told.trace())
    assert page.names() == [r"a\u{202e}b\u{1b}\u{0}c\u{d800}\u{200b}\u{a0}d"]
    page.click("#rows .row")
    assert details(page)["SQL"] == "SELECT\n\t1\\u{2066}\\u{d}\\u{7}"


def test_the_policy_stands() -> None:
    text = "".join(html.render(request().trace()))
    policy = re.findall(
        'http-equiv="Content-Security-Policy" content="(.*)"', text
    )
    directives = dict(
        each.strip().split(" ", 1) for each in policy[0].split(";")
    )
    assert directives["default-src"] == "'none'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    for tag in ("script", "style"):
        (inline,) = re.findall(f"(?s)<{tag}>(.*?)</{tag}>", text)
        digest = hashlib.sha256(inline.encode()).digest()
        source = f"'sha256-{base64.b64encode(digest).decode()}'"
        assert directives[f"{tag}-src"] == source
    assert "unsafe" not in policy[0]
    # Before anything that it is to govern.
    assert text.index(policy[0]) < text.index("<style>")


def test_the_policy_is_enforced(chromium: Chromium, tmp_path: Path) -> None:
    page = Page(chromium, tmp_path)
    page.show(request().trace())
    for attempt in (
        "document.body.innerHTML = '<b>'",
        "document.body.append(Object.assign("
        "document.createElement('script'), {textContent: '1'}))",
        "document.body.setAttribute('onclick', '1')",
    ):
        with pytest.raises(RuntimeError, match=r"Trusted(HTML|Script)"):
            page.evaluate(attempt)
    for attempt, directive in (
        ("new Image().src = 'data:image/gif,'", "img-src"),
        ("fetch('data:,').catch(() => 0)", "connect-src"),
        ("document.body.setAttribute('style', 'top: 0')", "style-src-attr"),
    ):
        violated = page.evaluate(
            "new Promise(done => {document.addEventListener("
            "'securitypolicyviolation',"
            " event => done(event.effectiveDirective), {once: true});"
            f"{attempt}}})"
        )
        assert violated == directive
    page.close()


def test_the_page_is_ascii_and_its_data_no_markup() -> None:
    told = Notifications()
    told.span("</script><!--&\u2028\u2029\u00e9\ud800", 0, 1)
    text = "".join(html.render(told.trace()))
    assert text.isascii()
    (data,) = re.findall('(?s)id="data">(.*?)</script>', text)
    assert not set(data) & set("<>&")
    assert json.loads(data)["strings"][1] == told.payloads[0]["name"][:-6]
    assert " style=" not in text
    assert not re.search(r" on\w+=", text.partition("<script")[0])


def test_a_trace_of_nothing(page: Page) -> None:
    page.show(Trace.build(str(uuid.UUID(int=1)), []))
    assert str(uuid.UUID(int=1)) in page.text("#facts")
    assert page.rows() == []
    for selector in ("#expand", "#collapse", "#zoom", "#next", "#grid"):
        page.click(selector)
    for key in ("ArrowDown", "ArrowLeft", "Enter", "End", "z"):
        page.press(key)
    page.click("#show-totals")
    page.click("#show-statements")


def test_clocks_that_disagree_and_no_time_at_all(page: Page) -> None:
    told = Notifications()
    root = told.span("root", 5, 5)
    told.span("back", 5, 2, root)
    page.show(told.trace())
    assert [row["duration"] for row in page.rows()] == ["0.000", "-3.000"]
    page.evaluate("document.getElementById('grid').focus()")
    page.press("z", "z")
    assert page.text("#ruler").startswith("2.995 ms\n2.996 ms")
    assert page.names() == ["root", "back"]


def test_fifty_thousand_spans(page: Page) -> None:
    told = Notifications()
    root = told.span("wsgi", 0, 50_000)
    for number in range(49_998):
        told.span(
            "db", number, number + 0.5, root, query("SELECT 1", [number])
        )
    told.span("last", 49_999, 50_000, root)
    page.show(told.trace())
    assert page.names()[0] == "wsgi"
    drawn = len(page.rows())
    assert drawn < 100
    page.evaluate(
        "(() => {const grid = document.getElementById('grid');"
        " grid.scrollTop = grid.scrollHeight;})()"
    )
    page.wait_for("document.getElementById('row-49999') !== null")
    last = page.rows()[-1]
    assert (last["name"], last["rowindex"]) == ("last", "50001")
    assert (last["posinset"], last["setsize"]) == ("49999", "49999")
    assert len(page.rows()) <= drawn + 5
    grid, row = page.box("#grid"), page.box("#row-49999")
    assert row["bottom"] <= grid["bottom"] + 1
    page.press("/", "/")
    page.type("select")
    assert page.text("#found") == "49,998 found"
    page.click("#collapse")
    assert page.names() == ["wsgi"]


def test_ten_thousand_levels(page: Page) -> None:
    told = Notifications()
    parent = None
    for depth in range(10_000):
        parent = told.span(f"level{depth}", depth, 20_000 - depth, parent)
    page.show(told.trace())
    page.evaluate("document.getElementById('grid').focus()")
    page.press("End")
    assert page.selected() == "level9999"
    last = page.rows()[-1]
    assert (last["level"], last["depth"]) == ("10000", "9999")
    page.press("Enter")
    assert page.text("#details h2") == "level9999"
    box = page.box("#row-9999 .name")
    assert box["width"] > 40
    page.click("#collapse")
    assert page.names() == ["level0"]


def test_everything_interactive_has_a_name_and_a_role(page: Page) -> None:
    page.show(request().trace())
    page.click("#rows .row:nth-child(2)")
    page.call("Accessibility.enable")
    seen = set()
    for view in ("#show-totals", "#show-statements", "#show-timeline"):
        page.click(view)
        page.next_frame()
        nodes = [
            node
            for node in page.call("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"]
        ]
        for node in nodes:
            role = node["role"]["value"]
            seen.add(role)
            focusable = any(
                each["name"] == "focusable" and each["value"]["value"]
                for each in node["properties"]
            )
            if focusable and role != "RootWebArea":
                assert node["name"]["value"], node
    assert {
        *("treegrid", "row", "columnheader", "gridcell", "searchbox"),
        *("button", "checkbox", "radio", "complementary", "status", "table"),
    } <= seen
    page.evaluate("document.getElementById('grid').focus()")
    assert (
        page.evaluate(
            "getComputedStyle(document.querySelector('.row.active')).boxShadow"
        )
        != "none"
    )
    for index, row in enumerate(page.rows()):
        assert row["rowindex"] == str(index + 2)
        assert int(row["posinset"]) <= int(row["setsize"])
    assert page.evaluate("document.getElementById('grid').ariaRowCount") == "9"


@pytest.mark.parametrize("width", [1280, 700, 480])
def test_fits_the_window(page: Page, width: int) -> None:
    page.resize(width, 900)
    page.show(request().trace())
    page.click("#rows .row:nth-child(4)")
    page.next_frame()
    assert page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth"
        " && document.documentElement.scrollHeight <= innerHeight"
        " && document.getElementById('grid').scrollWidth"
        "    <= document.getElementById('grid').clientWidth"
    )
    row = page.rows()[6]
    assert (row["name"], row["where"]) == ("driver", "nova:compute @ one")
    for cell in (".name", ".where", ".duration", ".self"):
        box = page.box(f"#rows .row:nth-child(7) {cell}")
        assert box["width"] > 20
        assert box["height"] > 8


def test_follows_the_reader_s_preferences(page: Page) -> None:
    def style(name: str, selector: str = "body") -> str:
        return str(
            page.evaluate(
                f"getComputedStyle(document.querySelector('{selector}')).{name}"
            )
        )

    page.show(request().trace())
    light = style("backgroundColor"), style("color")
    page.call(
        "Emulation.setEmulatedMedia",
        features=[
            {"name": "prefers-color-scheme", "value": "dark"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ],
    )
    assert (style("backgroundColor"), style("color")) != light
    assert style("transitionDuration", "button") == "0s"


def test_prints_every_part(page: Page) -> None:
    told = request()
    for number in range(60):
        told.span("more", number, number + 1)
    page.show(told.trace())
    page.call("Emulation.setEmulatedMedia", media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert len(page.rows()) == 68
    assert page.box("#rows")["height"] >= 68 * 20
    for selector in ("#totals", "#statements"):
        assert page.box(selector)["height"] > 50
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert len(page.call("Page.printToPDF")["data"]) > 10_000
