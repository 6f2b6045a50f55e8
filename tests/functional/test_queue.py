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

"""Queues of every kind, and what is said of one that is of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kombu
import pytest
from osprofiler import profiler

from profiler_bridge import config, exceptions, listener, queue
from profiler_bridge.queue import Kind
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
    return listener.get_transport(
        config.prepare([f"--config-file={path}"], listener)
    )


def inspect(
    folder: Path,
    url: str,
    rabbit: dict[str, object],
    exchange: str = "openstack",
) -> queue.Queue | None:
    found = transport(folder, url, rabbit, exchange)
    try:
        return queue.inspect(found, "profiler")
    finally:
        found.cleanup()


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
        found = inspect(tmp_path, transport_url, ours)
        assert found is not None
        assert found.exists
        assert (found.kind, found.messages, found.consumers) == (kind, 2, 0)
        if ours is services:
            assert (found.problem, found.usable) == ("", True)
        else:
            assert f"queue profiler.info is {kind}, but" in found.problem
            assert "\n" not in found.problem
            [option] = services
            assert f"set {option} = " in found.problem or kind is (
                Kind.TRANSIENT
            )
    # oslo.messaging makes do with a transient queue in place of a durable.
    found = inspect(tmp_path, transport_url, DURABLE)
    assert found is not None
    assert found.usable is (kind is not Kind.QUORUM)


def test_queue_with_other_arguments(
    transport_url: str, tmp_path: Path
) -> None:
    profile(transport_url, QUORUM)
    ours = {**QUORUM, "rabbit_quorum_delivery_limit": 5}
    found = inspect(tmp_path, transport_url, ours)
    assert found is not None
    assert not found.usable
    assert "x-delivery-limit" in found.problem


def test_exchange_of_another_kind(transport_url: str, tmp_path: Path) -> None:
    profile(transport_url, TRANSIENT)
    remake_queue(transport_url, durable=True)
    found = inspect(tmp_path, transport_url, DURABLE)
    assert found is not None
    assert found.kind is Kind.DURABLE
    assert not found.usable
    assert "exchange openstack is not durable" in found.problem
    assert "set control_exchange in [DEFAULT]" in found.problem
    found = inspect(tmp_path, transport_url, DURABLE, exchange="another")
    assert found is not None
    assert (found.problem, found.usable) == ("", True)


def test_inspecting_makes_no_queue(transport_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        found = inspect(tmp_path, transport_url, DURABLE)
        assert found == queue.Queue("profiler.info")


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
    assert inspect(tmp_path, several, {}) == queue.Queue("profiler.info")


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
                and all(len(storage.notifications(each)) == 2 for each in sent)
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
