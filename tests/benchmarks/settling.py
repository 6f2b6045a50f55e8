# SPDX-License-Identifier: Apache-2.0

"""What it costs that settled traces set something off.

First of the worker, which notes what arrives; then of a process that sees to
what has settled; then both beside each other, while a backlog is stored. All
traces are of this moment, for history sets off nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from profiler_bridge import exceptions
from profiler_bridge.body import decode_body
from profiler_bridge.daemon.settler import tasks
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage, slots
from profiler_bridge.storage.slots import Arrivals
from tests import bus, otlp_server, servers
from tests.benchmarks import payloads, settled, taker
from tests.benchmarks.backlog import drain, publish, stored_points
from tests.benchmarks.bench import DATABASES, Bench
from tests.benchmarks.listener import OURS
from tests.benchmarks.table import Row, compare, single
from tests.daemon import Daemon, wait_for

_MICRO = 1e6
_KEYSTONE = "Keystone's traces"
_SHORT = "traces of 2 spans"
_BODIES: dict[str, Callable[[int], Iterator[bytes]]] = {
    _KEYSTONE: payloads.keystone_now,
    _SHORT: payloads.short_now,
}
_WITH = "with forwarding and metrics"
_WITHOUT = "without"
# The port is not listened on: only the worker is run.
_SETS_OFF = {
    _WITH: "metrics_port = 1\nrequest_metrics = true\n"
    "[forward]\nendpoint = otlp+http://127.0.0.1:1\n",
    _WITHOUT: "",
}
# Messages that a worker stores at once.
_BATCH = 500
_ROOT = Path(__file__).parents[2]
# Seconds after which an end is waited for no longer.
_AT_MOST = 20
# Seconds; nothing takes longer.
_LONGEST = 600.0


def run(bench: Bench) -> Iterator[Row]:
    yield from _noting(bench)
    yield from _settling(bench)
    yield from _beside(bench)


# What it costs the worker


def _noting(bench: Bench) -> Iterator[Row]:
    for kind, make in _BODIES.items():
        for name in DATABASES:
            bodies = [*make(bench.size(20_000, 1_000))]
            rates: dict[str, list[float]] = {_WITH: [], _WITHOUT: []}
            times: dict[str, list[float]] = {_WITH: [], _WITHOUT: []}
            for turn in bench.turns(6):
                for side in _sides(turn):
                    with bench.database(name) as url:
                        drained = drain(
                            bench, bodies, OURS, url, options=_SETS_OFF[side]
                        )
                        if stored_points(url) != len(bodies):
                            raise RuntimeError(f"{name} misses points")
                        if bool(_arrivals(url)) != (side == _WITH):
                            raise RuntimeError(f"{name} has wrong arrivals")
                    rates[side].append(drained.rate)
                    times[side].append(drained.cpu * _MICRO)
            yield compare(
                f"ingest, {_WITH}, {kind}, {name}",
                "points/s",
                rates[_WITH],
                _WITHOUT,
                rates[_WITHOUT],
                at_least=bench.wanted(0.85),
            )
            yield compare(
                f"worker's CPU time, {_WITH}, {kind}, {name}",
                "us/point",
                times[_WITH],
                _WITHOUT,
                times[_WITHOUT],
            )


def _sides(turn: int) -> Sequence[str]:
    """Both, the other one first in each turn."""
    return (_WITH, _WITHOUT) if turn % 2 else (_WITHOUT, _WITH)


def _arrivals(url: str) -> int:
    """How many there are."""
    with contextlib.closing(get_storage(url)) as storage:
        now = slots.slot_of(slots.now())
        arrivals = slots.arrivals(storage.plugin, 0, now + 1)
        return sum(map(len, arrivals.values()))


# What it costs to see to what has settled


def _settling(bench: Bench) -> Iterator[Row]:
    for kind, make in _BODIES.items():
        count = bench.size(20_000, 1_000)
        for name in DATABASES:
            taken: dict[str, list[settled.Taken]] = {
                settled.NOTHING: [],
                settled.FORWARD: [],
                settled.METRICS: [],
            }
            with otlp_server.collector() as server:
                for _ in bench.turns(3):
                    for consumer, done in taken.items():
                        with bench.database(name) as url:
                            spans = _fill(url, make(count))
                            server.taken.clear()
                            server.requests.clear()
                            one = _settled(consumer, url, server.port)
                        arrived = sum(
                            forwarded.spans for forwarded in server.taken
                        )
                        if one.spans != spans or (
                            consumer == settled.FORWARD and arrived != spans
                        ):
                            raise RuntimeError(f"{one} of {spans} spans")
                        done.append(one)
            yield from _costs(f"{kind}, {name}", taken)


def _costs(name: str, taken: dict[str, list[settled.Taken]]) -> Iterator[Row]:
    for consumer, done in taken.items():
        yield single(
            f"CPU time to settle for {consumer}, {name}",
            "us/span",
            [turn.settling * _MICRO / turn.spans for turn in done],
        )
    some = taken[settled.FORWARD]
    for step in sorted({step for turn in some for step in turn.steps}):
        yield single(
            f"CPU time to forward, of it {step}, {name}",
            "us/span",
            [turn.steps.get(step, 0.0) * _MICRO / turn.spans for turn in some],
        )
    yield single(
        f"CPU time to settle for {settled.NOTHING}, {name}",
        "us/trace",
        [
            turn.settling * _MICRO / turn.traces
            for turn in taken[settled.NOTHING]
        ],
    )
    yield single(
        f"CPU time of the second look, {name}",
        "us/trace",
        [
            turn.again * _MICRO / turn.traces
            for done in taken.values()
            for turn in done
        ],
    )


def _fill(url: str, bodies: Iterable[bytes]) -> int:
    """Store what is in messages, in batches as a worker does.

    :returns: how many spans
    """
    storage = get_storage(url)
    storage.prepare()
    storage.arrivals = Arrivals()
    batch: list[Notification] = []
    count = 0
    for body in bodies:
        message = decode_body(body)
        assert isinstance(message, dict)
        batch.append(Notification.from_payload(message["payload"]))
        count += 1
        if len(batch) == _BATCH:
            storage.write(batch)
            batch = []
    storage.write(batch)
    storage.close()
    return count // 2


def _settled(consumer: str, url: str, port: int) -> settled.Taken:
    task = settled.Task(consumer, url, port)
    done = subprocess.run(
        [sys.executable, "-m", settled.__name__, json.dumps(asdict(task))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_LONGEST,
        cwd=_ROOT,
    )
    return settled.Taken(**json.loads(done.stdout))


# Both beside each other


@dataclass(frozen=True)
class _Stored:
    """How a daemon has stored a backlog.

    :param rate: points per second, while most of it was stored
    :param cores: how many each process had meanwhile
    :param cpu: seconds of each process, until all was done
    :param last: seconds from when all was taken from the bus until the last
        span was forwarded
    :param beside: which share of the spans was forwarded before that
    :param arrivals: those that are left, per trace
    :param leases: those that are left, of all ways
    """

    points: int
    rate: float
    cores: dict[str, float]
    cpu: dict[str, float]
    last: float
    beside: float
    arrivals: float
    leases: int


def _beside(bench: Bench) -> Iterator[Row]:
    # Some 40 seconds' work: what came in the first ten settles meanwhile.
    count = bench.size(600_000, 10_000)
    for name in DATABASES:
        sides: dict[str, list[_Stored]] = {_WITH: [], _WITHOUT: []}
        for turn in bench.turns(4):
            for side in _sides(turn):
                with bench.database(name) as url:
                    stored = _store(bench, name, url, count, side)
                sides[side].append(stored)
        ours, other = sides.values()
        yield compare(
            f"storing beside it, {os.cpu_count()} processors, {name}",
            "points/s",
            [turn.rate for turn in ours],
            _WITHOUT,
            [turn.rate for turn in other],
            at_least=bench.wanted(0.85),
        )
        yield from _shares(name, ours, other)
        for measure, unit, values in (
            ("last span after the backlog", "s", [x.last for x in ours]),
            ("forwarded while storing", "of 1", [x.beside for x in ours]),
            ("arrivals", "a trace", [x.arrivals for x in ours]),
            ("leases at the end", "", [float(x.leases) for x in ours]),
        ):
            yield single(f"{measure}, {name}", unit, values)


def _shares(
    name: str, ours: list[_Stored], other: list[_Stored]
) -> Iterator[Row]:
    """Who has used the processors."""
    for process in ours[0].cpu:
        for measure, unit, one, another in (
            (
                f"{process} while storing, {name}",
                "cores",
                [turn.cores[process] for turn in ours],
                [turn.cores.get(process, 0.0) for turn in other],
            ),
            (
                f"CPU time of {process}, {name}",
                "us/point",
                [turn.cpu[process] * _MICRO / turn.points for turn in ours],
                [
                    turn.cpu.get(process, 0.0) * _MICRO / turn.points
                    for turn in other
                ],
            ),
        ):
            if all(another):
                yield compare(measure, unit, one, _WITHOUT, another)
            else:
                yield single(measure, unit, one)


def _store(
    bench: Bench, name: str, url: str, count: int, side: str
) -> _Stored:
    """Have a daemon store a backlog; and forward and count all, or nothing."""
    port = servers.free_port()
    options: dict[str, dict[str, object]] = {
        "DEFAULT": {"transport_url": bench.rabbitmq.transport_url},
        "osprofiler": {"connection_string": url},
        "bridge": {"metrics_port": port},
        "settled": {"settle_after": 1, "settle_at_most": _AT_MOST},
    }
    with taker.process() as target:
        if side == _WITH:
            options["bridge"]["request_metrics"] = "true"
            options["forward"] = {"endpoint": f"{target.url}?name=target"}
        points = publish(bench.rabbitmq, payloads.keystone_now(count))
        spans = points // 2
        daemon = Daemon(bench.folder(), options)
        watch = _Watch(bench, name, daemon, target.pid)
        with daemon:
            began, ended = watch.drain(points)
            taken = time.monotonic()
            beside, last = target.spans() / spans, 0.0
            wait_for(lambda: _all_stored(url, points), "all points", _LONGEST)
            if side == _WITH:
                wait_for(
                    lambda: target.spans() >= spans,
                    "all spans at the target",
                    _LONGEST,
                )
                last = time.monotonic() - taken
                # Until they have looked at all of it for the last time.
                time.sleep(_AT_MOST + 20)
                _check(target.has(), _counted(port), spans)
            cpu = watch.cpu()
            daemon.terminate()
    seconds = ended.at - began.at
    return _Stored(
        points,
        (began.depth - ended.depth) / seconds,
        {
            process: (used - began.cpu.get(process, 0.0)) / seconds
            for process, used in ended.cpu.items()
        },
        cpu,
        last,
        beside,
        _arrivals(url) / _traces(url),
        _leases(url),
    )


@dataclass(frozen=True)
class _Moment:
    """While a backlog is stored.

    :param depth: messages that wait on the bus
    :param cpu: seconds of each process
    """

    at: float
    depth: int
    cpu: dict[str, float]


class _Watch:
    """Looks at the processes that have a part in it.

    :param target: its process
    """

    def __init__(
        self, bench: Bench, name: str, daemon: Daemon, target: int
    ) -> None:
        self._rabbitmq = bench.rabbitmq
        self._daemon = daemon
        self._target = target
        self._servers: dict[str, servers.Server] = {"RabbitMQ": bench.rabbitmq}
        if name != "SQLite":
            self._servers[name] = getattr(bench, name.lower())
        self._before = {
            name: server.cpu() for name, server in self._servers.items()
        }

    def drain(self, count: int) -> tuple[_Moment, _Moment]:
        """Wait until all has been taken from the bus.

        :returns: near the beginning, and near the end
        """
        moments = [_Moment(time.monotonic(), count, {})]
        while moments[-1].depth:
            if moments[-1].at - moments[0].at > _LONGEST:
                raise RuntimeError("the backlog was not taken in time")
            time.sleep(0.2)
            depth = self._rabbitmq.queue_depth(bus.QUEUE)
            moments.append(_Moment(time.monotonic(), depth, self.cpu()))
        some = [
            moment
            for moment in moments
            if 0.05 * count < moment.depth < 0.95 * count
        ]
        return some[0], some[-1]

    def cpu(self) -> dict[str, float]:
        used = {
            name: server.cpu() - self._before[name]
            for name, server in self._servers.items()
        }
        settling = []
        for pid in sorted(self._daemon.workers()):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"collector" in title:
                used["the worker"] = servers.cpu(pid)
            elif b"settled" in title:
                settling.append(pid)
        # Started in this order.
        for process, pid in zip(
            ("forwarding", "metrics"), settling, strict=False
        ):
            used[process] = servers.cpu(pid)
        if settling:
            used["the target"] = servers.cpu(self._target)
        return used


def _traces(url: str) -> int:
    """How many there are."""
    with contextlib.closing(get_storage(url)) as storage:
        return len(storage.list_traces(TraceQuery(limit=1_000_000)))


def _all_stored(url: str, count: int) -> bool:
    time.sleep(0.2)
    with contextlib.suppress(exceptions.StorageError):
        return stored_points(url) == count
    return False


def _counted(port: int) -> Counter[str]:
    """How many spans of each name the daemon's metrics have."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "traces_spanmetrics_calls_total":
                counted[sample.labels["span_name"]] += int(sample.value)
    return counted


def _check(has: taker.Has, counted: Counter[str], spans: int) -> None:
    """Compare what came out at both ends."""
    if has.spans != spans or has.different != spans:
        raise RuntimeError(
            f"of {spans} spans {has.different} were forwarded, in {has.spans}"
        )
    if counted != Counter(has.names):
        raise RuntimeError("metrics have other spans than were forwarded")


def _leases(url: str) -> int:
    """How many there are, of both ways of both."""
    with contextlib.closing(get_storage(url)) as storage:
        return sum(
            len(storage.plugin.leases(f"{task}{end}", 0))
            for consumer in ("target", "metrics")
            for task in tasks(consumer)
            for end in ("", "/done")
        )
