# SPDX-License-Identifier: Apache-2.0

"""Whatever fails: each notification is stored once, or set aside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.chaos.scene import (
    Breakable,
    Fault,
    Scene,
    node,
    play,
    sqlite,
    storage_away,
)
from tests.daemon import wait_for


def kill_a_worker_every_second(scene: Scene) -> None:
    for _ in range(int(scene.seconds) + 1):
        time.sleep(scene.random.uniform(0.5, 1.0))
        wait_for(scene.daemon.workers, "workers")
        for pid in scene.daemon.workers():
            scene.daemon.signal("KILL", pid)


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


def quiet(scene: Scene) -> None:
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
            "galera, node killed",
            "galera, node cut off",
        )
    ),
    (quiet, "sqlite"),
    (anything, "postgresql"),
]
# Where a poison message stands in every tenth place.
POISONED = {quiet, anything, storage_away}


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
    with STORAGES[storage](request, tmp_path) as breakable:
        play(
            fault,
            node(request),
            storage,
            breakable,
            tmp_path,
            request.config,
            poison=10 if fault in POISONED else 0,
        )


@contextlib.contextmanager
def database(name: str, request: pytest.FixtureRequest) -> Iterator[Breakable]:
    server = request.getfixturevalue(name)
    yield [request.getfixturevalue(f"{name}_url")], server.stop, server.start


@contextlib.contextmanager
def node_killed(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """Galera's first node dies; its clients reach another by HAProxy."""
    first, second, _ = request.getfixturevalue("galera_urls")
    nodes = request.getfixturevalue("galera").nodes
    with servers.HAProxy([node.port for node in nodes]) as proxy:
        moving = first.replace(f":{nodes[0].port}/", f":{proxy.port}/")
        yield [moving, second], nodes[0].kill, nodes[0].start


@contextlib.contextmanager
def node_cut_off(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """Galera's first node loses the others, and so refuses everything."""
    urls = request.getfixturevalue("galera_urls")
    node = request.getfixturevalue("galera").nodes[0]
    yield urls[:2], node.isolate, node.rejoin


@contextlib.contextmanager
def redis(request: pytest.FixtureRequest, folder: Path) -> Iterator[Breakable]:
    server = request.getfixturevalue("redis_server")
    yield [request.getfixturevalue("redis_url")], server.stop, server.start


@contextlib.contextmanager
def sentinel(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """The master dies; it comes back as a replica of the new one."""
    group = request.getfixturevalue("sentinel")
    dead: list[servers.Redis] = []
    yield (
        [group.url],
        lambda: dead.append(group.kill_master()),
        lambda: dead.pop().start(),
    )


@contextlib.contextmanager
def cluster(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """A master dies; it comes back as a replica of the new one."""
    group = request.getfixturevalue("redis_cluster")
    group.start()
    yield [group.url], lambda: group.masters()[0].kill(), group.start


STORAGES: dict[
    str,
    Callable[
        [pytest.FixtureRequest, Path],
        contextlib.AbstractContextManager[Breakable],
    ],
] = {
    "sqlite": lambda _, folder: sqlite(folder),
    "redis": redis,
    "redissentinel": sentinel,
    "rediscluster": cluster,
    "mariadb": lambda request, _: database("mariadb", request),
    "postgresql": lambda request, _: database("postgresql", request),
    "galera, node killed": node_killed,
    "galera, node cut off": node_cut_off,
}
