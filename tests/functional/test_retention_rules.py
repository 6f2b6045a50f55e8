# SPDX-License-Identifier: Apache-2.0

"""Traces are kept for as long as rules say."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from profiler_bridge import rules
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import StoragePlugin
from profiler_bridge.storage.purging import Purge
from profiler_bridge.storage.retention import KeepRule, Retention
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import ALL_TRACES, PartialSummary
from profiler_bridge.testing.helpers import Intermediary
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    new_id,
    notifications,
    seeded,
    span,
)

HOUR = 3600 * SECOND


def rule(name: str, match: str, seconds: int) -> KeepRule:
    return KeepRule(name, [rules.parse(match)], seconds)


class _Counted(Intermediary):
    """Counts the traces whose summaries and notifications are read."""

    def __init__(self, plugin: StoragePlugin) -> None:
        super().__init__(plugin)
        self.summaries = 0
        self.traces = 0

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        partials = self.plugin.partials(base_ids)
        self.summaries += len(partials)
        return partials

    def notifications(self, base_id: str) -> list[Notification]:
        self.traces += 1
        return self.plugin.notifications(base_id)


@pytest.fixture
def counted(sqlite_url: str) -> Iterator[_Counted]:
    storage = get_storage(sqlite_url)
    storage.prepare()
    yield _Counted(storage.plugin)
    storage.close()


def over(counted: Any) -> Storage:
    return Storage(counted)


#: What the traces of the tests are chosen by, and for how many hours kept.
HOURS = {"error": 72, "operation SELECT*": 240, "service worker": 5}


def make(
    rng: random.Random, started: int, lasts: int, kind: str
) -> tuple[list[Payload], float]:
    """A trace, and for how many hours a day's retention and rules keep it."""
    base_id = new_id(rng)
    hours: float = HOURS.get(kind, 24)
    if kind == "for ever":
        hours = math.inf
    return span(
        *(base_id, new_id(rng), base_id, started, lasts),
        service="worker" if kind == "service worker" else "api",
        host="holy" if kind == "for ever" else "node",
        error="DBDeadlock" if kind == "error" else None,
        info={"db": {"statement": "SELECT 1"}}
        if kind == "operation SELECT*"
        else None,
    ), hours


def present(storage: Storage) -> set[str]:
    query = TraceQuery(limit=None)
    return {summary.base_id for summary in storage.list_traces(query)}


@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_purge_after_purge_the_right_ones_go(
    counted: _Counted, seed: int, for_ever: bool
) -> None:
    """Traces come, go on, become another rule's, and are held back."""
    rng = seeded(seed)
    storage = over(counted)
    retention = Retention(
        24 * 3600,
        [rule(match, match, hours * 3600) for match, hours in HOURS.items()]
        + [rule("for ever", "host holy", 0)] * for_ever,
    )
    purge = Purge(retention)
    kinds = ["plain", *HOURS, *["for ever"] * for_ever]
    now = STARTED
    # By base_id, the last notification, and the hours.
    traces: dict[str, tuple[int, float]] = {}
    for number in range(60):
        for _ in range(rng.randrange(6)):
            lasts = rng.choice([0, SECOND, rng.randrange(40 * HOUR)])
            payloads, hours = make(
                rng, now - rng.randrange(HOUR), lasts, rng.choice(kinds)
            )
            storage.write(notifications(payloads))
            traces[payloads[0]["base_id"]] = (
                max(n.timestamp for n in notifications(payloads)),
                hours,
            )
        if traces and rng.random() < 0.5:
            # More of one, with an error, now and then.
            base_id = rng.choice([*traces])
            finished, hours = traces[base_id]
            failed = rng.random() < 0.5
            more = span(
                *(base_id, new_id(rng), base_id, now, 0),
                error="x" if failed else None,
            )
            storage.write(notifications(more))
            traces[base_id] = (
                max(finished, now),
                max(hours, HOURS["error"]) if failed else hours,
            )
        now += rng.randrange(1, 6 * HOUR)
        held = None if rng.random() < 0.7 else now - rng.randrange(60 * HOUR)
        if number == 40:
            purge = Purge(retention)  # a restart
        counted.traces = 0
        storage.purge_by(purge, now, held=held)
        traces = {
            base_id: (finished, hours)
            for base_id, (finished, hours) in traces.items()
            if now - finished <= hours * HOUR
            or (held is not None and finished >= held)
        }
        assert present(storage) == traces.keys(), number
    storage.purge_by(Purge(retention), now + 1000 * HOUR)
    index = storage.plugin.index(ALL_TRACES, None, None, 1000)
    assert {position.base_id for position in index} == {
        base_id for base_id, (_, hours) in traces.items() if hours == math.inf
    }
