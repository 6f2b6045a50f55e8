# SPDX-License-Identifier: Apache-2.0

"""The pages in a real browser, over a server create and 5,000 traces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from tests import many, recorded, web
from tests.browser import Chromium

COUNT = 5000


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """Return a storage to which nothing more is written."""
    folder = tmp_path_factory.mktemp("many")
    storage = get_storage(f"sqlite:///{folder}/traces.sqlite")
    many.write(storage, COUNT)
    yield storage
    storage.close()


@pytest.fixture(scope="module")
def create() -> str:
    """Return the recorded server create."""
    return recorded.traces(recorded.server_create())[0].base_id


@pytest.fixture
def tab(
    chromium: Chromium, storage: Storage, tmp_path: Path
) -> Iterator[web.Tab]:
    with web.watched(chromium, storage, tmp_path) as tab:
        yield tab


def listed(tab: web.Tab) -> list[str]:
    """The traces of the list that is shown."""
    urls = tab.evaluate(
        "[...document.querySelectorAll('.traces tbody th a')]"
        ".map(link => link.pathname)"
    )
    return [url.rpartition("/")[2] for url in urls]


def drawn(tab: web.Tab, script: str) -> object:
    """Evaluate it where ``links`` are the dots of the drawing."""
    return tab.evaluate(
        "(() => { const links = [...document.querySelector('iframe')"
        f".contentDocument.querySelectorAll('svg a')]; return {script} }})()"
    )


def click_link(tab: web.Tab, selector: str, text: str) -> None:
    tab.evaluate(
        f"[...document.querySelectorAll({selector!r})].find("
        f"link => link.textContent.trim() === {text!r}).id = 'wanted'"
    )
    tab.evaluate("document.getElementById('wanted').scrollIntoView()")
    tab.click("#wanted")


def test_filter_and_page(tab: web.Tab, storage: Storage) -> None:
    tab.go("/traces")
    tab.press("/", "/")
    tab.type("GET /v2.1/*")
    # To the service, by the keyboard.
    tab.press("Tab")
    tab.type("nova")
    tab.press("Enter", "\r")
    tab.wait_for("location.search.includes('service=nova')")
    tab.wait_until_there("/traces")
    expected = storage.list_traces(
        TraceQuery(roots=["GET /v2.1/*"], services=["nova"], limit=120)
    )
    seen = listed(tab)
    for page in (2, 3):
        click_link(tab, "[rel=next]", "Next page")
        tab.wait_for(f"location.search.includes({seen[-1]!r})")
        tab.wait_until_there("/traces")
        assert len(listed(tab)) == 50
        seen += listed(tab)
        assert tab.query().startswith("?root=GET"), page
    assert seen[:120] == [summary.base_id for summary in expected]


def test_the_drawing_leads_to_traces_that_are_not_listed(
    tab: web.Tab,
) -> None:
    tab.go("/traces?until=2026-03-01&error=")
    assert len(listed(tab)) == 50
    assert drawn(tab, "links.length") == 1000
    assert drawn(
        tab,
        "document.querySelector('iframe').clientHeight >="
        " links[0].ownerDocument.documentElement.scrollHeight",
    )
    # The last are those with an error; click on one.
    wanted = drawn(
        tab,
        "(() => { const box = document.querySelector('iframe')"
        ".getBoundingClientRect(); const own = links.at(-1)"
        ".getBoundingClientRect(); return [links.at(-1).href.baseVal,"
        " box.x + own.x + own.width / 2, box.y + own.y + own.height / 2] })()",
    )
    assert isinstance(wanted, list)
    url, x, y = wanted
    assert url.rpartition("/")[2] not in listed(tab)
    tab.mouse("mousePressed", x, y)
    tab.mouse("mouseReleased", x, y)
    tab.wait_until_there(url)
    tab.wait_for("document.getElementById('facts')?.children.length")
    assert tab.names()[0].startswith("GET /v2")


def test_local_times_are_the_drawings_too(tab: web.Tab) -> None:
    tab.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    tab.go("/traces?until=2026-03-01")
    for zone in ("Asia/Tokyo", "UTC"):
        tab.click("#zone")
        tab.wait_for(
            "document.querySelector('iframe').contentDocument"
            f".querySelector('.zone').textContent === {zone!r}"
        )
    for path in ("/operations", "/services"):
        tab.go(path)
        assert tab.text(".scope .zone") == "UTC"
        tab.click("#zone")
        assert tab.text(".scope .zone") == "Asia/Tokyo"
        # It is the service's, and the next test's.
        tab.click("#zone")


def test_a_server_create_is_opened(tab: web.Tab, create: str) -> None:
    tab.go("/operations")
    tab.evaluate("document.querySelector('[name=id]').select()")
    tab.type(create.replace("-", ""))
    tab.press("Enter", "\r")
    tab.wait_until_there(f"/traces/{create}")
    tab.wait_for("document.getElementById('facts')?.children.length")
    assert "POST /v2.1/servers" in tab.evaluate("document.title")
    tab.go(f"/traces/{create}/tree")
    assert "1,227 spans" in tab.text(".scope")


def test_operations_are_sorted_and_lead_to_traces(
    tab: web.Tab, storage: Storage
) -> None:
    tab.go("/operations?limit=500")
    assert tab.text(".scope").startswith("500 traces, ")
    for head, column in (("Calls", 3), ("Errors", 5)):
        click_link(tab, "thead a", head)
        tab.wait_for(f"location.search.includes('order={head.lower()}')")
        tab.wait_until_there("/operations")
        assert tab.text("[aria-sort=descending]") == head
        numbers = [
            int(text.replace(",", ""))
            for text in tab.texts(f"tbody tr > :nth-child({column})")
        ]
        assert numbers == sorted(numbers, reverse=True)
        assert numbers[0] > numbers[-1]
    click_link(tab, "tbody th a", "GET /v2.1/flavors/detail")
    tab.wait_until_there("/traces")
    assert "?operation=GET+/v2.1/flavors/detail&" in tab.query()
    assert {*tab.texts(".traces tbody th a")} == {"GET /v2.1/flavors/detail"}


def test_compare_two_of_the_list(tab: web.Tab) -> None:
    tab.go("/traces?error=1&limit=20")
    # Of the same API.
    after, _, _, before = listed(tab)[:4]
    for row in (1, 4):
        tab.click(f"tbody tr:nth-child({row}) input")
    click_link(tab, ".traces + .row button", "Compare the two that are ticked")
    tab.wait_until_there("/compare")
    assert tab.query() == f"?before={before}&after={after}"
    assert len(tab.texts(".comparison tbody th")) == 2


def test_the_map_of_a_server_create(tab: web.Tab) -> None:
    tab.go("/services?root=POST%20/v2.1/servers")
    boxes = [
        title.partition("\n")[0]
        for title in tab.evaluate(
            "[...document.querySelectorAll('.graph .service title')]"
            ".map(title => title.textContent)"
        )
    ]
    assert {
        *("user", "database", "glance:api", "keystone:public"),
        *("neutron:neutron-server", "nova:nova-compute"),
        *("nova:nova-conductor", "nova:nova-scheduler"),
        *("nova:osapi_compute", "placement:placement"),
    } == {*boxes}
    rows = tab.texts("table tbody tr")
    assert len(rows) == tab.evaluate(
        "document.querySelectorAll('.graph .arrow').length"
    )
    # What is drawn is a way to its traces.
    tab.evaluate(
        "[...document.querySelectorAll('.graph a')].find(link =>"
        " link.textContent.includes('nova-scheduler')).id = 'box'"
    )
    tab.click("#box")
    tab.wait_until_there("/traces")
    assert "service=nova:nova-scheduler" in tab.query()
    assert tab.texts(".traces tbody th a") == ["POST /v2.1/servers +13"]
