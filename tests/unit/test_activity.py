# SPDX-License-Identifier: Apache-2.0

"""What a worker's log says of what it does."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from profiler_bridge.daemon import activity
from profiler_bridge.daemon.activity import Activity
from profiler_bridge.exceptions import Reason

STORAGE = "redis://127.0.0.1/0"


@pytest.fixture
def own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Activity:
    """In whose log each minute is over."""
    monkeypatch.setattr(activity, "EVERY", 0.0)
    caplog.set_level("INFO")
    return Activity(STORAGE)


def count(own: Activity) -> None:
    ago = (time.time_ns() // 1000) - 3_600_000_000
    own.count_stored(received=5, stored=4, seconds=0.1, newest=ago)
    own.count_set_aside(Counter({Reason.BAD_ID: 2, Reason.FAILED: 1}))
    own.count_requeued(7)


def test_a_line_has_what_happened_since_the_one_before(
    own: Activity, caplog: pytest.LogCaptureFixture
) -> None:
    count(own)
    own.log()
    own.count_requeued(1)
    own.log()
    first, second = caplog.messages
    assert first.startswith(f"{STORAGE}: received 15 in ")
    assert " s: stored 4, redelivered 1, set aside 3, requeued 7; lag" in first
    assert " at most 36" in first
    assert f"{STORAGE}: received 1 in" in second
    assert "stored 0, redelivered 0, set aside 0, requeued 1" in second


def test_nothing_is_said_without_traffic(
    own: Activity, caplog: pytest.LogCaptureFixture
) -> None:
    own.log()
    assert caplog.messages == []


def test_nothing_is_said_within_a_minute(
    own: Activity,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "EVERY", 86400.0)
    count(own)
    own.log()
    assert caplog.messages == []


def test_the_last_line_has_all_since_the_start(
    own: Activity, caplog: pytest.LogCaptureFixture
) -> None:
    count(own)
    own.log()
    count(own)
    own.log_total()
    assert f"{STORAGE}: ending, received 30 in" in caplog.messages[-1]
    assert "stored 8, redelivered 2, set aside 6" in caplog.messages[-1]
