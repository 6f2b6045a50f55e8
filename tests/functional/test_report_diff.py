# SPDX-License-Identifier: Apache-2.0

"""diff as it prints, and as a page in a real browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.notification import Notification
from profiler_bridge.report import comparison_page
from profiler_bridge.report.comparison import Comparison
from profiler_bridge.report.statistics import By, Statistics
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    TEXTS,
    Payload,
    new_id,
    notifications,
    seeded,
    span,
)
from profiler_bridge.trace import Trace
from tests.browser import Page
from tests.functional.test_report_html_limits import EVIL

FIRST = "until=2026-02-03T05:00"
SECOND_HALF = "since=2026-02-03T05:00"


def requests(
    count: int, started: int, scale: float, **fields: Any
) -> Iterator[list[Payload]]:
    """One in which a query takes some times as long; nothing else changes."""
    rng = seeded(started)
    for number in range(count):
        base, top = new_id(rng), new_id(rng)
        at = started + number * SECOND
        query = round(rng.randint(2000, 4000) * scale)
        other = rng.randint(2000, 4000)
        payloads = span(
            *(base, top, base, at, query + other + 5000, "wsgi"),
            info={"request": {"method": "GET", "path": "/v2.1/servers"}},
            **fields,
        )
        for begin, lasts, table in (
            (at, query, "instances"),
            (at + query, other, "flavors"),
        ):
            payloads += span(
                *(base, new_id(rng), top, begin, lasts),
                info={"db": {"statement": f"SELECT id FROM {table}"}},
                **fields,
            )
        yield payloads


@pytest.fixture
def url(sqlite_url: str) -> str:
    """A run of requests, and an hour later another; both with 30 traces."""
    storage = get_storage(sqlite_url)
    storage.prepare()
    for started, scale in ((STARTED, 1.0), (STARTED + 3600 * SECOND, 2.0)):
        for payloads in requests(30, started, scale):
            storage.write([*map(Notification.from_payload, payloads)])
    storage.close()
    return sqlite_url


def run(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    code = BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", url, "diff", *args]
    )
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_first_row_is_what_became_slower(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, err = run(url, capsys, FIRST, SECOND_HALF, "-f", "json")
    assert err.splitlines()[:2] == [
        "before: 30 traces, 2026-02-03 04:05:06 to 04:05:35 UTC",
        "after: 30 traces, 2026-02-03 05:05:06 to 05:05:35 UTC",
    ]
    assert re.fullmatch(
        r"self time of a trace: 1\d\.\d ms before, 1\d\.\d ms after"
        r" \(\+[23]\d\.\d%\);"
        r" 1 slower, 2 same",
        err.splitlines()[2],
    )
    first, *rest = json.loads(out)
    assert first["Service"] == "shop:api"
    assert first["Operation"] == "SELECT instances"
    assert first["Verdict"] == "slower"
    assert first["Change"] == first["After"] - first["Before"]
    assert 70 < first["Percent"] < 130
    assert first["Chance"] < 0.001
    assert first["Traces before"] == first["Traces after"] == 30
    assert {row["Verdict"] for row in rest} == {"same"}


def test_people_and_csv(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, table, _ = run(url, capsys, FIRST, SECOND_HALF)
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.match(
        r"\| shop:api \| SELECT instances  \| [23]\.\d\d ms \| \+[23]\.\d\d ms"
        r" \| slower  \|",
        lines[3],
    )
    _, text, _ = run(url, capsys, FIRST, SECOND_HALF, "-f", "csv")
    [first, *_] = csv.DictReader(text.splitlines())
    assert 2000 < int(first["Before"]) < 4000


@pytest.mark.parametrize("by", ["operation", "statement", "service", "root"])
def test_by(by: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        url, capsys, FIRST, SECOND_HALF, "--by", by, "-f", "json"
    )
    [first, *_] = json.loads(out)
    assert (code, first["Verdict"]) == (0, "slower")


@pytest.mark.parametrize(
    ("before", "after", "limit", "code"),
    [
        (FIRST, SECOND_HALF, "50%", 3),
        (FIRST, SECOND_HALF, "150%", 0),
        (SECOND_HALF, FIRST, "1%", 0),
        # Of too few traces any difference counts, as long as it is 1 ms.
        (f"{FIRST},limit=7", SECOND_HALF, "50%", 3),
        # The same again: what differs is noise.
        (f"{FIRST},limit=15", FIRST, "1%", 0),
    ],
)
def test_fail_over(
    before: str,
    after: str,
    limit: str,
    code: int,
    url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = (before, after, "--fail-over", limit)
    assert run(url, capsys, *args)[0] == code


def test_a_limit_of_one_side(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, err = run(url, capsys, "limit=5", "sort=duration, limit=6")
    assert [line.split(",")[0] for line in err.splitlines()[:2]] == [
        "before: 5 traces",
        "after: 6 traces",
    ]


def test_sides_are_traces_by_the_beginnings_of_their_ids(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = (
        next(iter(requests(1, STARTED + hours * 3600 * SECOND, 1.0)))
        for hours in (0, 1)
    )
    ids = [payloads[0]["base_id"] for payloads in (first, last)]
    whole = run(url, capsys, *ids)
    assert whole[0] == 0
    assert run(url, capsys, *(base_id[:8] for base_id in ids)) == whole
    assert "3 too few" in whole[2]


# The page


def compared(by: By, *texts: str) -> Comparison:
    sides = []
    for scale in (1.0, 2.0):
        side = Statistics(by)
        for text in texts:
            for payloads in requests(
                9, STARTED, scale, service=text, project=text, host=text
            ):
                first = payloads[0]
                first["info"]["request"] = {"method": text, "path": text}
                payloads[2]["info"]["db"]["statement"] = text
                side.add(
                    Trace.build(first["base_id"], notifications(payloads))
                )
        sides.append(side)
    return Comparison(*sides)


def show(page: Page, text: str) -> None:
    page.path.write_text(text, "ascii")
    page.call("Page.navigate", url=page.path.as_uri())
    page.wait_for("document.readyState === 'complete'")
    page.wait_for("document.querySelector('table') !== null")


def test_page_is_written_for_the_user_only(
    url: str,
    tmp_path: Path,
    page: Page,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "diff.html"
    code, out, err = run(url, capsys, FIRST, SECOND_HALF, "--html", str(path))
    assert code == 0
    assert "SELECT instances" in out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    show(page, path.read_text("ascii"))
    assert page.text("h1") == err.splitlines()[2]
    assert page.text("dl").split("\n") == [
        *("Before", f"{FIRST} {err.splitlines()[0][8:]}"),
        *("After", f"{SECOND_HALF} {err.splitlines()[1][7:]}"),
    ]
    assert page.text("tbody th").split("\n") == [
        *("SELECT instances", "shop:api"),
    ]
    assert page.text("tbody td") == "slower"
    before, after = (
        page.box(f"tbody rect.{side}")["width"] for side in ("before", "after")
    )
    assert 1.8 * before < after < 2.2 * before


def test_a_page_that_cannot_be_written(
    url: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    args = (FIRST, SECOND_HALF, "--html", "/no/such/folder/x")
    assert run(url, capsys, *args)[0] == 1
    assert "/no/such/folder/x: No such file or directory" in caplog.text


@pytest.mark.parametrize("by", [By.OPERATION, By.STATEMENT, By.ROOT])
def test_hostile_names_are_text(by: By, page: Page) -> None:
    comparison = compared(by, *EVIL, *TEXTS.values())
    text = "".join(
        comparison_page.render(comparison, EVIL[0], "\ud800\x1b\u202e{rows}")
    )
    assert text.isascii()
    show(page, text)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.scripts.length") == 0
    assert set(
        page.evaluate(
            "[...document.querySelectorAll('*')].map("
            "element => element.localName)"
        )
    ) <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main"),
        *("h1", "dl", "dt", "dd", "div", "b", "span", "p", "table", "caption"),
        *("thead", "tbody", "tr", "th", "td", "svg", "rect", "footer"),
    }
    assert set(
        page.evaluate(
            "[...document.body.querySelectorAll('*')].flatMap(element =>"
            " element.getAttributeNames())"
        )
    ) <= {"class", "aria-hidden", "viewBox", "width", "height", "y"}
    assert page.text("dd b") == EVIL[0]


def test_the_policy_allows_the_style_alone() -> None:
    text = "".join(
        comparison_page.render(compared(By.OPERATION, "a"), "one", "other")
    )
    [policy] = re.findall('Content-Security-Policy" content="(.*)"', text)
    [style] = re.findall("(?s)<style>(.*?)</style>", text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest())
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest.decode()}';"
        " base-uri 'none'; form-action 'none'"
    )
    assert text.index(policy) < text.index("<style>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(scheme: str, page: Page) -> None:
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    show(
        page,
        "".join(comparison_page.render(compared(By.ROOT, "a"), "x", "y")),
    )
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = [int(part) for part in re.findall("[0-9]+", colour)]
    assert (min(light) > 200) == (scheme == "light")


def test_a_page_of_nothing_and_one_of_very_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = Comparison(Statistics(), Statistics())
    text = "".join(comparison_page.render(nothing, "a", "b"))
    assert "nothing to compare" in text
    monkeypatch.setattr(comparison_page, "MOST_ROWS", 10)
    many = compared(By.OPERATION, *(f"name{n}" for n in range(8)))
    text = "".join(comparison_page.render(many, "a", "b"))
    assert text.count("<tr>") == 11
    assert "and 14 more that changed less" in text
