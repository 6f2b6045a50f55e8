# SPDX-License-Identifier: Apache-2.0

"""Redis: what is deleted, and what stays that others write meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from profiler_bridge import exceptions
from profiler_bridge.storage.plugin import Entry, Piece
from profiler_bridge.storage.redis import deletion, layout
from profiler_bridge.storage.redis.plugin import RedisPlugin
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import index_terms
from profiler_bridge.testing.helpers import (
    as_texts,
    cut,
    expected,
    listed,
    observed,
    write,
)
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
)
from tests import servers
from tests.functional.test_storage_redis import (
    ids,
    redis_storage,
    stored,
    traces,
)


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


@pytest.fixture
def payloads() -> list[Payload]:
    """A trace."""
    return request(seeded(1), error="DBDeadlock")


def keys(server: servers.Redis) -> list[str]:
    """All but the names, which go by age."""
    return [key for key in server.execute("KEYS", "*") if key != layout.NAMES]


@pytest.mark.parametrize("retention", [0, 1000])
def test_purge_leaves_nothing(
    redis_url: str, server: servers.Redis, retention: int
) -> None:
    storage = redis_storage(redis_url, retention=retention)
    for own in traces(5, error="DBDeadlock"):
        write(storage, *cut(own[::-1], 3))
    assert storage.purge(STARTED + 100 * SECOND) == 5
    assert keys(server) == []


@pytest.mark.parametrize("at_once", [1, 10, 10_000])
def test_many_notifications_go_in_several_transactions(
    redis_url: str,
    server: servers.Redis,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deletion, "_STRINGS", at_once)
    monkeypatch.setattr(deletion, "_WORDS", 3)
    storage = redis_storage(redis_url)
    old = [request(seeded(at), calls=3) for at in range(4)]
    new = request(seeded(9), STARTED + SECOND)
    write(storage, *cut([*old[0][::-1], *old[1]], 5), *old[2:], new)
    write(storage, old[0][1:12])  # in other company
    assert storage.purge(STARTED + SECOND) == 4
    assert as_texts(stored(server)) == as_texts(new)
    assert observed(storage, new) == expected(new)
    assert listed(storage) == ids(new)
    write(storage, *old)
    assert storage.purge(STARTED + 100 * SECOND) == 5
    assert keys(server) == []


def pieces_of(
    payloads: Iterable[Payload],
) -> tuple[dict[str, list[int]], list[Entry]]:
    """What a purge deletes when it has seen one piece of a trace."""
    piece = Piece.of(notifications(payloads))
    return {piece.base_id: [piece.digest]}, [
        Entry(term, piece.summary.started, piece.base_id)
        for term in index_terms([piece.summary])
    ]


def purge(storage: Storage, payloads: Iterable[Payload]) -> None:
    """Finish a purge that has seen only this piece of a trace."""
    pieces, entries = pieces_of(payloads)
    storage.plugin.delete(pieces, entries)
    storage.index_again(storage.plugin.partials(pieces))


def test_a_piece_goes_and_others_stay(
    redis_url: str, server: servers.Redis, payloads: list[Payload]
) -> None:
    """Notifications that are in a deleted piece and in another stay."""
    storage = redis_storage(redis_url)
    write(storage, payloads[:8], payloads[4:])
    purge(storage, payloads[:8])
    assert as_texts(stored(server)) == as_texts(payloads[4:])
    assert observed(storage, payloads[4:]) == expected(payloads[4:])
    purge(storage, payloads[1:7])  # no such piece
    purge(storage, request(seeded(2)))  # no such trace
    assert observed(storage, payloads[4:]) == expected(payloads[4:])


def around_commands(plugin: RedisPlugin, act: Callable[[], None]) -> None:
    """Call a function before and after each of the plugin's commands."""
    client: Any = plugin._client
    run = client.run

    def run_singly(commands: Iterable[Command], **options: Any) -> list[Any]:
        replies = []
        for command in commands:
            act()
            replies += run([command], **options)
            act()
        return replies

    client.run = run_singly


@pytest.mark.parametrize("retention", [0, 1000])
@pytest.mark.parametrize("comes", ["again", "in other company"])
def test_a_piece_comes_while_one_is_deleted(
    redis_url: str,
    server: servers.Redis,
    payloads: list[Payload],
    comes: str,
    retention: int,
) -> None:
    """The deletion happens between any two commands of the write."""
    old = payloads[:8]
    new = old if comes == "again" else payloads[4:]
    outcomes = set()
    for moment in itertools.count():
        server.execute("FLUSHALL")
        other = redis_storage(redis_url, retention=retention)
        plugin = RedisPlugin(redis_url, retention=retention)
        write(other, old)
        steps = itertools.count()

        def act(
            steps: Any = steps, moment: int = moment, other: Storage = other
        ) -> None:
            if next(steps) == moment:
                purge(other, old)

        around_commands(plugin, act)
        write(Storage(plugin), new)
        if next(steps) <= moment:
            break
        left = stored(server)
        outcomes.add(len(left))
        fresh = redis_storage(redis_url)
        if left or new is not old:
            assert as_texts(left) == as_texts(new), moment
            assert observed(fresh, new) == expected(new), moment
            assert fresh.trace(new[0]["base_id"]).verdict.gone == 0
        else:
            assert listed(fresh) == []
        lives = {
            server.execute("TTL", key) for key in server.execute("KEYS", "*")
        }
        assert not retention or -1 not in lives, moment
    assert moment > 16
    # What comes again may have been there before it was deleted.
    assert outcomes == ({0, 8} if new is old else {len(new)})


@pytest.mark.parametrize("comes", ["again", "in other company"])
def test_a_piece_comes_within_a_deletion(
    redis_url: str,
    server: servers.Redis,
    payloads: list[Payload],
    comes: str,
) -> None:
    """The write happens between any two commands of the deletion."""
    old = payloads[:8]
    new = old if comes == "again" else payloads[4:]
    for moment in itertools.count():
        server.execute("FLUSHALL")
        other = redis_storage(redis_url)
        plugin = RedisPlugin(redis_url)
        write(other, old)
        steps = itertools.count()

        def act(
            steps: Any = steps, moment: int = moment, other: Storage = other
        ) -> None:
            if next(steps) == moment:
                write(other, new)

        around_commands(plugin, act)
        purge(Storage(plugin), old)
        if next(steps) <= moment:
            break
        if new is not old:
            assert as_texts(stored(server)) == as_texts(new), moment
            assert observed(redis_storage(redis_url), new) == expected(new)
        else:
            assert len(stored(server)) in (0, len(old))
    assert moment > 3


def test_what_is_written_all_the_time_is_not_deleted(
    redis_url: str, payloads: list[Payload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "_TRIES", 5)
    other = redis_storage(redis_url)
    plugin = RedisPlugin(redis_url)
    around_commands(plugin, lambda: write(other, payloads))
    with pytest.raises(
        exceptions.StorageUnavailable, match="written all the time"
    ):
        plugin.delete(*pieces_of(payloads))
    assert observed(other, payloads) == expected(payloads)


def test_writers_and_purges_at_once(
    redis_url: str, server: servers.Redis
) -> None:
    """Nothing of a trace is there in part, and what stays is found."""
    made = [request(seeded(at), calls=3) for at in range(10)]
    barrier = threading.Barrier(4)

    def write_parts(seed: int) -> None:
        storage = redis_storage(redis_url)
        barrier.wait()
        for own in seeded(seed).sample(made, len(made)) * 3:
            at = seed % 5
            write(storage, own[at : at + 9], own[at + 3 : at + 12], own[:at])

    def purge_all(_: int) -> None:
        storage = redis_storage(redis_url)
        barrier.wait()
        for _ in range(30):
            storage.purge(STARTED + SECOND)

    with ThreadPoolExecutor(4) as pool:
        works = [
            pool.submit(work, seed)
            for seed, work in enumerate(
                [write_parts, purge_all, write_parts, purge_all], 1
            )
        ]
        for work in works:
            work.result()
    storage = redis_storage(redis_url)
    texts = {text for own in made for text in as_texts(own)}
    assert {*as_texts(stored(server))} <= texts
    for own in made:
        base_id = own[0]["base_id"]
        if pieces := storage.plugin.partials([base_id]):
            assert storage.trace(base_id).verdict.gone == 0
            assert base_id in listed(storage, limit=100), pieces
    storage.purge(STARTED + SECOND)
    assert stored(server) == []
