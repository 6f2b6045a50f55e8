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

"""Whatever fails: each notification is stored once, or set aside.

Real servers fail, for real, while the real osprofiler sends. Then what is
stored is compared with what the broker had accepted, one by one.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from osprofiler import profiler

from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.chaos import table
from tests.daemon import Daemon, wait_for

# Workers of the bridge and the rate of points are such that a fault of a
# second meets some of them in every state there is.
POINTS_PER_SECOND = 400


@dataclass
class Broker:
    """What carries the notifications.

    :param url: its transport_url
    :param options: of [oslo_messaging_rabbit], at both ends
    :param kill: kills it, or the node of it that matters most
    :param start: undoes that
    :param depth: how many messages wait
    """

    url: str
    options: dict[str, object]
    kill: Callable[[], object]
    start: Callable[[], object]
    depth: Callable[[], int]


@dataclass
class Scene:
    """What a fault can break.

    :param url: of the storage
    :param stop_storage: makes it unreachable
    :param start_storage: undoes that
    """

    broker: Broker
    daemon: Daemon
    url: str
    stop_storage: Callable[[], object]
    start_storage: Callable[[], object]
    random: random.Random
    seconds: float


Fault = Callable[[Scene], None]


def kill_a_worker_every_second(scene: Scene) -> None:
    for _ in range(int(scene.seconds) + 1):
        time.sleep(scene.random.uniform(0.5, 1.0))
        wait_for(scene.daemon.workers, "workers")
        for pid in scene.daemon.workers():
            scene.daemon.signal("KILL", pid)


def storage_away(scene: Scene) -> None:
    time.sleep(1)
    scene.stop_storage()
    time.sleep(scene.seconds)
    scene.start_storage()


def broker_restarts(scene: Scene) -> None:
    time.sleep(1)
    scene.broker.kill()
    scene.broker.start()
    time.sleep(scene.seconds)


def broker_failover(scene: Scene) -> None:
    """A node dies and comes back; the others go on with the queue."""
    time.sleep(1)
    scene.broker.kill()
    time.sleep(scene.seconds)
    scene.broker.start()
    assert "Reconnected to AMQP server" in scene.daemon.log


def service_killed(scene: Scene) -> None:
    for _ in range(3):
        time.sleep(scene.random.uniform(0.5, 1.5))
        scene.daemon.kill()
        scene.daemon.start()


def service_told(scene: Scene) -> None:
    """SIGHUP and SIGTERM, again and again."""
    for _ in range(2):
        # Before it runs, a process has the system's idea of a SIGHUP.
        wait_for(scene.daemon.workers, "workers")
        time.sleep(scene.random.uniform(0.5, 1.5))
        scene.daemon.signal("HUP")
        time.sleep(scene.random.uniform(0.5, 1.5))
        assert scene.daemon.terminate() == 0
        scene.daemon.start()


def nothing(scene: Scene) -> None:
    time.sleep(scene.seconds)


def anything(scene: Scene) -> None:
    """Several of the others, at random; the seed says which."""
    for _ in range(3):
        scene.random.choice(
            [kill_a_worker_every_second, storage_away, service_killed]
        )(scene)


FAULTS: list[tuple[Fault, str]] = [
    *(
        (kill_a_worker_every_second, each)
        for each in ("sqlite", "mariadb", "redis")
    ),
    (service_killed, "postgresql"),
    (service_told, "sqlite"),
    *(
        (storage_away, each)
        for each in (
            "sqlite",
            "mariadb",
            "postgresql",
            "redis",
            "redissentinel",
        )
    ),
    (broker_restarts, "mariadb"),
    (broker_failover, "mariadb"),
    (nothing, "sqlite"),
    (anything, "postgresql"),
]
# Where a poison message stands in every tenth place.
POISONED = {nothing, anything, storage_away}


@pytest.mark.parametrize(
    ("fault", "storage"),
    FAULTS,
    ids=[f"{fault.__name__}-{storage}" for fault, storage in FAULTS],
)
def test_nothing_lost_nothing_doubled(
    fault: Fault,
    storage: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    seed = request.config.getoption("--chaos-seed")
    seconds = request.config.getoption("--chaos-seconds")
    in_cluster = fault is broker_failover
    with (
        cluster() if in_cluster else node(request) as broker,
        STORAGES[storage](request, tmp_path) as (url, stop, start),
    ):
        daemon = Daemon(
            tmp_path,
            {
                "DEFAULT": {"transport_url": broker.url},
                "osprofiler": {"connection_string": url},
                "bridge": {"workers": 2, "batch_size": 50, "prefetch": 100},
                "oslo_messaging_rabbit": {
                    **broker.options,
                    "kombu_reconnect_delay": 0.2,
                },
            },
        )
        get_storage(url).prepare()
        with daemon:
            if in_cluster:
                # A queue is led by the node that its first user is
                # connected to; this has to be one of the workers.
                wait_for(lambda: daemon.log.count("Listening") == 2, "workers")
            scene = Scene(
                broker,
                daemon,
                url,
                stop,
                start,
                random.Random(seed),
                seconds,
            )
            poison = 10 if fault in POISONED else 0
            sent, poisoned = send_while(scene, fault, poison)
            set_aside = SetAside(str(daemon.set_aside), 2**30)
            base_ids = {each["base_id"] for each in sent}
            # The broker's word that all is acknowledged comes last.
            wait_for(
                lambda: (
                    len(stored(url, base_ids)) >= len(sent)
                    and len(list(set_aside.messages())) >= poisoned
                ),
                f"{len(sent)} notifications and {poisoned} set aside",
                seconds=90,
            )
            assert daemon.terminate() == 0
        accepted = Counter(map(key, sent))
        found = Counter(stored(url, base_ids))
        row = table.Row(
            fault=fault.__name__.replace("_", " "),
            storage=storage,
            sent=len(sent) + poisoned,
            # Not what the broker took and then died before it said so.
            stored=(found & accepted).total(),
            set_aside=len(list(set_aside.messages())),
            lost=(accepted - found).total(),
            doubled=sum(count - 1 for count in found.values()),
        )
        request.config.stash[table.ROWS].append(row)
        assert (row.lost, row.doubled, row.set_aside) == (0, 0, poisoned)
        assert broker.depth() == 0


def send_while(
    scene: Scene, fault: Fault, poison: int
) -> tuple[list[dict[str, Any]], int]:
    """Profile until the fault is over; what the broker accepted."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            fault(scene)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
        finally:
            over.set()

    poisoned = 0
    thread = threading.Thread(target=run)
    with bus.osprofiler_to(
        scene.broker.url, rabbit=scene.broker.options
    ) as confirmed:
        thread.start()
        while not over.is_set():
            profiler.init("SECRET_KEY")
            with profiler.Trace("wsgi", info={"request": {"path": "/"}}):
                for number in range(scene.random.randrange(20)):
                    with profiler.Trace("db", info={"db": {"n": number}}):
                        time.sleep(1 / POINTS_PER_SECOND)
            profiler.clean()
            while poison and poisoned < len(confirmed) // poison:
                # Confirmed too, or publish raises; a fault that takes the
                # broker away has no poison.
                poisoned += bus.publish(
                    scene.broker.url,
                    [bus.envelope({"name": str(uuid.uuid4())})],
                    durable=True,
                )
        thread.join()
    if failures:
        raise failures[0]
    return confirmed, poisoned


def key(payload: dict[str, Any]) -> tuple[str, str]:
    """What tells the points of this source apart."""
    return payload["trace_id"], payload["name"]


def stored(url: str, base_ids: set[str]) -> list[tuple[str, str]]:
    storage = get_storage(url)
    try:
        return [
            key(dict(each.payload))
            for base_id in base_ids
            for each in storage.notifications(base_id)
        ]
    finally:
        storage.close()


@contextlib.contextmanager
def node(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One node with a durable queue."""
    server: servers.RabbitMQ = request.getfixturevalue("rabbitmq")
    url = request.getfixturevalue("transport_url")
    yield Broker(
        url,
        {"amqp_durable_queues": True},
        server.kill,
        server.start,
        lambda: server.queue_depth(bus.QUEUE, url),
    )


@contextlib.contextmanager
def cluster() -> Iterator[Broker]:
    """Three nodes with a quorum queue; its leader dies."""
    dead: list[servers.RabbitMQNode] = []
    with servers.RabbitMQCluster() as nodes:

        def kill() -> None:
            dead.append(nodes.leader(bus.QUEUE))
            dead[0].kill()

        yield Broker(
            nodes.transport_url,
            {"rabbit_quorum_queue": True},
            kill,
            lambda: dead.pop().start(),
            lambda: nodes.queue_depth(bus.QUEUE),
        )


Breakable = tuple[str, Callable[[], object], Callable[[], object]]


@contextlib.contextmanager
def sqlite(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    path = folder / "traces.sqlite"
    locks: list[sqlite3.Connection] = []

    def lock() -> None:
        locks.append(
            sqlite3.connect(path, timeout=30, check_same_thread=False)
        )
        locks[0].execute("BEGIN EXCLUSIVE")

    def unlock() -> None:
        locks.pop().close()

    yield f"sqlite:///{path}", lock, unlock


@contextlib.contextmanager
def database(name: str, request: pytest.FixtureRequest) -> Iterator[Breakable]:
    server = request.getfixturevalue(name)
    yield request.getfixturevalue(f"{name}_url"), server.stop, server.start


@contextlib.contextmanager
def redis(request: pytest.FixtureRequest, folder: Path) -> Iterator[Breakable]:
    server = request.getfixturevalue("redis_server")
    yield request.getfixturevalue("redis_url"), server.stop, server.start


@contextlib.contextmanager
def sentinel(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """The master dies; it comes back as a replica of the new one."""
    group = request.getfixturevalue("sentinel")
    dead: list[servers.Redis] = []
    yield (
        group.url,
        lambda: dead.append(group.kill_master()),
        lambda: dead.pop().start(),
    )


STORAGES: dict[
    str,
    Callable[
        [pytest.FixtureRequest, Path],
        contextlib.AbstractContextManager[Breakable],
    ],
] = {
    "sqlite": sqlite,
    "redis": redis,
    "redissentinel": sentinel,
    "mariadb": lambda request, _: database("mariadb", request),
    "postgresql": lambda request, _: database("postgresql", request),
}
