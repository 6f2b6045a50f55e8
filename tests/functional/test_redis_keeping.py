# SPDX-License-Identifier: Apache-2.0

"""Redis: traces that are kept longer than others, all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from profiler_bridge.storage.redis import sweep
from profiler_bridge.storage.redis.plugin import RedisPlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    cut,
    expected,
    listed,
    observed,
    write,
)
from profiler_bridge.testing.sample import Payload
from tests import servers
from tests.functional.test_redis_expiry import indexed, listed_everywhere
from tests.functional.test_storage_redis import ids, redis_storage, traces


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


def shortest(server: servers.Redis, payloads: list[Payload]) -> int:
    """For how many seconds everything of a trace, and what finds it, lives."""
    (base_id,) = ids(payloads)
    own = server.execute("KEYS", f"*{base_id}*")
    assert len(own) == len(payloads) + len(["keys", "summary", "marks"])
    found_by = [
        key
        for key in server.execute("KEYS", "profiler_bridge:index:*")
        if any(
            base_id in entry for entry in server.execute("ZRANGE", key, 0, -1)
        )
    ]
    assert found_by
    keys = [*own, *found_by, "profiler_bridge:names"]
    lives: list[int] = [server.execute("TTL", key) for key in keys]
    return min(lives)


def keep(storage: Storage, payloads: list[Payload], seconds: int) -> None:
    storage.plugin.keep(dict.fromkeys(ids(payloads), seconds))


def test_what_is_kept_outlives_the_rest(
    redis_url: str, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_EVERY", 0)
    storage = redis_storage(redis_url, retention=1)
    kept, other, later = traces(3, error="DBDeadlock")
    *most, last = cut(kept, len(kept) - 1)
    write(storage, *most, other)
    keep(storage, kept, 1000)
    write(redis_storage(redis_url, retention=1), last)  # another worker
    gone = f"profiler_bridge:keys:{other[0]['base_id']}"
    assert servers.wait_until(lambda: not server.execute("EXISTS", gone), 30)
    write(storage, later)
    assert shortest(server, kept) > 900
    assert listed_everywhere(storage, kept)
    assert listed(storage, roots=["POST*"], error=True) == ids(later, kept)
    assert indexed(server) == {*ids(kept, later)}


def test_writes_do_not_shorten_it(
    redis_url: str, server: servers.Redis
) -> None:
    storage = redis_storage(redis_url, retention=1000)
    kept, other = traces(2)
    first, second, third = cut(kept, len(kept) // 3 + 1)
    write(storage, first)
    keep(storage, kept, 9000)
    write(storage, second, other)
    write(redis_storage(redis_url, retention=1000), third, other)
    write(redis_storage(redis_url, retention=1000), kept[::-1])
    assert shortest(server, kept) > 8900
    base_id = other[0]["base_id"]
    own = server.execute("KEYS", f"*{base_id}*")
    assert max(server.execute("TTL", key) for key in own) <= 1250
    assert observed(storage, kept) == expected(kept)
    # Nor does keeping it again, for less.
    keep(storage, kept, 2000)
    assert shortest(server, kept) > 8900


def test_what_is_for_ever_or_unknown_is_left_alone(
    redis_url: str, server: servers.Redis
) -> None:
    ours, unknown = traces(2)
    write(redis_storage(redis_url), ours)
    keys = server.execute("KEYS", "*")
    for retention in (0, 1000):
        storage = redis_storage(redis_url, retention=retention)
        keep(storage, ours, 9000)
        keep(storage, unknown, 9000)
    assert {*server.execute("KEYS", "*")} == {*keys}
    assert {server.execute("TTL", key) for key in keys} == {-1}


class _Meanwhile:
    """Keeps a trace before one of the commands that a writer runs."""

    def __init__(self, plugin: RedisPlugin, at: int, keep: Any) -> None:
        self._run = plugin._client.run
        self._keep = keep
        self.left = at

    def run(self, commands: Iterable[Any], **options: bool) -> list[Any]:
        replies: list[Any] = []
        rest = [*commands]
        while rest:
            if not self.left:
                self._keep()
            self.left -= 1
            # A life is read and lengthened at one moment.
            both = len(rest) > 1 and rest[1][0] == "EXPIRE"
            size = 2 if rest[0] == ("TTL", rest[both][1]) and both else 1
            replies += self._run(rest[:size], **options)
            del rest[:size]
        return replies


def test_it_is_kept_while_it_is_written(
    redis_url: str, server: servers.Redis
) -> None:
    """At whatever moment."""
    (payloads,) = traces(1, calls=0)
    old, new = payloads[:1], payloads[1:]
    keeper = redis_storage(redis_url, retention=1000)
    at = 0
    while True:
        server.execute("FLUSHDB")
        storage = redis_storage(redis_url, retention=1000)
        write(storage, old)
        # So that whoever writes to it has it live on.
        for key in server.execute("KEYS", "*"):
            server.execute("EXPIRE", key, 900)
        plugin = storage.plugin
        assert isinstance(plugin, RedisPlugin)
        meanwhile = _Meanwhile(plugin, at, lambda: keep(keeper, old, 9000))
        run = plugin._client.run
        plugin._client.run = meanwhile.run  # type: ignore[method-assign]
        write(storage, new)
        plugin._client.run = run  # type: ignore[method-assign]
        if meanwhile.left >= 0:
            break  # it was over before
        assert shortest(server, payloads) > 8900, at
        at += 1
    assert at > 15
