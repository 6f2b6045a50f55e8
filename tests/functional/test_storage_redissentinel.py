# SPDX-License-Identifier: Apache-2.0

"""redissentinel: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline, get_storage
from profiler_bridge.storage.redis import sentinels as redis_sentinels
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
    online,
    redis_storage,
    refused,
    stored,
    traces,
    unavailable,
    write_at_last,
)
from tests.relay import Relay


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
    everything = [
        payload for trace in traces(40, calls=8) for payload in trace
    ]
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
    """Writes fail, however long: when it is back, it is not the master."""
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
        write_at_last(redis_storage(group.url, wait_replicas=0), payloads)
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
        assert storage.prepare() == []
        write_at_last(storage, payloads)
        assert storage.check() == []
    finally:
        group.start()


# Sentinels that name another master


def renamed(group: servers.SentinelGroup, master: servers.Redis) -> None:
    """Have the only sentinel name another master; the old one is not told."""
    (sentinel,) = group.sentinels
    name = group.service_name
    sentinel.execute("SENTINEL REMOVE", name)
    sentinel.execute("SENTINEL MONITOR", name, "127.0.0.1", master.port, 1)


@pytest.fixture
def cut_off() -> Iterator[servers.SentinelGroup]:
    """A master and its sentinel."""
    with servers.SentinelGroup(replicas=0, sentinels=1) as group:
        yield group


def test_sentinels_are_asked_now_and_then(
    cut_off: servers.SentinelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = traces(2)
    storage = get_storage(cut_off.url)
    write(storage, before)
    with servers.Redis() as other:
        renamed(cut_off, other)
        write(storage, before)
        assert stored(other) == []
        monkeypatch.setattr(time, "monotonic", lambda: now() + 10)
        write(storage, after)
        assert as_texts(stored(other)) == as_texts(after)
    assert as_texts(stored(cut_off.nodes[0])) == as_texts(before)


now = time.monotonic


def test_sentinels_are_asked_when_no_replica_confirms(
    cut_off: servers.SentinelGroup,
) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(cut_off.url, wait_replicas=1)
    assert "fewer than 1 replica" in unavailable(storage, payloads)
    with (
        servers.Redis() as other,
        servers.Redis(replicaof=other) as replica,
    ):
        assert servers.wait_until(lambda: online(other), 30)
        renamed(cut_off, other)
        write(storage, payloads)
        assert as_texts(stored(replica)) == as_texts(payloads)


def test_a_sentinel_that_was_cut_off_is_outvoted(
    cut_off: servers.SentinelGroup,
) -> None:
    (payloads,) = traces(1)
    with contextlib.closing(
        servers.SentinelGroup(replicas=0, sentinels=1)
    ) as elected:
        elected.sentinels[0].settings += ["sentinel config-epoch mymaster 7"]
        elected.start()
        (old,), (new,) = cut_off.sentinels, elected.sentinels
        for first, second in ((old, new), (new, old)):
            url = (
                f"redissentinel://127.0.0.1:{first.port}"
                f",127.0.0.1:{second.port}/0"
            )
            write(get_storage(url), payloads)
            assert as_texts(stored(elected.nodes[0])) == as_texts(payloads)
            elected.nodes[0].execute("FLUSHALL")
    assert stored(cut_off.nodes[0]) == []


def test_nothing_is_lost_while_a_sentinel_swallows_packets(
    group: servers.SentinelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again after a while, or if no other one answers."""
    (payloads,) = traces(1)
    asked = []
    monkeypatch.setattr(redis_sentinels, "_ASK_EVERY", 0)
    with Relay(group.sentinels[0].port) as relay:
        relay.swallows = True
        hosts = [relay.port, *(other.port for other in group.sentinels[1:])]
        storage = get_storage(
            "redissentinel://"
            + ",".join(f"127.0.0.1:{port}" for port in hosts)
        )
        for _ in range(5):
            write_at_last(storage, payloads)
            asked.append(relay.accepted)
        assert set(asked) == {1}
        relay.swallows = False
        for other in group.sentinels[1:]:
            other.pause()
        try:
            storage.close()
            write_at_last(storage, payloads)
        finally:
            group.start()
        assert relay.accepted > 1


# One master, with passwords, and what can be wrong

MASTER_SECRET = "m@ster/secret"
SENTINEL_SECRET = "s3ntinel%40secret"


@pytest.fixture(scope="module")
def lone_group() -> Iterator[servers.SentinelGroup]:
    with servers.SentinelGroup(
        replicas=0,
        sentinels=1,
        service_name="lone",
        password=MASTER_SECRET,
        sentinel_password=SENTINEL_SECRET,
    ) as group:
        yield group


@pytest.fixture
def lone(lone_group: servers.SentinelGroup) -> servers.SentinelGroup:
    """The master empty."""
    lone_group.master().execute("FLUSHALL")
    return lone_group


LONE: dict[str, Any] = {
    "sentinel_service_name": "lone",
    "sentinel_password": SENTINEL_SECRET,
}


def test_lone_master(lone: servers.SentinelGroup) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(lone.url, **LONE)
    assert storage.prepare() == []
    write_at_last(storage, payloads)
    assert storage.check() == []
    assert as_texts(stored(lone.master())) == as_texts(payloads)
    assert observed(storage, payloads) == expected(payloads)
    one = redis_storage(lone.url, **LONE, wait_replicas=1)
    assert "fewer than 1 replica" in unavailable(one, payloads)


def test_database_number(lone: servers.SentinelGroup) -> None:
    url = lone.url.removesuffix("/0") + "/7"
    write_at_last(redis_storage(url, **LONE), *traces(1))
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
        ("{url}", {"sentinel_password": None}, "and sentinel_password"),
        ("{url}", {"sentinel_password": "no"}, "and sentinel_password"),
        ("{url}", {"sentinel_username": "no"}, "and sentinel_password"),
        ("redissentinel://:no@{host}", {}, "in the connection string"),
        ("redissentinel://{host}", {}, "in the connection string"),
        ("redissentinel://:{secret}@{host}/99", {}, "DB index"),
        (
            "redissentinel://{master}",
            {"sentinel_password": MASTER_SECRET},
            "this is no sentinel",
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
    storage = redis_storage(url, **{**LONE, **options})
    for fails in (storage.check, lambda: write(storage, *traces(1))):
        with pytest.raises(exceptions.StorageMisconfigured) as caught:
            fails()
        assert message in str(caught.value)
        assert_presentable(caught.value, lone.url)
        assert str(caught.value).startswith(str(storage))
        assert SENTINEL_SECRET not in str(caught.value)


def test_daemon_with_wrong_sentinels(
    lone: servers.SentinelGroup, tmp_path: Path
) -> None:
    sentinel = f"127.0.0.1:{lone.sentinels[0].port}"
    assert "sentinel_password" in refused(
        tmp_path, f"redissentinel://{sentinel}"
    )
    secret = urllib.parse.quote(SENTINEL_SECRET, safe="")
    assert "knows no mymaster, it knows lone" in refused(
        tmp_path, f"redissentinel://{sentinel}?sentinel_password={secret}"
    )
    assert "this is no sentinel" in refused(
        tmp_path,
        f"redissentinel://127.0.0.1:{lone.nodes[0].port}"
        f"?sentinel_password={urllib.parse.quote(MASTER_SECRET, safe='')}",
    )
    assert "is a sentinel: write redissentinel://" in refused(
        tmp_path, f"redis://:{secret}@{sentinel}"
    )


def test_rights_at_a_sentinel(lone: servers.SentinelGroup) -> None:
    (sentinel,) = lone.sentinels
    sentinel.execute("ACL", "SETUSER", "bridge", "on", ">secret")
    storage = redis_storage(
        lone.url,
        sentinel_service_name="lone",
        sentinel_username="bridge",
        sentinel_password="secret",
    )
    with pytest.raises(
        exceptions.StorageMisconfigured, match="needs the right to SENTINEL"
    ):
        storage.prepare()
    sentinel.execute("ACL", "SETUSER", "bridge", "+sentinel|masters")
    assert storage.prepare() == []


def test_no_master(lone: servers.SentinelGroup) -> None:
    (payloads,) = traces(1)
    storage = redis_storage(lone.url, **LONE)
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
        match=f"no sentinel answers: .*127.0.0.77:26379.*; .*::1:{port}",
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
        "redissentinel://host/0?database=1",
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


# As others write it, and with TLS


def test_url_of_kolla(lone: servers.SentinelGroup) -> None:
    """As it stands in what kolla-ansible writes for Valkey."""
    (sentinel,) = lone.sentinels
    master = lone.master()
    master.execute("ACL", "SETUSER", "u", "on", ">p@", "~*", "+@all")
    other = servers.free_port()
    for host, fallback in (
        (sentinel.port, other),
        (other, sentinel.port),
    ):
        storage = get_storage(
            f"redis://u:p%40@127.0.0.1:{host}?sentinel=lone"
            f"&sentinel_fallback=127.0.0.1:{fallback}&db=6"
            "&socket_timeout=60&retry_on_timeout=yes"
            "&sentinel_password=" + urllib.parse.quote(SENTINEL_SECRET)
        )
        (payloads,) = traces(1, seed=host)
        assert storage.prepare() == []
        write_at_last(storage, payloads)
        assert observed(storage, payloads) == expected(payloads)
        assert storage.check() == []
        assert "p%40" not in str(storage)
        assert "sentinel_password=***" in str(storage)
    assert "db6" in master.execute("INFO", "keyspace")


@pytest.fixture(scope="module")
def certificates() -> servers.Certificates:
    return servers.Certificates()


@pytest.fixture(scope="module")
def encrypted_group(
    certificates: servers.Certificates,
) -> Iterator[servers.SentinelGroup]:
    with servers.SentinelGroup(
        replicas=1,
        sentinels=1,
        password=MASTER_SECRET,
        sentinel_password="s3ntinel",
        certificates=certificates,
    ) as group:
        yield group


@pytest.fixture
def encrypted(
    encrypted_group: servers.SentinelGroup,
) -> servers.SentinelGroup:
    """The master empty."""
    encrypted_group.master().execute("FLUSHALL")
    return encrypted_group


TLS_URLS = [
    "redissentinel://:{secret}@{host}/1?ssl=true&sentinel_ssl=true"
    "&ssl_ca_certs={authority}&sentinel_password=s3ntinel",
    "redis://:{secret}@{host}/1?sentinel=mymaster&ssl=yes&sentinel_ssl=1"
    "&ssl_ca_certs={authority}&sentinel_password=s3ntinel",
    "rediss://:{secret}@{host}/1?sentinel=mymaster&ssl_cert_reqs=none"
    "&sentinel_password=s3ntinel",
]


def tls_url(
    group: servers.SentinelGroup, template: str, **replaced: object
) -> str:
    assert group.certificates is not None
    names: dict[str, object] = {
        "secret": urllib.parse.quote(MASTER_SECRET, safe=""),
        "host": f"127.0.0.1:{group.sentinels[0].port}",
        "authority": group.certificates.authority,
    }
    return template.format(**(names | replaced))


@pytest.mark.parametrize("template", TLS_URLS)
def test_sentinels_and_master_with_tls(
    encrypted: servers.SentinelGroup, template: str
) -> None:
    (payloads,) = traces(1, seed=TLS_URLS.index(template))
    # A handshake may take longer than the documented tenth of a second.
    storage = redis_storage(tls_url(encrypted, template), socket_timeout=2)
    assert storage.prepare() == []
    write_at_last(storage, payloads)
    assert observed(storage, payloads) == expected(payloads)
    assert storage.check() == []


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (TLS_URLS[0].replace("&sentinel_ssl=true", ""), "no sentinel answers"),
        (
            TLS_URLS[0].replace("&ssl_ca_certs={authority}", ""),
            "check the options for TLS",
        ),
        (
            TLS_URLS[0].replace("{authority}", "/nowhere.pem"),
            "ssl_ca_certs is /nowhere.pem, which cannot be read",
        ),
        (
            TLS_URLS[0] + "&ssl_certfile=/nowhere.pem",
            "ssl_certfile is /nowhere.pem, which cannot be read",
        ),
    ],
)
def test_tls_that_cannot_work(
    encrypted: servers.SentinelGroup, template: str, message: str
) -> None:
    storage = redis_storage(tls_url(encrypted, template), socket_timeout=2)
    with pytest.raises(exceptions.StorageError) as caught:
        storage.prepare()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    is_passing = "no sentinel" in message
    assert is_passing == isinstance(
        caught.value, exceptions.StorageUnavailable
    )


def test_a_handshake_drips(
    encrypted: servers.SentinelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "LONGEST_CALL", 0.5)
    with Relay(encrypted.master().port) as relay:
        relay.drips = True
        storage = get_storage(
            f"rediss://:{urllib.parse.quote(MASTER_SECRET, safe='')}"
            f"@127.0.0.1:{relay.port}/0?ssl_cert_reqs=none"
        )
        with pytest.raises(
            exceptions.StorageUnavailable, match="not done within"
        ):
            storage.check()


# What URLs may say


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://h?socket_timeout=soon", "socket_timeout in"),
        ("redis://h?socket_timeout=-1", "must be a number of seconds"),
        ("redis://h?socket_timeout=nan", "must be a number of seconds"),
        ("redis://h?socket_keepalive=perhaps", "must be true or false"),
        ("redis://h?ssl=", "ssl in the connection string must be true"),
        ("redis://h?db=-1", "db in the connection string must be a number"),
        ("rediss://h?ssl_cert_reqs=no", "must be none, optional or required"),
        ("redis://h?sentinel_pasword=s3cret", "option that does not exist"),
        ("redis://s3cret:@h/0", "a user without a password"),
        ("redis://s3cret@h/0", "a user without a password"),
        ("redissentinel://s3cret@h/0", "a user without a password"),
        ("unix://s3cret@/socket", "a user without a password"),
        ("redis://h,g/0", "is not like"),
    ],
)
def test_what_is_wrong_with_a_connection_string(
    url: str, message: str
) -> None:
    with pytest.raises(exceptions.ConfigurationError, match=message) as caught:
        get_storage(url)
    assert len(str(caught.value).splitlines()) == 1
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "redis://u:p@h?sentinel=k&sentinel_password=p&sentinel_username=v",
            "redis://u:***@h?sentinel=k&sentinel_password=***"
            "&sentinel_username=v",
        ),
        ("redis://h?pass%77ord=p", "redis://h?pass%77ord=***"),
        ("rediss://h?ssl_password=p", "rediss://h?ssl_password=***"),
    ],
)
def test_secrets_in_connection_strings(url: str, shown: str) -> None:
    assert str(get_storage(url)) == shown
