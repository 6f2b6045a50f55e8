# SPDX-License-Identifier: Apache-2.0

"""How long a user waits for a short list, and what it takes to start.

CPU time is that of a whole process, from its start to after its end, user and
system, children included.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import Payload, notifications
from tests.benchmarks import layouts, payloads
from tests.benchmarks.backlog import publish, stored_points
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, compare, single
from tests.daemon import Daemon, script, wait_for

_TRACES = 20
_THEIRS = "osprofiler trace list, Redis"
_PYTHON = "Python alone"


class _Cost(NamedTuple):
    """Milliseconds that a command took."""

    wall: float
    cpu: float


def run(bench: Bench) -> Iterator[Row]:
    with (
        bench.database("SQLite") as sqlite_url,
        bench.database("Redis") as redis_url,
    ):
        # Another database of the same server.
        theirs_url = bench.redis.url_for(1)
        for url in (sqlite_url, redis_url):
            _fill(url)
        layouts.fill_redis(theirs_url, _points())
        lists = {
            "SQLite": _list(sqlite_url),
            "Redis": _list(redis_url),
            _THEIRS: [
                *(script("osprofiler"), "trace", "list"),
                f"--connection-string={theirs_url}",
            ],
            _PYTHON: [sys.executable, "-c", "pass"],
        }
        costs: dict[str, list[_Cost]] = {name: [] for name in lists}
        # The first turn is a rehearsal, in which bytecode is written.
        for turn in range(-1, bench.turns(20).stop):
            for name, command in lists.items():
                cost = _cost(command)
                if turn >= 0:
                    costs[name].append(cost)
        imports, whole = zip(
            *(_imports(lists["SQLite"]) for _ in bench.turns(5)), strict=True
        )
    yield from _compare(bench, costs)
    yield compare(
        "imports, of which Python tells", "ms", imports, "whole run", whole
    )
    for name in ("SQLite", "Redis"):
        yield single(
            f"start-up, CPU: daemon to its first notification in {name}",
            "ms",
            [_daemon(bench, name) for _ in bench.turns(5)],
        )


def _compare(bench: Bench, costs: dict[str, list[_Cost]]) -> Iterator[Row]:
    for kind, at_most in (("wall", None), ("cpu", bench.wanted(1.0))):
        took = {
            name: [getattr(cost, kind) for cost in every]
            for name, every in costs.items()
        }
        measure = "start-up, CPU" if kind == "cpu" else "start-up"
        for name in ("SQLite", "Redis"):
            yield compare(
                f"{measure}: list of {_TRACES} traces, {name}",
                "ms",
                took[name],
                _THEIRS,
                took[_THEIRS],
                at_most=at_most,
            )
        yield compare(
            f"{measure}: list of {_TRACES} traces, SQLite",
            "ms",
            took["SQLite"],
            _PYTHON,
            took[_PYTHON],
        )


def _points() -> Iterator[Payload]:
    return payloads.points(_TRACES * payloads.TRACE)


def _fill(url: str) -> None:
    storage = get_storage(url)
    storage.prepare()
    storage.write(notifications(_points()))
    storage.close()


def _list(url: str) -> list[str]:
    return [
        script("profiler-bridge-report"),
        f"--connection-string={url}",
        "list",
    ]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # What is installed has its bytecode beside it.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def _cost(command: list[str]) -> _Cost:
    began, cpu_before = time.perf_counter(), _children()
    _run(command)
    ended, cpu_after = time.perf_counter(), _children()
    return _Cost((ended - began) * 1e3, (cpu_after - cpu_before) * 1e3)


def _children() -> float:
    """Seconds of CPU time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _imports(command: list[str]) -> tuple[float, float]:
    """Milliseconds in imports, and in the whole run in which they were."""
    began = time.perf_counter()
    done = _run([sys.executable, "-X", "importtime", *command])
    whole = time.perf_counter() - began
    # Each line has what a module took by itself, in microseconds.
    own = re.findall(r"^import time:\s*(\d+) \|", done.stderr, re.MULTILINE)
    return sum(map(int, own)) / 1e3, whole * 1e3


def _daemon(bench: Bench, name: str) -> float:
    """Milliseconds of all its processes until it has stored what waited."""
    publish(bench.rabbitmq, payloads.bodies(1))
    with bench.database(name) as url:
        storage = get_storage(url)
        storage.prepare()
        storage.close()
        daemon = Daemon(
            bench.folder(),
            {
                "DEFAULT": {"transport_url": bench.rabbitmq.transport_url},
                "osprofiler": {"connection_string": url},
            },
        )
        with daemon:
            wait_for(lambda: stored_points(url), "the notification stored")
            assert daemon.process is not None
            processes = (daemon.process.pid, *daemon.workers())
            taken = sum(map(_cpu, processes))
            daemon.terminate()
    return taken * 1e3


def _cpu(process: int) -> float:
    """Seconds of CPU time of a process, and of its children that ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
    ticks = sum(map(int, fields.split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
