# SPDX-License-Identifier: Apache-2.0

"""The HTML report, in a real browser: runs, legend, flame graph, all spans."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from profiler_bridge.report import html
from profiler_bridge.report.document import assets
from profiler_bridge.trace import Trace
from tests import recorded
from tests.browser import Page
from tests.functional.test_report_html import (
    FAILURE,
    Notifications,
    details,
    query,
    request,
    show_all,
)

PALETTE = 20


def texts(page: Page, selector: str) -> list[str]:
    contents: list[str] = page.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        ".map(element => element.textContent)"
    )
    return contents


def press_on_grid(page: Page, *keys: str) -> None:
    page.evaluate("document.getElementById('grid').focus()")
    for key in keys:
        page.press(key, key if len(key) == 1 else "")


# Runs of siblings.


def test_siblings_that_are_alike_are_one_row(page: Page) -> None:
    page.show(request().trace())
    run = page.rows()[2]
    assert (run["name"], run["times"]) == ("SELECT ports", "\u00d7 3")
    assert (run["duration"], run["what"]) == ("1.50 ms", "")
    assert run["expanded"] == "false"
    page.click("#rows .row:nth-child(3) .toggle")
    assert page.names().count("SELECT ports") == 3
    assert page.rows()[2]["times"] == ""
    page.click("#rows .row:nth-child(3) .toggle")
    assert page.names().count("SELECT ports") == 1


def test_what_comes_in_turn_is_one_row(page: Page) -> None:
    sent = Notifications()
    root = sent.span("wsgi", 0, 100)
    for number in range(0, 80, 10):
        sent.span("one", number, number + 1, root)
        sent.span("two", number + 2, number + 4, root)
    sent.span("three", 90, 91, root)
    page.show(sent.trace())
    assert page.names() == ["wsgi", "(one; two)", "three"]
    assert page.rows()[1]["times"] == "\u00d7 8"
    assert page.rows()[1]["duration"] == "24.0 ms"
    page.click("#rows .row:nth-child(2)")
    assert details(page)["Alike"].startswith("the first of 8 in a row")


def test_what_a_search_leads_to_leaves_its_run(page: Page) -> None:
    page.show(request().trace())
    page.press("/", "/")
    page.type("id = 1")
    assert texts(page, ".row.hit .times") == ["\u00d7 3"]
    page.press("Enter", "\r")
    assert page.names().count("SELECT ports") == 3
    assert texts(page, ".row.active .what") == ["\u2026 WHERE id = 1"]


def test_so_many_levels(page: Page) -> None:
    page.show(request().trace())
    press_on_grid(page, "1")
    assert page.names() == ["POST /servers"]
    press_on_grid(page, "2")
    assert page.names() == ["POST /servers", "build"]
    press_on_grid(page, "3")
    assert len(page.names()) == 6
    press_on_grid(page, "0")
    assert len(page.names()) == 8
    page.evaluate(
        "(() => {const levels = document.getElementById('levels');"
        " levels.value = '2'; levels.dispatchEvent(new Event('change'));})()"
    )
    assert page.names() == ["POST /servers", "build"]


def test_a_service_is_told_where_it_changes(page: Page) -> None:
    show_all(page, request().trace())
    assert [row["where"] for row in page.rows()[:3]] == [
        "nova:api @ one",
        "nova:compute @ one",
        "",
    ]
    # And to who points at it.
    assert page.evaluate(
        "document.querySelector('#rows .row:nth-child(3) .where').title"
    ) == ("nova:compute @ one")


# The legend and its colours.


def services(count: int) -> Trace:
    sent = Notifications()
    root = sent.span("wsgi", 0, 1000, service="first")
    for number in range(count - 1):
        begin = number * 10
        sent.span(
            f"call{number}", begin, begin + 9, root, service=f"s{number}"
        )
    return sent.trace()


def test_the_legend_has_every_service_in_a_colour_of_its_own(
    page: Page,
) -> None:
    page.show(services(PALETTE + 2))
    labels = [text.strip() for text in texts(page, "#colours button")]
    assert len(labels) == PALETTE + 2
    drawn = page.evaluate(
        "[...document.querySelectorAll('#colours .bar')]"
        ".map(bar => getComputedStyle(bar).backgroundColor)"
    )
    assert len({*drawn[:PALETTE]}) == PALETTE
    # The others share one that none of these has.
    assert len({*drawn[PALETTE:]}) == 1
    assert drawn[-1] not in drawn[:PALETTE]


def test_the_legend_filters(page: Page) -> None:
    page.show(services(4))
    page.click("#colours button:nth-child(3)")
    chosen = texts(page, "#colours [aria-pressed=true]")
    assert len(chosen) == 1
    wanted = page.rows()[1]
    assert page.names() == ["wsgi", wanted["name"]]
    assert wanted["where"].startswith(chosen[0])
    assert texts(page, ".row.out .name") == ["wsgi"]
    page.click("#colours button:nth-child(2)")
    assert len(page.names()) == 3
    for number in (2, 3):
        page.click(f"#colours button:nth-child({number})")
    assert len(page.names()) == 4


def test_with_one_service_the_operations_have_colours(page: Page) -> None:
    sent = Notifications()
    root = sent.span("wsgi", 0, 1000)
    for number in range(30):
        sent.span(f"call{number}", number * 10, number * 10 + 9, root)
    page.show(sent.trace())
    assert len(texts(page, "#colours button")) == PALETTE
    assert texts(page, "#colours > span") == ["11 others"]


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def palettes() -> dict[str, dict[str, str]]:
    """The colours by their names, light and dark."""
    light: dict[str, str] = {}
    dark: dict[str, str] = {}
    for name in ("base.css", "colours.css"):
        text = re.sub(
            "#([0-9a-f])([0-9a-f])([0-9a-f]);", r"#\1\1\2\2\3\3;", assets(name)
        )
        bright, _, night = text.partition("@media screen")
        for part, colours in ((bright, light), (night, dark)):
            colours.update(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
    return {"light": light, "dark": light | dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_can_be_told_from_what_is_behind_them(scheme: str) -> None:
    colours = palettes()[scheme]
    bars = [colours[f"colour-{n}"] for n in range(PALETTE)]
    bars += [colours["muted"], colours["bad"]]
    assert len({*bars}) == PALETTE + 2
    for behind in ("paper", "shade", "selected", "hit"):
        for bar in bars:
            assert contrast(bar, colours[behind]) >= 3, (behind, bar)
    # Texts.
    for name in ("text", "muted", "accent", "bad", "warning", "good"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name


# Details.


def test_details_copy(page: Page) -> None:
    """Into the clipboard, from where it is pasted again."""
    sent = request()
    show_all(page, sent.trace())
    page.click("#rows .row:nth-child(3)")
    page.chromium.call(
        "Browser.grantPermissions",
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
    )
    page.call("Page.bringToFront")
    copied = {}
    for what in ("Trace", "SQL", "Span", "JSON", "link"):
        selector = f"[aria-label='Copy {what}']"
        page.evaluate(f'document.querySelector("{selector}").scrollIntoView()')
        page.click(selector)
        page.wait_for(
            f'document.querySelector("{selector}").textContent === "Copied"'
        )
        copied[what] = page.evaluate("navigator.clipboard.readText()")
    trace_id = sent.payloads[4]["trace_id"]
    assert copied["Trace"] == sent.base_id
    assert copied["SQL"] == "SELECT name FROM ports\nWHERE id = 0"
    assert copied["Span"] == trace_id
    assert json.loads(copied["JSON"]) == sent.payloads[4:6]
    assert copied["link"] == f"{page.path.as_uri()}#span={trace_id}"


def test_a_permalink_opens_the_span(page: Page) -> None:
    sent = request()
    page.show(sent.trace())
    trace_id = sent.payloads[6]["trace_id"]
    page.evaluate(f"location.hash = '#span={trace_id}'")
    page.wait_for("!document.getElementById('details').hidden")
    assert details(page)["Span"] == trace_id
    # It was in a run.
    assert texts(page, ".row.active .what") == ["\u2026 WHERE id = 1"]


def test_arguments_stand_in_the_order_of_a_call(page: Page) -> None:
    page.show(request().trace())
    page.click("#rows .row:nth-child(2)")
    assert [name for name in details(page) if "function" in name] == [
        "function name",
        "function args",
        "function kwargs",
        "function result",
    ]


def test_times_of_the_browser_stand_beside_utc(page: Page) -> None:
    page.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    page.show(request().trace())
    page.click("#rows .row")
    utc = "2026-01-31T23:59:59.123456 UTC"
    assert page.text(".started dd") == utc
    page.click("#zone")
    both = f"{utc}, 2026-02-01T08:59:59.123456 Asia/Tokyo"
    assert page.text(".started dd") == both
    assert details(page)["Started"] == f"{both} (+0 \u00b5s)"
    page.click("#zone")
    assert page.text(".started dd") == utc
    page.call("Emulation.setTimezoneOverride", timezoneId="")


@pytest.mark.parametrize(
    ("microseconds", "shown"),
    [
        (0, "0 \u00b5s"),
        (999, "999 \u00b5s"),
        (1000, "1.00 ms"),
        (9_996, "10.0 ms"),
        (999_600, "1.00 s"),
        (9_000_000, "9.00 s"),
        (90_000_000, "90.0 s"),
        (3_600_000_000, "60.0 min"),
    ],
)
def test_units_scale(page: Page, microseconds: int, shown: str) -> None:
    sent = Notifications()
    sent.span("wsgi", 0, microseconds / 1000)
    page.show(sent.trace())
    assert page.rows()[0]["duration"] == shown


def test_what_is_cut_has_a_tooltip(page: Page) -> None:
    sent = Notifications()
    name = "name" * 60
    sent.span("wsgi", 0, 1, service=name)
    page.show(sent.trace())
    page.click("#show-spans")
    box = page.box("#lines td:nth-child(6)")
    page.mouse("mouseMoved", box["x"] + 5, box["y"] + 5)
    page.next_frame()
    assert page.evaluate(
        "document.querySelector('#lines td:nth-child(6)').title"
    ) == (f"nova:{name} @ one")


def test_a_bar_says_what_it_is(page: Page) -> None:
    page.show(request().trace())
    box = page.box("#rows .row:nth-child(3) .time")
    page.mouse("mouseMoved", box["x"] + 5, box["y"] + 5)
    assert page.evaluate(
        "document.querySelector('#rows .row:nth-child(3) .time').title"
    ) == ("SELECT ports: 1.50 ms, from 20.0 ms, 1.50 ms on the critical path")


def test_columns_are_as_wide_as_the_reader_wants(page: Page) -> None:
    page.show(request().trace())
    before = page.box("#head .operation")["width"]
    box = page.box("#head .operation .handle")
    x, y = box["x"] + box["width"] / 2, box["y"] + 5
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x + 60, y)
    page.mouse("mouseReleased", x + 60, y)
    after = page.box("#head .operation")["width"]
    assert after == pytest.approx(before + 60, abs=2)
    assert page.box("#rows .operation")["width"] == after
    page.evaluate("document.querySelector('#head .operation .handle').focus()")
    page.press("ArrowLeft")
    assert page.box("#head .operation")["width"] == pytest.approx(
        after - 16, abs=1
    )


def test_the_keys_are_told(page: Page) -> None:
    page.show(request().trace())
    press_on_grid(page, "?")
    assert page.evaluate("document.getElementById('help').open")
    assert "previous match" in page.text("#help")
    page.click("#help-close")
    assert not page.evaluate("document.getElementById('help').open")


def test_who_made_it_and_when(page: Page) -> None:
    page.show(request().trace())
    assert re.fullmatch(
        r"Made by profiler_bridge \S+ at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
        page.text("footer span"),
    )


# The flame graph.


def boxes(page: Page) -> dict[str, tuple[float, float]]:
    """Where each box begins and ends: 0 and 1 are the whole."""
    sides: list[list[Any]] = page.evaluate(
        """
        (() => {
          const all = document.getElementById("boxes").getBoundingClientRect();
          return [...document.querySelectorAll(".box")].map(box => {
            const { left, right } = box.getBoundingClientRect();
            return [box.textContent || box.ariaLabel,
              (left - all.left) / all.width, (right - all.left) / all.width];
          });
        })()
        """
    )
    assert len({name for name, *_ in sides}) == len(sides)
    return {name: (left, right) for name, left, right in sides}


def merged() -> Trace:
    """100 ms: 40 in two calls of one, of which 20 are in SQL."""
    sent = Notifications()
    root = sent.span("wsgi", 0, 100)
    for begin in (10, 50):
        call = sent.span("call", begin, begin + 20, root)
        sent.span("db", begin, begin + 10, call, query("SELECT 1 FROM ports"))
    sent.span("driver", 80, 90, root, stop_info=FAILURE)
    return sent.trace()


def test_the_flame_graph_merges_what_is_alike(page: Page) -> None:
    page.show(merged())
    page.click("#show-flame")
    drawn = boxes(page)
    assert drawn == {
        "All": pytest.approx((0, 1), abs=0.01),
        "wsgi": pytest.approx((0, 1), abs=0.01),
        "call": pytest.approx((0, 0.4), abs=0.01),
        "SELECT ports": pytest.approx((0, 0.2), abs=0.01),
        "driver": pytest.approx((0.4, 0.5), abs=0.01),
    }
    page.evaluate("document.querySelectorAll('.box')[2].focus()")
    assert page.text("#box-text") == (
        "call, nova:api, 2 spans, 40.0 ms (40.0%) with all that is below,"
        " 20.0 ms itself"
    )


def test_the_flame_graph_zooms_and_leads_to_spans(page: Page) -> None:
    page.show(merged())
    page.click("#show-flame")
    page.evaluate("document.querySelectorAll('.box')[2].click()")
    assert boxes(page) == {
        "All": pytest.approx((0, 1), abs=0.01),
        "wsgi": pytest.approx((0, 1), abs=0.01),
        "call": pytest.approx((0, 1), abs=0.01),
        "SELECT ports": pytest.approx((0, 0.5), abs=0.01),
    }
    page.press("ArrowDown")
    assert page.text(".box:focus") == "SELECT ports"
    page.press("Escape")
    assert "driver" in boxes(page)
    page.evaluate("document.querySelectorAll('.box')[2].click()")
    page.click("#box-spans")
    assert page.selected() == "call"
    assert page.text("#status") == "1 of 2"


def test_a_flame_graph_of_no_time_and_of_any_depth(page: Page) -> None:
    sent = Notifications()
    sent.span("never", 0, 1, has="start")
    page.show(sent.trace())
    page.click("#show-flame")
    assert "No span has a known time" in page.text("#box-text")
    sent = Notifications()
    parent = None
    for depth in range(5000):
        parent = sent.span(f"level{depth}", depth, 10_000 - depth, parent)
    page.show(sent.trace())
    page.click("#show-flame")
    assert 100 < len(boxes(page)) < 300


# The critical path, and findings.


def waited() -> Trace:
    """Two calls at once, of which the second is waited for; then nothing."""
    sent = Notifications()
    root = sent.span("wsgi", 0, 50)
    sent.span("quick", 10, 20, root)
    sent.span("slow", 10, 40, root)
    sent.span("cast", 45, 200, root)
    sent.span("wsgi", 80, 100)
    return sent.trace()


def test_the_critical_path_is_marked(page: Page) -> None:
    page.show(waited())
    marked = page.evaluate(
        "[...document.querySelectorAll('#rows .row')].filter(row =>"
        " !row.hidden && !row.querySelector('.on-path').hidden)"
        ".map(row => row.querySelector('.name').textContent)"
    )
    assert marked == ["wsgi", "slow", "cast", "wsgi"]
    page.click("#rows .row:nth-child(1)")
    assert details(page)["On the critical path"] == (
        "20.0 ms itself, 80.0 ms with all below"
    )
    assert "100 ms" in page.text("#facts")
    page.press("Escape")
    page.click("#path-only")
    assert page.names() == ["wsgi", "slow", "cast", "wsgi"]
    page.click("#show-totals")
    assert re.search(r"slow\s+1\s+0\s+30.0 ms\s+30.0 ms", page.text("#totals"))


def test_the_critical_path_stands_along_the_ruler(page: Page) -> None:
    sent = Notifications()
    sent.span("wsgi", 0, 40, service="one")
    sent.span("wsgi", 60, 100, service="two")
    page.show(sent.trace())
    one, nothing, two = page.evaluate(
        """
        (() => {
          const path = document.querySelector(".path");
          const { data } = path.getContext("2d").getImageData(
            0, 2, path.width, 1);
          return [0.2, 0.5, 0.8].map(share => 4 * Math.round(
            path.width * share)).map(at => [...data.slice(at, at + 4)]);
        })()
        """
    )
    assert nothing == [0, 0, 0, 0]
    assert one[3] == two[3] == 255
    assert one != two
    assert "100 ms, of it 20.0 ms nothing known ran" in page.text("#facts")


def test_findings_lead_to_their_spans(page: Page) -> None:
    [create] = recorded.traces(recorded.server_create())
    page.show(create)
    page.click("#show-findings")
    told = texts(page, "#finding-list .link")
    assert page.text("#finding-count") == str(len(told))
    [place] = [
        place
        for place, text in enumerate(told)
        if text.startswith("SELECT tags ran 121 times")
    ]
    assert "103 of one text, 18 of another" in told[place]
    page.evaluate(
        f"document.querySelectorAll('#finding-list .link')[{place}].click()"
    )
    assert page.selected() == "SELECT tags"
    assert page.text("#status") == "1 of 121"
    press_on_grid(page, "n")
    assert page.text("#status") == "2 of 121"


def test_the_first_finding_is_told_at_once(page: Page) -> None:
    [create] = recorded.traces(recorded.server_create())
    page.show(create)
    [line] = texts(page, "#remarks .finding")
    assert line.startswith("First of 11 findings: tokens were validated 4 ")
    page.click("#remarks .finding button")
    assert "tokens were validated" in page.text("#finding-list")


def test_nothing_to_tell(page: Page) -> None:
    sent = Notifications()
    sent.span("wsgi", 0, 1)
    page.show(sent.trace())
    page.click("#show-findings")
    assert "There is nothing worth telling" in page.text("#findings")
    assert texts(page, "#finding-list li") == []


# All spans.


def test_all_spans_are_sorted(page: Page) -> None:
    show_all(page, request().trace())
    page.click("#show-spans")
    assert texts(page, "#lines .link")[:3] == [
        "POST /servers",
        "build",
        "driver",
    ]
    page.click("#list-head th:nth-child(1) button")
    names = texts(page, "#lines .link")
    assert names == sorted(names)
    assert len(names) == 8
    page.click("#list-head th:nth-child(5) button")
    page.click("#list-head th:nth-child(5) button")
    assert texts(page, "#lines td:nth-child(5)")[0] == "+0 \u00b5s"
    page.click("#lines tr:nth-child(4) .link")
    assert page.text("#details h2") == page.selected() == "build"


def test_all_of_very_many_spans_can_be_reached(page: Page) -> None:
    sent = Notifications()
    root = sent.span("wsgi", 0, 6000)
    for number in range(5000):
        sent.span(f"call{number}", number, number + 0.5, root)
    page.show(sent.trace())
    page.click("#show-spans")
    page.click("#list-head th:nth-child(5) button")
    page.click("#list-head th:nth-child(5) button")
    assert len(texts(page, "#lines .link")) < 100
    page.evaluate(
        "(() => {const spans = document.getElementById('spans');"
        " spans.scrollTop = spans.scrollHeight;})()"
    )
    page.wait_for(
        "[...document.querySelectorAll('#lines .link')].at(-1).textContent"
        " === 'call4999'"
    )
    assert (
        page.evaluate(
            "document.querySelector('#lines tr:nth-last-child(2)')"
            ".ariaRowIndex"
        )
        == "5002"
    )


def test_runs_are_those_of_the_tree() -> None:
    """A page has the places of their first spans, and how many they are."""
    text = "".join(html.render(request().trace()))
    (data,) = re.findall('(?s)id="data">(.*?)</script>', text)
    assert json.loads(data)["runs"] == [[2, 3, 1]]
