# SPDX-License-Identifier: Apache-2.0

"""Traces are kept for as long as rules say."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge import exceptions, rules
from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.daemon.keeping import Keeping
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.settled import Settled
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import StoragePlugin
from profiler_bridge.storage.purging import Pace, Purge
from profiler_bridge.storage.redis.plugin import RedisPlugin
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
from tests import servers
from tests.daemon import Daemon, wait_for

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


def indexed(storage: Storage) -> set[str]:
    index = storage.plugin.index(ALL_TRACES, None, None, 1000)
    return {position.base_id for position in index}


@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("seed", range(2))
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
    for number in range(40):
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
            # More of one, with an error, now and then, or from before.
            moment = now - rng.choice([0, rng.randrange(99 * HOUR)])
            base_id = rng.choice([*traces])
            finished, hours = traces[base_id]
            failed = rng.random() < 0.5
            more = span(
                *(base_id, new_id(rng), base_id, moment, 0),
                error="x" if failed else None,
            )
            over(counted).write(notifications(more))  # another writer
            traces[base_id] = (
                max(finished, moment),
                max(hours, HOURS["error"]) if failed else hours,
            )
        now += rng.randrange(1, 6 * HOUR)
        held = None if rng.random() < 0.7 else now - rng.randrange(60 * HOUR)
        if number == 25:
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
        assert indexed(storage) == traces.keys(), number
    storage.purge_by(Purge(retention), now + 1000 * HOUR)
    assert indexed(storage) == {
        base_id for base_id, (_, hours) in traces.items() if hours == math.inf
    }


def test_what_is_kept_is_not_looked_at_again(counted: _Counted) -> None:
    """Not before its age passes the next length."""
    storage = over(counted)
    retention = Retention(24 * 3600, [rule("all", "service api", 240 * 3600)])
    purge = Purge(retention)
    rng = seeded(1)
    for number in range(100):
        payloads, _ = make(rng, STARTED + number * HOUR, SECOND, "plain")
        storage.write(notifications(payloads))
    read = []
    for hours in range(100, 350, 10):
        counted.summaries = 0
        storage.purge_by(purge, STARTED + hours * HOUR + HOUR // 2)
        read.append(counted.summaries)
    # When it begins, and each day, it looks at all that is old.
    assert read[0] == 77
    daily = [*range(3, len(read), 3)]
    others = [count for at, count in enumerate(read) if at and at not in daily]
    # Of each of the two lengths those of ten hours.
    assert max(others) <= 20, read
    assert present(storage) == set()


@pytest.mark.parametrize(
    ("kind", "reads"),
    [("plain", 1), ("operation SELECT*", 1), ("error", 0), ("for ever", 0)],
)
def test_notifications_are_read_only_when_they_decide(
    counted: _Counted, kind: str, reads: int
) -> None:
    storage = over(counted)
    retention = Retention(
        3600,
        [
            rule("selects", "operation SELECT*", 240 * 3600),
            rule("errors", "error", 72 * 3600),
            rule("holy", "host holy and operation *", 0),
        ],
    )
    payloads, _ = make(seeded(1), STARTED, SECOND, kind)
    storage.write(notifications(payloads))
    counted.traces = 0
    purged = storage.purge_by(Purge(retention), STARTED + 2 * HOUR)
    assert purged == (kind == "plain")
    assert counted.traces == max(reads, kind == "for ever")
    # Whatever it is, it has gone on for long enough, or not.
    counted.traces = 0
    storage.purge_by(Purge(retention), STARTED + SECOND)
    assert counted.traces == 0


def test_what_comes_late_goes_all_the_same(counted: _Counted) -> None:
    """A copy of old traces, within a day."""
    storage = over(counted)
    retention = Retention(3600, [rule("errors", "error", 240 * 3600)])
    purge = Purge(retention)
    storage.purge_by(purge, STARTED + 100 * HOUR)
    payloads, _ = make(seeded(1), STARTED, SECOND, "plain")
    storage.write(notifications(payloads))
    assert storage.purge_by(purge, STARTED + 125 * HOUR) == 1


def test_a_purge_that_failed_begins_anew(
    counted: _Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = over(counted)
    payloads, _ = make(seeded(1), STARTED, SECOND, "plain")
    storage.write(notifications(payloads))
    retention = Retention(3600, [rule("holy", "host holy", 0)])
    purge = Purge(retention)

    def fail(*_: object) -> None:
        raise exceptions.StorageUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "_delete", fail)
        with pytest.raises(exceptions.StorageUnavailable):
            storage.purge_by(purge, STARTED + 10 * HOUR)
    assert storage.purge_by(purge, STARTED + 10 * HOUR) == 1


def test_a_purge_rests_in_proportion_to_its_work() -> None:
    pauses: list[float] = []
    pace = Pace(0.1, pauses.append)
    time.sleep(0.02)
    pace.rest()
    assert pauses[0] >= 0.18
    Pace(1, pauses.append).rest()
    assert len(pauses) == 1


CONFIGURED = """
[osprofiler]
connection_string = {url}
retention = 7d
[retention:errors]
match = error
keep = 30d
[retention:sample]
match = sample 1/1 and host holy
keep = 0
"""


def old(kind: str, days: int) -> list[Payload]:
    started = time.time_ns() // 1000 - days * 24 * HOUR
    return make(seeded(days), started, SECOND, kind)[0]


def test_purge_by_hand_goes_by_rules(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    config = tmp_path / "bridge.conf"
    config.write_text(CONFIGURED.format(url=sqlite_url))

    def purge(*args: str) -> list[str]:
        app = BridgeApp("profiler_bridge.manage", "")
        app.run([f"--config-file={config}", "purge", *args])
        written = capsys.readouterr()
        return (written.out or written.err).splitlines()

    kinds = [("plain", 8), ("error", 9), ("error", 40), ("for ever", 99)]
    traces = [old(kind, days) for kind, days in kinds]
    for payloads in traces:
        storage.write(notifications(payloads))
    assert purge("--dry-run") == [
        f"2 traces would be deleted from {sqlite_url}",
        "  rule errors (30d): 1 would go, 1 would stay",
        "  rule sample (for ever): 0 would go, 1 would stay",
        "  no rule (7d): 1 would go, 0 would stay",
    ]
    [first, *_] = purge("--dry-run", "--older-than=10d", "--ignore-rules")
    assert first == f"2 traces would be deleted from {sqlite_url}"
    assert purge() == [f"2 traces were deleted from {sqlite_url}"]
    assert present(storage) == {
        traces[1][0]["base_id"],
        traces[3][0]["base_id"],
    }
    config.write_text(f"[osprofiler]\nconnection_string = {sqlite_url}\n")
    [*_, line] = purge()
    assert "everything is kept for ever: give --older-than" in line


def test_the_daemon_goes_by_new_rules_after_sighup(
    sqlite_url: str, tmp_path: Path
) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    plain, error, holy = old("plain", 8), old("error", 9), old("for ever", 10)
    for payloads in (plain, error, holy):
        storage.write(notifications(payloads))
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    options: dict[str, dict[str, object]] = {
        "DEFAULT": {"transport_url": nobody},
        "osprofiler": {"connection_string": sqlite_url},
        # So short that it is looked at every second.
        "retention:holy": {"match": "host holy", "keep": "10s"},
    }
    with Daemon(tmp_path, options) as running:
        wait_for(lambda: len(present(storage)) == 2, "a purge")
        text = running.config_file.read_text()
        running.config_file.write_text(
            text.replace("host holy", "error or host holy")
        )
        running.signal("HUP")
        wait_for(lambda: len(present(storage)) == 1, "another")
        assert running.terminate() == 0
    assert present(storage) == {plain[0]["base_id"]}


class _Away(Intermediary):
    """A storage that is away for a while."""

    def __init__(self, plugin: StoragePlugin) -> None:
        super().__init__(plugin)
        self.away = 3

    def keep(self, lives: Mapping[str, int]) -> None:
        self.away -= 1
        if self.away >= 0:
            raise exceptions.StorageUnavailable("away")
        self.plugin.keep(lives)


def test_settled_traces_are_kept_in_redis(
    redis_url: str,
    redis_server: servers.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    away: Any = _Away(RedisPlugin(redis_url, retention=1000))
    storage = Storage(away)
    hours = 3600
    retention = Retention(
        1000,
        [
            rule("errors", "error", 72 * hours),
            rule("selects", "operation SELECT*", 240 * hours),
            rule("holy", "host holy", 0),
            rule("short", "not error", 10),
        ],
    )
    keeping = Keeping(storage, retention)
    assert keeping.is_needed
    traces = {
        kind: make(seeded(at), STARTED, SECOND, kind)[0]
        for at, kind in enumerate(
            ["plain", "error", "operation SELECT*", "for ever"]
        )
    }
    for payloads in traces.values():
        storage.write(notifications(payloads))
    settled = [
        Settled(
            storage.trace(summary.base_id),
            summary,
            frozenset(),
        )
        for summary in storage.list_traces(TraceQuery())
    ]
    # Whether it is one with a SELECT only its notifications tell.
    assert all(keeping.wants(trace.summary) for trace in settled)
    assert not Keeping(storage, Retention(1000, retention.rules[3:])).wants(
        settled[0].summary
    )
    caplog.set_level("INFO")
    waits: list[float] = []
    keeping.take(settled, waits.append)
    assert len(waits) == 3
    assert [record.message for record in caplog.records] == [
        "Traces are not kept longer: away",
        "Traces are kept longer again",
    ]
    lives = [
        redis_server.execute(
            "TTL", f"profiler_bridge:summary:{payloads[0]['base_id']}"
        )
        / hours
        for payloads in traces.values()
    ]
    assert [*map(round, lives)] == [0, 72, 240, 100 * 366 * 24]


def test_only_what_expires_has_to_be_told_to_keep(
    counted: _Counted, redis_url: str
) -> None:
    longer = Retention(10, [rule("errors", "error", 20)])
    assert not Keeping(over(counted), longer).is_needed
    for retention in (longer, Retention(30, longer.rules)):
        redis: Any = RedisPlugin(redis_url, retention=retention.plain)
        keeping = Keeping(Storage(redis), retention)
        assert keeping.is_needed == (retention is longer)
