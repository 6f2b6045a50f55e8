# SPDX-License-Identifier: Apache-2.0

"""What the workers count and measure, for Prometheus.

Processes share it through files: each writes its own, and :func:`read` adds
them up. A worker that starts again goes on with the file of the one before,
so there are never more files than workers.

What prometheus_client does not document, and the bridge uses, is here.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import prometheus_client
from prometheus_client import core, multiprocess, values

from profiler_bridge.exceptions import Reason
from profiler_bridge.forward.outcomes import Drop, Outcome
from profiler_bridge.retry import FIRST_PAUSE, pauses

# Names prometheus_client's folder, in every process of the daemon.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# A file cannot be read while a process is making it, which takes so many
# seconds at most.
_MAKING = 1.0
# Files of a process are named for it.
_process = "main"

# Where it looks up how values are kept when a metric is made.
values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
    lambda: _process
)


#: The labels of what is read from a bus for a storage.
BY_ROUTE = ("bus", "storage")
#: The labels of what settled traces set off.
BY_CONSUMER = ("consumer",)
#: The labels of what happens at a storage, whichever bus it is for.
BY_STORAGE = ("storage",)
#: The label of what is sent to others: their name.
BY_TARGET = ("target",)


def _counter(
    name: str, documentation: str, labels: Sequence[str]
) -> prometheus_client.Counter:
    return prometheus_client.Counter(
        f"profiler_bridge_{name}",
        documentation,
        labels,
        registry=None,
    )


def _histogram(
    name: str,
    documentation: str,
    labels: Sequence[str],
    buckets: tuple[float, ...],
) -> prometheus_client.Histogram:
    return prometheus_client.Histogram(
        f"profiler_bridge_{name}",
        documentation,
        labels,
        buckets=buckets,
        registry=None,
    )


RECEIVED = _counter(
    "notifications_received",
    "Notifications taken off the bus, counted at their verdict: stored,"
    " redelivered, set aside or requeued.",
    BY_ROUTE,
)
STORED = _counter(
    "notifications_stored",
    "Notifications stored in pieces that were not there before.",
    BY_ROUTE,
)
REDELIVERED = _counter(
    "notifications_redelivered",
    "Notifications of pieces that were there already.",
    BY_ROUTE,
)
SET_ASIDE = _counter(
    "notifications_set_aside",
    "Notifications that can never be stored.",
    (*BY_ROUTE, "reason"),
)
REQUEUED = _counter(
    "notifications_requeued",
    "Notifications given back to the queue: the storage stayed away, or the"
    " bridge ended.",
    BY_ROUTE,
)
RETRIES = _counter(
    "storage_retries",
    "Failed tries to store a batch.",
    BY_STORAGE,
)
PURGED = _counter(
    "traces_purged",
    "Traces deleted because retention was over.",
    BY_STORAGE,
)
FORWARD_SPANS_SENT = _counter(
    "forward_spans_sent",
    "Spans that a target has taken.",
    BY_TARGET,
)
FORWARD_SPANS_REJECTED = _counter(
    "forward_spans_rejected",
    "Spans that a target has rejected, of requests that it has taken.",
    BY_TARGET,
)
FORWARD_SPANS_DROPPED = _counter(
    "forward_spans_dropped",
    "Spans that are not sent again, because a target refused the request.",
    (*BY_TARGET, "reason"),
)
FORWARD_REQUESTS = _counter(
    "forward_requests",
    "Requests to a target by what became of them; busy and unreachable are"
    " tried again.",
    (*BY_TARGET, "outcome"),
)
FORWARD_FAILURES = _counter(
    "forward_failures",
    "Requests to a target that have to be tried again.",
    BY_TARGET,
)
BATCH = _histogram(
    "batch_notifications",
    "Notifications that were stored at once.",
    BY_ROUTE,
    (1, 5, 10, 50, 100, 250, 500, 1000, 5000),
)
STORE_SECONDS = _histogram(
    "store_duration_seconds",
    "How long the storage took to store a batch, failed tries not counted.",
    BY_STORAGE,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LAG = _histogram(
    "lag_seconds",
    "From the timestamp of the newest notification of a batch until the"
    " batch was stored.",
    BY_ROUTE,
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)


def _gauge(
    name: str, documentation: str, labels: Sequence[str], mode: str
) -> prometheus_client.Gauge:
    # In a live mode: what a process reported goes when it ends.
    return prometheus_client.Gauge(
        f"profiler_bridge_{name}",
        documentation,
        labels,
        multiprocess_mode=mode,  # type: ignore[arg-type]
        registry=None,
    )


CONNECTED = _gauge(
    "workers_connected",
    "Worker processes that are connected to the bus.",
    BY_ROUTE,
    "livesum",
)
WAITING = _gauge(
    "storage_waiting",
    "1 while a worker waits for the storage, 0 otherwise.",
    BY_STORAGE,
    "livemax",
)
SET_ASIDE_WAITING = _gauge(
    "set_aside_waiting",
    "Messages that wait, not acknowledged, for the set-aside file.",
    BY_STORAGE,
    "livesum",
)
FORWARD_WAITING = _gauge(
    "forward_waiting",
    "1 while a target is waited for, 0 otherwise.",
    BY_TARGET,
    "livemax",
)
WRITING = _gauge(
    "write_in_progress_seconds",
    "For how long the longest write that goes on has been going on.",
    BY_STORAGE,
    "livemax",
)


SETTLED = _counter(
    "settled_traces",
    "Traces that a consumer of settled ones was given.",
    BY_CONSUMER,
)
SETTLED_LOST = _counter(
    "settled_traces_lost",
    "Traces that a consumer did not take in all the time that they were held"
    " for it.",
    BY_CONSUMER,
)
SETTLED_WAITING = _gauge(
    "settled_waiting_traces",
    "Traces that have settled and that a consumer has not been given, of the"
    " oldest ten minutes of them.",
    BY_CONSUMER,
    "livemax",
)
SETTLED_SEEN = _gauge(
    "settled_seen_timestamp_seconds",
    "Up to when a consumer has what has settled, in seconds since 1970.",
    BY_CONSUMER,
    "livemax",
)


def prepare() -> Path:
    """Make the folder for the files of all processes that are forked later.

    :returns: the folder, for its owner only
    """
    folder = tempfile.mkdtemp(prefix="profiler_bridge-metrics-")
    os.environ[_FOLDER] = folder
    return Path(folder)


def name_process(process: str) -> None:
    """Have this process count under a name, in files of its own.

    To be called first in each process that counts.

    :param process: the same for the one that starts in its place, which goes
        on counting there, and no other's; without underscores
    """
    global _process
    _process = process


def forget_process(process: str) -> None:
    """Drop what was true only while a process lived, such as connections."""
    multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]


def read(kind: str = "*") -> Iterable[core.Metric]:
    """The metrics of all processes together; none before any has begun.

    :param kind: ``counter``, ``gauge`` or ``histogram``, where others are not
        wanted: thousands of histograms take a second to read
    """
    folder = Path(os.environ[_FOLDER])

    def merge() -> Iterable[core.Metric]:
        merged: Iterable[core.Metric] = (
            multiprocess.MultiProcessCollector.merge(  # type: ignore[no-untyped-call]
                [str(file) for file in folder.glob(f"{kind}_*.db")]
            )
        )
        return merged

    for pause in pauses(_MAKING, last=FIRST_PAUSE):
        with contextlib.suppress(struct.error, RuntimeError):
            return merge()
        time.sleep(pause)
    return merge()


def observe(
    histogram: prometheus_client.Histogram, amounts: Sequence[float]
) -> None:
    """Observe many amounts for little more than what one costs.

    :param histogram: with its labels
    """
    bounds = histogram._upper_bounds
    histogram._sum.inc(sum(amounts))
    for bucket, count in Counter(
        bisect_left(bounds, amount) for amount in amounts
    ).items():
        histogram._buckets[bucket].inc(count)


def count_purged(storage: str, traces: int) -> None:
    """Count traces that were deleted, in the one process that does it."""
    name_process("purge")
    PURGED.labels(storage).inc(traces)


class Metrics:
    """What one worker process counts.

    :param bus: that it reads, without passwords
    :param storage: that it writes to, without passwords
    :param process: names the worker; the one that starts in its place has
        the same name
    """

    def __init__(self, bus: str, storage: str, process: str) -> None:
        name_process(process)
        self._received = RECEIVED.labels(bus, storage)
        self._stored = STORED.labels(bus, storage)
        self._redelivered = REDELIVERED.labels(bus, storage)
        self._set_aside = {
            reason: SET_ASIDE.labels(bus, storage, reason.value)
            for reason in Reason
        }
        self._requeued = REQUEUED.labels(bus, storage)
        self._retries = RETRIES.labels(storage)
        self._batch = BATCH.labels(bus, storage)
        self._store_seconds = STORE_SECONDS.labels(storage)
        self._lag = LAG.labels(bus, storage)
        self._connected = CONNECTED.labels(bus, storage)
        self._waiting = WAITING.labels(storage)
        self._writing = WRITING.labels(storage)
        self._set_aside_waiting = SET_ASIDE_WAITING.labels(storage)
        self.report_state(connected=False, writing=0.0)
        self._waiting.set(0)
        self._set_aside_waiting.set(0)

    def count_stored(
        self, received: int, stored: int, seconds: float, newest: int
    ) -> None:
        """Count notifications that are in the storage now.

        :param received: how many
        :param stored: how many of them were not there before
        :param seconds: how long the storage took
        :param newest: the last timestamp, in microseconds since 1970
        """
        self._waiting.set(0)
        self._received.inc(received)
        self._stored.inc(stored)
        self._redelivered.inc(received - stored)
        self._batch.observe(received)
        self._store_seconds.observe(seconds)
        # Hosts' clocks differ.
        self._lag.observe(max(0.0, time.time() - newest / 1_000_000))

    def count_set_aside(self, reasons: Counter[Reason]) -> None:
        """Count notifications that are set aside, by their reasons."""
        self._received.inc(reasons.total())
        for reason, count in reasons.items():
            self._set_aside[reason].inc(count)

    def report_set_aside_waiting(self, messages: int) -> None:
        """Report how many messages wait for the set-aside file."""
        self._set_aside_waiting.set(messages)

    def count_requeued(self, received: int) -> None:
        """Count notifications that go back to the queue."""
        self._received.inc(received)
        self._requeued.inc(received)

    def count_retry(self) -> None:
        """Count a failure of the storage, which will be tried again."""
        self._waiting.set(1)
        self._retries.inc()

    def report_state(self, *, connected: bool, writing: float) -> None:
        """Report how the worker is.

        :param connected: whether to the bus
        :param writing: for how many seconds the storage has been writing
            what it was given; 0 when it is not
        """
        self._connected.set(connected)
        self._writing.set(writing)


class ForwardMetrics:
    """What a target's :class:`~profiler_bridge.forward.target.Report` counts.

    :param target: its name
    :param process: names the process; the one that starts in its place has
        the same name
    """

    def __init__(self, target: str, process: str) -> None:
        name_process(process)
        self._sent = FORWARD_SPANS_SENT.labels(target)
        self._rejected = FORWARD_SPANS_REJECTED.labels(target)
        self._dropped = {
            reason: FORWARD_SPANS_DROPPED.labels(target, reason.value)
            for reason in Drop
        }
        self._requests = {
            outcome: FORWARD_REQUESTS.labels(target, outcome.value)
            for outcome in Outcome
        }
        self._failures = FORWARD_FAILURES.labels(target)
        self._waiting = FORWARD_WAITING.labels(target)
        self._waiting.set(0)

    def count_sent(self, spans: int) -> None:
        """Count spans that were taken."""
        self._sent.inc(spans)

    def count_rejected(self, spans: int) -> None:
        """Count spans that were not, of a request that was."""
        self._rejected.inc(spans)

    def count_dropped(self, reason: Drop, spans: int) -> None:
        """Count spans that are not sent again."""
        self._dropped[reason].inc(spans)

    def count_request(self, outcome: Outcome) -> None:
        """Count a request, and a failure if it is to be tried again."""
        self._requests[outcome].inc()
        if outcome in (Outcome.BUSY, Outcome.UNREACHABLE):
            self._failures.inc()

    def report_waiting(self, waiting: bool) -> None:
        """Report whether the target is waited for."""
        self._waiting.set(waiting)


class SettlingMetrics:
    """What one process counts that gives a consumer settled traces.

    :param consumer: its name
    :param process: names the process; the one that starts in its place has
        the same name
    """

    def __init__(self, consumer: str, process: str) -> None:
        name_process(process)
        self._settled = SETTLED.labels(consumer)
        self._lost = SETTLED_LOST.labels(consumer)
        self._seen = SETTLED_SEEN.labels(consumer)
        self._waiting = SETTLED_WAITING.labels(consumer)

    def report(self, taken: int, waiting: int, seen: float) -> None:
        """Report how far it is.

        :param taken: how many traces the consumer took since the last report
        :param waiting: how many wait, as far as that is known
        :param seen: up to when it has all, in seconds since 1970
        """
        self._settled.inc(taken)
        self._waiting.set(waiting)
        self._seen.set(seen)

    def count_lost(self, traces: int) -> None:
        """Count traces that it did not take in time."""
        self._lost.inc(traces)
