# SPDX-License-Identifier: Apache-2.0

"""The service's pages in a real browser: filter, page, open, compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_bridge.notification import Notification
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import new_id, seeded, span
from tests import examples, web
from tests.browser import Chromium
from tests.functional.test_pages import EXAMPLES, FAST, SLOW
from tests.functional.test_report_html_limits import EVIL


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = get_storage(f"sqlite:///{tmp_path}/traces.sqlite")
    storage.prepare()
    for example in EXAMPLES:
        storage.write(example.notifications())
    yield storage
    storage.close()


@pytest.fixture
def tab(
    chromium: Chromium, storage: Storage, tmp_path: Path
) -> Iterator[web.Tab]:
    with web.watched(chromium, storage, tmp_path) as tab:
        yield tab


def rows(tab: web.Tab) -> list[str]:
    return tab.texts(".traces tbody th a")


def test_filter_page_open_compare(tab: web.Tab) -> None:
    tab.go("/traces")
    assert len(rows(tab)) == 4
    # By the keyboard: to the first filter, and send.
    tab.press("/", "/")
    tab.type("POST /v2.1/*")
    tab.press("Enter", "\r")
    tab.wait_for("document.querySelectorAll('.traces tbody tr').length === 3")
    assert tab.query().startswith("?root=POST")
    tab.evaluate("document.querySelector('[name=limit]').value = '20'")
    tab.go("/traces?root=POST*&limit=2")
    assert len(rows(tab)) == 2
    tab.click("[rel=next]")
    tab.wait_for("location.search.includes('marker')")
    tab.wait_until_there("/traces")
    assert rows(tab) == ["POST /v2.1/servers"]

    tab.go("/traces?service=glance")
    for tick in (1, 2):
        tab.click(f"tbody tr:nth-child({tick}) input")
    tab.evaluate(
        "document.querySelector('form[action$=compare] button').id = 'compare'"
    )
    tab.click("#compare")
    tab.wait_until_there("/compare")
    assert tab.query() == f"?before={FAST}&after={SLOW}"
    assert "SELECT subnets" in tab.text(".comparison tbody th")
    assert tab.box(".comparison rect.after")["height"] > 0

    tab.go("/traces?service=glance")
    tab.click("tbody th a")
    tab.wait_until_there(f"/traces/{SLOW}")
    tab.wait_for("document.getElementById('facts').children.length")
    assert tab.names()[0] == "POST /v2.1/servers"
    # It has not changed, so only that is answered; and it is drawn again.
    tab.call("Page.reload")
    tab.wait_for("document.getElementById('facts')?.children.length")
    tab.wait_for(
        "performance.getEntriesByType('navigation')[0]"
        ".responseStatus === 304"
        " || performance.getEntriesByType('navigation')[0]"
        ".transferSize < 1000"
    )
    assert tab.names()[0] == "POST /v2.1/servers"


def test_a_third_tick_takes_the_first_away(tab: web.Tab) -> None:
    tab.go("/traces")
    for row in (1, 2, 3):
        tab.click(f"tbody tr:nth-child({row}) input")
    assert tab.evaluate(
        "[...document.querySelectorAll('[name=trace]')].map(x => x.checked)"
    ) == [False, True, True, False]


def test_a_link_to_a_span(tab: web.Tab) -> None:
    query = examples.SLOW.payloads[-2]
    tab.go(f"/traces/{SLOW}#span={query['trace_id']}")
    tab.wait_for("document.getElementById('facts').children.length")
    assert tab.selected() == "LibvirtDriver.spawn"
    assert tab.text("#details h2") == "LibvirtDriver.spawn"
    # And the way to get one.
    assert (
        tab.evaluate("document.querySelector('#details a').hash")
        == f"#span={query['trace_id']}"
    )
    tab.go("/traces")
    # As links from before name it.
    tab.go(f"/traces/{SLOW}#{query['trace_id']}")
    tab.wait_for("document.getElementById('facts')?.children.length")
    assert tab.selected() == "LibvirtDriver.spawn"
    tab.go(f"/traces/{SLOW}/tree#{query['trace_id']}")
    assert tab.text(":target").startswith("LibvirtDriver.spawn")


def test_times_as_the_browser_has_them(tab: web.Tab) -> None:
    tab.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    tab.go("/traces")
    assert tab.texts(".traces time")[-1] == "2026-02-03 04:05:06"
    tab.click("#zone")
    assert tab.texts(".traces time")[-1] == "2026-02-03 13:05:06"
    assert tab.text("th .zone") == "Asia/Tokyo"
    tab.go("/traces?limit=20")
    assert tab.texts(".traces time")[-1] == "2026-02-03 13:05:06"
    # Also in a trace, beside UTC.
    tab.go(f"/traces/{FAST}")
    tab.wait_for("document.getElementById('facts').children.length")
    assert tab.text(".started dd") == (
        "2026-02-03T04:05:06.000007 UTC, 2026-02-03T13:05:06.000007 Asia/Tokyo"
    )
    tab.go("/traces")
    tab.click("#zone")
    assert tab.texts(".traces time")[-1] == "2026-02-03 04:05:06"


def test_without_scripts(tab: web.Tab) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.go("/traces?service=glance")
    assert len(rows(tab)) == 2
    tab.go(f"/traces/{SLOW}")
    tab.call("Page.navigate", url=f"{tab.url}/traces/{SLOW}/tree")
    tab.wait_until_there(f"/traces/{SLOW}/tree")
    hidden = "SchedulerManager.select_destinations"
    assert hidden in tab.text(".tree")
    assert "GET /allocation_candidates" not in tab.text(".tree")
    tab.evaluate(
        "document.querySelectorAll('details:not([open]) > summary')[0].id"
        " = 'fold'"
    )
    tab.click("#fold")
    assert "GET /allocation_candidates" in tab.text(".tree")


def test_filters_are_folded_on_a_phone(tab: web.Tab) -> None:
    is_seen = "document.getElementById('until').checkVisibility()"
    tab.resize(400, 800)
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.go("/traces?service=glance&error=")
    assert not tab.evaluate(is_seen)
    assert tab.text(".fold summary") == "Filters: service glance"
    # So that traces are on the first screen.
    assert tab.box(".traces tbody tr")["top"] < 500
    tab.click(".fold summary")
    assert tab.evaluate(is_seen)
    tab.resize(1440, 800)
    for path in ("/traces", "/operations", "/services"):
        tab.go(path)
        assert tab.evaluate(is_seen)
        assert tab.box(".fold summary")["height"] == 0


def test_a_key_leads_to_the_filters_of_a_phone(tab: web.Tab) -> None:
    tab.resize(400, 800)
    tab.go("/traces")
    tab.press("/", "/")
    tab.type("POST*")
    tab.press("Enter", "\r")
    tab.wait_for("location.search === '?root=POST*'")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 400)])
def test_nothing_is_wider_than_the_page(
    tab: web.Tab, scheme: str, width: int
) -> None:
    tab.scheme(scheme)
    tab.resize(width, 800)
    for path in (
        *("/traces", "/traces?error=1&project=x", "/operations", "/services"),
        *(f"/compare?before={FAST}&after={SLOW}", f"/traces/{SLOW}/tree"),
        f"/compare?after={SLOW}",
    ):
        tab.go(path)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, (
            path
        )


def test_a_hostile_trace_runs_nothing(tab: web.Tab, storage: Storage) -> None:
    rng = seeded(7)
    base_id, parent = new_id(rng), ""
    for number, evil in enumerate(EVIL):
        trace_id = new_id(rng)
        payloads = span(
            *(base_id, trace_id, parent or base_id),
            *(examples.STARTED + number, 50_000, evil),
            info={
                "request": {"method": evil, "path": evil},
                "db": {"statement": evil},
            },
            project=evil,
            service=evil,
            host=evil,
            error=evil,
        )
        storage.write(
            [Notification.from_payload(payload) for payload in payloads]
        )
        parent = trace_id
    for path in (
        *("/traces", "/operations", "/operations?by=statement", "/services"),
        *(
            "/scatter",
            f"/compare?before={base_id}&after={base_id}",
            "/traces?host=x",
        ),
        f"/compare?after={base_id}",
        *(f"/traces/{base_id}/tree", f"/traces/{base_id}"),
    ):
        tab.go(path)
        assert tab.evaluate("window.ran") is None
        assert not tab.evaluate(
            "[...document.querySelectorAll('*')].some(element =>"
            " element.getAttributeNames().some(name => /^on/.test(name)))"
        )
