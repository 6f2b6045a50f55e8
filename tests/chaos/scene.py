# SPDX-License-Identifier: Apache-2.0

"""What the chaos suite does: profile, break something, compare.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from osprofiler import profiler

from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.storage import paged
from tests import bus, servers
from tests.chaos import table
from tests.daemon import Daemon, wait_for

# Workers of the bridge and the rate of points are such that a fault of a
# second meets some of them in every state there is.
POINTS_PER_SECOND = 400
WORKERS = 2
DURABLE: Mapping[str, object] = {"amqp_durable_queues": True}


def nothing() -> None:
    """What needs no breaking, or mending."""


@dataclass
class Broker:
    """What carries the notifications.

    :param url: its transport_url
    :param options: of [oslo_messaging_rabbit], at both ends
    :param depth: how many messages wait
    :param kill: kills it, or the node of it that matters most
    :param start: undoes that
    :param bridge_url: the bridge's transport_url, where it is another
    :param bridge_options: what the bridge alone has
    """

    url: str
    options: Mapping[str, object]
    depth: Callable[[], int]
    kill: Callable[[], object] = nothing
    start: Callable[[], object] = nothing
    bridge_url: str = ""
    bridge_options: Mapping[str, object] = field(default_factory=dict)


class Breakable(NamedTuple):
    """A storage that a fault can break.

    :param urls: each gets a daemon
    :param stop: breaks the first of them
    :param start: mends it
    :param read: the URL at which it is looked at what is there; the last of
        ``urls`` where it is empty
    """

    urls: list[str]
    stop: Callable[[], object]
    start: Callable[[], object]
    read: str = ""


@dataclass
class Scene:
    """What a fault can break.

    :param daemon: the first, where there are several
    :param stop_storage: makes it unreachable
    :param start_storage: undoes that
    :param seconds: how long a fault lasts
    :param sends: held by who sends, one trace at a time
    :param over: when the fault was over, on the monotonic clock
    """

    broker: Broker
    daemon: Daemon
    stop_storage: Callable[[], object]
    start_storage: Callable[[], object]
    random: random.Random
    seconds: float
    sends: threading.Lock = field(default_factory=threading.Lock)
    over: float = 0.0


Fault = Callable[[Scene], None]


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


def play(
    fault: Fault,
    broker: Broker,
    storage: str,
    breakable: Breakable,
    folder: Path,
    config: pytest.Config,
    *,
    poison: int = 0,
    name: str = "",
) -> list[Daemon]:
    """Nothing is lost, nothing doubled, whatever the fault does.

    :param storage: what the table calls it
    :param poison: which message is none that can be stored: each tenth, say
    :param name: what the table calls the fault, where that is not its name
    :returns: the daemons, stopped
    """
    urls = breakable.urls
    url = breakable.read or urls[-1]
    get_storage(urls[-1]).prepare()
    daemons = [
        make_daemon(folder / str(number), broker, url)
        for number, url in enumerate(urls)
    ]
    with contextlib.ExitStack() as running:
        for daemon in daemons:
            running.enter_context(daemon)
        # A queue is led by the node that its first user is connected to;
        # this has to be one of the workers.
        for daemon in daemons:
            wait_for(lambda: daemon.log.count("Listening") == WORKERS, "all")  # noqa: B023
        scene = Scene(
            broker,
            daemons[0],
            breakable.stop,
            breakable.start,
            random.Random(config.getoption("--chaos-seed")),
            config.getoption("--chaos-seconds"),
        )
        sent, poisoned = send_while(scene, fault, poison)
        base_ids = {payload["base_id"] for payload in sent}
        # What the broker took and could not confirm waits there as well.
        wait_for(
            lambda: (
                len(stored(url, base_ids)) >= len(sent)
                and sum(map(set_aside, daemons)) >= poisoned
                and not broker.depth()
            ),
            f"{len(sent)} notifications and {poisoned} set aside",
            seconds=90,
        )
        recovery = time.monotonic() - scene.over
        assert [daemon.terminate() for daemon in daemons] == [0] * len(daemons)
    accepted = Counter(map(key, sent))
    counts = Counter(stored(url, base_ids))
    row = table.Row(
        fault=name or fault.__name__.replace("_", " "),
        storage=storage,
        sent=len(sent) + poisoned,
        # Not what the broker took and then died before it said so.
        stored=(counts & accepted).total(),
        set_aside=sum(map(set_aside, daemons)),
        lost=(accepted - counts).total(),
        doubled=sum(count - 1 for count in counts.values()),
        recovery=f"{recovery:.1f} s",
    )
    config.stash[table.ROWS].append(row)
    assert (row.lost, row.doubled, row.set_aside) == (0, 0, poisoned)
    assert broker.depth() == 0
    assert base_ids <= listed(url)
    return daemons


def make_daemon(folder: Path, broker: Broker, url: str) -> Daemon:
    folder.mkdir()
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": broker.bridge_url or broker.url},
            "osprofiler": {"connection_string": url},
            "bridge": {
                "workers": WORKERS,
                "batch_size": 50,
                "prefetch": 100,
            },
            "oslo_messaging_rabbit": {
                **broker.options,
                **broker.bridge_options,
                "kombu_reconnect_delay": 0.2,
            },
        },
    )


def set_aside(daemon: Daemon) -> int:
    """How many messages a daemon has set aside."""
    return len(list(SetAside(str(daemon.set_aside), 2**30).messages()))


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
            scene.over = time.monotonic()
            over.set()

    poisoned = 0
    thread = threading.Thread(target=run)
    with bus.osprofiler_to(
        scene.broker.url, rabbit=scene.broker.options
    ) as confirmed:
        thread.start()
        while not over.is_set():
            with scene.sends:
                send_a_trace(scene.random.randrange(20))
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


def send_a_trace(spans: int) -> None:
    profiler.init("SECRET_KEY")
    with profiler.Trace("wsgi", info={"request": {"path": "/"}}):
        for number in range(spans):
            with profiler.Trace("db", info={"db": {"n": number}}):
                time.sleep(1 / POINTS_PER_SECOND)
    profiler.clean()


def key(payload: dict[str, Any]) -> tuple[str, str]:
    """What tells the points of this source apart."""
    return payload["trace_id"], payload["name"]


def stored(url: str, base_ids: set[str]) -> list[tuple[str, str]]:
    storage = get_storage(url)
    try:
        return [
            key(dict(notification.payload))
            for base_id in base_ids
            for notification in storage.notifications(base_id)
        ]
    finally:
        storage.close()


def listed(url: str) -> set[str]:
    """The traces that a list shows, on all of its pages."""
    with contextlib.closing(get_storage(url)) as storage:
        return {*paged(storage, 500)}


def node(request: pytest.FixtureRequest) -> Broker:
    """One node with a durable queue."""
    server: servers.RabbitMQ = request.getfixturevalue("rabbitmq")
    url = request.getfixturevalue("transport_url")
    return Broker(
        url,
        DURABLE,
        lambda: server.queue_depth(bus.QUEUE, url),
        server.kill,
        server.start,
    )


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Breakable]:
    path = folder / "traces.sqlite"
    locks: list[sqlite3.Connection] = []

    def lock() -> None:
        locks.append(
            sqlite3.connect(path, timeout=30, check_same_thread=False)
        )
        locks[0].execute("BEGIN EXCLUSIVE")

    def unlock() -> None:
        locks.pop().close()

    yield Breakable([f"sqlite:///{path}"], lock, unlock)
