# SPDX-License-Identifier: Apache-2.0

"""Building the report of a large trace. Python only: no servers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from osprofiler.drivers.base import Driver

from profiler_bridge.notification import Notification
from profiler_bridge.report import osprofiler
from profiler_bridge.testing.sample import Payload, seeded
from profiler_bridge.trace import Trace
from tests.benchmarks import payloads
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, compare

_LARGEST = 100_000


def run(bench: Bench) -> Iterator[Row]:
    for points in (1_000, 10_000, _LARGEST):
        if points < _LARGEST or not bench.quick:
            yield from _build(bench, points)


def _build(bench: Bench, points: int) -> Iterator[Row]:
    trace = payloads.trace(seeded(points), points=points)
    notifications = [Notification.from_payload(payload) for payload in trace]
    texts = [notification.text for notification in notifications]
    taken = bench.milliseconds(
        7,
        {
            "ours": lambda: ours(notifications),
            "theirs": lambda: theirs(trace),
            "ours, decoded": lambda: ours(
                map(Notification.from_text, texts),
            ),
            "theirs, decoded": lambda: theirs(map(json.loads, texts)),
        },
    )
    yield compare(
        f"report of {points:,} points",
        "ms",
        taken["ours"],
        "osprofiler",
        taken["theirs"],
        inverse=True,
        at_least=bench.wanted(3) if points == _LARGEST else None,
    )
    yield compare(
        f"report of {points:,} points, decoded first",
        "ms",
        taken["ours, decoded"],
        "osprofiler",
        taken["theirs, decoded"],
        inverse=True,
    )


def ours(notifications: Iterable[Notification]) -> dict[str, Any]:
    return osprofiler.report(Trace.build("", notifications))


def theirs(trace: Iterable[Payload]) -> dict[str, Any]:
    """As osprofiler's drivers do it."""
    driver = Driver("")
    for payload in trace:
        driver._append_results(
            payload["trace_id"],
            payload["parent_id"],
            payload["name"],
            payload["project"],
            payload["service"],
            payload["info"]["host"],
            payload["timestamp"],
            payload,
        )
    report: dict[str, Any] = driver._parse_results()
    return report
