# SPDX-License-Identifier: Apache-2.0

"""rediscluster: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.redis import keys as redis_keys
from profiler_bridge.summary import ALL_TRACES
from profiler_bridge.testing.sample import Payload
from profiler_bridge.testing.storage import (
    StorageConformance,
    as_texts,
    assert_presentable,
    cut,
    expected,
    listed,
    observed,
    paged,
    shuffled,
    write,
)
from tests import servers
from tests.functional.test_copy import Commands
from tests.functional.test_storage_redis import (
    ids,
    redis_storage,
    refused,
    stored,
    traces,
    unavailable,
    write_at_last,
)


@pytest.fixture
def cluster(redis_cluster: servers.RedisCluster) -> servers.RedisCluster:
    """All of it running, and empty."""
    redis_cluster.revive()
    redis_cluster.clear()
    return redis_cluster


def stored_in(cluster: servers.RedisCluster) -> list[Payload]:
    """What is in the keys of notifications, wherever they are."""
    return [
        payload for node in cluster.masters() for payload in stored_at(node)
    ]


def stored_at(node: servers.Redis) -> list[Payload]:
    by_trace: dict[str, list[str]] = {}
    for key in node.execute("KEYS", "osprofiler:{*}_*"):
        by_trace.setdefault(key.partition("}")[0], []).append(key)
    return [
        json.loads(text)
        for keys in by_trace.values()
        for text in node.execute("MGET", *keys)
    ]


class TestRedisCluster(StorageConformance):
    @pytest.fixture
    def connection_string(self, cluster: servers.RedisCluster) -> str:
        self.cluster = cluster
        return cluster.url

    @pytest.fixture
    def absent_connection_string(self) -> str:
        ports = servers.free_port(), servers.free_port()
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"rediscluster://u:s%40cret@{hosts}"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, cluster: servers.RedisCluster) -> Iterator[None]:
        for node in cluster.nodes:
            node.pause()
        yield
        cluster.start()

    def raw_payloads(self, connection_string: str) -> list[Payload]:
        return stored_in(self.cluster)


# Spread over the masters


def commands_at(node: servers.Redis) -> Counter[str]:
    """How often each command was run, without what nodes tell each other."""
    stats = node.execute("INFO", "commandstats")
    node.execute("CONFIG", "RESETSTAT")
    calls = Counter(
        {
            name.removeprefix("cmdstat_"): stat["calls"]
            for name, stat in stats.items()
        }
    )
    for name in ("replconf", "info", "ping", "config|resetstat"):
        del calls[name]
    return calls


def assert_even(numbers: list[int]) -> None:
    """None is more than 20 % from the others' mean."""
    mean = sum(numbers) / len(numbers)
    assert all(abs(number / mean - 1) <= 0.2 for number in numbers), numbers


def test_keys_and_commands_are_spread(cluster: servers.RedisCluster) -> None:
    made = traces(600, calls=2)
    storage = get_storage(cluster.url)
    storage.prepare()
    masters = cluster.masters()
    for node in masters:
        commands_at(node)
    for at in range(0, len(made), 50):
        write(storage, [one for own in made[at : at + 50] for one in own])
    assert_even([sum(commands_at(node).values()) for node in masters])
    assert_even([node.execute("DBSIZE") for node in masters])
    assert_even(
        [
            sum(
                node.execute("ZCARD", key)
                for key in node.execute("KEYS", "profiler_bridge:index:*")
            )
            for node in masters
        ]
    )


def test_a_page_costs_the_same_of_few_and_of_many(
    cluster: servers.RedisCluster,
) -> None:
    storage = get_storage(cluster.url)
    made = traces(300, calls=1)
    costs = []
    for some in (made[:60], made[60:]):
        write(storage, [one for own in some for one in own])
        for node in cluster.masters():
            commands_at(node)
        assert len(storage.list_traces(TraceQuery(limit=20))) == 20
        costs.append(
            sum((commands_at(node) for node in cluster.masters()), Counter())
        )
    few, many = costs
    assert few == many
    # A page of each part.
    assert many["zrevrangebylex"] == redis_keys.ClusterKeys.parts


# Failover


def test_failover_loses_nothing(cluster: servers.RedisCluster) -> None:
    everything = [
        payload for trace in traces(60, calls=6) for payload in trace
    ]
    batches = cut(shuffled(everything, 1), 30)
    storage = get_storage(cluster.url)
    for batch in batches[: len(batches) // 2]:
        write_at_last(storage, batch)
    old = cluster.masters()[0]
    # So that it happens while something is written.
    killer = threading.Timer(0.01, old.kill)
    killer.start()
    for batch in batches[len(batches) // 2 :]:
        write_at_last(storage, batch)
    killer.join()
    write_at_last(storage, everything)
    assert servers.wait_until(lambda: len(cluster.masters()) == 3, 60)
    assert as_texts(stored_in(cluster)) == as_texts(everything)
    assert observed(storage, everything) == expected(everything)
    cluster.start()


def replica_of(
    cluster: servers.RedisCluster, master: servers.Redis
) -> servers.Redis:
    return next(
        node
        for node in cluster.nodes
        if node.execute("INFO", "replication").get("master_port")
        == master.port
    )


def test_a_replica_that_does_not_confirm(
    cluster: servers.RedisCluster,
) -> None:
    """Nothing is stored without it, until most masters miss it."""
    (payloads,) = traces(1)
    storage = get_storage(cluster.url)
    write(storage, payloads)
    (master,) = [node for node in cluster.masters() if stored_at(node)]
    replica = replica_of(cluster, master)
    replica.pause()
    try:
        assert "fewer than 1 replica" in unavailable(storage, payloads)
        write_at_last(storage, payloads)
        strict = redis_storage(cluster.url, wait_replicas=1)
        assert "fewer than 1 replica" in unavailable(strict, payloads)
    finally:
        cluster.start()
    write(storage, payloads)


def test_a_cluster_that_is_down(cluster: servers.RedisCluster) -> None:
    before, after = traces(2, calls=3)
    storage = get_storage(cluster.url)
    write(storage, before)
    master = cluster.masters()[0]
    replica = replica_of(cluster, master)
    for node in (replica, master):
        node.kill()
    others = [node for node in cluster.nodes if node.running]
    assert servers.wait_until(
        lambda: all(
            node.execute("CLUSTER INFO")["cluster_state"] == "fail"
            for node in others
        ),
        60,
    )
    both = [*before, *after]
    why = unavailable(storage, both)
    assert_presentable(exceptions.StorageUnavailable(why), cluster.url)
    cluster.start()
    write_at_last(storage, both)
    assert observed(storage, both) == expected(both)


# Slots on their way


def test_a_slot_half_of_which_is_elsewhere(
    cluster: servers.RedisCluster,
) -> None:
    """Of a trace, and of the index, as long as it takes."""
    made = traces(5, calls=4)
    moving, *others = made
    first, second = cut(moving, len(moving) // 2 + 1)
    storage = get_storage(cluster.url)
    write(storage, first, *others)
    (base_id,) = ids(moving)
    key = redis_keys.ClusterKeys().summary(base_id)
    part = redis_keys.ClusterKeys().index(ALL_TRACES, base_id)
    with contextlib.ExitStack() as moved:
        for number in {redis_keys.slot(key), redis_keys.slot(part)}:
            moved.enter_context(half_moved(cluster, number))
        write(storage, second)
        write(storage, moving)  # again, in other company
        assert observed(storage, moving) == expected(moving)
        assert sorted(listed(storage)) == sorted(ids(*made))
    assert observed(storage, moving) == expected(moving)
    fresh = get_storage(cluster.url)
    assert paged(fresh, 2) == listed(fresh)
    assert as_texts(stored_in(cluster)) == as_texts(
        [payload for own in made for payload in own]
    )


@contextlib.contextmanager
def half_moved(cluster: servers.RedisCluster, number: int) -> Iterator[None]:
    """Every second key of a slot is at another node; in the end, all are."""
    masters = cluster.masters()
    names = {node: node.execute("CLUSTER MYID") for node in masters}
    count = ("CLUSTER COUNTKEYSINSLOT", number)
    [source] = [node for node in masters if node.execute(*count)]
    target = next(node for node in masters if node is not source)

    def move(keys: list[str]) -> None:
        for key in keys:
            source.execute("MIGRATE", "127.0.0.1", target.port, key, 0, 10_000)

    setslot = ("CLUSTER SETSLOT", number)
    target.execute(*setslot, "IMPORTING", names[source])
    source.execute(*setslot, "MIGRATING", names[target])
    get = ("CLUSTER GETKEYSINSLOT", number, 1000)
    move(sorted(source.execute(*get))[::2])
    yield
    move(source.execute(*get))
    for node in (target, *(node for node in masters if node is not target)):
        node.execute(*setslot, "NODE", names[target])


def test_slots_that_are_moved_meanwhile(
    cluster: servers.RedisCluster,
) -> None:
    made = traces(40, calls=4)
    everything = [payload for trace in made for payload in trace]
    batches = cut(shuffled(everything, 1), 40)
    storage = get_storage(cluster.url)
    # So that there is something in each slot.
    write(storage, [payload for trace in made for payload in trace[:2]])
    keys = redis_keys.ClusterKeys()
    numbers = {redis_keys.slot(base_id) for base_id in ids(*made[:4])} | {
        redis_keys.slot(keys.index(ALL_TRACES, base_id))
        for base_id in ids(*made[:2])
    }

    def move() -> None:
        for number in numbers:
            with half_moved(cluster, number):
                pass

    moving = threading.Thread(target=move)
    moving.start()
    done = 0
    while moving.is_alive() or done < len(batches):
        write_at_last(storage, batches[done % len(batches)])
        done += 1
    moving.join()
    assert as_texts(stored_in(cluster)) == as_texts(everything)
    assert observed(storage, everything) == expected(everything)


# Expiry


def test_what_is_stored_expires_whole(cluster: servers.RedisCluster) -> None:
    storage = redis_storage(cluster.url, retention=1)
    write(storage, *traces(20, calls=1, error="DBDeadlock"))

    def left() -> int:
        return sum(node.execute("DBSIZE") for node in cluster.masters())

    assert left()
    assert servers.wait_until(lambda: not left(), 60)


def test_a_trace_that_is_kept(cluster: servers.RedisCluster) -> None:
    kept, other = traces(2, calls=1)
    storage = redis_storage(cluster.url, retention=1000)
    write(storage, kept, other)
    storage.plugin.keep({kept[0]["base_id"]: 5000})
    write(storage, kept)
    lives = {
        key: node.execute("TTL", key)
        for node in cluster.masters()
        for key in node.execute("KEYS", "*")
    }
    for base_id, least, most in (
        (kept[0]["base_id"], 4990, 5250),
        (other[0]["base_id"], 990, 1250),
    ):
        own = [lives[key] for key in lives if base_id in key]
        part = redis_keys.ClusterKeys().index(ALL_TRACES, base_id)
        assert least <= min(own)
        assert max(own) <= most
        assert lives[part] >= least


def test_the_index_forgets_what_has_expired(
    cluster: servers.RedisCluster,
) -> None:
    # So many that each part that it is in is written to.
    gone, *others = traces(100, calls=1)
    stays = [payload for own in others for payload in own]
    storage = redis_storage(cluster.url, retention=3)
    write(storage, gone)
    # As if its index belonged to others as well, which live on.
    for node in cluster.masters():
        for key in node.execute("KEYS", "profiler_bridge:index:*"):
            node.execute("PERSIST", key)

    def members() -> str:
        return " ".join(
            member
            for node in cluster.masters()
            for key in node.execute("KEYS", "profiler_bridge:index:*")
            for member in node.execute("ZRANGE", key, 0, -1)
        )

    assert gone[0]["base_id"] in members()

    def forgotten() -> bool:
        write(storage, stays)
        return gone[0]["base_id"] not in members()

    assert servers.wait_until(forgotten, 60)
    assert stays[0]["base_id"] in members()


# From and to a server alone


def test_copies(
    cluster: servers.RedisCluster,
    redis_url: str,
    redis_server: servers.Redis,
    tmp_path: Path,
) -> None:
    commands = Commands(tmp_path)
    everything = [payload for own in traces(30) for payload in own]
    alone, many = get_storage(redis_url), get_storage(cluster.url)
    write(alone, everything)
    commands.copy("--from", redis_url, "--to", cluster.url)
    assert observed(many, everything) == expected(everything)
    redis_server.execute("FLUSHALL")
    commands.copy("--from", cluster.url, "--to", redis_url)
    assert as_texts(stored(redis_server)) == as_texts(everything)
    assert observed(alone, everything) == expected(everything)


# With a password and TLS, and what can be wrong

SECRET = "m@ster/secret"


@pytest.fixture(scope="module")
def guarded() -> Iterator[servers.RedisCluster]:
    with servers.RedisCluster(
        replicas=0, password=SECRET, certificates=servers.Certificates()
    ) as cluster:
        yield cluster


def guarded_url(
    cluster: servers.RedisCluster, secret: str = SECRET, more: str = ""
) -> str:
    """Of the last node alone: the others are learned from it."""
    assert cluster.certificates is not None
    secret = urllib.parse.quote(secret, safe="")
    return (
        f"rediscluster://:{secret}@127.0.0.1:{cluster.nodes[-1].port}"
        f"?ssl=true&ssl_ca_certs={cluster.certificates.authority}{more}"
    )


def test_a_password_and_tls(guarded: servers.RedisCluster) -> None:
    (payloads,) = traces(1)
    storage = get_storage(guarded_url(guarded))
    assert storage.prepare() == []
    write(storage, payloads)
    assert observed(storage, payloads) == expected(payloads)
    storage.plugin.check_deletion()
    strict = redis_storage(guarded_url(guarded), wait_replicas=1)
    assert "fewer than 1 replica" in unavailable(strict, payloads)


def test_settings_and_rights_of_each_node(
    guarded: servers.RedisCluster,
) -> None:
    node = guarded.nodes[1]
    storage = get_storage(guarded_url(guarded))
    node.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    [warning] = storage.check()
    assert f"at 127.0.0.1:{node.port} deletes traces" in warning
    node.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    rights = "~osprofiler:* ~profiler_bridge:* +@read +@write +@connection"
    user = (*rights.split(), "+info", "+wait", "+cluster|slots")
    for other in guarded.nodes:
        own = [*user, "-zadd"] if other is node else user
        other.execute("ACL SETUSER", "bridge", "on", ">secret", *own)
    url = guarded_url(guarded, more="&username=bridge").replace(
        urllib.parse.quote(SECRET, safe=""), "secret"
    )
    with pytest.raises(exceptions.StorageMisconfigured) as caught:
        get_storage(url).check()
    assert f"at 127.0.0.1:{node.port}: no right to ZADD" in str(caught.value)
    for other in guarded.nodes:
        other.execute("ACL SETUSER", "bridge", "+zadd", "-cluster|slots")
    with pytest.raises(exceptions.StorageMisconfigured, match="CLUSTER SLOTS"):
        get_storage(url).check()


def test_what_users_get_wrong(
    guarded: servers.RedisCluster,
    cluster: servers.RedisCluster,
    redis_url: str,
    tmp_path: Path,
) -> None:
    host = redis_url.removeprefix("redis://").removesuffix("/0")
    node = cluster.nodes[0].port
    for url, message in (
        (f"rediscluster://{host}", "no Redis Cluster: write redis://"),
        (f"redis://127.0.0.1:{node}/0", "write rediscluster:// for redis://"),
        (guarded_url(guarded, "wrong"), "check user and password"),
        (guarded_url(guarded).partition("&")[0], "check the options for TLS"),
    ):
        for fails in (
            get_storage(url).check,
            get_storage(url).prepare,
            lambda url=url: write(get_storage(url), *traces(1)),
        ):
            with pytest.raises(exceptions.StorageMisconfigured) as caught:
                fails()
            assert message in str(caught.value)
            assert_presentable(caught.value, guarded_url(guarded))
    assert "no Redis Cluster" in refused(tmp_path, f"rediscluster://{host}")
    for bad in (
        "rediscluster://h/1",
        "rediscluster://h,",
        "rediscluster://h?sentinel=x",
    ):
        with pytest.raises(exceptions.ConfigurationError, match="is not like"):
            get_storage(bad)


def test_nothing_of_osprofiler_is_there(cluster: servers.RedisCluster) -> None:
    plugin = get_storage(cluster.url).plugin
    with pytest.raises(exceptions.ConfigurationError):
        plugin.with_osprofiler()
    with pytest.raises(exceptions.StorageMisconfigured):
        plugin.left_by_osprofiler()
