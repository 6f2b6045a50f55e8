# SPDX-License-Identifier: Apache-2.0

"""Whatever fails: each notification is stored once, or set aside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_bridge.storage import get_storage
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
from tests.splitter import Splitter
from tests.standby import PostgreSQLStandby


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
        (kill_a_worker_every_second, name)
        for name in ("sqlite", "mariadb", "redis")
    ),
    (service_killed, "postgresql"),
    (service_told, "sqlite"),
    *(
        (storage_away, name)
        for name in (
            "sqlite",
            "mariadb",
            "postgresql",
            "redis",
            "redissentinel",
            "galera, node killed",
            "galera, node cut off",
            "galera, IST",
            "galera, SST",
            "galera, reads split",
            "PgBouncer, session",
            "PgBouncer, transaction",
            "postgresql, reads split",
            "postgresql, promotion",
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
    url = request.getfixturevalue(f"{name}_url")
    yield Breakable([url], server.stop, server.start)


@contextlib.contextmanager
def node_killed(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """Galera's first node dies; its clients reach another by HAProxy."""
    first, second, _ = request.getfixturevalue("galera_urls")
    nodes = request.getfixturevalue("galera").nodes
    with servers.HAProxy([node.port for node in nodes]) as proxy:
        moving = first.replace(f":{nodes[0].port}/", f":{proxy.port}/")
        yield Breakable([moving, second], nodes[0].kill, nodes[0].start)


@contextlib.contextmanager
def node_cut_off(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """Galera's first node loses the others, and so refuses everything."""
    urls = request.getfixturevalue("galera_urls")
    node = request.getfixturevalue("galera").nodes[0]
    yield Breakable(urls[:2], node.isolate, node.rejoin)


@contextlib.contextmanager
def state_transfer(
    kind: str, request: pytest.FixtureRequest
) -> Iterator[Breakable]:
    """A node that is written to ends, and gets what it lacks from another.

    What is stored is read at the third, to which nobody writes.

    :param kind: IST, what was written meanwhile; or SST, all there is
    """
    urls = request.getfixturevalue("galera_urls")
    node = request.getfixturevalue("galera").nodes[0]

    def end() -> None:
        node.stop()
        if kind == "SST":
            # What it has is of no cluster any more.
            (node.data / "grastate.dat").unlink()

    before = node.log.stat().st_size
    yield Breakable(urls[:2], end, node.start, urls[2])
    with node.log.open(errors="replace") as log:
        log.seek(before)
        assert f"{kind} received" in log.read()


@contextlib.contextmanager
def galera_reads_split(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """A proxy sends reads to a node that applies nothing for a while."""
    first, _, third = request.getfixturevalue("galera_urls")
    with contextlib.closing(
        request.getfixturevalue("galera").nodes[2].connect(None)
    ) as node:
        get_storage(first).prepare()
        with Splitter(first, third) as proxy:
            yield Breakable(
                [proxy.url],
                lambda: node.query("FLUSH TABLES WITH READ LOCK"),
                lambda: node.query("UNLOCK TABLES"),
            )


@contextlib.contextmanager
def pgbouncer(
    mode: str, request: pytest.FixtureRequest
) -> Iterator[Breakable]:
    """The server behind the pooler stops, and comes back."""
    url = request.getfixturevalue("postgresql_url")
    server = request.getfixturevalue("postgresql")
    with servers.PgBouncer(url, mode) as pooler:
        yield Breakable([pooler.url], server.stop, server.start, url)


@contextlib.contextmanager
def postgresql_reads_split(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """A proxy sends reads to a standby that is five seconds behind."""
    with servers.PostgreSQL() as primary:
        url = primary.database()
        get_storage(url).prepare()
        with PostgreSQLStandby(primary) as standby:
            standby.fall_behind(5)
            behind = url.replace(f":{primary.port}/", f":{standby.port}/")
            with Splitter(url, behind) as proxy:
                yield Breakable([proxy.url], primary.stop, primary.start)


@contextlib.contextmanager
def promotion(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """The primary dies, the standby takes its place; the URL has both."""
    with servers.PostgreSQL() as primary:
        parts = sa.make_url(primary.database())
        with PostgreSQLStandby(primary) as standby:
            standby.confirm()
            both = parts.set(
                host=None,
                port=None,
                query={
                    "host": [
                        f"127.0.0.1:{server.port}"
                        for server in (primary, standby)
                    ],
                    "target_session_attrs": "read-write",
                },
            )
            url = both.render_as_string(hide_password=False)
            yield Breakable([url], primary.kill, standby.promote)


@contextlib.contextmanager
def redis(request: pytest.FixtureRequest, folder: Path) -> Iterator[Breakable]:
    server = request.getfixturevalue("redis_server")
    url = request.getfixturevalue("redis_url")
    yield Breakable([url], server.stop, server.start)


@contextlib.contextmanager
def sentinel(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[Breakable]:
    """The master dies; it comes back as a replica of the new one."""
    group = request.getfixturevalue("sentinel")
    dead: list[servers.Redis] = []
    yield Breakable(
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
    yield Breakable(
        [group.url], lambda: group.masters()[0].kill(), group.start
    )


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
    "galera, IST": lambda request, _: state_transfer("IST", request),
    "galera, SST": lambda request, _: state_transfer("SST", request),
    "galera, reads split": galera_reads_split,
    "PgBouncer, session": lambda request, _: pgbouncer("session", request),
    "PgBouncer, transaction": lambda request, _: pgbouncer(
        "transaction", request
    ),
    "postgresql, reads split": postgresql_reads_split,
    "postgresql, promotion": promotion,
}
