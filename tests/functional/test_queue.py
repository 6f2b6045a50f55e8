# SPDX-License-Identifier: Apache-2.0

"""Queues of every kind, and what is said of one that is of another kind."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import kombu
import pytest
from osprofiler import profiler

from profiler_bridge import config, exceptions
from profiler_bridge.bus import broker
from profiler_bridge.bus import transport as buses
from profiler_bridge.bus.broker import Kind
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for

TRANSIENT: dict[str, object] = {"amqp_durable_queues": False}
DURABLE: dict[str, object] = {"amqp_durable_queues": True}
QUORUM: dict[str, object] = {"rabbit_quorum_queue": True}
KINDS = [
    (TRANSIENT, Kind.TRANSIENT),
    (DURABLE, Kind.DURABLE),
    (QUORUM, Kind.QUORUM),
]


def transport(
    folder: Path, url: str, rabbit: dict[str, object], exchange: str
) -> Any:
    """The bus as the bridge has it with these options."""
    path = folder / "inspect.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {url}\ncontrol_exchange = {exchange}\n"
        "[oslo_messaging_rabbit]\n"
        + "".join(f"{key} = {value}\n" for key, value in rabbit.items())
    )
    return buses.get_transport(
        config.prepare([f"--config-file={path}"], buses)
    )


def inspect(
    folder: Path,
    url: str,
    rabbit: dict[str, object],
    exchange: str = "openstack",
) -> broker.Queue | None:
    made = transport(folder, url, rabbit, exchange)
    try:
        return broker.inspect(made, "profiler")
    finally:
        made.cleanup()


def profile(url: str, rabbit: dict[str, object]) -> str:
    """Have osprofiler send the two notifications of a trace."""
    with bus.osprofiler_to(url, rabbit=rabbit) as confirmed:
        profiler.init("SECRET_KEY")
        with profiler.Trace("wsgi"):
            pass
    assert len(confirmed) == 2
    return str(confirmed[0]["base_id"])


def daemon(
    folder: Path, url: str, storage: str, rabbit: dict[str, object]
) -> Daemon:
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": url},
            "osprofiler": {"connection_string": storage},
            "oslo_messaging_rabbit": rabbit,
        },
    )


def remake_queue(url: str, **options: Any) -> None:
    with kombu.Connection(url.replace("rabbit://", "amqp://")) as connection:
        channel = connection.channel()
        channel.queue_delete(bus.QUEUE)
        channel.queue_declare(bus.QUEUE, auto_delete=False, **options)


@pytest.mark.parametrize(("services", "kind"), KINDS)
def test_queue_is_described_whatever_our_options(
    services: dict[str, object],
    kind: Kind,
    transport_url: str,
    tmp_path: Path,
) -> None:
    profile(transport_url, services)
    for ours, _ in KINDS:
        queue = inspect(tmp_path, transport_url, ours)
        assert queue is not None
        assert queue.exists
        assert (queue.kind, queue.messages, queue.consumers) == (kind, 2, 0)
        if ours is services:
            assert (queue.problem, queue.usable) == ("", True)
        else:
            assert f"queue profiler.info is {kind}, but" in queue.problem
            assert "\n" not in queue.problem
            [option] = services
            assert f"set {option} = " in queue.problem or kind is (
                Kind.TRANSIENT
            )
    # oslo.messaging makes do with a transient queue in place of a durable.
    queue = inspect(tmp_path, transport_url, DURABLE)
    assert queue is not None
    assert queue.usable is (kind is not Kind.QUORUM)


def test_queue_with_other_arguments(
    transport_url: str, tmp_path: Path
) -> None:
    profile(transport_url, QUORUM)
    ours = {**QUORUM, "rabbit_quorum_delivery_limit": 5}
    queue = inspect(tmp_path, transport_url, ours)
    assert queue is not None
    assert not queue.usable
    assert "x-delivery-limit" in queue.problem


def test_exchange_of_another_kind(transport_url: str, tmp_path: Path) -> None:
    profile(transport_url, TRANSIENT)
    remake_queue(transport_url, durable=True)
    queue = inspect(tmp_path, transport_url, DURABLE)
    assert queue is not None
    assert queue.kind is Kind.DURABLE
    # It can be read; but who declares such an exchange declares such a queue.
    assert queue.usable
    assert "exchange openstack is not durable" in queue.problem
    assert "has amqp_durable_queues = true" in queue.problem
    queue = inspect(tmp_path, transport_url, DURABLE, exchange="another")
    assert queue is not None
    assert (queue.problem, queue.usable) == ("", True)


def test_inspecting_makes_no_queue(transport_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        queue = inspect(tmp_path, transport_url, DURABLE)
        assert queue == broker.Queue("profiler.info")


def test_bus_that_is_no_rabbitmq(tmp_path: Path) -> None:
    assert inspect(tmp_path, "fake://", {}) is None


@pytest.mark.parametrize("login", ["nobody:s3cret", "guest:s3cret"])
def test_broker_that_lets_us_not_in(
    login: str, transport_url: str, tmp_path: Path
) -> None:
    url = transport_url.replace("guest:guest", login)
    with pytest.raises(exceptions.BusUnavailable) as caught:
        inspect(tmp_path, url, {})
    assert "ACCESS_REFUSED" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_broker_that_does_not_answer(
    transport_url: str, tmp_path: Path
) -> None:
    nobody = f"guest:guest@127.0.0.1:{servers.free_port()}"
    with pytest.raises(exceptions.BusUnavailable, match="refused"):
        inspect(tmp_path, f"rabbit://{nobody}/", {})
    # But one of several is enough.
    several = transport_url.replace("rabbit://", f"rabbit://{nobody},")
    assert inspect(tmp_path, several, {}) == broker.Queue("profiler.info")


@pytest.mark.parametrize(
    ("services", "ours"), [(DURABLE, TRANSIENT), (QUORUM, DURABLE)]
)
def test_daemon_says_in_one_line_how_options_differ(
    services: dict[str, object],
    ours: dict[str, object],
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """And goes on when they are mended."""
    sent = [profile(transport_url, services)]
    running = daemon(tmp_path, transport_url, sqlite_url, ours)
    with running:
        wait_for(lambda: "Waiting to listen" in running.log, "a line")
        [_, line] = running.log.splitlines()
        assert "ERROR" in line
        assert "queue profiler.info is " in line
        [option] = services
        assert f"set {option} = true" in line
        daemon(tmp_path, transport_url, sqlite_url, services)  # the file
        running.signal("HUP")
        sent.append(profile(transport_url, services))
        storage = get_storage(sqlite_url)
        wait_for(
            lambda: (
                "Listening" in running.log
                and all(
                    len(storage.notifications(base_id)) == 2
                    for base_id in sent
                )
            ),
            "everything stored",
        )
        assert running.terminate() == 0
    assert "Traceback" not in running.log
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


def test_queue_that_changes_while_the_bridge_listens(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    running = daemon(tmp_path, transport_url, sqlite_url, DURABLE)
    with running:
        wait_for(lambda: "Listening" in running.log, "the listener")
        remake_queue(
            transport_url, durable=True, arguments={"x-queue-type": "quorum"}
        )
        wait_for(lambda: "Waiting to listen" in running.log, "a line")
        remake_queue(transport_url, durable=True)
        base_id = profile(transport_url, DURABLE)
        storage = get_storage(sqlite_url)
        wait_for(
            lambda: len(storage.notifications(base_id)) == 2, "notifications"
        )
        assert running.terminate() == 0
    assert running.log.count("Waiting to listen") == 1
    assert "Traceback" not in running.log


def test_sigterm_while_waiting_for_the_queue(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    profile(transport_url, QUORUM)
    running = daemon(tmp_path, transport_url, sqlite_url, TRANSIENT)
    with running:
        wait_for(lambda: "Waiting to listen" in running.log, "a line")
        assert running.terminate() == 0


def user_with(
    rabbitmq: servers.RabbitMQ, url: str, *rights: str
) -> tuple[str, str]:
    """A user with rights to configure, write and read.

    :returns: its name, and the URL with it
    """
    name = f"user-{uuid.uuid4().hex[:8]}"
    rabbitmq.ctl("add_user", name, "x")
    vhost = url.rpartition("/")[2]
    rabbitmq.ctl("set_permissions", "-p", vhost, name, *rights)
    return name, url.replace("guest:guest", f"{name}:x")


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(
    ("rights", "missing"),
    [
        (["^profiler.info$", ".*", ".*"], []),
        (["openstack", ".*", ".*"], ["configure queue profiler.info"]),
        ([".*", "^openstack$", ".*"], ["write to queue profiler.info"]),
        ([".*", ".*", "^openstack$"], ["read queue profiler.info"]),
        ([".*", ".*", "^profiler.info$"], ["read exchange openstack"]),
        (
            ["^$", ".*", "^$"],
            [
                "configure queue profiler.info",
                "read exchange openstack",
                "read queue profiler.info",
            ],
        ),
        (
            [
                "^profiler.info$",
                "^profiler.info$",
                "^(profiler.info|openstack)$",
            ],
            [],
        ),
    ],
)
def test_each_missing_right_is_named(
    rights: list[str],
    missing: list[str],
    made: bool,
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    tmp_path: Path,
) -> None:
    """And no queue, exchange, binding or message is made or moved for it."""
    vhost = transport_url.rpartition("/")[2]
    if made:
        bus.publish(transport_url, [{}] * 3, durable=True)
    commands = [
        ("list_queues", "name", "messages_ready", "consumers"),
        ("list_exchanges", "name"),
        ("list_bindings",),
    ]

    def list_all() -> list[list[str]]:
        return [
            sorted(rabbitmq.ctl("-q", *command, "-p", vhost))
            for command in commands
        ]

    before = list_all()
    name, url = user_with(rabbitmq, transport_url, *rights)
    queue = inspect(tmp_path, url, DURABLE)
    assert queue is not None
    if missing:
        assert queue.problem == (
            f"user {name} has no right to {' and to '.join(missing)} in"
            f" virtual host {vhost}: see rabbitmqctl set_permissions"
        )
        assert not queue.usable
    else:
        assert (queue.problem, queue.usable) == ("", True)
    assert queue.exists == made
    assert list_all() == before


def test_a_missing_right_is_waited_for_with_one_line(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    name, url = user_with(rabbitmq, transport_url, "^$", ".*", ".*")
    running = daemon(tmp_path, url, sqlite_url, DURABLE)
    with running:
        wait_for(lambda: "no right to configure" in running.log, "a line")
        time.sleep(6)
        lines = [line for line in running.log.splitlines() if name in line]
        assert len(lines) == 1
        assert len(running.log.splitlines()) < 6
        vhost = transport_url.rpartition("/")[2]
        rabbitmq.ctl("set_permissions", "-p", vhost, name, ".*", ".*", ".*")
        base_id = profile(transport_url, DURABLE)
        storage = get_storage(sqlite_url)
        wait_for(lambda: len(storage.notifications(base_id)) == 2, "stored")
        assert running.terminate() == 0
    assert "Traceback" not in running.log
