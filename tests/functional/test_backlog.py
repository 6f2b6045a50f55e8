# SPDX-License-Identifier: Apache-2.0


"""A backlog of large messages: a worker's memory is bounded all the same."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profiler_bridge.notification import FORMAT, VERSION
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.benchmarks.listener import peak_memory
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import daemon, pieces, stored

_MIB = 1 << 20
# Seconds; RabbitMQ takes a peer for dead that is silent twice as long.
_HEARTBEAT = 3


def large_points(base_ids: list[str]) -> Iterator[object]:
    """180 MB, a megabyte a message."""
    for base_id in base_ids:
        for payload in itertools.islice(pieces(base_id, 8), 15):
            payload["info"]["db"]["statement"] = "x" * 1_000_000
            yield bus.envelope(payload)


def many_points(base_ids: list[str]) -> Iterator[object]:
    """120,000 points, 500 a message."""
    for base_id in base_ids:
        points = iter(pieces(base_id, 5_000))
        while some := [*itertools.islice(points, 500)]:
            yield bus.envelope({FORMAT: VERSION, "points": some})


def test_stopping_amid_a_backlog_is_quiet(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """What is under way goes back to the queue, and that is no problem."""
    base_id = str(uuid.uuid4())
    messages = map(bus.envelope, pieces(base_id, 10_000))
    sent = bus.publish(transport_url, messages)
    storage = get_storage(sqlite_url)
    storage.prepare()
    running = daemon(tmp_path, transport_url, sqlite_url)
    with running:
        wait_for(lambda: stored(storage, [base_id]), "some of them stored")
        assert running.terminate() == 0
    left = rabbitmq.queue_depth(bus.QUEUE, transport_url)
    assert left > 0, "all were stored before it stopped"
    assert stored(storage, [base_id]) == sent - left
    assert "WARNING" not in running.log


@pytest.mark.parametrize(
    ("messages", "points", "seconds"),
    # RabbitMQ ends a connection after 30 seconds in which nothing is taken.
    [(large_points, 15, 35), (many_points, 10_000, 4 * _HEARTBEAT)],
)
def test_large_messages_wait_outside(
    messages: Callable[[list[str]], Iterator[object]],
    points: int,
    seconds: float,
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    tmp_path: Path,
) -> None:
    """Even if the storage is away for longer than the heartbeat timeout."""
    database = tmp_path / "traces.sqlite"
    url = f"sqlite:///{database}"
    storage = get_storage(url)
    storage.prepare()
    base_ids = [str(uuid.uuid4()) for _ in range(12)]

    def connections() -> str:
        return rabbitmq.ctl("list_connections", "name", "vhost")

    running = Daemon(
        tmp_path,
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": url},
            "oslo_messaging_rabbit": {
                "heartbeat_timeout_threshold": _HEARTBEAT
            },
        },
    )
    with running, contextlib.closing(sqlite3.connect(database)) as lock:
        wait_for(lambda: "Listening" in running.log, "the worker")
        lock.execute("BEGIN EXCLUSIVE")
        bus.publish(transport_url, messages(base_ids))
        wait_for(lambda: "Waiting for" in running.log, "the storage missed")
        before = connections()
        time.sleep(seconds)
        assert connections() == before
        lock.rollback()
        wait_for(
            lambda: not rabbitmq.queue_depth(bus.QUEUE, transport_url),
            "an empty queue",
            seconds=120,
        )
        wait_for(
            lambda: stored(storage, base_ids) == points * len(base_ids),
            "all of them stored",
            seconds=60,
        )
        [worker] = running.workers()
        assert peak_memory(worker) < 200 * _MIB
        assert running.terminate() == 0
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0
