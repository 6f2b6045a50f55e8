# SPDX-License-Identifier: Apache-2.0

"""What it costs to send traces to others, against OpenTelemetry's exporter.

Both send the same spans, those of recorded traces, over OTLP/HTTP in protobuf
to a server in another process, which decodes and counts them. The exporter
gets spans of the SDK, made beforehand; ours are made of notifications, which
counts. To read these from the storage and to decode them is counted apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profiler_bridge.body import decode_body
from profiler_bridge.notification import Notification
from profiler_bridge.storage import get_storage
from tests import otlp_server, recorded
from tests.benchmarks import forwarded, spans
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, compare, single

_MICRO = 1e6
_SIDES = (forwarded.BRIDGE, forwarded.OPENTELEMETRY)


def run(bench: Bench) -> Iterator[Row]:
    if not spans.opentelemetry_is_installed():
        print(
            "forwarding left out: opentelemetry-sdk and"
            " opentelemetry-exporter-otlp-proto-http are not installed",
            file=sys.stderr,
        )
        return
    reading: list[float] = []
    with bench.database("SQLite") as url, otlp_server.collector() as server:
        fill(url, bench.size(6, 1))
        for compression in ("gzip", "none"):
            cpu: dict[str, list[float]] = {side: [] for side in _SIDES}
            sizes: dict[str, list[float]] = {side: [] for side in _SIDES}
            for _ in bench.turns(7):
                for side in _SIDES:
                    taken, size = _run(server, side, url, compression)
                    cpu[side].append(taken.sending * _MICRO / taken.spans)
                    sizes[side].append(size / taken.spans)
                    reading.append(taken.reading * _MICRO / taken.spans)
            ours, other = cpu.values()
            name = f"compression={compression}"
            yield compare(
                f"CPU time of a forwarded span, {name}",
                "us/span",
                ours,
                "OpenTelemetry's exporter",
                other,
                at_most=bench.wanted(0.7) if compression == "gzip" else None,
            )
            ours, other = sizes.values()
            yield compare(
                f"size of a forwarded span, {name}",
                "bytes",
                ours,
                "OpenTelemetry's exporter",
                other,
            )
    yield single("CPU time to read a span, SQLite", "us/span", reading)


def fill(url: str, copies: int) -> None:
    """Store the recorded traces, each so many times as others."""
    storage = get_storage(url)
    storage.prepare()
    for copy in range(copies):
        for bodies in (recorded.server_create(), recorded.keystone()):
            storage.write(
                [
                    Notification.from_payload(_renamed(body, copy))
                    for body in bodies
                ]
            )
    storage.close()


def _renamed(body: bytes, copy: int) -> dict[str, Any]:
    """A payload of another trace."""
    message = decode_body(body)
    assert isinstance(message, dict)
    payload: dict[str, Any] = message["payload"]
    base_id = f"{copy:08x}{payload['base_id'][8:]}"
    parent_id = payload["parent_id"]
    if parent_id == payload["base_id"]:
        parent_id = base_id
    return {**payload, "base_id": base_id, "parent_id": parent_id}


def _run(
    server: otlp_server.Collector, kind: str, storage: str, compression: str
) -> tuple[forwarded.Taken, int]:
    """What it took, and how many bytes were sent."""
    server.taken.clear()
    server.requests.clear()
    task = forwarded.Task(kind, storage, server.port, compression)
    done = subprocess.run(
        [sys.executable, "-m", forwarded.__name__, json.dumps(asdict(task))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
        cwd=Path(__file__).parents[2],
    )
    taken = forwarded.Taken(**json.loads(done.stdout))
    rounds = 1 + forwarded.ROUNDS
    arrived = sum(request.spans for request in server.taken)
    if arrived != rounds * taken.spans:
        raise RuntimeError(f"{task}: {arrived} spans arrived")
    return taken, sum(request.size for request in server.taken) // rounds
