# SPDX-License-Identifier: Apache-2.0

"""Redis: what is stored expires, all of a trace at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytest

from profiler_bridge.storage.redis import sweep
from profiler_bridge.storage.redis.plugin import RedisPlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    as_text,
    cut,
    expected,
    listed,
    observed,
    stored,
    write,
)
from profiler_bridge.testing.sample import (
    MILLISECOND,
    STARTED,
    Payload,
    new_id,
    notifications,
    seeded,
    span,
)
from tests import servers
from tests.functional.test_storage_redis import ids, redis_storage, traces


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


def test_everything_expires(redis_url: str, server: servers.Redis) -> None:
    storage = redis_storage(redis_url, retention=1)
    write(storage, *traces(3, error="DBDeadlock"))
    assert listed(storage)
    lives = [server.execute("TTL", key) for key in server.execute("KEYS", "*")]
    assert set(lives) <= {-2, 0, 1, 2}  # -2: it is gone by now
    assert servers.wait_until(lambda: server.execute("DBSIZE") == 0, 30)
    assert listed(storage) == []


def test_nothing_expires_by_default(
    redis_url: str, server: servers.Redis
) -> None:
    write(redis_storage(redis_url), *traces(3, error="DBDeadlock"))
    keys = server.execute("KEYS", "*")
    assert {server.execute("TTL", key) for key in keys} == {-1}


def lives(server: servers.Redis, payloads: list[Payload]) -> list[int]:
    """For how many seconds the keys of a trace live on."""
    keys = server.execute("KEYS", f"*{payloads[0]['base_id']}*")
    assert len(keys) == len(payloads) + len(["keys", "summary", "marks"])
    return [server.execute("TTL", key) for key in keys]


def test_all_of_a_trace_expires_by_its_newest_write(
    redis_url: str, server: servers.Redis
) -> None:
    storage = redis_storage(redis_url, retention=1000)
    ours, other = traces(2)
    first, second, third = cut(ours, len(ours) // 3 + 1)
    write(storage, first, other)
    for key in server.execute("KEYS", "*"):
        server.execute("EXPIRE", key, 900)  # As if time had passed.
    write(storage, second)
    assert min(lives(server, [*first, *second])) > 950
    assert max(lives(server, [*first, *second])) <= 1250
    assert max(lives(server, other)) <= 900
    # Not each time, for it costs as much as the trace is large.
    write(storage, third)
    server.execute("CONFIG", "RESETSTAT")
    write(storage, third)
    stats = server.execute("INFO", "commandstats")
    # Of the summary and the marks, before and after what is added; and in the
    # index of every term: all, two services, a root, a duration, durations;
    # and of the names.
    assert stats["cmdstat_expire"]["calls"] <= 4 + 6 + 1


@pytest.mark.parametrize("retention", [500, 5000])
def test_all_of_a_trace_expires_by_another_retention(
    redis_url: str, server: servers.Redis, retention: int
) -> None:
    """It changes in the middle of a trace, or differs between two hosts."""
    (ours,) = traces(1)
    *before, last = cut(ours, 4)
    write(redis_storage(redis_url, retention=1000), *before)
    storage = redis_storage(redis_url, retention=retention)
    write(storage, last)
    assert min(lives(server, ours)) > retention - 50
    shortest = min(lives(server, ours))
    for key in server.execute("KEYS", "*"):
        left = server.execute("TTL", key)
        # Soon, but not before a busy machine has written again.
        server.execute("EXPIRE", key, left - shortest + 20)
    write(storage, last)
    assert min(lives(server, ours)) > retention - 50


def test_a_trace_that_is_being_written_does_not_expire(
    redis_url: str, server: servers.Redis
) -> None:
    storage = redis_storage(redis_url, retention=2)
    (ours,) = traces(1, calls=20)
    for part in cut(ours, 8):
        write(storage, part)
        time.sleep(1)
    assert observed(storage, ours) == expected(ours)
    assert servers.wait_until(lambda: server.execute("DBSIZE") == 0, 30)


def listed_everywhere(storage: Storage, payloads: list[Payload]) -> bool:
    """Whether a trace is found, where it starts, under each of its terms."""
    (base_id,) = ids(payloads)
    services = {
        f"{payload['project']}:{payload['service']}" for payload in payloads
    }
    return observed(storage, payloads) == expected(payloads) and all(
        listed(storage, services=[service], limit=1000).count(base_id) == 1
        for service in services
    )


@pytest.mark.parametrize("same_worker", [True, False])
@pytest.mark.parametrize(
    "keys",
    [
        # All at one moment, or what is the first a little ahead.
        "*",
        "osprofiler:*,profiler_bridge:keys:*,profiler_bridge:summary:*",
        "profiler_bridge:summary:*",
    ],
)
def test_a_trace_that_has_expired_comes_again(
    redis_url: str, server: servers.Redis, keys: str, same_worker: bool
) -> None:
    """It then starts later, and what was cached of it is wrong."""
    storage = redis_storage(redis_url, retention=1000)
    (payloads,) = traces(1)
    other = [
        payload | {"base_id": new_id(seeded(5)), "service": "other"}
        for payload in payloads
    ]
    write(storage, [*payloads, *other])
    for pattern in keys.split(","):
        server.execute("DEL", *server.execute("KEYS", pattern))
    if not same_worker:
        storage = redis_storage(redis_url, retention=1000)
    first, second = payloads[5:9], payloads[9:]
    for at in range(3):
        write(storage, second)
        # What was not there when it was written first.
        write(storage, [first[0] | {"more": at, "service": f"new {at}"}])
        left = [
            *second,
            *(
                first[0] | {"more": seen, "service": f"new {seen}"}
                for seen in range(at + 1)
            ),
        ]
        assert listed_everywhere(storage, left)
        assert listed_everywhere(redis_storage(redis_url), left)


def test_a_trace_without_marks_is_marked(
    redis_url: str, server: servers.Redis
) -> None:
    """They were evicted, or an older release wrote none."""
    (payloads,) = traces(1)
    *early, late = cut(payloads, 5)
    write(redis_storage(redis_url, retention=1000), *early)
    server.execute("DEL", *server.execute("KEYS", "profiler_bridge:marks:*"))
    storage = redis_storage(redis_url, retention=1000)
    write(storage, late)
    assert listed_everywhere(storage, payloads)


def test_very_many_terms(redis_url: str) -> None:
    """More than the first read of the marks returns."""
    for retention in (0, 1000):
        rng = seeded(retention)
        base_id = new_id(rng)
        payloads = [
            payload
            for at in range(40)
            for payload in span(
                base_id,
                new_id(rng),
                base_id,
                STARTED + at * MILLISECOND,
                service=f"service {at}",
            )
        ]
        for part in cut(payloads[::-1], 4):
            write(redis_storage(redis_url, retention=retention), part)
        storage = redis_storage(redis_url)
        assert listed_everywhere(storage, payloads)


def test_what_is_known_of_the_index_is_bounded(
    redis_url: str, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody who may publish makes up services."""
    plugin = RedisPlugin(redis_url, retention=1000)
    storage, searched = Storage(plugin), plugin._sweep
    rng = seeded(1)
    for number in range(3):
        base_id = new_id(rng)
        write(
            storage,
            [
                payload
                for at in range(1000)
                for payload in span(
                    base_id, new_id(rng), base_id, service=f"{number}-{at}"
                )
            ],
        )
        assert len(searched._cursors) <= 1000
    monkeypatch.setattr(sweep, "_EVERY", 0)
    monkeypatch.setattr(sweep, "_SECONDS", 60)  # however busy this host is
    searched._next = 0
    write(storage, *traces(1))
    assert searched._cursors == {}


def indexed(server: servers.Redis) -> set[str]:
    """The base_ids that are anywhere in the index."""
    return {
        member[16:]
        for key in server.execute("KEYS", "profiler_bridge:index:*")
        for member in server.execute("ZRANGE", key, 0, -1)
    }


def wait_until_gone(server: servers.Redis, *gone: list[Payload]) -> None:
    keys = [f"profiler_bridge:summary:{base_id}" for base_id in ids(*gone)]
    assert servers.wait_until(lambda: not server.execute("EXISTS", *keys), 30)


def test_the_index_forgets_what_has_expired(
    redis_url: str, server: servers.Redis
) -> None:
    # More than Redis keeps in its compact form, which is scanned whole.
    *old, kept, last = traces(300, calls=0)
    short = redis_storage(redis_url, retention=1)
    long = redis_storage(redis_url, retention=1000)
    write(long, kept)
    short.write(notifications(itertools.chain(*old)))
    write(long, kept)  # So that the index outlives what is in it.
    assert indexed(server) == {*ids(*old, kept)}
    wait_until_gone(server, *old)
    assert listed(long, limit=1000) == ids(kept)
    write(redis_storage(redis_url, retention=1000), last)
    assert indexed(server) == {*ids(kept, last)}


def test_the_index_is_searched_bit_by_bit(
    redis_url: str, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search looks at some entries only, living ones among them."""
    monkeypatch.setattr(sweep, "_MEMBERS", "50")
    monkeypatch.setattr(sweep, "_EVERY", 0)
    old, *kept = traces(400, calls=0)
    short = redis_storage(redis_url, retention=1)
    long = redis_storage(redis_url, retention=1000)
    write(short, old)
    long.write(notifications(itertools.chain(*kept)))
    wait_until_gone(server, old)
    for _ in range(20):
        write(long, kept[0])
    assert indexed(server) == {*ids(*kept)}


def test_the_index_keeps_what_is_written_meanwhile(
    redis_url: str, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = RedisPlugin(redis_url, retention=1000)
    (payloads,) = traces(1)
    asked = []

    def expired(members: list[bytes]) -> list[bytes]:
        asked.append(members)
        return members if len(asked) % 2 else []

    monkeypatch.setattr(plugin._sweep, "_expired", expired)
    write(Storage(plugin), payloads)
    # Of all, two services, a root, a duration, durations; twice each.
    assert len(asked) == 12
    assert indexed(server) == {*ids(payloads)}


class _Expiring:
    """Runs commands one by one, and has some keys expire before one of them.

    :param at: before which
    :param keys: those of them that have not been given a longer life by then
    """

    def __init__(
        self, plugin: RedisPlugin, server: servers.Redis, at: int, keys: str
    ) -> None:
        self._run = plugin._client.run
        self._server = server
        self._keys = keys
        self.left = at

    def run(self, commands: Iterable[Any], **options: bool) -> list[Any]:
        return [
            reply
            for command in commands
            for reply in self._run_one(command, **options)
        ]

    def _run_one(self, command: Any, **options: bool) -> list[Any]:
        if not self.left:
            for pattern in self._keys.split(","):
                for key in self._server.execute("KEYS", pattern):
                    if 0 <= self._server.execute("TTL", key) <= 1:
                        self._server.execute("DEL", key)
        self.left -= 1
        return self._run([command], **options)


NOTIFICATIONS = "osprofiler:*,profiler_bridge:keys:*"
SUMMARY = "profiler_bridge:summary:*"
MARKS = "profiler_bridge:marks:*"
OF_MANY = "profiler_bridge:index:*,profiler_bridge:names"


@pytest.mark.parametrize("same_worker", [True, False])
@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        # What is left of a trace that has expired.
        (f"{SUMMARY},{MARKS}", NOTIFICATIONS),
        # The summary is the first to expire.
        ("nothing", SUMMARY),
        ("nothing", f"{SUMMARY},{MARKS}"),
        # Nobody has written what is of its kind for as long as that lives.
        (f"{NOTIFICATIONS},{SUMMARY},{MARKS}", OF_MANY),
    ],
)
def test_a_trace_that_expires_while_it_is_written(
    redis_url: str,
    server: servers.Redis,
    before: str,
    meanwhile: str,
    same_worker: bool,
) -> None:
    """At whatever moment: what is written is stored, and found."""
    (payloads,) = traces(1, calls=1)
    old, new = payloads[:5], payloads[5:]
    at = 0
    while True:
        server.execute("FLUSHDB")
        storage = redis_storage(redis_url, retention=1000)
        write(storage, old)
        for pattern in before.split(","):
            for key in server.execute("KEYS", pattern):
                server.execute("DEL", key)
        for pattern in meanwhile.split(","):
            for key in server.execute("KEYS", pattern):
                server.execute("EXPIRE", key, 1)
        plugin = (
            storage.plugin
            if same_worker
            else RedisPlugin(redis_url, retention=1000)
        )
        assert isinstance(plugin, RedisPlugin)
        expiring = _Expiring(plugin, server, at, meanwhile)
        run = plugin._client.run
        plugin._client.run = expiring.run  # type: ignore[method-assign]
        write(storage if same_worker else Storage(plugin), new)
        plugin._client.run = run  # type: ignore[method-assign]
        if expiring.left >= 0:
            break  # it was over before
        left = [
            payload
            for payload in old
            if as_text(payload) in stored(storage, old[0]["base_id"])
        ]
        assert len(left) in (0, len(old))
        assert listed_everywhere(storage, [*left, *new]), at
        at += 1
    assert at > 15
