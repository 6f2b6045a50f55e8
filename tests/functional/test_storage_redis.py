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

"""RedisStorage: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from oslo_config import cfg
from osprofiler import opts
from osprofiler.drivers.base import get_driver

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage import redis as plugin
from profiler_bridge.storage.base import Storage
from profiler_bridge.storage.redis import RedisStorage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    new_id,
    notifications,
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
from tests.osprofiler_report import equal_reports


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
    return [each[0]["base_id"] for each in payloads]


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
def storage(redis_url: str) -> Iterator[RedisStorage]:
    with contextlib.closing(RedisStorage(redis_url)) as storage:
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
    storage: RedisStorage, redis_url: str
) -> None:
    ours = traces(3, calls=20, error="DBDeadlock")
    for each in ours:
        write(storage, *cut(each, 17))
    for base_id in ids(*ours):
        report = driver(redis_url).get_report(base_id)
        assert equal_reports(report, storage.report(base_id))


def test_keys_are_as_documented(
    storage: RedisStorage, server: servers.Redis
) -> None:
    (ours,) = traces(1)
    write(storage, ours)
    begins = {
        "osprofiler:{base_id}_{trace_id}_{timestamp}_".format(**each)
        for each in ours
    }
    found = {
        re.sub("[0-9a-f]{8}$", "", key)
        for key in server.execute("KEYS", "osprofiler*")
    }
    assert found == begins


def test_start_and_stop_at_one_moment(
    storage: RedisStorage, server: servers.Redis
) -> None:
    rng = seeded(1)
    both = span(new_id(rng), new_id(rng), new_id(rng), duration=0)
    write(storage, both)
    assert as_texts(stored(server)) == as_texts(both)


def notify(url: str, payloads: list[Payload]) -> None:
    """Have osprofiler store, in its way of today: as lists."""
    for each in payloads:
        project, service = each["project"], each["service"]
        driver(url, project=project, service=service).notify(each)


def set_values(server: servers.Redis, payloads: list[Payload]) -> None:
    """Store as older osprofilers did."""
    for each in payloads:
        key = "osprofiler:{base_id}_{trace_id}_{timestamp}".format(**each)
        server.execute("SET", key, json.dumps(each))


@pytest.fixture
def everything(
    storage: RedisStorage, server: servers.Redis
) -> list[list[Payload]]:
    """Six traces, the newest first: ours and theirs; one is of both."""
    found = traces(6, error="DBDeadlock")
    for each in found[:3:2]:
        each[:] = [
            payload | {"info": {"host": "h"}, "service": "theirs"}
            for payload in each
        ]
    notify(server.url, found[0])
    write(storage, found[1])
    set_values(server, found[2])
    write(storage, found[3], found[4])
    notify(server.url, found[5][:6])
    write(storage, found[5][4:])
    return found[::-1]


def test_osprofilers_traces_are_left_out(
    storage: RedisStorage, everything: list[list[Payload]]
) -> None:
    both, ours, other, values, own, _ = everything
    assert listed(storage) == ids(both, ours, other, own)
    assert storage.notifications(values[0]["base_id"]) == []


def test_osprofilers_traces_are_included(
    storage: RedisStorage, everything: list[list[Payload]]
) -> None:
    storage.include_osprofiler = True
    for each in everything:
        assert observed(storage, each) == expected(each)
    in_order = ids(*everything)
    for size in range(1, 8):
        assert paged(storage, size) == in_order
    assert listed(storage, service="theirs") == [in_order[3], in_order[5]]
    found = storage.list_error_traces(TraceQuery())
    assert [each.base_id for each in found] == [
        *(in_order[:3]),
        in_order[4],
    ]
    since, until = STARTED + SECOND, STARTED + 5 * SECOND
    assert listed(storage, since=since, until=until) == in_order[1:5]


@pytest.mark.parametrize("base_id", ["*", "?" * 36, "[0-9a-f]*", "\\*", ""])
def test_osprofilers_traces_are_found_by_the_whole_id(
    storage: RedisStorage, everything: list[list[Payload]], base_id: str
) -> None:
    storage.include_osprofiler = True
    assert storage.notifications(base_id) == []
    for whole in ids(*everything):
        assert storage.notifications(whole[:-1]) == []


def test_a_long_list_of_osprofiler(
    storage: RedisStorage, server: servers.Redis
) -> None:
    storage.include_osprofiler = True
    payloads = request(seeded(1), calls=50)
    notify(server.url, payloads)
    assert observed(storage, payloads) == expected(payloads)


# Keys that hold something else


@pytest.mark.parametrize("include_osprofiler", [False, True])
def test_foreign_keys_harm_nobody_else(
    storage: RedisStorage, server: servers.Redis, include_osprofiler: bool
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
    storage.include_osprofiler = include_osprofiler
    assert storage.notifications(base_id) == []
    assert storage.notifications(lost[0]["base_id"]) == []
    assert observed(storage, ours) == expected(ours)
    assert set(listed(storage)) == {
        *ids(broken, ours),
        *(ids(theirs) if include_osprofiler else ()),
    }


# What it costs


def test_no_command_looks_at_every_key(
    storage: RedisStorage, server: servers.Redis
) -> None:
    found = traces(50, error="DBDeadlock")
    write(storage, *found)
    server.execute("CONFIG", "RESETSTAT")
    storage.list_traces(TraceQuery())
    storage.list_error_traces(TraceQuery())
    listed(storage, service="api", marker=found[9][0]["base_id"])
    storage.report(found[0][0]["base_id"])
    calls = {
        name.removeprefix("cmdstat_"): stat["calls"]
        for name, stat in server.execute("INFO", "commandstats").items()
    }
    assert not calls.keys() & {"scan", "keys", "zscan", "sscan", "hscan"}
    # A marker needs one more summary; a page reads one more than it shows.
    assert calls["hvals"] <= 3 * (20 + 1) + 1 + 1
    assert calls["mget"] == 1


def test_round_trips_are_bounded() -> None:
    small: list[plugin.Command]
    small = [("SET", f"key{at}", "x" * 100) for at in range(2500)]
    large = [("SET", f"large{at}", "x" * 300_000) for at in range(5)]
    commands = [*small, *large, ("SET", "huge", b"x" * 5_000_000), *small]
    trips = list(plugin._trips(commands))
    assert [each for trip, _ in trips for each in trip] == commands
    for trip, size in trips:
        assert len(trip) <= plugin._TRIP_COMMANDS
        assert size == sum(len(text) for command in trip for text in command)
        assert len(trip) == 1 or size <= plugin._TRIP_BYTES


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
    storage = RedisStorage(redis_url)
    write_at_last(storage, payloads)
    assert as_texts(stored(replica)) == as_texts(payloads)
    replica.pause()
    assert "fewer than 1 replica" in unavailable(storage, payloads)
    assert "fewer than 1 replica" in unavailable(
        RedisStorage(redis_url), payloads
    )
    write_at_last(RedisStorage(redis_url, wait_replicas=0), payloads)
    replica.resume()
    write_at_last(storage, payloads)


def test_no_replica_must_confirm_when_it_is_gone(
    server: servers.Redis, redis_url: str, replica: servers.Redis
) -> None:
    (payloads,) = traces(1)
    storage = RedisStorage(redis_url)
    write_at_last(storage, payloads)
    replica.kill()
    assert servers.wait_until(lambda: not online(server), 30)
    unavailable(storage, payloads)  # It knew of one.
    write_at_last(storage, payloads)


def test_as_many_replicas_as_wanted(
    redis_url: str, replica: servers.Redis
) -> None:
    (payloads,) = traces(1)
    write_at_last(RedisStorage(redis_url, wait_replicas=1), payloads)
    storage = RedisStorage(redis_url, wait_replicas=2)
    assert "fewer than 2 replica" in unavailable(storage, payloads)
    with pytest.raises(exceptions.StorageUnavailable, match="fewer than 2"):
        storage.check()


# Expiry


def test_everything_expires(redis_url: str, server: servers.Redis) -> None:
    storage = RedisStorage(redis_url, retention=1)
    found = traces(3, error="DBDeadlock")
    write(storage, *found)
    assert listed(storage)
    lives = [server.execute("TTL", key) for key in server.execute("KEYS", "*")]
    assert set(lives) <= {0, 1}
    assert servers.wait_until(lambda: server.execute("DBSIZE") == 0, 30)
    assert listed(storage) == []


def test_nothing_expires_by_default(
    storage: RedisStorage, server: servers.Redis
) -> None:
    write(storage, *traces(3, error="DBDeadlock"))
    keys = server.execute("KEYS", "*")
    assert {server.execute("TTL", key) for key in keys} == {-1}


def indexed(server: servers.Redis) -> set[str]:
    """The base_ids that are anywhere in the index."""
    return {
        member[16:]
        for key in server.execute("KEYS", "profiler_bridge:index:*")
        for member in server.execute("ZRANGE", key, 0, -1)
    }


def wait_until_gone(server: servers.Redis, *gone: list[Payload]) -> None:
    keys = [f"profiler_bridge:summary:{each[0]['base_id']}" for each in gone]
    assert servers.wait_until(lambda: not server.execute("EXISTS", *keys), 30)


def test_the_index_forgets_what_has_expired(
    redis_url: str, server: servers.Redis
) -> None:
    # More than Redis keeps in its compact form, which is scanned whole.
    *old, kept, last = traces(300, calls=0)
    short = RedisStorage(redis_url, retention=1)
    long = RedisStorage(redis_url, retention=1000)
    write(long, kept)
    short.write(notifications(each for trace in old for each in trace))
    write(long, kept)  # So that the index outlives what is in it.
    assert indexed(server) == {*ids(*old, kept)}
    wait_until_gone(server, *old)
    assert listed(long, limit=1000) == ids(kept)
    write(RedisStorage(redis_url, retention=1000), last)
    assert indexed(server) == {*ids(kept, last)}


def test_the_index_is_searched_bit_by_bit(
    redis_url: str, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lives is looked at too, but not all of it each time."""
    monkeypatch.setattr(plugin, "_SWEEP_MEMBERS", "50")
    monkeypatch.setattr(plugin, "_SWEEP_EVERY", 0)
    old, *kept = traces(400, calls=0)
    short = RedisStorage(redis_url, retention=1)
    long = RedisStorage(redis_url, retention=1000)
    write(short, old)
    long.write(notifications(each for trace in kept for each in trace))
    wait_until_gone(server, old)
    for _ in range(20):
        write(long, kept[0])
    assert indexed(server) == {*ids(*kept)}


def test_the_index_keeps_what_is_written_meanwhile(
    redis_url: str, server: servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = RedisStorage(redis_url, retention=1000)
    (payloads,) = traces(1)
    asked = []

    def expired(members: list[str]) -> list[str]:
        asked.append(members)
        return members if len(asked) % 2 else []

    monkeypatch.setattr(storage, "_expired", expired)
    write(storage, payloads)
    assert len(asked) == 6  # Of all, and of two services; twice each.
    assert indexed(server) == {*ids(payloads)}


def test_purge_leaves_nothing(
    redis_url: str, storage: RedisStorage, server: servers.Redis
) -> None:
    for own in (storage, RedisStorage(redis_url, retention=1000)):
        for each in traces(5, error="DBDeadlock"):
            write(own, *cut(each[::-1], 3))
        assert own.purge(STARTED + 100 * SECOND) == 5
        assert server.execute("KEYS", "*") == []


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
        ("unix://u:p@/s@1?db=2", "unix://u:***@/s@1?db=2"),
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
    with servers.Redis(password=SECRET) as server:
        for user, *rights in (
            ("documented", *every_key, *to_read, "+@write"),
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
        storage = RedisStorage(url, retention=1000)
        assert storage.check() == []
        assert listed(storage) == []
        write(storage, payloads)
        assert storage.purge(STARTED) == 0
        assert listed(storage) == ids(payloads)
        assert storage.purge(STARTED + SECOND) == 1
    assert guarded.execute("INFO", "keyspace") == {}


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
    storage = RedisStorage(url)
    for fails in (storage.check, lambda: write(storage, *traces(1))):
        with pytest.raises(exceptions.StorageMisconfigured, match=advice) as e:
            fails()
        assert_presentable(e.value, url)
        assert str(e.value).startswith(str(storage))
        assert SECRET not in str(e.value)


def test_rights_to_read_are_enough_for_reports(guarded: servers.Redis) -> None:
    (payloads,) = traces(1)
    write(RedisStorage(guarded.url), payloads)
    url = f"redis://reader:{QUOTED}@127.0.0.1:{guarded.port}/0"
    assert observed(RedisStorage(url), payloads) == expected(payloads)


def test_database_that_does_not_exist(server: servers.Redis) -> None:
    with pytest.raises(exceptions.StorageMisconfigured, match="DB index"):
        RedisStorage(server.url_for(99)).check()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("maxmemory", "1", "maxmemory"),
        ("min-replicas-to-write", "1", "NOREPLICAS"),
    ],
)
def test_outage_by_setting(
    server: servers.Redis,
    storage: RedisStorage,
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
    storage = RedisStorage(f"{server.url}?socket_timeout=0.2")
    write(storage, payloads)
    server.pause()
    try:
        assert "Timeout" in unavailable(storage, payloads)
    finally:
        server.resume()
    write(storage, payloads)


def test_outage_of_a_server_that_became_a_replica(
    server: servers.Redis, storage: RedisStorage
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


def test_key_of_another_type(
    server: servers.Redis, storage: RedisStorage
) -> None:
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
    storage: RedisStorage,
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
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 60)
    (warning,) = storage.check()
    assert "s ahead of this host's" in warning
