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
    notifications = [Notification.from_payload(each) for each in trace]
    texts = [each.text for each in notifications]
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
    for each in trace:
        driver._append_results(
            each["trace_id"],
            each["parent_id"],
            each["name"],
            each["project"],
            each["service"],
            each["info"]["host"],
            each["timestamp"],
            each,
        )
    report: dict[str, Any] = driver._parse_results()
    return report
