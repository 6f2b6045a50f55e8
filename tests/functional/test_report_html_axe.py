# SPDX-License-Identifier: Apache-2.0

"""axe-core finds nothing in HTML reports, however they are looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_bridge.trace import Trace
from tests import axe, npm, recorded
from tests.browser import Chromium, Page
from tests.functional.test_report_diff import beside, show
from tests.functional.test_report_html import late, request

VIEWS = ("timeline", "findings", "flame", "totals", "statements", "spans")


@pytest.fixture
def checked(chromium: Chromium, tmp_path: Path) -> Iterator[Page]:
    """Return a page in which axe-core may run, which its policy forbids."""
    try:
        axe.script()
    except npm.Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing).splitlines()[0])
    page = Page(chromium, tmp_path)
    page.call("Page.setBypassCSP", enabled=True)
    yield page
    page.close()


def server_create() -> Trace:
    [create] = recorded.traces(recorded.server_create())
    return create


@pytest.fixture(params=["light", "dark"])
def coloured(request: pytest.FixtureRequest, checked: Page) -> Page:
    """Return the page in one of the schemes of colours."""
    checked.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": request.param}],
    )
    return checked


@pytest.mark.parametrize("width", [1280, 400])
def test_a_trace(coloured: Page, width: int) -> None:
    coloured.resize(width, 800)
    for trace in (request().trace(), late(), server_create()):
        coloured.show(trace)
        coloured.evaluate(
            "document.querySelector('#rows .row:nth-child(2)').click()"
        )
        for view in VIEWS:
            coloured.evaluate(
                f"document.getElementById('show-{view}').click()"
            )
            coloured.next_frame()
            assert axe.violations(coloured) == [], view
    coloured.evaluate("document.getElementById('help-open').click()")
    assert axe.violations(coloured) == []


@pytest.mark.parametrize("width", [1280, 400])
def test_two_traces(coloured: Page, width: int) -> None:
    coloured.resize(width, 800)
    show(coloured, beside(request().trace(), late()))
    assert axe.violations(coloured) == []
    coloured.evaluate(
        "for (const row of document.querySelectorAll('details'))"
        " row.open = true"
    )
    assert axe.violations(coloured) == []


def test_it_finds_what_is_wrong(checked: Page) -> None:
    checked.show(request().trace())
    checked.evaluate(
        "document.getElementById('query').removeAttribute('aria-label');"
        "document.getElementById('query').removeAttribute('placeholder');"
    )
    [violation] = axe.violations(checked)
    assert violation.startswith("label: ['#query']")
