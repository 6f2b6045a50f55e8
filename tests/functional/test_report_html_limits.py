# SPDX-License-Identifier: Apache-2.0

"""The HTML report, in a real browser: hard traces, all kinds of readers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from pathlib import Path

import pytest

from profiler_bridge.report import html
from profiler_bridge.trace import Trace
from tests.browser import Chromium, Page
from tests.functional.test_report_html import (
    Notifications,
    details,
    query,
    request,
    show_all,
)

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


TABLES = ("#show-totals", "#show-statements")
VIEWS = ("#show-findings", "#show-flame", "#show-spans", *TABLES)


def test_a_hostile_trace_runs_nothing(page: Page) -> None:
    sent = Notifications()
    parent = None
    for number, evil in enumerate(EVIL):
        nested = {evil: {evil: [evil, {evil: evil}]}, evil + "2": evil}
        parent = sent.span(
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
        sent.span("db", 20, 21, parent, query(evil))
        sent.span("db", 22, 23, parent, query(evil), {"etype": [evil]})
    trace = sent.trace()
    page.show(Trace.build(EVIL[0], trace.notifications()))
    assert page.names()[0].startswith(EVIL[0][:20])
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
    for view in VIEWS:
        page.click(view)
        page.next_frame()
    assert EVIL[2].replace("1", "?") in page.text("#statements")
    assert page.evaluate("window.ran") is None
    assert set(
        page.evaluate(
            "[...document.querySelectorAll('*')].map("
            "element => element.localName)"
        )
    ) <= {
        *("html", "head", "meta", "title", "style", "body", "noscript"),
        *("header", "main", "section", "aside", "details", "summary"),
        *("h1", "h2", "p", "dl", "dt", "dd", "div", "span", "i", "pre"),
        *("fieldset", "legend", "label", "input", "button", "output"),
        *("select", "option", "dialog", "footer", "a", "ol", "li"),
        *("canvas", "table", "caption", "thead", "tbody", "tr", "th", "td"),
        "script",
    }
    assert page.evaluate("document.scripts.length") == 2
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].flatMap(element =>"
            " element.getAttributeNames()).filter(name =>"
            " /^(on|src|action|srcdoc)/.test(name))"
        )
        == []
    )
    # Links are to spans of the page.
    assert all(
        link.startswith("#span=")
        for link in page.evaluate(
            "[...document.querySelectorAll('[href]')].map("
            "element => element.getAttribute('href'))"
        )
    )


def test_what_cannot_be_seen_is_shown(page: Page) -> None:
    sent = Notifications()
    sent.span(
        "a\u202eb\x1b\x00c\ud800\u200b\xa0d",
        0,
        1,
        info=query("SELECT\n\t1\u2066\r\x07"),
    )
    page.show(sent.trace())
    page.click("#rows .row")
    assert details(page)["Trace point"] == (
        r"a\u{202e}b\u{1b}\u{0}c\u{d800}\u{200b}\u{a0}d"
    )
    assert details(page)["SQL"] == "SELECT\n\t1\\u{2066}\\u{d}\\u{7}"


def test_the_policy_stands() -> None:
    text = "".join(html.render(request().trace()))
    policy = re.findall(
        'http-equiv="Content-Security-Policy" content="(.*)"', text
    )
    directives = dict(
        directive.strip().split(" ", 1) for directive in policy[0].split(";")
    )
    assert directives["default-src"] == "'none'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    for tag, opening in (
        ("script", '<script type="module">'),
        ("style", "<style>"),
    ):
        (inline,) = re.findall(f"(?s){opening}(.*?)</{tag}>", text)
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
    sent = Notifications()
    sent.span("</script><!--&\u2028\u2029\u00e9\ud800", 0, 1)
    text = "".join(html.render(sent.trace()))
    assert text.isascii()
    (data,) = re.findall('(?s)id="data">(.*?)</script>', text)
    assert not set(data) & set("<>&")
    assert sent.payloads[0]["name"][:-6] in json.loads(data)["strings"]
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
    for view in VIEWS:
        page.click(view)
    page.press("Escape")


def test_clocks_that_disagree_and_no_time_at_all(page: Page) -> None:
    sent = Notifications()
    root = sent.span("root", 5, 5)
    sent.span("back", 5, 2, root)
    page.show(sent.trace())
    assert [row["duration"] for row in page.rows()] == [
        "0 \u00b5s",
        "-3.00 ms",
    ]
    page.evaluate("document.getElementById('grid').focus()")
    page.press("z", "z")
    assert page.text("#ruler").startswith("2.995 ms\n2.996 ms")
    assert page.names() == ["root", "back"]


def test_fifty_thousand_spans(page: Page) -> None:
    sent = Notifications()
    root = sent.span("wsgi", 0, 50_000)
    for number in range(49_998):
        sent.span(
            "db", number, number + 0.5, root, query("SELECT 1", [number])
        )
    sent.span("last", 49_999, 50_000, root)
    page.show(sent.trace())
    assert page.names() == ["wsgi", "SELECT", "last"]
    assert page.rows()[1]["times"] == "\u00d7 49,998"
    page.click("#expand")
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
    assert page.text("#status") == "49,998 found"
    page.click("#collapse")
    assert page.names() == ["wsgi"]


def test_ten_thousand_levels(page: Page) -> None:
    sent = Notifications()
    parent = None
    for depth in range(10_000):
        parent = sent.span(f"level{depth}", depth, 20_000 - depth, parent)
    page.show(sent.trace())
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
    show_all(page, request().trace())
    page.click("#rows .row:nth-child(2)")
    page.call("Accessibility.enable")
    seen = set()
    for view in (
        "#show-findings",
        "#show-flame",
        "#show-spans",
        *TABLES,
        "#show-timeline",
    ):
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
                property_["name"] == "focusable"
                and property_["value"]["value"]
                for property_ in node["properties"]
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
    show_all(page, request().trace())
    page.click("#rows .row:nth-child(4)")
    page.next_frame()
    assert page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth"
        " && document.documentElement.scrollHeight <= innerHeight"
        " && document.getElementById('grid').scrollWidth"
        "    <= document.getElementById('grid').clientWidth"
    )
    row = page.rows()[6]
    assert (row["name"], row["duration"]) == ("driver", "10.0 ms")
    for place, cell in (
        *((7, ".name"), (7, ".duration"), (7, ".self")),
        (2, ".where"),
    ):
        box = page.box(f"#rows .row:nth-child({place}) {cell}")
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
    sent = request()
    for number in range(60):
        sent.span(f"more{number}", number, number + 1)
    page.show(sent.trace())
    page.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    # Ink is dark.
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert len(page.rows()) == 66
    assert page.box("#rows")["height"] >= 66 * 20
    for selector in ("#findings", "#flame", "#totals", "#statements"):
        assert page.box(selector)["height"] > 50
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert len(page.call("Page.printToPDF")["data"]) > 10_000
