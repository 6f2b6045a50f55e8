# SPDX-License-Identifier: Apache-2.0

"""Redis: what release 0.1 stored, and what a later one will."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import pytest

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import PartialSummary
from profiler_bridge.testing.helpers import (
    cut,
    expected,
    listed,
    observed,
    write,
)
from profiler_bridge.testing.processes import in_threads
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    notifications,
)
from tests import servers
from tests.functional.older import without_roots
from tests.functional.test_storage_redis import ids, redis_storage, traces

VERSIONS = "profiler_bridge:version"
# As 0.1 documented them.
RIGHTS = (
    *("~osprofiler:*", "~profiler_bridge:*"),
    *("+@read", "+@write", "+@connection", "+info", "+select", "+wait"),
)


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


@pytest.fixture
def url(server: servers.Redis) -> Iterator[str]:
    """Of a user with the rights that 0.1 documented."""
    server.execute("ACL", "SETUSER", "old", "on", ">secret", *RIGHTS)
    yield f"redis://old:secret@127.0.0.1:{server.port}/0"
    server.execute("ACL", "DELUSER", "old")


def digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def write_as_0_1(
    server: servers.Redis, *pieces: Sequence[Payload], retention: int = 0
) -> None:
    """Store pieces of traces as that release did."""
    known: dict[str, list[Notification]] = {}
    for piece in pieces:
        parsed = notifications(piece)
        base_id = parsed[0].base_id
        own = digest("\n".join(sorted(one.text for one in parsed)))
        names = []
        for one in parsed:
            names.append(
                f"{one.trace_id}_{one.payload['timestamp']}"
                f"_{digest(one.text)[-8:]}"
            )
            server.execute(
                "SET", f"osprofiler:{base_id}_{names[-1]}", one.text
            )
        fields = json.loads(PartialSummary.of(parsed).to_text())
        for name in ("version", "requests", "others", "roots", "about"):
            fields.pop(name, None)
        for name in ("project", "service"):
            fields[f"{name}s"] = sorted({getattr(one, name) for one in parsed})
        for kind, text in (
            ("keys", "\n".join(sorted(names))),
            ("summary", json.dumps(fields)),
        ):
            key = f"profiler_bridge:{kind}:{base_id}"
            server.execute("HSET", key, own, zlib.compress(text.encode()))
        # It read the summaries of all pieces.
        whole = known.setdefault(base_id, [])
        whole += parsed
        summary = PartialSummary.of(whole)
        terms = {"all", *(f"service:{one.service}" for one in whole)}
        if summary.errors:
            terms.add("error")
        for term in terms:
            member = f"{summary.started + 2**63:016x}{base_id}"
            key = f"profiler_bridge:index:{digest(term)}"
            server.execute("ZADD", key, 0, member)
    if retention:
        for key in server.execute("KEYS", "*"):
            server.execute("EXPIRE", key, retention)


def versions(server: servers.Redis) -> list[str]:
    members: list[str] = server.execute("ZRANGE", VERSIONS, 0, -1)
    return members


def test_an_empty_server_gets_the_version_of_this_release(
    redis_url: str, server: servers.Redis
) -> None:
    storage = redis_storage(redis_url)
    assert storage.check() == []
    assert server.execute("KEYS", "*") == []
    for _ in range(2):
        assert storage.prepare() == []
        assert versions(server) == ["0003"]
        write(storage, *traces(1))
    storage.plugin.note_reindexed()
    assert versions(server) == ["0003"]
    assert server.execute("TTL", VERSIONS) == -1


def test_many_begin_with_an_empty_server(
    redis_url: str, server: servers.Redis
) -> None:
    """None takes another's traces for those of an older release."""

    def begin(_: int) -> None:
        storage = redis_storage(redis_url)
        assert storage.prepare() == []
        write(storage, *traces(3))

    for _ in range(5):
        server.execute("FLUSHALL")
        in_threads(begin)
        assert versions(server) == ["0003"]


def services(payloads: list[Payload]) -> set[str]:
    return {payload["service"] for payload in payloads}


def assert_listed(storage: Storage, *made: list[Payload]) -> None:
    """These are found under each of their services, the newest first."""
    for service in set().union(*map(services, made)):
        assert listed(storage, services=[service]) == ids(
            *(own for own in made if service in services(own))
        )


@pytest.mark.parametrize("retention", [0, 1000])
def test_upgrade_from_0_1(
    url: str, server: servers.Redis, retention: int
) -> None:
    older, newer = traces(2, error="DBDeadlock")
    late = [payload | {"service": "late"} for payload in older[10:]]
    before = older[:10]
    write_as_0_1(server, *cut(before[::-1], 3), newer, retention=retention)
    storage = redis_storage(url, retention=retention)
    # What 0.1 stored is read as it is, also before anybody writes.
    for read in (redis_storage(url), storage):
        assert without_roots(observed(read, before + newer)) == without_roots(
            expected(before + newer)
        )
        assert_listed(read, newer, before)
        assert listed(read, error=True) == ids(newer, before)[:1]
        for look in (read.check, read.prepare):
            (warning,) = look()
            assert str(read) in warning
            assert "run 'profiler-bridge-manage reindex' once" in warning
    assert versions(server) == ["0001", "0003"]
    write(storage, late)
    whole = before + late
    assert without_roots(observed(storage, whole + newer)) == without_roots(
        expected(whole + newer)
    )
    assert [*storage.reindex()][-1] == 2
    assert_listed(storage, newer, whole)
    assert versions(server) == ["0001", "0003", "0003-reindexed"]
    assert storage.check() == storage.prepare() == []
    assert redis_storage(url).check() == []
    # Again, after a crash or by mistake.
    assert [*storage.reindex()][-1] == 2
    assert_listed(storage, newer, whole)


def test_what_0_1_stored_is_purged(
    redis_url: str, server: servers.Redis
) -> None:
    older, newer = traces(2)
    write_as_0_1(server, *cut(older[::-1], 3), newer)
    storage = redis_storage(redis_url)
    assert storage.purge(STARTED + SECOND) == 1
    assert without_roots(observed(storage, newer)) == without_roots(
        expected(newer)
    )
    assert listed(storage) == ids(newer)
    assert storage.purge(STARTED + 2 * SECOND) == 1
    assert server.execute("KEYS", "*") == []


def test_a_newer_release_has_been_here(
    redis_url: str, server: servers.Redis
) -> None:
    storage = redis_storage(redis_url)
    storage.prepare()
    for version in ("0004", "0003-later"):
        server.execute("ZADD", VERSIONS, 0, version)
        for look in (
            storage.prepare,
            storage.check,
            lambda: storage.purge(STARTED),
        ):
            with pytest.raises(
                exceptions.StorageMisconfigured,
                match=f"has version {version}, this release works with 0003",
            ):
                look()
        server.execute("ZREM", VERSIONS, version)
    assert storage.check() == []


def test_all_traces_without_the_index(
    redis_url: str, server: servers.Redis
) -> None:
    storage = redis_storage(redis_url)
    made = traces(2500, calls=0)
    storage.write(notifications(itertools.chain(*made)))
    for key in server.execute("KEYS", "profiler_bridge:index:*"):
        server.execute("DEL", key)
    pages = [*storage.plugin.base_ids()]
    assert {base_id for page in pages for base_id in page} == {*ids(*made)}
    assert max(map(len, pages)) < 2500
    assert listed(storage, limit=3000) == []
    for _ in storage.reindex():
        pass
    assert listed(storage, limit=3000) == ids(*made[::-1])
