# SPDX-License-Identifier: Apache-2.0

"""What the notifier costs a profiled request, and what it saves the bridge.

A request makes a point each millisecond, which is more than services do. The
other side is osprofiler's own ``messaging://``. A program that does nothing
but make spans and send them is compared with OpenTelemetry's
BatchSpanProcessor, where that is installed. Then one worker drains the points
of requests, as messages of many and as messages of one.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oslo_config import cfg

from profiler_bridge.notification import FORMAT, VERSION
from tests import bus
from tests.benchmarks import payloads, spans
from tests.benchmarks.backlog import Drain, drain, make
from tests.benchmarks.bench import Bench
from tests.benchmarks.listener import OURS
from tests.benchmarks.table import Row, compare, single

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from osprofiler import notifier

    import profiler_bridge.sender.driver  # noqa: F401 - registers bridge://

#: Points of a full message, by default.
MANY = 500
_EVERY = 0.001
_MICRO = 1e6

Notify = Callable[[dict[str, Any]], None]


def run(bench: Bench) -> Iterator[Row]:
    yield from _request(bench)
    yield _program(bench)
    yield from _worker(bench)


def _request(bench: Bench) -> Iterator[Row]:
    points = [
        {
            key: value
            for key, value in point.items()
            if key not in ("project", "service")
        }
        for point in payloads.points(bench.size(5_000, 1_000))
    ]
    percentiles: dict[str, list[list[float]]] = {"bridge": [], "messaging": []}
    for _ in bench.turns(5):
        for driver, quantiles in percentiles.items():
            notify = notifier.create(
                f"{driver}://",
                conf=_conf(),
                context={},
                transport_url=bench.rabbitmq.transport_url,
                project="nova",
                service="api",
                host="vm",
            )
            notify(points[0])  # connects
            if driver == "bridge":
                notify.__self__._notifier.flush(60)
            taken = _time(notify, points)
            if driver == "bridge":
                notify.__self__._notifier.stop(60)
            else:
                notify.__self__.transport.cleanup()
            notifier.clear_notifier_cache()
            quantiles.append(statistics.quantiles(taken, n=100))
    for percent, times in ((50, 30), (99, 10)):
        ours, other = (
            [quantiles[percent - 1] * _MICRO for quantiles in turns]
            for turns in percentiles.values()
        )
        yield compare(
            f"time in notify(), p{percent}",
            "us/point",
            ours,
            "messaging://",
            other,
            inverse=True,
            at_least=bench.wanted(times),
        )


def _time(notify: Notify, points: list[dict[str, Any]]) -> list[float]:
    """Seconds that each call takes."""
    taken = []
    for point in points:
        began = time.perf_counter()
        notify(point)
        taken.append(time.perf_counter() - began)
        time.sleep(_EVERY)
    return taken


def _conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return conf


def _program(bench: Bench) -> Row:
    measure = "CPU time of a program, a span with bridge://", "us/span"
    count = bench.size(50_000, 2_000)
    sides = [spans.BRIDGE]
    if spans.opentelemetry_is_installed():
        sides.append(spans.OPENTELEMETRY)
    else:
        print(
            "OpenTelemetry left out: opentelemetry-sdk and"
            " opentelemetry-exporter-otlp-proto-http are not installed",
            file=sys.stderr,
        )
    bus.publish(bench.rabbitmq.transport_url, [])  # makes the queue
    taken: dict[str, list[float]] = {side: [] for side in sides}
    with _collector() as url:
        urls = {
            spans.BRIDGE: bench.rabbitmq.transport_url,
            spans.OPENTELEMETRY: url,
        }
        for _ in bench.turns(7):
            for side in sides:
                cpu = _run(spans.Task(side, urls[side], count))
                taken[side].append(cpu * _MICRO / count)
    ours = taken[spans.BRIDGE]
    if len(sides) == 1:
        return single(*measure, ours)
    return compare(
        *measure,
        ours,
        "OpenTelemetry's BatchSpanProcessor",
        taken[spans.OPENTELEMETRY],
        at_most=bench.wanted(0.5),
    )


def _run(task: spans.Task) -> float:
    """Seconds of CPU time."""
    command = [sys.executable, "-m", spans.__name__, json.dumps(asdict(task))]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
        cwd=Path(__file__).parents[2],
    )
    return float(done.stdout)


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """The URL of what takes all that OTLP over HTTP sends, and forgets it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces"
        server.shutdown()


def _worker(bench: Bench) -> Iterator[Row]:
    single = make(bench.size(20_000, 2_000))
    many = [*messages_of_many(bench.size(100_000, 10_000))]
    for name in ("Redis", "SQLite"):
        ours: list[Drain] = []
        other: list[Drain] = []
        for _ in bench.turns(5):
            with bench.database(name) as url:
                ours.append(drain(bench, many, OURS, url))
            with bench.database(name) as url:
                other.append(drain(bench, single, OURS, url))
        yield compare(
            f"ingest of many-point messages, {name}",
            "points/s",
            [drained.rate * MANY for drained in ours],
            "single-point messages",
            [drained.rate for drained in other],
        )
        yield compare(
            f"worker's CPU time, many-point messages, {name}",
            "us/point",
            [drained.cpu * _MICRO / MANY for drained in ours],
            "single-point messages",
            [drained.cpu * _MICRO for drained in other],
            inverse=True,
        )


def messages_of_many(count: int) -> Iterator[bytes]:
    """Bodies as our notifier makes them, of so many points together."""
    points = payloads.points(count)
    while some := [*itertools.islice(points, MANY)]:
        payload = {FORMAT: VERSION, "points": some}
        yield json.dumps(bus.envelope(payload)).encode()
