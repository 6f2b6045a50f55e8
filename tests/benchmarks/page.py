# SPDX-License-Identifier: Apache-2.0

"""The HTML report of a large trace, in a headless browser.

The trace is the recorded server create many times over: each time with ids of
its own, also in parameters and paths, and later than the one before.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator

from profiler_bridge.body import decode_body
from profiler_bridge.notification import (
    Notification,
    format_timestamp,
    parse_timestamp,
)
from profiler_bridge.testing.sample import SECOND, new_id, seeded
from profiler_bridge.trace import Trace
from tests import recorded
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, single
from tests.browser import Chromium, Page

_UUID = re.compile("[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_EVERY = 20 * SECOND

_READY = "performance.getEntriesByType('navigation')[0]"
# Milliseconds from a click until what it shows has been drawn.
_DRAWN = """
new Promise(done => {{
  const began = performance.now();
  document.getElementById("{id}").click();
  requestAnimationFrame(() => setTimeout(
    () => done(performance.now() - began)));
}})
"""
# Seconds.
_SCROLLED = 2
# How many frames a second are drawn while the page scrolls for so long.
_FRAMES = """
new Promise(done => {{
  const element = document.getElementById("{id}");
  const began = performance.now();
  let frames = 0;
  const scroll = () => {{
    frames++;
    element.scrollTop += 700;
    const passed = performance.now() - began;
    if (passed < 2000) requestAnimationFrame(scroll);
    else done(frames / passed * 1000);
  }};
  requestAnimationFrame(scroll);
}})
"""


def run(bench: Bench) -> Iterator[Row]:
    count = bench.size(50_000, 5_000)
    trace = large(count)
    named = f"page of {len(trace.spans):,} spans"
    taken: dict[str, list[float]] = defaultdict(list)
    with Chromium() as chromium:
        for _ in bench.turns(5):
            page = Page(chromium, bench.folder())
            page.show(trace)
            page.call("Performance.enable")
            taken["ready"].append(
                page.evaluate(f"{_READY}.domContentLoadedEventEnd")
            )
            for key, expression in (
                ("unfolded", _DRAWN.format(id="expand")),
                ("scrolled", _FRAMES.format(id="grid")),
                ("flame", _DRAWN.format(id="show-flame")),
                ("list", _DRAWN.format(id="show-spans")),
                (
                    "list scrolled",
                    _FRAMES.format(id="spans"),
                ),
            ):
                before = _thread_time(page)
                value = page.evaluate(expression)
                taken[key].append(value)
                # Of frames; means nothing for what happens once.
                taken[f"{key}, CPU"].append(
                    (_thread_time(page) - before) * 1000 / (value * _SCROLLED)
                )
            size = page.path.stat().st_size / len(trace.spans)
            page.close()
    yield single(f"{named}: size", "bytes/span", [size], bench.wanted(200))
    for key, measure, at_most in (
        ("ready", "interactive", 1000),
        ("unfolded", "every span in a row", None),
        ("flame", "flame graph", 2000),
        ("list", "table of all spans", None),
    ):
        yield single(
            f"{named}: {measure}",
            "ms",
            taken[key],
            at_most and bench.wanted(at_most),
        )
    for key, measure in (
        ("scrolled", "scrolling the timeline"),
        ("list scrolled", "scrolling the table"),
    ):
        yield single(
            f"{named}: {measure}",
            "frames/s",
            taken[key],
            at_least=bench.wanted(50),
        )
        # A busy machine draws fewer; this is what one costs.
        yield single(
            f"{named}: {measure}, main thread",
            "ms CPU/frame",
            taken[f"{key}, CPU"],
            bench.wanted(20),
        )


def _thread_time(page: Page) -> float:
    """Seconds of CPU that the page's main thread has taken."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    [value] = [one["value"] for one in metrics if one["name"] == "ThreadTime"]
    return float(value)


class _Renamed:
    """Other ids for those in a text, the same for the same."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: dict[str, str] = {}

    def __call__(self, match: re.Match[str]) -> str:
        if match[0] not in self._names:
            self._names[match[0]] = new_id(self._rng)
        return self._names[match[0]]


def large(count: int) -> Trace:
    """A trace of about so many spans."""
    bodies = recorded.server_create()
    rng = seeded(count)
    base_id = new_id(rng)
    made: list[Notification] = []
    for number in range(max(round(2 * count / len(bodies)), 1)):
        names: dict[str, str] = {}

        def renamed(
            match: re.Match[str], names: dict[str, str] = names
        ) -> str:
            return names.setdefault(match[0], new_id(rng))

        for body in bodies:
            message = decode_body(_UUID.sub(renamed, body.decode()).encode())
            assert isinstance(message, dict)
            payload = message["payload"]
            if payload["parent_id"] == payload["base_id"]:
                payload["parent_id"] = base_id
            payload["base_id"] = base_id
            payload["timestamp"] = format_timestamp(
                parse_timestamp(payload["timestamp"]) + number * _EVERY
            )
            made.append(Notification.from_payload(payload))
    return Trace.build(base_id, made)
