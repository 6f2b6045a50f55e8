# SPDX-License-Identifier: Apache-2.0

"""Redis: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from osprofiler import opts
from osprofiler.drivers.base import get_driver

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import osprofiler
from profiler_bridge.storage import deadline, get_storage
from profiler_bridge.storage.redis import client as redis_client
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.connections import Pool
from profiler_bridge.storage.redis.plugin import RedisPlugin
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    new_id,
    request,
    seeded,
    span,
)
from profiler_bridge.testing.storage import (
    StorageConformance,
    as_texts,
    assert_presentable,
    cut,
    expected,
    listed,
    observed,
    paged,
    write,
)
from tests import servers
from tests.daemon import wait_for
from tests.functional.test_bridge import daemon
from tests.osprofiler_report import equal_reports
from tests.relay import Relay


def stored(server: servers.Redis) -> list[Payload]:
    """What is in the keys of notifications."""
    keys = server.execute("KEYS", "osprofiler:*")
    return [
        json.loads(text)
        for at in range(0, len(keys), 1000)
        for text in server.execute("MGET", *keys[at : at + 1000])
    ]


def traces(number: int, seed: int = 1, **options: Any) -> list[list[Payload]]:
    """Traces that start one second after the other."""
    rng = seeded(seed)
    return [
        request(rng, STARTED + at * SECOND, **options) for at in range(number)
    ]


def ids(*payloads: list[Payload]) -> list[str]:
    return [own[0]["base_id"] for own in payloads]


def redis_storage(url: str, **options: Any) -> Storage:
    """With the plugin's options, which connection strings cannot have."""
    return Storage(RedisPlugin(url, **options))


class TestRedis(StorageConformance):
    @pytest.fixture
    def connection_string(
        self, redis_server: servers.Redis, redis_url: str
    ) -> str:
        self.server = redis_server
        return redis_url

    @pytest.fixture
    def absent_connection_string(self) -> str:
        return f"redis://u:s%40cret@127.0.0.1:{servers.free_port()}/0"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, redis_server: servers.Redis) -> Iterator[None]:
        redis_server.kill()
        yield
        redis_server.start()

    def raw_payloads(self, connection_string: str) -> list[Payload]:
        return stored(self.server)


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


@pytest.fixture
def storage(redis_url: str) -> Iterator[Storage]:
    with contextlib.closing(redis_storage(redis_url)) as storage:
        yield storage


def write_at_last(storage: Storage, payloads: Sequence[Payload]) -> None:
    """Write as a collector does, through an outage."""

    def written() -> bool:
        with contextlib.suppress(exceptions.StorageUnavailable):
            write(storage, payloads)
            return True
        return False

    assert servers.wait_until(written, 60)


def unavailable(storage: Storage, payloads: list[Payload]) -> str:
    """Why they cannot be written now."""
    with pytest.raises(exceptions.StorageUnavailable) as caught:
        write(storage, payloads)
    return str(caught.value)


# What osprofiler reads, and what it wrote


def driver(url: str, **options: str | None) -> Any:
    """The one that osprofiler has for the URL."""
    conf = cfg.ConfigOpts()
    opts.set_defaults(conf)
    return get_driver(url, conf=conf, **options)


def test_osprofiler_reports_what_is_stored(
    storage: Storage, redis_url: str
) -> None:
    ours = traces(3, calls=20, error="DBDeadlock")
    for payloads in ours:
        write(storage, *cut(payloads, 17))
    for base_id in ids(*ours):
        theirs = driver(redis_url).get_report(base_id)
        report = osprofiler.report(storage.trace(base_id))
        assert equal_reports(theirs, report)


def test_keys_are_as_documented(
    storage: Storage, server: servers.Redis
) -> None:
    (ours,) = traces(1)
    write(storage, ours)
    begins = {
        "osprofiler:{base_id}_{trace_id}_{timestamp}_".format(**payload)
        for payload in ours
    }
    keys = {
        re.sub("[0-9a-f]{8}$", "", key)
        for key in server.execute("KEYS", "osprofiler*")
    }
    assert keys == begins


def test_start_and_stop_at_one_moment(
    storage: Storage, server: servers.Redis
) -> None:
    rng = seeded(1)
    both = span(new_id(rng), new_id(rng), new_id(rng), duration=0)
    write(storage, both)
    assert as_texts(stored(server)) == as_texts(both)


def notify(url: str, payloads: list[Payload]) -> None:
    """Have osprofiler store, in its way of today: as lists."""
    for payload in payloads:
        project, service = payload["project"], payload["service"]
        driver(url, project=project, service=service).notify(payload)


def set_values(server: servers.Redis, payloads: list[Payload]) -> None:
    """Store as older osprofilers did."""
    for payload in payloads:
        key = "osprofiler:{base_id}_{trace_id}_{timestamp}".format(**payload)
        server.execute("SET", key, json.dumps(payload))


def with_osprofiler(storage: Storage) -> Storage:
    """The storage as a command reads it: osprofiler's traces too."""
    return Storage(storage.plugin.with_osprofiler())


@pytest.fixture
def everything(storage: Storage, server: servers.Redis) -> list[list[Payload]]:
    """Six traces, newest first: ours, osprofiler's, and one in both."""
    made = traces(6, error="DBDeadlock")
    for own in made[:3:2]:
        own[:] = [
            payload | {"info": {"host": "h"}, "service": "theirs"}
            for payload in own
        ]
    notify(server.url, made[0])
    write(storage, made[1])
    set_values(server, made[2])
    write(storage, made[3], made[4])
    notify(server.url, made[5][:6])
    write(storage, made[5][4:])
    return made[::-1]


def test_osprofilers_traces_are_left_out(
    storage: Storage, everything: list[list[Payload]]
) -> None:
    both, ours, other, values, own, _ = everything
    assert listed(storage) == ids(both, ours, other, own)
    assert storage.notifications(values[0]["base_id"]) == []


def test_osprofilers_traces_are_included(
    storage: Storage, everything: list[list[Payload]]
) -> None:
    for payloads in everything:
        view = with_osprofiler(storage)
        assert observed(view, payloads) == expected(payloads)
    view = with_osprofiler(storage)
    in_order = ids(*everything)
    for size in range(1, 8):
        assert paged(view, size) == in_order
    assert listed(view, services=["theirs"]) == [in_order[3], in_order[5]]
    summaries = view.list_error_traces(TraceQuery())
    assert [summary.base_id for summary in summaries] == [
        *(in_order[:3]),
        in_order[4],
    ]
    since, until = STARTED + SECOND, STARTED + 5 * SECOND
    assert listed(view, since=since, until=until) == in_order[1:5]


def calls(server: servers.Redis, name: str) -> int:
    """How often a command was run since these were counted anew."""
    stats = server.execute("INFO", "commandstats")
    count: int = stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]
    server.execute("CONFIG", "RESETSTAT")
    return count


def test_osprofilers_traces_are_looked_for_once(
    storage: Storage, server: servers.Redis, everything: list[list[Payload]]
) -> None:
    view = with_osprofiler(storage)
    calls(server, "scan")
    view.trace(everything[-1][0]["base_id"])
    assert calls(server, "lrange") == 1  # and of no other trace
    assert len(paged(view, 1)) == len(everything)
    assert calls(server, "scan") == 1


@pytest.mark.parametrize("base_id", ["*", "?" * 36, "[0-9a-f]*", "\\*", ""])
def test_osprofilers_traces_are_found_by_the_whole_id(
    storage: Storage, everything: list[list[Payload]], base_id: str
) -> None:
    view = with_osprofiler(storage)
    assert view.notifications(base_id) == []
    for whole in ids(*everything):
        assert view.notifications(whole[:-1]) == []


def test_a_long_list_of_osprofiler(
    storage: Storage, server: servers.Redis
) -> None:
    payloads = request(seeded(1), calls=50)
    notify(server.url, payloads)
    assert observed(with_osprofiler(storage), payloads) == expected(payloads)


# Keys that hold something else


@pytest.mark.parametrize("include_osprofiler", [False, True])
def test_foreign_keys_harm_nobody_else(
    storage: Storage, server: servers.Redis, include_osprofiler: bool
) -> None:
    ours, broken, lost = traces(3)
    write(storage, ours, broken, lost)
    (theirs,) = traces(1, seed=2)
    notify(server.url, theirs)
    base_id = broken[0]["base_id"]
    for key in server.execute("KEYS", f"osprofiler:{base_id}*"):
        server.execute("SET", key, b"\xff\0 no JSON")
    for kind in ("summary", "keys"):
        server.execute("HSET", f"profiler_bridge:{kind}:{base_id}", "0", "?")
        key = f"profiler_bridge:{kind}:{lost[0]['base_id']}"
        server.execute("SET", key, "no hash")
    rng = seeded(3)
    for key in (f"osprofiler_opt:{new_id(rng)}", "osprofiler:x", "x"):
        server.execute("SET", key, "{}")
    for value in ("{", "[]", '"x"', b"\xff", json.dumps(ours[0])):
        server.execute("LPUSH", f"osprofiler_opt:{new_id(rng)}", value)
    if include_osprofiler:
        storage = with_osprofiler(storage)
    assert storage.notifications(base_id) == []
    assert storage.notifications(lost[0]["base_id"]) == []
    assert observed(storage, ours) == expected(ours)
    assert set(listed(storage)) == {
        *ids(broken, ours),
        *(ids(theirs) if include_osprofiler else ()),
    }


# What it costs


def test_no_command_looks_at_every_key(
    storage: Storage, server: servers.Redis
) -> None:
    made = traces(50, error="DBDeadlock")
    write(storage, *made)
    server.execute("CONFIG", "RESETSTAT")
    storage.list_traces(TraceQuery())
    storage.list_error_traces(TraceQuery())
    listed(storage, services=["api"], marker=made[9][0]["base_id"])
    storage.trace(made[0][0]["base_id"])
    calls = {
        name.removeprefix("cmdstat_"): stat["calls"]
        for name, stat in server.execute("INFO", "commandstats").items()
    }
    assert not calls.keys() & {"scan", "keys", "zscan", "sscan", "hscan"}
    # Summaries and names of what is shown; a marker needs one more summary,
    # and a page reads one more than it shows.
    assert calls["hgetall"] <= 3 * (20 + 1 + 20) + 1 + 1
    assert calls["mget"] == 1


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("retention", [0, 1000])
def test_a_write_is_one_round_trip(
    redis_url: str,
    retention: int,
    order: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much there is of its traces, whatever comes first."""
    storage = redis_storage(redis_url, retention=retention, wait_replicas=0)
    made = traces(3, calls=20)
    parts = [cut(own[::order], 4) for own in made]
    trips: list[Counter[str | bytes]] = []
    run = Pool.run

    def counting(pool: Pool, commands: Sequence[Command]) -> list[Any]:
        trips.append(Counter(name for name, *_ in commands))
        return run(pool, commands)

    monkeypatch.setattr(Pool, "run", counting)
    costs = []
    for some in zip(*parts, strict=True):
        write(storage, list(itertools.chain(*some)))
        costs.append([*trips])
        trips.clear()
    # Services and errors come at first; now and then a trace has become so
    # long that it stands under one more term.
    early, late = (sum(cost[0].values()) for cost in (costs[8], costs[-2]))
    assert abs(late - early) <= 2 * len(made)
    assert len(costs[8]) == len(costs[-2]) == 1
    assert observed(storage, made[0]) == expected(made[0])


def test_round_trips_are_bounded() -> None:
    small: list[Command]
    small = [("SET", f"key{at}", "x" * 100) for at in range(2500)]
    large = [("SET", f"large{at}", "x" * 300_000) for at in range(5)]
    commands = [*small, *large, ("SET", "huge", b"x" * 5_000_000), *small]
    trips = list(redis_client.trips(commands))
    assert [command for trip, _ in trips for command in trip] == commands
    for trip, size in trips:
        assert len(trip) <= redis_client.TRIP_COMMANDS
        assert size == sum(len(text) for command in trip for text in command)
        assert len(trip) == 1 or size <= redis_client._TRIP_BYTES


# Replicas


def online(server: servers.Redis) -> bool:
    """Whether it has a replica that can confirm."""
    return "online" in str(server.execute("INFO", "replication"))


@pytest.fixture
def replica(server: servers.Redis) -> Iterator[servers.Redis]:
    with servers.Redis(replicaof=server) as replica:
        assert servers.wait_until(lambda: online(server), 30)
        yield replica


def test_one_replica_must_confirm_where_there_is_one(
    redis_url: str, replica: servers.Redis
) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(redis_url)
    write_at_last(storage, payloads)
    assert as_texts(stored(replica)) == as_texts(payloads)
    replica.pause()
    assert "fewer than 1 replica" in unavailable(storage, payloads)
    assert "fewer than 1 replica" in unavailable(
        redis_storage(redis_url), payloads
    )
    write_at_last(redis_storage(redis_url, wait_replicas=0), payloads)
    replica.resume()
    write_at_last(storage, payloads)


def test_no_replica_must_confirm_when_it_is_gone(
    server: servers.Redis, redis_url: str, replica: servers.Redis
) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(redis_url)
    write_at_last(storage, payloads)
    replica.kill()
    assert servers.wait_until(lambda: not online(server), 30)
    unavailable(storage, payloads)  # It knew of one.
    write_at_last(storage, payloads)


def test_as_many_replicas_as_wanted(
    redis_url: str, replica: servers.Redis
) -> None:
    (payloads,) = traces(1)
    write_at_last(redis_storage(redis_url, wait_replicas=1), payloads)
    storage = redis_storage(redis_url, wait_replicas=2)
    assert "fewer than 2 replica" in unavailable(storage, payloads)
    with pytest.raises(exceptions.StorageUnavailable, match="fewer than 2"):
        storage.check()


# An address that is moved


@pytest.fixture
def relay(server: servers.Redis) -> Iterator[Relay]:
    """Before the server, which is empty."""
    with Relay(server.port) as relay:
        yield relay


@pytest.fixture(scope="module")
def other_server() -> Iterator[servers.Redis]:
    with servers.Redis() as server:
        yield server


@pytest.fixture
def other(other_server: servers.Redis) -> servers.Redis:
    """Another server, empty."""
    other_server.execute("FLUSHALL")
    return other_server


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("REPLICAOF 127.0.0.1 {port}", "REPLICAOF NO ONE"),
        (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
        ),
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ],
)
def test_the_next_try_goes_where_the_address_is_now(
    server: servers.Redis,
    other: servers.Redis,
    relay: Relay,
    broken: str,
    mended: str,
) -> None:
    small, large = traces(2)
    large[0]["info"]["large"] = "x" * 300_000
    # So that large ones have a connection of their own.
    url = f"redis://127.0.0.1:{relay.port}/0?socket_timeout=1"
    storage = redis_storage(url, wait_replicas=0)
    write(storage, small, large)
    server.execute(*broken.format(port=servers.free_port()).split())
    try:
        unavailable(storage, small)
        relay.target = other.port
        write(storage, large, small)
    finally:
        server.execute(*mended.split())
    assert as_texts(stored(other)) == as_texts(small + large)


def test_a_replica_without_its_master_is_left(
    server: servers.Redis, other: servers.Redis, relay: Relay
) -> None:
    """Such a replica refuses even reads."""
    (payloads,) = traces(1)
    storage = redis_storage(f"redis://127.0.0.1:{relay.port}/0")
    write(storage, payloads)
    server.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
    server.execute("REPLICAOF", "127.0.0.1", servers.free_port())
    try:
        with pytest.raises(exceptions.StorageUnavailable, match="with MASTER"):
            listed(storage)
        relay.target = other.port
        with contextlib.suppress(exceptions.StorageUnavailable):
            listed(storage)
        assert listed(storage) == []
    finally:
        server.execute("REPLICAOF", "NO", "ONE")
        server.execute("CONFIG", "SET", "replica-serve-stale-data", "yes")


# A server that neither answers nor goes away


def test_packets_are_swallowed(other: servers.Redis, relay: Relay) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(
        f"redis://127.0.0.1:{relay.port}/0?socket_timeout=0.5"
    )
    write(storage, payloads)
    relay.swallows = True
    assert "Timeout" in unavailable(storage, payloads)
    assert "Timeout" in unavailable(storage, payloads)
    relay.target = other.port
    relay.swallows = False
    write(storage, payloads)
    assert as_texts(stored(other)) == as_texts(payloads)


def test_answers_drip(
    relay: Relay, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte comes in time, but the answer never ends."""
    monkeypatch.setattr(deadline, "LONGEST_CALL", 0.5)
    (payloads,) = traces(1, calls=50)
    storage = redis_storage(f"redis://127.0.0.1:{relay.port}/0")
    relay.drips = True
    assert "not done within 0.5 s" in unavailable(storage, payloads)
    relay.drips = False
    write(storage, payloads)
    relay.drips = True
    assert "not done within 0.5 s" in unavailable(storage, payloads)
    relay.drips = False
    write(storage, payloads)


def test_a_report_takes_as_long_as_bytes_come(
    relay: Relay, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (payloads,) = traces(1, calls=0)
    storage = redis_storage(f"redis://127.0.0.1:{relay.port}/0")
    write(storage, payloads)
    monkeypatch.setattr(deadline, "LONGEST_CALL", 0.5)
    relay.drips = True
    base_id = payloads[0]["base_id"]
    assert as_texts(
        notification.payload for notification in storage.notifications(base_id)
    ) == as_texts(payloads)
    relay.drips = False
    relay.swallows = True
    silent = redis_storage(
        f"redis://127.0.0.1:{relay.port}/0?socket_timeout=0.2"
    )
    with pytest.raises(exceptions.StorageUnavailable, match="Timeout"):
        silent.notifications(base_id)


# Connection strings and errors


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:99999/0",
        "redis://host:port/0",
        "redis://:pa/ss@host/0",
        "redis://:12/ss@host/0",
        "redis://:12?ss@host/0",
        "redis://:12#ss@host/0",
        "redis://host/db",
        "redis://host/0/1",
        "redis://host?db=x",
        "redis://host?no_such_option=1",
        "redis://a..b/0",
        "redis://[::1/0",
        "rediss://host?ssl_cert_reqs=perhaps",
        "unix://tmp/socket",
        "unix://",
    ],
)
def test_malformed_connection_string(url: str) -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage(url)
    assert len(str(caught.value).splitlines()) == 1
    assert "ss@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h"),
        ("redis://:p%40:x@h:1/2", "redis://:***@h:1/2"),
        ("redis://u:p@x@h", "redis://u:***@h"),
        ("rediss://u:p@[::1]/0", "rediss://u:***@[::1]/0"),
        ("unix://u:p@/s%401?db=2", "unix://u:***@/s%401?db=2"),
        ("unix:///s@1?db=2", "unix:///s@1?db=2"),
        ("redis://h?password=p&db=1", "redis://h?password=***&db=1"),
    ],
)
def test_connection_string_without_password(url: str, shown: str) -> None:
    assert str(get_storage(url)) == shown


SECRET = "s@c/ret:%?#"
QUOTED = "s%40c%2Fret%3A%25%3F%23"


@pytest.fixture(scope="module")
def guarded() -> Iterator[servers.Redis]:
    """A server with a password, and users with some rights."""
    every_key = ("~osprofiler:*", "~profiler_bridge:*")
    to_read = ("+@read", "+@connection", "+INFO")
    to_delete = ("+@transaction",)
    with servers.Redis(password=SECRET) as server:
        for user, *rights in (
            ("documented", *every_key, *to_read, "+@write", *to_delete),
            ("reader", *every_key, *to_read),
            ("uninformed", *every_key, "+@all", "-INFO"),
            ("elsewhere", "~other:*", "+@all"),
        ):
            server.execute(
                *("ACL", "SETUSER", user, "on", f">{SECRET}", *rights)
            )
        yield server


def test_password_and_database(guarded: servers.Redis) -> None:
    (payloads,) = traces(1)
    for url in (
        guarded.url_for(3),
        f"redis://documented:{QUOTED}@127.0.0.1:{guarded.port}/4",
        f"unix://:{QUOTED}@{guarded.socket}?db=5",
        f"unix://{guarded.socket}?db=6&username=documented&password={QUOTED}",
    ):
        storage = redis_storage(url, retention=1000)
        assert storage.check() == []
        assert listed(storage) == []
        write(storage, payloads)
        assert storage.purge(STARTED) == 0
        assert listed(storage) == ids(payloads)
        assert storage.purge(STARTED + SECOND) == 1
    left = guarded.execute("INFO", "keyspace")
    assert [database["keys"] for database in left.values()] == [1] * 4  # names


@pytest.mark.parametrize(
    ("login", "advice"),
    [
        ("", "check user and password"),
        (":wrong@", "check user and password"),
        (f"nobody:{QUOTED}@", "check user and password"),
        (f"reader:{QUOTED}@", "the user needs"),
        (f"uninformed:{QUOTED}@", "the user needs"),
        (f"elsewhere:{QUOTED}@", "the user needs"),
    ],
)
def test_rights_are_missing(
    guarded: servers.Redis, login: str, advice: str
) -> None:
    url = f"redis://{login}127.0.0.1:{guarded.port}/0"
    storage = redis_storage(url)
    for fails in (storage.check, lambda: write(storage, *traces(1))):
        with pytest.raises(exceptions.StorageMisconfigured, match=advice) as e:
            fails()
        assert_presentable(e.value, url)
        assert str(e.value).startswith(str(storage))
        assert SECRET not in str(e.value)


@pytest.mark.parametrize("retention", [0, 1000])
def test_each_right_that_is_missing_is_named(
    guarded: servers.Redis, retention: int
) -> None:
    """A run of everything shows which commands need rights."""
    guarded.execute("FLUSHALL")
    guarded.execute("CONFIG", "RESETSTAT")
    url = f"redis://documented:{QUOTED}@127.0.0.1:{guarded.port}/0"
    storage = redis_storage(url, retention=retention)
    (payloads,) = traces(1)
    write(storage, *cut(payloads, 3))
    assert observed(storage, payloads) == expected(payloads)
    used = {
        name.removeprefix("cmdstat_").upper()
        for name in guarded.execute("INFO", "commandstats")
    } - {"AUTH", "CLIENT|SETINFO", "CONFIG|RESETSTAT", "HELLO", "INFO"}
    assert len(used) > 6
    guarded.execute("FLUSHALL")
    for name in used:
        guarded.execute("ACL", "SETUSER", "documented", f"-{name}")
        try:
            for finds in (storage.check, storage.prepare):
                with pytest.raises(
                    exceptions.StorageMisconfigured,
                    match=f"no right to {name} on .*: the user needs",
                ):
                    finds()
        finally:
            guarded.execute("ACL", "SETUSER", "documented", f"+{name}")
    for keys, other in (
        ("~osprofiler:*", "profiler_bridge"),
        ("~profiler_bridge:*", "osprofiler"),
    ):
        guarded.execute("ACL", "SETUSER", "documented", "resetkeys", keys)
        with pytest.raises(
            exceptions.StorageMisconfigured, match=f"no right to .* on {other}"
        ):
            storage.check()
    guarded.execute("ACL", "SETUSER", "documented", "~osprofiler:*")
    assert storage.check() == []
    assert guarded.execute("KEYS", "*") == []


@pytest.mark.parametrize("name", ["UNLINK", "HDEL", "ZREM", "WATCH", "MULTI"])
def test_the_right_to_delete(guarded: servers.Redis, name: str) -> None:
    """Without one of these rights nothing is deleted, not even in part."""
    guarded.execute("FLUSHALL")
    url = f"redis://documented:{QUOTED}@127.0.0.1:{guarded.port}/0"
    storage = redis_storage(url)
    (payloads,) = traces(1)
    guarded.execute("ACL", "SETUSER", "documented", f"-{name}")
    try:
        assert storage.check() == []
        write(storage, payloads)
        for dry_run in (True, False):
            with pytest.raises(
                exceptions.StorageMisconfigured, match="those in @transaction"
            ) as caught:
                storage.purge(STARTED + SECOND, dry_run=dry_run)
            assert re.search(rf"\b{name}\b", str(caught.value), re.IGNORECASE)
        assert observed(storage, payloads) == expected(payloads)
    finally:
        guarded.execute("ACL", "SETUSER", "documented", f"+{name}")
    assert storage.purge(STARTED + SECOND, dry_run=True) == 1
    assert storage.purge(STARTED + SECOND) == 1
    assert guarded.execute("KEYS", "*") == [layout.NAMES]


def test_the_right_to_wait_where_there_are_replicas(
    guarded: servers.Redis,
) -> None:
    url = f"redis://documented:{QUOTED}@127.0.0.1:{guarded.port}/0"
    guarded.execute("ACL", "SETUSER", "documented", "-WAIT")
    try:
        assert redis_storage(url).check() == []
        with pytest.raises(
            exceptions.StorageMisconfigured, match="no right to WAIT: the user"
        ):
            redis_storage(url, wait_replicas=1).check()
    finally:
        guarded.execute("ACL", "SETUSER", "documented", "+WAIT")


def test_rights_to_read_are_enough_for_reports(guarded: servers.Redis) -> None:
    (payloads,) = traces(1)
    write(redis_storage(guarded.url), payloads)
    url = f"redis://reader:{QUOTED}@127.0.0.1:{guarded.port}/0"
    assert observed(redis_storage(url), payloads) == expected(payloads)


# What cannot work ends the daemon at its start


@pytest.fixture(scope="module")
def cluster() -> Iterator[servers.Redis]:
    with contextlib.closing(servers.Redis()) as server:
        server.settings += ["cluster-enabled yes"]
        server.start()
        yield server


def refused(folder: Path, url: str) -> str:
    """Start the daemon, which ends at once; what it says."""
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    running = daemon(folder, nobody, url)
    running.log_file.unlink(missing_ok=True)
    with running:
        assert running.process is not None
        assert running.process.wait(60) == 1
    [line] = running.log.splitlines()
    return line


def test_daemon_with_a_wrong_password(
    guarded: servers.Redis, tmp_path: Path
) -> None:
    url = f"redis://:wrong@127.0.0.1:{guarded.port}/0"
    assert "check user and password" in refused(tmp_path, url)


def test_daemon_with_a_database_that_does_not_exist(
    server: servers.Redis, tmp_path: Path
) -> None:
    line = refused(tmp_path, server.url_for(99))
    assert "DB index" in line
    assert "check the number of the database" in line


def test_daemon_with_a_cluster(cluster: servers.Redis, tmp_path: Path) -> None:
    line = refused(tmp_path, cluster.url)
    assert "is a Redis Cluster: write rediscluster://" in line


def test_daemon_with_no_redis_at_all(tmp_path: Path) -> None:
    def greet() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(b"220 mail.example.org ESMTP\r\n")
            client.recv(65536)

    with socket.create_server(("127.0.0.1", servers.free_port())) as listener:
        threading.Thread(target=greet, daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        assert "this is no Redis server" in refused(tmp_path, url)


def test_daemon_waits_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    port = servers.free_port()
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    with daemon(tmp_path, nobody, f"redis://127.0.0.1:{port}/0") as running:
        wait_for(lambda: "Waiting to listen" in running.log, "a worker")
        assert running.terminate() == 0
    assert "Starting without the storage" in running.log


def test_daemon_says_once_what_may_cost_data(
    server: servers.Redis, redis_url: str, tmp_path: Path
) -> None:
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    server.execute("CONFIG", "SET", "appendonly", "no")
    try:
        with daemon(tmp_path, nobody, redis_url, workers=2) as running:
            wait_for(
                lambda: running.log.count("Waiting to listen") > 1, "workers"
            )
            assert running.terminate() == 0
    finally:
        server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.execute("CONFIG", "SET", "appendonly", "yes")
    for setting in ("maxmemory-policy to noeviction", "appendonly to yes"):
        [line] = [line for line in running.log.splitlines() if setting in line]
        assert "WARNING" in line


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("maxmemory", "1", "maxmemory"),
        ("min-replicas-to-write", "1", "NOREPLICAS"),
    ],
)
def test_outage_by_setting(
    server: servers.Redis,
    storage: Storage,
    setting: str,
    value: str,
    message: str,
) -> None:
    (payloads,) = traces(1)
    server.execute("CONFIG", "SET", setting, value)
    try:
        assert message in unavailable(storage, payloads)
        with pytest.raises(exceptions.StorageUnavailable, match=message):
            storage.check()
    finally:
        server.execute("CONFIG", "SET", setting, "0")
    write(storage, payloads)


def test_outage_of_a_server_that_hangs(server: servers.Redis) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(f"{server.url}?socket_timeout=0.2")
    write(storage, payloads)
    server.pause()
    try:
        assert "Timeout" in unavailable(storage, payloads)
    finally:
        server.resume()
    write(storage, payloads)


def test_outage_of_a_server_that_became_a_replica(
    server: servers.Redis, storage: Storage
) -> None:
    (payloads,) = traces(1)
    server.execute("REPLICAOF", "127.0.0.1", servers.free_port())
    try:
        assert "read only replica" in unavailable(storage, payloads)
        with pytest.raises(exceptions.StorageUnavailable):
            storage.check()
    finally:
        server.execute("REPLICAOF", "NO", "ONE")
    write(storage, payloads)


def test_key_of_another_type(server: servers.Redis, storage: Storage) -> None:
    (payloads,) = traces(1)
    key = f"profiler_bridge:summary:{payloads[0]['base_id']}"
    server.execute("SET", key, "no hash")
    with pytest.raises(exceptions.StorageMisconfigured, match="WRONGTYPE"):
        write(storage, payloads)
    server.execute("DEL", key)
    write(storage, payloads)


@pytest.mark.parametrize(
    ("setting", "value", "healthy"),
    [
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "noeviction"),
        ("appendonly", "no", "yes"),
    ],
)
def test_check_warns_of_settings(
    server: servers.Redis,
    storage: Storage,
    setting: str,
    value: str,
    healthy: str,
) -> None:
    assert storage.check() == []
    server.execute("CONFIG", "SET", setting, value)
    try:
        (warning,) = storage.check()
    finally:
        server.execute("CONFIG", "SET", setting, healthy)
    assert setting in warning
    assert len(warning.splitlines()) == 1


def test_check_compares_clocks(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 60)
    (warning,) = storage.check()
    assert "s ahead of this host's" in warning
