# SPDX-License-Identifier: Apache-2.0

"""Points per second of one worker, and its CPU time per point.

From a backlog in RabbitMQ, of real messages of a Keystone, into each database:
against a listener that does nothing, the bus library with nothing around it,
and the bridge that anyone would write first.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks import payloads
from tests.benchmarks.backlog import Drain, drain, stored_points
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.listener import NAIVE, NO_OP, OURS, PY_AMQP, READER
from tests.benchmarks.table import Row, compare

_MICRO = 1e6


def run(bench: Bench) -> Iterator[Row]:
    bodies = [*payloads.keystone_bodies(bench.size(20_000, 2_000))]
    yield from _reading(bench, bodies)
    for name in DATABASES:
        # Slow, and as slow with few messages as with many.
        few = bodies[: bench.size(10_000 if name == "Redis" else 2_000, 500)]
        drains: dict[str, list[Drain]] = {
            kind: [] for kind in (NO_OP, PY_AMQP, OURS, NAIVE)
        }
        for _ in bench.turns(5):
            for kind in (NO_OP, PY_AMQP):
                drains[kind].append(drain(bench, bodies, kind))
            for kind, some in ((OURS, bodies), (NAIVE, few)):
                with bench.database(name) as url:
                    drains[kind].append(drain(bench, some, kind, url))
                    if kind == OURS and stored_points(url) != len(bodies):
                        raise RuntimeError(f"{name} does not have all points")
        rates = _column(drains, "rate", 1)
        yield compare(
            f"ingest, {name}",
            "points/s",
            rates[OURS],
            "no-op listener",
            rates[NO_OP],
            at_least=bench.wanted(
                0.90 if name in ("SQLite", "Redis") else 0.85
            ),
        )
        yield compare(
            f"ingest, {name}",
            "points/s",
            rates[OURS],
            "naive bridge",
            rates[NAIVE],
            at_least=bench.wanted(2.2 if name == "Redis" else 5),
        )
        times = _column(drains, "cpu", _MICRO)
        yield compare(
            f"worker's CPU time, {name}",
            "us/point",
            times[OURS],
            "no-op listener",
            times[NO_OP],
            inverse=True,
            at_least=bench.wanted(
                {"SQLite": 2.7, "Redis": 2.5}.get(name, 2.2)
            ),
        )
        yield compare(
            f"worker's CPU time, {name}",
            "us/point",
            times[OURS],
            "py-amqp and json.loads",
            times[PY_AMQP],
            at_most=bench.wanted(1.3 if name in ("SQLite", "Redis") else 1.5),
        )


def _reading(bench: Bench, bodies: list[bytes]) -> Iterator[Row]:
    """What reading, decoding and acknowledging is of it."""
    others = {
        NO_OP: "no-op listener",
        PY_AMQP: "py-amqp and json.loads",
    }
    drains: dict[str, list[Drain]] = {kind: [] for kind in (READER, *others)}
    for _ in bench.turns(5):
        for kind, done in drains.items():
            done.append(drain(bench, bodies, kind))
    times = _column(drains, "cpu", _MICRO)
    for kind, name in others.items():
        yield compare(
            "CPU time of reading, decoding, acknowledging",
            "us/message",
            times[READER],
            name,
            times[kind],
            inverse=True,
        )


def _column(
    drains: dict[str, list[Drain]], name: str, factor: float
) -> dict[str, list[float]]:
    return {
        kind: [factor * getattr(drained, name) for drained in done]
        for kind, done in drains.items()
    }
