# SPDX-License-Identifier: Apache-2.0

"""What a worker does with a real RabbitMQ, and leaves alone."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import amqp
import kombu
import oslo_messaging
import oslo_messaging.opts
import pytest
from oslo_config import cfg
from osprofiler import profiler

from profiler_bridge import config, exceptions
from profiler_bridge.bus import transport as buses
from profiler_bridge.bus.rabbit import RabbitSource
from profiler_bridge.bus.reader import Message, Reader
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import pieces, stored
from tests.functional.test_queue import profile

DURABLE: dict[str, object] = {"amqp_durable_queues": True}
TRANSIENT: dict[str, object] = {"amqp_durable_queues": False}
QUORUM: dict[str, object] = {"rabbit_quorum_queue": True}


def make_transport(
    folder: Path, url: str, rabbit: dict[str, object], **bridge: object
) -> Any:
    """The bus as the bridge has it with these options."""
    path = folder / "rabbitmq.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {url}\n[bridge]\n"
        + "".join(f"{key} = {value}\n" for key, value in bridge.items())
        + "[oslo_messaging_rabbit]\n"
        + "".join(f"{key} = {value}\n" for key, value in rabbit.items())
    )
    conf = config.prepare([f"--config-file={path}"], buses)
    return buses.get_transport(conf)


def make_source(
    transport: Any, received: list[Message], pool: str | None = None
) -> RabbitSource:
    return RabbitSource(
        transport,
        [oslo_messaging.Target(topic="profiler")],
        pool,
        received.extend,
    )


def daemon(
    folder: Path, url: str, rabbit: dict[str, object], *storages: str
) -> Daemon:
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": url},
            "osprofiler": {"connection_string": [*storages]},
            "oslo_messaging_rabbit": rabbit,
            "bridge": {"batch_timeout": 0.1},
        },
    )


def listing(
    rabbitmq: servers.RabbitMQ, url: str, what: str, *columns: str
) -> list[tuple[object, ...]]:
    """Rows of ``rabbitmqctl list_...`` in a virtual host."""
    rows = json.loads(
        rabbitmq.ctl(
            *(f"list_{what}", "-p", url.rpartition("/")[2]),
            *("--formatter=json", *columns),
        )
    )
    return sorted(tuple(row[column] for column in columns) for row in rows)


def exchanges(
    rabbitmq: servers.RabbitMQ, url: str
) -> list[tuple[object, ...]]:
    return [
        row
        for row in listing(rabbitmq, url, "exchanges", "name", "durable")
        if row[0] and not str(row[0]).startswith("amq.")
    ]


# What oslo.messaging declares


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        DURABLE,
        QUORUM,
        {"amqp_auto_delete": True},
        {**DURABLE, "amqp_auto_delete": True},
        {"rabbit_ha_queues": True},
        {**DURABLE, "rabbit_ha_queues": True},
        {
            **QUORUM,
            "rabbit_quorum_delivery_limit": 5,
            "rabbit_quorum_max_memory_length": 100,
            "rabbit_quorum_max_memory_bytes": 100_000,
        },
        {"rabbit_transient_queues_ttl": 60},
        {**QUORUM, "rabbit_transient_quorum_queue": True},
        {"enable_cancel_on_failover": True},
    ],
)
def test_both_declare_the_same_queue(
    options: dict[str, object],
    ours_first: bool,
    transport_url: str,
    tmp_path: Path,
) -> None:
    """RabbitMQ refuses who declares a queue with other arguments."""
    transport = make_transport(tmp_path, transport_url, options)
    received: list[Message] = []
    source = make_source(transport, received)
    if ours_first:
        source.connect()

    class Endpoint:
        def info(self, *args: object) -> None:
            raise AssertionError

    listener = oslo_messaging.get_notification_listener(
        transport, [oslo_messaging.Target(topic="profiler")], [Endpoint()]
    )
    started = threading.Thread(target=listener.start, daemon=True)
    started.start()
    started.join(10)
    assert not started.is_alive()
    if not ours_first:
        source.connect()
    source.read(0.05)
    assert source.connected
    listener.stop()
    listener.wait()
    source.read(0.05)
    with bus.osprofiler_to(transport_url, rabbit=options) as confirmed:
        profiler.init("SECRET_KEY")
        with profiler.Trace("wsgi"):
            pass
        profiler.clean()

        def arrived() -> bool:
            source.read(0.05)
            return len(received) == len(confirmed) == 2

        wait_for(arrived, "what osprofiler sent")
    source.settle(received, [])
    source.close()
    transport.cleanup()


# Exchanges


def start_service(url: str, rabbit: dict[str, object], exchange: str) -> None:
    """What a service does on the bus when it starts."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    for group, options in oslo_messaging.opts.list_opts():
        conf.register_opts(options, group)
    for option, value in rabbit.items():
        conf.set_override(option, value, "oslo_messaging_rabbit")
    conf.set_override("control_exchange", exchange)
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    target = oslo_messaging.Target(topic=exchange, server="host")
    server = oslo_messaging.get_rpc_server(transport, target, [])
    server.start()
    server.stop()
    server.wait()
    transport.cleanup()


@pytest.mark.parametrize("services", [TRANSIENT, DURABLE])
@pytest.mark.parametrize("bridge", [TRANSIENT, DURABLE])
@pytest.mark.parametrize("bridge_first", [True, False])
def test_exchanges_are_the_services(
    bridge_first: bool,
    bridge: dict[str, object],
    services: dict[str, object],
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    redis_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """With two storages, of which the second has a pool's queue."""
    running = daemon(tmp_path, transport_url, bridge, redis_url, sqlite_url)
    made = [(name, services is DURABLE) for name in ("neutron", "nova")]

    def start_services() -> None:
        for name, _ in made:
            start_service(transport_url, services, name)

    def bound() -> bool:
        rows = listing(
            *(rabbitmq, transport_url, "bindings"),
            *("source_name", "destination_name"),
        )
        return {"nova", "neutron"} <= {
            row[0] for row in rows if "sqlite" in str(row[1])
        }

    if not bridge_first:
        start_services()
    with running:
        wait_for(lambda: running.log.count("Listening") == 2, "workers")
        if bridge_first:
            assert exchanges(rabbitmq, transport_url) == []
            start_services()
        wait_for(bound, "bindings")
        assert exchanges(rabbitmq, transport_url) == made
        queues = listing(rabbitmq, transport_url, "queues", "name", "durable")
        assert {*made} <= {*queues}
        if bridge is services:
            with bus.osprofiler_to(
                transport_url, exchange="nova", rabbit=services
            ):
                base_id = profiler.init("SECRET_KEY").get_base_id()
                with profiler.Trace("wsgi"):
                    pass
                profiler.clean()
            for url in (redis_url, sqlite_url):
                wait_for(
                    lambda: stored(get_storage(url), [base_id]) == 2,  # noqa: B023
                    url,
                )
        assert running.terminate() == 0
    assert exchanges(rabbitmq, transport_url) == made
    assert running.log.count("Listening") == 2
    assert "ERROR" not in running.log


def test_a_queue_that_is_deleted_is_bound_again(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """Services do so with a new connection only."""
    running = daemon(tmp_path, transport_url, DURABLE, sqlite_url)
    storage = get_storage(sqlite_url)
    with (
        running,
        bus.osprofiler_to(transport_url, rabbit=DURABLE) as confirmed,
    ):
        wait_for(lambda: "Listening" in running.log, "the worker")
        for turn in (1, 2):
            base_id = profiler.init("SECRET_KEY").get_base_id()
            with profiler.Trace("wsgi"):
                pass
            profiler.clean()
            wait_for(lambda: stored(storage, [base_id]) == 2, "a trace")  # noqa: B023
            if turn == 1:
                rabbitmq.ctl(
                    *("delete_queue", "-p", transport_url.rpartition("/")[2]),
                    bus.QUEUE,
                )
                wait_for(lambda: running.log.count("Listening") == 2, "again")
        assert len(confirmed) == 4
        assert running.terminate() == 0
    assert running.log.count("a queue was deleted") == 1
    assert "Traceback" not in running.log


# Prefetch


@pytest.mark.parametrize("rabbit", [DURABLE, QUORUM])
def test_small_messages_raise_the_prefetch(
    rabbit: dict[str, object],
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    tmp_path: Path,
) -> None:
    """What was sent before stays, and is acknowledged as ever."""
    profile(transport_url, rabbit)
    count = 2_000
    publish(transport_url, [b"{}"] * count)
    transport = make_transport(tmp_path, transport_url, rabbit, prefetch=500)
    received: list[Message] = []
    source = make_source(transport, received)
    source.connect()

    def prefetches() -> list[object]:
        rows = listing(
            *(rabbitmq, transport_url, "consumers"), "prefetch_count"
        )
        return [row[0] for row in rows]

    assert prefetches() == [16]
    handled = 0
    while handled < count + 2:
        source.read(5)
        batch = received[handled:]
        handled += len(batch)
        # In any order, and some later.
        source.settle(batch[::2], [])
        source.settle(batch[1::2], [])
    assert prefetches() == [500]
    source.close()
    transport.cleanup()
    assert len(received) == count + 2
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


def test_large_messages_are_shared(
    rabbitmq: servers.RabbitMQ, transport_url: str, tmp_path: Path
) -> None:
    """Whoever comes first to them is not sent all there are."""
    profile(transport_url, DURABLE)
    body = b'"' + b"x" * 300_000 + b'"'
    publish(transport_url, [body] * 100)
    transport = make_transport(tmp_path, transport_url, DURABLE)
    sources = []

    def unacknowledged() -> object:
        [row] = listing(
            *(rabbitmq, transport_url, "queues"), "messages_unacknowledged"
        )
        return row[0]

    for number in range(1, 5):
        received: list[Message] = []
        source = make_source(transport, received)
        source.connect()
        sources.append(source)
        while len(received) < 16:
            source.read(5)
        wait_for(lambda: unacknowledged() == 16 * number, "what was sent")  # noqa: B023
    for source in sources:
        source.close()
    transport.cleanup()


def publish(url: str, bodies: Sequence[bytes]) -> None:
    """Put messages on the queue that is there, whatever its kind."""
    with kombu.Connection(
        url.replace("rabbit://", "amqp://"),
        transport_options={"confirm_publish": True},
    ) as connection:
        channel = connection.channel()
        for body in bodies:
            channel.basic_publish(
                amqp.Message(body), exchange="", routing_key=bus.QUEUE
            )


# What the broker does


def test_rights_that_are_taken_and_given_back(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    name = f"user-{uuid.uuid4().hex[:8]}"
    vhost = transport_url.rpartition("/")[2]
    rabbitmq.ctl("add_user", name, "x")
    rights = ("set_permissions", "-p", vhost, name, ".*", ".*", ".*")
    rabbitmq.ctl(*rights)
    running = daemon(
        tmp_path,
        transport_url.replace("guest:guest", f"{name}:x"),
        DURABLE,
        sqlite_url,
    )
    storage = get_storage(sqlite_url)
    with running:
        wait_for(lambda: "Listening" in running.log, "the worker")
        rabbitmq.ctl("clear_permissions", "-p", vhost, name)
        rabbitmq.ctl(
            "close_all_user_connections", name, "CONNECTION_FORCED - test"
        )
        wait_for(lambda: "Waiting to listen" in running.log, "a refusal")
        base_id = profile(transport_url, DURABLE)
        rabbitmq.ctl(*rights)
        wait_for(lambda: stored(storage, [base_id]) == 2, "a trace")
        assert running.terminate() == 0
    assert "CONNECTION_FORCED" in running.log
    assert "Traceback" not in running.log


def test_a_broker_that_blocks_publishers(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """It is read all the same, or it would stay full for ever."""
    base_id = str(uuid.uuid4())
    payloads = pieces(base_id, 200)
    bus.publish(transport_url, map(bus.envelope, payloads), durable=True)
    running = daemon(tmp_path, transport_url, DURABLE, sqlite_url)
    rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        with running:
            wait_for(
                lambda: (
                    "Listening" in running.log
                    and stored(get_storage(sqlite_url), [base_id]) == 400
                ),
                "a trace",
            )
            assert running.terminate() == 0
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


def test_heartbeats_while_nothing_else_is_to_be_said(
    rabbitmq: servers.RabbitMQ, transport_url: str, tmp_path: Path
) -> None:
    options: dict[str, object] = {"heartbeat_timeout_threshold": 1}
    transport = make_transport(tmp_path, transport_url, options)
    made: list[RabbitSource] = []

    def make(receive: Any) -> RabbitSource:
        made.append(make_source(transport, []))
        return made[0]

    reader = Reader(make, 10, 0.1)
    thread = threading.Thread(target=reader.run, daemon=True)
    thread.start()
    wait_for(lambda: reader.connected, "a connection")
    link = made[0]._link
    # RabbitMQ ends a connection after two heartbeats that did not come.
    time.sleep(5)
    assert made[0]._link is link
    reader.stop()
    reader.finish()
    thread.join(10)
    transport.cleanup()


# TLS


@pytest.fixture(scope="module")
def tls() -> Iterator[servers.RabbitMQ]:
    with servers.RabbitMQ(servers.Certificates()) as broker:
        yield broker


def test_tls(tls: servers.RabbitMQ, sqlite_url: str, tmp_path: Path) -> None:
    """With a certificate at either end, and messages of many records."""
    certificates = tls.certificates
    assert certificates is not None
    rabbit: dict[str, object] = {
        **DURABLE,
        "ssl": True,
        "ssl_ca_file": certificates.authority,
        "ssl_cert_file": certificates.certificate,
        "ssl_key_file": certificates.key,
        "heartbeat_timeout_threshold": 2,
    }
    url = tls.tls_url
    base_id = str(uuid.uuid4())
    payloads = pieces(base_id, 500)
    for payload in payloads[:20]:
        payload["info"]["db"]["statement"] = "x" * 200_000
    running = daemon(tmp_path, url, rabbit, sqlite_url)
    storage = get_storage(sqlite_url)
    with running:
        wait_for(lambda: "Listening" in running.log, "the worker")
        bus.publish(
            tls.transport_url, map(bus.envelope, payloads), durable=True
        )
        wait_for(lambda: stored(storage, [base_id]) == 1000, "a trace")
        time.sleep(6)  # in which only heartbeats are sent
        assert running.terminate() == 0
    assert running.log.count("Listening") == 1
    assert tls.queue_depth(bus.QUEUE) == 0


@pytest.mark.parametrize(
    ("host", "authority", "problem"),
    [
        # Those whom the system trusts.
        ("127.0.0.1", None, "certificate verify failed"),
        ("localhost", True, "certificate is not valid for 'localhost'"),
        ("127.0.0.1", False, "certificate verify failed"),
    ],
)
def test_who_is_trusted(
    host: str,
    authority: bool | None,
    problem: str,
    tls: servers.RabbitMQ,
    tmp_path: Path,
) -> None:
    certificates = tls.certificates
    assert certificates is not None
    rabbit: dict[str, object] = {"ssl": True}
    if authority is not None:
        rabbit["ssl_ca_file"] = (
            certificates.authority
            if authority
            else servers.Certificates().authority
        )
    url = tls.tls_url.replace("127.0.0.1", host)
    transport = make_transport(tmp_path, url, rabbit)
    source = make_source(transport, [])
    with pytest.raises(exceptions.BusUnavailable, match=problem):
        source.connect()
    transport.cleanup()
