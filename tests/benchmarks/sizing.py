# SPDX-License-Identifier: Apache-2.0

"""What storing takes of each part: workers, broker, database, and the disk.

``simulate`` sends its load to a queue that nobody reads, which tells what
sending takes. Then a daemon stores it in each database, from a queue that has
all of it: with 1, 2, 4 and 8 workers where there are many points in a message,
and with one where there is one. On a machine that others use only
CPU time tells something, so how many points a second a worker can store
follows from that.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amqp

from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.benchmarks.backlog import publish, stored_points
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.size import measure
from tests.benchmarks.table import Row, compare, single
from tests.daemon import Daemon, script, wait_for

WORKERS = (1, 2, 4, 8)
# Requests a second, and for how many seconds: what comes as one message for
# each point takes much longer to send.
_LOADS = {"bridge": (20, 10), "messaging": (6, 10)}
_MICRO = 1e6
# By database.
_IDLE: dict[str, float] = {}


@dataclass(frozen=True)
class _Load:
    """What was sent.

    :param bodies: of the messages
    :param told: what simulate said of it
    :param broker: CPU seconds of the broker for a point
    """

    bodies: list[bytes]
    told: dict[str, Any]
    broker: float

    @property
    def points(self) -> int:
        return int(self.told["points sent"])


@dataclass(frozen=True)
class _Stored:
    """CPU seconds of each part for a point, and the bytes of one."""

    workers: float
    broker: float
    database: float
    size: float


def run(bench: Bench) -> Iterator[Row]:
    for driver in _LOADS:
        load = _send(bench, driver)
        yield single(
            f"sending by {driver}, CPU",
            "us/point",
            [load.told["CPU of sending, us/point"]],
        )
        yield single(
            f"size in messages by {driver}",
            "bytes/point",
            [load.told["bytes/point, in messages"]],
        )
        yield single(
            f"broker's CPU, taking messages by {driver}",
            "us/point",
            [load.broker * _MICRO],
        )
        for name in DATABASES:
            yield from _rows(bench, driver, load, name)


def _rows(bench: Bench, driver: str, load: _Load, name: str) -> Iterator[Row]:
    counts = WORKERS[:1] if driver == "messaging" else WORKERS
    stored: dict[int, list[_Stored]] = {count: [] for count in counts}
    for _ in bench.turns(2):
        for count in counts:
            stored[count].append(_store(bench, load, name, count))
    for count, done in stored.items():
        what = f"{driver}, {count} worker{'s' * (count > 1)}, {name}"
        workers = [turn.workers * _MICRO for turn in done]
        yield compare(
            f"workers' CPU, {what}",
            "us/point",
            workers,
            "1 worker",
            [turn.workers * _MICRO for turn in stored[1]],
        )
        yield single(
            f"broker's CPU, giving, {what}",
            "us/point",
            [turn.broker * _MICRO for turn in done],
        )
        if name != "SQLite":
            yield single(
                f"database's CPU, {what}",
                "us/point",
                [turn.database * _MICRO for turn in done],
            )
    yield single(
        f"size stored, {driver}, {name}",
        "bytes/point",
        [turn.size for turn in stored[1]],
    )


def _send(bench: Bench, driver: str) -> _Load:
    """Have simulate fill the queue, and take all of it off again."""
    rate, seconds = _LOADS[driver]
    config_file = bench.folder() / "bus.conf"
    config_file.write_text(
        f"[DEFAULT]\ntransport_url = {bench.rabbitmq.transport_url}\n"
    )
    before = bench.rabbitmq.cpu()
    done = subprocess.run(
        [
            *(
                script("profiler-bridge-manage"),
                f"--config-file={config_file}",
            ),
            *("simulate", f"--rate={rate}", f"--driver={driver}"),
            *(f"--seconds={bench.size(seconds, 2)}", "-f", "json"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    broker = bench.rabbitmq.cpu() - before
    if not done.stdout:
        raise RuntimeError(done.stderr)
    told = json.loads(done.stdout)
    if told["points lost"]:
        raise RuntimeError(done.stderr)
    bodies = []
    with amqp.Connection(f"127.0.0.1:{bench.rabbitmq.port}") as connection:
        channel = connection.channel()
        while message := channel.basic_get(bus.QUEUE, no_ack=True):
            body = message.body
            bodies.append(body if isinstance(body, bytes) else body.encode())
    if len(bodies) != told["messages"]:
        raise RuntimeError(f"{len(bodies)} of {told['messages']} messages")
    return _Load(bodies, told, broker / told["points sent"])


def _store(bench: Bench, load: _Load, name: str, workers: int) -> _Stored:
    """Store all of it, and see what that took."""
    server = _server(bench, name)
    with bench.database(name) as url:
        with contextlib.closing(get_storage(url)) as storage:
            storage.prepare()
        daemon = _daemon(bench, url, workers)
        idle = workers * _idle(bench, name, url)
        publish(bench.rabbitmq, load.bodies)
        broker = bench.rabbitmq.cpu()
        database = server.cpu() if server else 0.0
        empty = measure(bench, name, url)
        with daemon:
            wait_for(lambda: _stored(daemon) >= load.points, "all points", 900)
            busy = sum(map(servers.cpu, _collectors(daemon)))
            broker = bench.rabbitmq.cpu() - broker
            database = (server.cpu() if server else 0.0) - database
            if daemon.terminate() != 0:
                raise RuntimeError(daemon.log)
        if stored_points(url) != load.points:
            raise RuntimeError(f"{name} does not have all points")
        return _Stored(
            (busy - idle) / load.points,
            broker / load.points,
            database / load.points,
            (measure(bench, name, url) - empty) / load.points,
        )


def _idle(bench: Bench, name: str, url: str) -> float:
    """What a worker takes to begin, which is not for a point."""
    if name not in _IDLE:
        count = WORKERS[-1]
        with _daemon(bench, url, count) as daemon:
            wait_for(lambda: daemon.log.count("Listening") == count, "all")
            _IDLE[name] = sum(map(servers.cpu, _collectors(daemon))) / count
    return _IDLE[name]


def _server(bench: Bench, name: str) -> servers.Server | None:
    if name == "SQLite":
        return None
    server = getattr(bench, name.lower())
    assert isinstance(server, servers.Server)
    return server


def _daemon(bench: Bench, url: str, workers: int) -> Daemon:
    return Daemon(
        bench.folder(),
        {
            "DEFAULT": {"transport_url": bench.rabbitmq.transport_url},
            "osprofiler": {"connection_string": url},
            "bridge": {
                "workers": workers,
                "metrics_port": servers.free_port(),
            },
        },
    )


def _collectors(daemon: Daemon) -> list[int]:
    return [pid for pid in daemon.workers() if "collector" in _title(pid)]


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _stored(daemon: Daemon) -> float:
    """How many points it says that it has stored."""
    port = re.search(r"metrics_port = (\d+)", daemon.config_file.read_text())
    assert port
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port[1]}/metrics", timeout=30
        ) as answer:
            text = str(answer.read(), "utf-8")
    except OSError:
        return 0.0
    return sum(
        map(
            float,
            re.findall(
                r"^profiler_bridge_notifications_stored_total{.*?} (\S+)$",
                text,
                re.M,
            ),
        )
    )
