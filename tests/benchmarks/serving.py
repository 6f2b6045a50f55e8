# SPDX-License-Identifier: Apache-2.0

"""Traces over HTTP: what an answer costs, and many clients at the same time.

The service is a process of its own. What it takes to answer is compared with
the same calls in this one.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from profiler_bridge.query import TraceQuery
from profiler_bridge.report import html, jaeger, json
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import STARTED, notifications, seeded
from tests.benchmarks import clients, layouts, payloads
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.clients import Stored
from tests.benchmarks.service import Service, serving
from tests.benchmarks.table import Row, single

_TURNS = 7
_CLIENTS = 50
# Milliseconds of CPU that HTTP may add to a call.
_MOST_ADDED = 5.0
_PAGE = TraceQuery(limit=clients.PAGE)
_MIB = 1 << 20
# MiB of a service that many ask at the same time.
_MOST_MEMORY = 200.0
# Traces that are stored together.
_AT_ONCE = 10
# One trace in so many is a long one.
_LONG_EVERY = 10


def run(bench: Bench) -> Iterator[Row]:
    for name in DATABASES:
        with bench.database(name) as url:
            stored = fill(url, bench.size(500, 40), long_every=1)
            with serving(bench.folder(), url) as service:
                yield from _added(bench, name, url, stored, service)
    with bench.database("MariaDB") as url:
        stored = fill(url, bench.size(20_000, 400), _LONG_EVERY)
        with serving(bench.folder(), url) as service:
            yield from _under_load(bench, stored, service)


def fill(url: str, count: int, long_every: int) -> Stored:
    """Store traces, as many at a time as come off a bus together.

    :param long_every: one in so many has as many points as a request's
    """
    storage = get_storage(url)
    storage.prepare()
    rng = seeded(count)
    points: dict[str, int] = {}
    for numbers in layouts.chunks(range(count), _AT_ONCE):
        batch = []
        for number in numbers:
            kind = clients.KINDS[number % len(clients.KINDS)]
            trace = payloads.trace(
                rng,
                STARTED + number * payloads.EVERY,
                clients.SHORT if number % long_every else payloads.TRACE,
                service=payloads.SERVICES[number % len(payloads.SERVICES)],
                error=number % payloads.ERROR_EVERY == 0,
                asked=("GET", f"/v3/{kind}"),
            )
            points[trace[0]["base_id"]] = len(trace)
            batch += trace
        storage.write(notifications(batch))
    known = len(storage.list_traces(TraceQuery(limit=None)))
    storage.close()
    if known != count:
        raise RuntimeError(f"{known} traces are stored, not {count}")
    return Stored(points, STARTED, STARTED + count * payloads.EVERY)


class _Question(NamedTuple):
    """The same, asked in two ways.

    :param path: over HTTP, of a trace by its base_id
    :param call: here
    :param has: a part of the answer, and how often it is there
    """

    path: Callable[[str], str]
    call: Callable[[Storage, str], object]
    has: tuple[bytes, int]


_SPANS = payloads.TRACE // 2
_QUESTIONS = {
    f"a page of {clients.PAGE} traces": _Question(
        lambda _: f"/traces?limit={clients.PAGE}",
        lambda storage, _: storage.list_traces(_PAGE),
        (b"</tr>", clients.PAGE + 1),
    ),
    "the same as JSON": _Question(
        lambda _: f"/v1/traces?limit={clients.PAGE}",
        lambda storage, _: storage.list_traces(_PAGE),
        (b'"Base ID"', clients.PAGE),
    ),
    f"a trace of {payloads.TRACE} points, its page": _Question(
        lambda base_id: f"/traces/{base_id}",
        lambda storage, base_id: [*html.render(storage.trace(base_id))],
        (b"<title>", 1),
    ),
    f"a trace of {payloads.TRACE} points, its report": _Question(
        lambda base_id: f"/v1/traces/{base_id}",
        lambda storage, base_id: [*json.render(storage.trace(base_id))],
        (b'"children"', _SPANS + 1),
    ),
    f"a trace of {payloads.TRACE} points, for Jaeger's clients": _Question(
        lambda base_id: f"/api/traces/{base_id}",
        lambda storage, base_id: [*jaeger.render(storage.trace(base_id))],
        (b'"operationName"', _SPANS),
    ),
}


def _added(
    bench: Bench, name: str, url: str, stored: Stored, service: Service
) -> Iterator[Row]:
    """What HTTP adds to calls, of the CPU of the process that answers."""
    asked = bench.size(100, 10)
    base_ids = itertools.cycle(stored.points)
    storage = get_storage(url)
    connection = service.connect()
    served: dict[str, list[float]] = {what: [] for what in _QUESTIONS}
    called: dict[str, list[float]] = {what: [] for what in _QUESTIONS}
    # The first turn is a rehearsal.
    for turn in range(-1, bench.turns(_TURNS).stop):
        for what, question in _QUESTIONS.items():
            own = [*itertools.islice(base_ids, asked)]
            before = service.cpu
            for base_id in own:
                answer = connection.get(question.path(base_id))
                part, times = question.has
                if answer.status != 200 or answer.body.count(part) != times:
                    raise RuntimeError(f"{what}: {answer.body[:2000]!r}")
            after = service.cpu
            began = time.process_time()
            for base_id in own:
                question.call(storage, base_id)
            ended = time.process_time()
            if turn >= 0:
                served[what].append((after - before) / asked * 1e3)
                called[what].append((ended - began) / asked * 1e3)
    connection.close()
    storage.close()
    for what in _QUESTIONS:
        yield Row(
            f"CPU that HTTP adds: {what}, {name}",
            "ms",
            statistics.median(
                whole - call
                for whole, call in zip(served[what], called[what], strict=True)
            ),
            "the calls alone",
            statistics.median(called[what]),
            at_most=bench.wanted(_MOST_ADDED),
            samples={"served": served[what], "called": called[what]},
        )


def _under_load(
    bench: Bench, stored: Stored, service: Service
) -> Iterator[Row]:
    """Many clients; no request may fail, and the service counts as many."""
    # So that all threads and connections are there.
    first = clients.ask(service, stored, _CLIENTS, bench.size(5, 1))
    before = service.memory
    began = time.monotonic()
    done = clients.ask(service, stored, _CLIENTS, bench.size(30, 3))
    seconds = time.monotonic() - began
    after = service.memory
    failed = sorted({one.failed for one in (*first, *done) if one.failed})
    if failed:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[:5]}")
    counted = service.log.count('"GET /')
    if counted != len(first) + len(done):
        raise RuntimeError(
            f"{counted} requests were answered, not {len(first) + len(done)}"
        )
    where = f"{_CLIENTS} clients, {len(stored.points):,} traces, MariaDB"
    yield single(f"requests, {where}", "/s", [len(done) / seconds])
    taken: dict[str, list[float]] = {}
    for one in done:
        taken.setdefault(one.what, []).append(one.seconds * 1e3)
    everything = [one.seconds * 1e3 for one in done]
    for percent in (50, 95, 100):
        yield Row(
            f"a request's time, p{percent}, {where}",
            "ms",
            _percentile(everything, percent),
            samples={
                what: {
                    "requests": len(own),
                    "ms": _percentile(own, percent),
                }
                for what, own in taken.items()
            },
        )
    for what, size, limit in (
        ("memory at first", before, None),
        ("memory at the end", after, None),
        ("peak memory", service.peak_memory, bench.wanted(_MOST_MEMORY)),
    ):
        yield single(f"{what}, {where}", "MiB", [size / _MIB], at_most=limit)


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
