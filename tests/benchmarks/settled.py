# SPDX-License-Identifier: Apache-2.0

"""A program that sees to settled traces, as a process of the daemon does.

Run by :mod:`tests.benchmarks.settling` with a :class:`Task` as JSON. Prints
:class:`Taken` as JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from profiler_bridge.daemon.settler import Settler, Waiting
from profiler_bridge.forward.endpoint import Endpoint
from profiler_bridge.forward.target import Target
from profiler_bridge.settled import Consumer, Settled
from profiler_bridge.storage import get_storage, slots
from profiler_bridge.storage.plugin import StoragePlugin
from profiler_bridge.summary import TraceSummary

NOTHING = "nothing"
FORWARD = "forward"
METRICS = "metrics"

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_WAITING = Waiting(10 * _SECOND, 15 * _MINUTE, 40 * _MINUTE)
# What of a plugin's calls is what.
_STEPS = {
    "notifications": "reading",
    "notifications_of": "reading",
    "partials": "summaries",
    "marks": "summaries",
    "insert": "notes",
    "index": "slots",
    "lease": "slots",
    "leases": "slots",
}


@dataclass(frozen=True)
class Task:
    """What to run.

    :param consumer: NOTHING, FORWARD or METRICS
    :param storage: with traces that came in the last two minutes
    :param port: of a server on 127.0.0.1 that takes OTLP/HTTP
    """

    consumer: str
    storage: str
    port: int


@dataclass(frozen=True)
class Taken:
    """Seconds of CPU time, of all threads.

    :param settling: until the consumer had all that has settled
    :param again: for the second look, after settle_at_most
    :param steps: what they are of: the consumer, and calls of the plugin
    """

    traces: int
    spans: int
    settling: float
    again: float
    steps: dict[str, float]


class Nothing(Consumer):
    """Takes all, and does nothing."""

    name = "nothing"

    def wants(self, summary: TraceSummary) -> bool:
        return True

    def take(
        self, traces: Sequence[Settled], wait: Callable[[float], None]
    ) -> None:
        pass


class _Steps:
    """Adds up CPU time; the innermost step counts."""

    def __init__(self) -> None:
        self.taken: defaultdict[str, float] = defaultdict(float)
        self._inner = 0.0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        began = time.process_time()
        try:
            yield
        finally:
            taken = time.process_time() - began
            self.taken[name] += taken - self._inner
            self._inner = outer + taken

    def watch(self, owner: object, method: str, name: str) -> None:
        call = getattr(owner, method, None)
        if call is None:
            return

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.step(name):
                return call(*args, **kwargs)

        vars(owner)[method] = watched


def run(task: Task, folder: str) -> Taken:
    consumer = _consumer(task, folder)
    plugin: StoragePlugin = get_storage(task.storage).plugin
    steps = _Steps()
    traces = spans = 0
    take = consumer.take

    def count(some: Sequence[Settled], wait: Callable[[float], None]) -> None:
        nonlocal traces, spans
        take(some, wait)
        traces += len(some)
        spans += sum(len(settled.new) for settled in some)

    vars(consumer)["take"] = count
    steps.watch(consumer, "take", "consumer")
    for method, name in _STEPS.items():
        steps.watch(plugin, method, name)
    settler = Settler(
        plugin, consumer, _WAITING, threading.Event(), lambda lost: None
    )
    # Over the time in which nothing came.
    _turns(settler, later=-3 * _MINUTE)
    steps.taken.clear()
    gc.collect()
    gc.freeze()
    settling = _turns(settler, later=_MINUTE)
    parts = dict(steps.taken)
    again = _turns(settler, later=20 * _MINUTE)
    parts["rest"] = settling - sum(parts.values())
    return Taken(traces, spans, settling, again, parts)


def _consumer(task: Task, folder: str) -> Consumer:
    if task.consumer == FORWARD:
        return Target(Endpoint.of(f"otlp+http://127.0.0.1:{task.port}"))
    if task.consumer == METRICS:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from profiler_bridge.daemon import metrics
        from profiler_bridge.daemon.request_metrics import RequestMetrics

        metrics.name_process("settled")
        return RequestMetrics(1000)
    return Nothing()


def _turns(settler: Settler, later: int) -> float:
    """Have it look until there is no more, as if it were so much later."""
    vars(slots)["now"] = lambda: time.time_ns() // 1000 + later
    began = time.process_time()
    while settler.turn():
        pass
    return time.process_time() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        taken = run(Task(**json.loads(sys.argv[1])), folder)
    print(json.dumps(asdict(taken)))
