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

"""RedisSentinelStorage: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.redissentinel import RedisSentinelStorage
from profiler_bridge.testing.sample import Payload
from profiler_bridge.testing.storage import (
    StorageConformance,
    as_texts,
    assert_presentable,
    cut,
    expected,
    observed,
    shuffled,
    write,
)
from tests import servers
from tests.functional.test_storage_redis import (
    stored,
    traces,
    unavailable,
    write_at_last,
)


@pytest.fixture
def group(sentinel: servers.SentinelGroup) -> servers.SentinelGroup:
    """All of it running, the master empty."""
    sentinel.start()
    sentinel.master().execute("FLUSHALL")
    return sentinel


class TestRedisSentinel(StorageConformance):
    @pytest.fixture
    def connection_string(self, group: servers.SentinelGroup) -> str:
        self.group = group
        return group.url

    @pytest.fixture
    def absent_connection_string(self) -> str:
        ports = servers.free_port(), servers.free_port()
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"redissentinel://u:s%40cret@{hosts}/0"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, group: servers.SentinelGroup) -> Iterator[None]:
        old = group.kill_master()
        yield
        group.wait_for_failover(old)
        group.start()
        assert servers.wait_until(
            lambda: len({s.master_port() for s in group.sentinels}) == 1, 30
        )

    def raw_payloads(self, connection_string: str) -> list[Payload]:
        return stored(self.group.master())


# Failover and replicas


def test_failover_loses_nothing(group: servers.SentinelGroup) -> None:
    everything = [each for trace in traces(40, calls=8) for each in trace]
    batches = cut(shuffled(everything, 1), 20)
    storage = get_storage(group.url)
    for batch in batches[: len(batches) // 2]:
        write_at_last(storage, batch)
    # So that it happens while something is written.
    killer = threading.Timer(0.01, group.kill_master)
    old = group.master()
    killer.start()
    for batch in batches[len(batches) // 2 :]:
        write_at_last(storage, batch)
    killer.join()
    new = group.wait_for_failover(old)
    write_at_last(storage, batches[0])
    assert as_texts(stored(new)) == as_texts(everything)
    assert observed(storage, everything) == expected(everything)


def test_master_cut_off_from_its_replicas(
    group: servers.SentinelGroup,
) -> None:
    """However long: it will not be the master, when it is found again."""
    (payloads,) = traces(1)
    storage = get_storage(group.url)
    write_at_last(storage, payloads)
    master = group.master()
    replicas = [node for node in group.nodes if node is not master]
    try:
        replicas[0].pause()
        write_at_last(storage, payloads)  # The other one confirms.
        replicas[1].pause()
        assert "fewer than 1 replica" in unavailable(storage, payloads)
        master.execute("CONFIG", "SET", "repl-timeout", "1")
        assert servers.wait_until(
            lambda: (
                not master.execute("INFO", "replication")["connected_slaves"]
            ),
            60,
        )
        assert "fewer than 1 replica" in unavailable(storage, payloads)
        fresh = get_storage(group.url)
        assert "fewer than 1 replica" in unavailable(fresh, payloads)
        write_at_last(
            RedisSentinelStorage(group.url, wait_replicas=0), payloads
        )
    finally:
        master.execute("CONFIG", "SET", "repl-timeout", "60")
        group.start()
    write_at_last(storage, payloads)


def test_some_sentinels_are_away(group: servers.SentinelGroup) -> None:
    (payloads,) = traces(1)
    group.sentinels[0].pause()
    group.sentinels[1].kill()
    try:
        storage = get_storage(group.url)
        write_at_last(storage, payloads)
        assert storage.check() == []
    finally:
        group.start()


# One master, with passwords, and what can be wrong

MASTER_SECRET = "m@ster/secret"
SENTINEL_SECRET = "s3ntinel%40secret"


@pytest.fixture(scope="module")
def lone() -> Iterator[servers.SentinelGroup]:
    with servers.SentinelGroup(
        replicas=0,
        sentinels=1,
        service_name="lone",
        password=MASTER_SECRET,
        sentinel_password=SENTINEL_SECRET,
    ) as group:
        yield group


LONE: dict[str, Any] = {
    "sentinel_service_name": "lone",
    "sentinel_password": SENTINEL_SECRET,
}


def test_lone_master(lone: servers.SentinelGroup) -> None:
    (payloads,) = traces(1)
    storage = RedisSentinelStorage(lone.url, **LONE)
    write_at_last(storage, payloads)
    assert storage.check() == []
    assert as_texts(stored(lone.master())) == as_texts(payloads)
    assert observed(storage, payloads) == expected(payloads)
    one = RedisSentinelStorage(lone.url, **LONE, wait_replicas=1)
    assert "fewer than 1 replica" in unavailable(one, payloads)


def test_database_number(lone: servers.SentinelGroup) -> None:
    url = lone.url.removesuffix("/0") + "/7"
    write_at_last(RedisSentinelStorage(url, **LONE), *traces(1))
    assert "db7" in lone.master().execute("INFO", "keyspace")


def test_options_from_the_configuration(
    lone: servers.SentinelGroup, tmp_path: Path
) -> None:
    """Where the document has them, and where osprofiler has."""
    path = tmp_path / "bridge.conf"
    for sections in (
        "[osprofiler]\nsocket_timeout = 5\nsentinel_service_name = lone\n",
        "[profiler]\nsocket_timeout = 5\nsentinel_service_name = lone\n"
        "[osprofiler]\n",
    ):
        path.write_text(
            f"{sections}sentinel_password = {SENTINEL_SECRET}\n"
            "retention = 1000\nwait_replicas = 0\n"
        )
        conf = cfg.ConfigOpts()
        conf([f"--config-file={path}"])
        write_at_last(get_storage(lone.url, conf), *traces(1))
        master = lone.master()
        lives = {
            master.execute("TTL", key) for key in master.execute("KEYS", "*")
        }
        assert min(lives) > 0


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("{url}", {"sentinel_service_name": "x"}, "knows no x, it knows lone"),
        ("{url}", {"sentinel_password": None}, "check sentinel_password"),
        ("{url}", {"sentinel_password": "no"}, "check sentinel_password"),
        ("{url}", {"sentinel_username": "no"}, "check sentinel_password"),
        ("redissentinel://:no@{host}", {}, "in the connection string"),
        ("redissentinel://{host}", {}, "in the connection string"),
        ("redissentinel://:{secret}@{host}/99", {}, "DB index"),
        (
            "redissentinel://{master}",
            {"sentinel_password": MASTER_SECRET},
            "unknown command",
        ),
    ],
)
def test_misconfigured(
    lone: servers.SentinelGroup,
    url: str,
    options: dict[str, Any],
    message: str,
) -> None:
    url = url.format(
        url=lone.url,
        host=f"127.0.0.1:{lone.sentinels[0].port}",
        master=f"127.0.0.1:{lone.nodes[0].port}",
        secret="m%40ster%2Fsecret",
    )
    storage = RedisSentinelStorage(url, **{**LONE, **options})
    for fails in (storage.check, lambda: write(storage, *traces(1))):
        with pytest.raises(exceptions.StorageMisconfigured) as caught:
            fails()
        assert message in str(caught.value)
        assert_presentable(caught.value, lone.url)
        assert str(caught.value).startswith(str(storage))
        assert SENTINEL_SECRET not in str(caught.value)


def test_no_master(lone: servers.SentinelGroup) -> None:
    (payloads,) = traces(1)
    storage = RedisSentinelStorage(lone.url, **LONE)
    write_at_last(storage, payloads)
    lone.kill_master()
    try:
        assert servers.wait_until(
            lambda: "is down" in unavailable(storage, payloads), 30
        )
    finally:
        lone.start()
    write_at_last(storage, payloads)


def test_no_sentinel_answers() -> None:
    # A host alone is at the port of sentinels.
    port = servers.free_port()
    storage = get_storage(f"redissentinel://127.0.0.77,[::1]:{port}/0")
    with pytest.raises(
        exceptions.StorageUnavailable,
        match=f"no sentinel answers: 127.0.0.77:26379: .*; ::1:{port}: ",
    ) as caught:
        storage.check()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "redissentinel://",
        "redissentinel:///0",
        "redissentinel://host:99999",
        "redissentinel://host:port",
        "redissentinel://host,",
        "redissentinel://a..b",
        "redissentinel://[::1",
        "redissentinel://host/db",
        "redissentinel://host/0?db=1",
        "redissentinel://user@host",
        "redissentinel://:pa/ss@host/0",
        "redissentinel://:12?ss@host/0",
    ],
)
def test_malformed_connection_string(url: str) -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage(url)
    assert len(str(caught.value).splitlines()) == 1
    assert "ss@" not in str(caught.value)


def test_connection_string_without_password() -> None:
    storage = get_storage("redissentinel://u:p%40:x@h1,[::1]:2/3")
    assert str(storage) == "redissentinel://u:***@h1,[::1]:2/3"
