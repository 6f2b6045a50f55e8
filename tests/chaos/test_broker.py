# SPDX-License-Identifier: Apache-2.0

"""What a broker does to who reads it: nothing is lost, nothing doubled."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import bus, servers
from tests.chaos.scene import (
    DURABLE,
    WORKERS,
    Breakable,
    Broker,
    Scene,
    broker_restarts,
    node,
    nothing,
    play,
    sqlite,
    storage_away,
)
from tests.daemon import wait_for

# Seconds, after two of which without a word a peer is dead.
HEARTBEAT: dict[str, object] = {"heartbeat_timeout_threshold": 2}
# So long at least a storage is away that a heartbeat, or the broker's
# patience with a consumer, has to be seen in it.
LONG = 6.0


def storage_away_for_long(scene: Scene) -> None:
    scene.seconds = max(scene.seconds, LONG)
    storage_away(scene)


@pytest.fixture(scope="module")
def broker() -> Iterator[servers.RabbitMQ]:
    """One that is for these tests alone, with TLS beside plain."""
    with servers.RabbitMQ(servers.Certificates()) as broker:
        yield broker


@pytest.fixture(scope="module")
def cluster() -> Iterator[servers.RabbitMQCluster]:
    with servers.RabbitMQCluster() as cluster:
        yield cluster


def virtual_host(
    server: servers.RabbitMQ, rabbit: dict[str, object] | None = None
) -> Broker:
    """A virtual host that nobody used before."""
    url = server.vhost()
    return Broker(
        url,
        DURABLE,
        lambda: server.queue_depth(bus.QUEUE, url),
        server.kill,
        server.start,
        bridge_options=rabbit or {},
    )


def path(url: str) -> str:
    return url.rpartition("/")[2]


def test_heartbeats_while_the_storage_is_away(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with sqlite(tmp_path) as breakable:
        [running] = play(
            storage_away_for_long,
            virtual_host(broker, HEARTBEAT),
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            poison=10,
            name="heartbeats, storage away",
        )
    assert running.log.count("Listening") == WORKERS


def test_tls(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    certificates = broker.certificates
    assert certificates is not None
    plain = virtual_host(broker)
    over_tls = Broker(
        broker.tls_url + path(plain.url),
        {
            **DURABLE,
            "ssl": True,
            "ssl_ca_file": certificates.authority,
            "ssl_cert_file": certificates.certificate,
            "ssl_key_file": certificates.key,
        },
        plain.depth,
        plain.kill,
        plain.start,
    )
    with sqlite(tmp_path) as breakable:
        play(
            broker_restarts,
            over_tls,
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="TLS, broker restarts",
        )


def test_one_host_after_another(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """The first refuses, later the second falls silent."""
    behind = virtual_host(broker, HEARTBEAT)
    with (
        servers.Proxy(broker.port) as first,
        servers.Proxy(broker.port) as second,
        sqlite(tmp_path) as breakable,
    ):
        hosts = [f"guest:guest@127.0.0.1:{p.port}" for p in (first, second)]
        behind.bridge_url = f"rabbit://{','.join(hosts)}/{path(behind.url)}"

        def fail_over(scene: Scene) -> None:
            time.sleep(1)
            first.close()
            wait_for(lambda: second.accepted >= WORKERS, "the second host")
            time.sleep(scene.seconds)
            first.start()
            accepted = first.accepted
            second.swallow()
            wait_for(
                lambda: first.accepted >= accepted + WORKERS, "the first host"
            )
            time.sleep(scene.seconds)

        [running] = play(
            fail_over,
            behind,
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="hosts fail in turn",
        )
    assert "connecting anew" in running.log


def test_nodes_of_a_cluster(
    cluster: servers.RabbitMQCluster,
    mariadb_url: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """The leader of a quorum queue dies and comes back."""
    quorum = Broker(
        cluster.transport_url,
        {"rabbit_quorum_queue": True},
        lambda: cluster.queue_depth(bus.QUEUE),
    )

    def broker_failover(scene: Scene) -> None:
        time.sleep(1)
        leader = cluster.leader(bus.QUEUE)
        leader.kill()
        time.sleep(scene.seconds)
        leader.start()
        assert "connecting anew" in scene.daemon.log

    play(
        broker_failover,
        quorum,
        "mariadb",
        Breakable([mariadb_url], nothing, nothing),
        tmp_path,
        pytestconfig,
        name="quorum queue, leader killed",
    )


def test_the_broker_cancels(
    cluster: servers.RabbitMQCluster,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """A durable queue goes with its node; consumers are on another."""
    cluster.nodes[0].ctl("add_vhost", "cancelled")
    cluster.nodes[0].ctl(
        *("set_permissions", "-p", "cancelled", "guest", ".*", ".*", ".*")
    )
    home, other = cluster.nodes[0], cluster.nodes[1]
    url = f"{other.transport_url}cancelled"
    # A queue is at the node that its first user is connected to.
    with bus.osprofiler_to(f"{home.transport_url}cancelled", rabbit=DURABLE):
        bus.publish(f"{home.transport_url}cancelled", [], durable=True)
    broker = Broker(
        url, DURABLE, lambda: other.queue_depth(bus.QUEUE, url), home.kill
    )

    def cancel(scene: Scene) -> None:
        time.sleep(1)
        # The driver of who sends does not get over a queue whose home is away.
        with scene.sends:
            home.kill()
            wait_for(lambda: "cancelled" in scene.daemon.log, "a cancel")
            time.sleep(scene.seconds)
            home.start()
            wait_for(
                lambda: scene.daemon.log.count("Listening") == 2 * WORKERS,
                "the workers, again",
            )
        time.sleep(scene.seconds)

    with sqlite(tmp_path) as breakable:
        play(
            cancel,
            broker,
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="broker cancels",
        )


@contextlib.contextmanager
def impatient(broker: servers.RabbitMQ) -> Iterator[None]:
    """Whoever acknowledges nothing for a few seconds is closed out."""

    def wait_and_look(wait: int, look: int) -> None:
        for setting, milliseconds in (
            ("consumer_timeout", wait),
            ("channel_tick_interval", look),
        ):
            broker.ctl(
                "eval",
                f"application:set_env(rabbit, {setting}, {milliseconds}).",
            )

    wait_and_look(2_000, 500)
    try:
        yield
    finally:
        wait_and_look(1_800_000, 60_000)


def test_consumer_timeout(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with impatient(broker), sqlite(tmp_path) as breakable:
        [running] = play(
            storage_away_for_long,
            virtual_host(broker),
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="consumer timeout",
        )
    assert "delivery acknowledgement on channel 1 timed out" in running.log


def test_a_broker_that_blocks(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Who sends has to wait; who reads goes on."""

    def block(scene: Scene) -> None:
        time.sleep(1)
        broker.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            wait_for(lambda: not scene.broker.depth(), "the queue to be empty")
            time.sleep(scene.seconds)
        finally:
            broker.ctl("set_vm_memory_high_watermark", "0.4")
        time.sleep(scene.seconds)

    with sqlite(tmp_path) as breakable:
        play(
            block,
            virtual_host(broker),
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="broker blocks senders",
        )


def test_a_queue_that_is_deleted(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """What is in it goes with it, so it is empty here."""

    def delete(scene: Scene) -> None:
        for times in (2, 3):
            time.sleep(scene.seconds / 2)
            with scene.sends:
                wait_for(lambda: not unacknowledged(scene), "an empty queue")
                broker.ctl(
                    *("delete_queue", "-p", path(scene.broker.url), bus.QUEUE)
                )
                wait_for(
                    lambda: (
                        scene.daemon.log.count("Listening") == times * WORKERS  # noqa: B023
                    ),
                    "the workers, again",
                )
        time.sleep(scene.seconds / 2)

    def unacknowledged(scene: Scene) -> int:
        rows = json.loads(
            broker.ctl(
                *("list_queues", "-p", path(scene.broker.url)),
                *("--formatter=json", "messages"),
            )
        )
        return sum(row["messages"] for row in rows)

    with sqlite(tmp_path) as breakable:
        play(
            delete,
            virtual_host(broker),
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="queue deleted",
        )


def test_rights_that_are_taken_and_given_back(
    broker: servers.RabbitMQ, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    name = f"user-{uuid.uuid4().hex[:8]}"
    behind = virtual_host(broker)
    vhost = path(behind.url)
    rights = ("set_permissions", "-p", vhost, name, ".*", ".*", ".*")
    broker.ctl("add_user", name, "x")
    broker.ctl(*rights)
    behind.bridge_url = behind.url.replace("guest:guest", f"{name}:x")

    def take_rights(scene: Scene) -> None:
        time.sleep(1)
        broker.ctl("clear_permissions", "-p", vhost, name)
        broker.ctl("close_all_user_connections", name, "taken")
        wait_for(lambda: "Waiting to listen" in scene.daemon.log, "a refusal")
        time.sleep(scene.seconds)
        broker.ctl(*rights)
        time.sleep(scene.seconds)

    with sqlite(tmp_path) as breakable:
        play(
            take_rights,
            behind,
            "sqlite",
            breakable,
            tmp_path,
            pytestconfig,
            name="rights taken, given back",
        )


def test_a_node_that_restarts(
    request: pytest.FixtureRequest, mariadb_url: str, tmp_path: Path
) -> None:
    play(
        broker_restarts,
        node(request),
        "mariadb",
        Breakable([mariadb_url], nothing, nothing),
        tmp_path,
        request.config,
    )
