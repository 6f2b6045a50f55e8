# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What the workers count and measure, for Prometheus.

Processes share it through files: each writes its own, and :func:`read` adds
them up. A worker that starts again goes on with the file of the one before,
so there are never more files than workers.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import prometheus_client
from prometheus_client import metrics_core, multiprocess, values

from profiler_bridge.exceptions import Reason

# Names prometheus_client's folder, in every process of the daemon.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# To read the files: how often it is tried, and with what pauses in seconds.
_TRIES = 20
_PAUSE = 0.05
# Files of a process are named for it.
_process = "main"

values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
    lambda: _process
)


def _counter(
    name: str, documentation: str, *labels: str
) -> prometheus_client.Counter:
    return prometheus_client.Counter(
        f"profiler_bridge_{name}",
        documentation,
        ["storage", *labels],
        registry=None,
    )


def _histogram(
    name: str, documentation: str, buckets: tuple[float, ...]
) -> prometheus_client.Histogram:
    return prometheus_client.Histogram(
        f"profiler_bridge_{name}",
        documentation,
        ["storage"],
        buckets=buckets,
        registry=None,
    )


RECEIVED = _counter(
    "notifications_received",
    "Notifications taken off the bus, counted at their verdict: stored,"
    " redelivered, set aside or requeued.",
)
STORED = _counter(
    "notifications_stored",
    "Notifications stored that were not stored before.",
)
REDELIVERED = _counter(
    "notifications_redelivered",
    "Notifications that were stored already.",
)
SET_ASIDE = _counter(
    "notifications_set_aside",
    "Notifications that can never be stored.",
    "reason",
)
REQUEUED = _counter(
    "notifications_requeued",
    "Notifications given back to the queue: the storage stayed away, or the"
    " bridge ended.",
)
RETRIES = _counter(
    "storage_retries",
    "Failed tries to store a batch.",
)
PURGED = _counter(
    "traces_purged",
    "Traces deleted because retention was over.",
)
BATCH = _histogram(
    "batch_notifications",
    "Notifications in a batch that got its verdict.",
    (1, 5, 10, 50, 100, 250, 500, 1000, 5000),
)
STORE_SECONDS = _histogram(
    "store_duration_seconds",
    "How long the storage took to store a batch, failed tries not counted.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LAG = _histogram(
    "lag_seconds",
    "From the timestamp of the newest notification of a batch until the"
    " batch was stored.",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)


def _gauge(
    name: str, documentation: str, mode: str
) -> prometheus_client.Gauge:
    # Live: what a process said goes when it ends.
    return prometheus_client.Gauge(
        f"profiler_bridge_{name}",
        documentation,
        ["storage"],
        multiprocess_mode=mode,  # type: ignore[arg-type]
        registry=None,
    )


CONNECTED = _gauge(
    "workers_connected",
    "Worker processes that are connected to the bus.",
    "livesum",
)
WAITING = _gauge(
    "storage_waiting",
    "1 while a worker waits for the storage, 0 otherwise.",
    "livemax",
)
WRITING = _gauge(
    "write_in_progress_seconds",
    "For how long the longest write that goes on has been going on.",
    "livemax",
)


def prepare() -> Path:
    """Make the folder for the files of all processes that are forked later.

    :returns: the folder, for its owner only
    """
    folder = tempfile.mkdtemp(prefix="profiler_bridge-metrics-")
    os.environ[_FOLDER] = folder
    return Path(folder)


def forget_process(process: str) -> None:
    """Drop what is true only while a process lives; it has ended."""
    for path in Path(os.environ[_FOLDER]).glob(f"gauge_live*_{process}.db"):
        path.unlink(missing_ok=True)


def read() -> Iterable[metrics_core.Metric]:
    """The metrics of all processes together."""
    collector: Any = multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    for tries_left in reversed(range(_TRIES)):
        try:
            found: Iterable[metrics_core.Metric] = collector.collect()
            return found
        except (struct.error, RuntimeError):
            # A process is just making its file.
            if not tries_left:
                raise
            time.sleep(_PAUSE)
    return ()


def count_purged(storage: str, traces: int) -> None:
    """Count what the one process deleted that does this."""
    global _process
    _process = "purge"
    PURGED.labels(storage).inc(traces)


class Metrics:
    """What one worker process counts for its storage.

    :param storage: without passwords
    :param process: names the worker; the one that starts in its place has
        the same name
    """

    def __init__(self, storage: str, process: str) -> None:
        global _process
        _process = process
        self._received = RECEIVED.labels(storage)
        self._stored = STORED.labels(storage)
        self._redelivered = REDELIVERED.labels(storage)
        self._set_aside = {
            reason: SET_ASIDE.labels(storage, reason.value)
            for reason in Reason
        }
        self._requeued = REQUEUED.labels(storage)
        self._retries = RETRIES.labels(storage)
        self._batch = BATCH.labels(storage)
        self._store_seconds = STORE_SECONDS.labels(storage)
        self._lag = LAG.labels(storage)
        self._connected = CONNECTED.labels(storage)
        self._waiting = WAITING.labels(storage)
        self._writing = WRITING.labels(storage)
        self.alive(connected=False, writing=0.0)
        self._waiting.set(0)

    def verdict(
        self,
        received: int,
        stored: int,
        set_aside: Counter[Reason],
        seconds: float,
        newest: int | None,
    ) -> None:
        """A batch is done with: each of it stored, or set aside.

        :param received: how many notifications there were
        :param stored: how many of them are stored now, and were not before
        :param seconds: how long the storage took
        :param newest: the last timestamp, in microseconds since 1970; None
            when nothing was given to the storage
        """
        self._waiting.set(0)
        self._received.inc(received)
        self._stored.inc(stored)
        for reason, count in set_aside.items():
            self._set_aside[reason].inc(count)
        self._redelivered.inc(received - stored - set_aside.total())
        self._batch.observe(received)
        if newest is not None:
            self._store_seconds.observe(seconds)
            # Hosts' clocks differ.
            self._lag.observe(max(0.0, time.time() - newest / 1_000_000))

    def requeued(self, received: int) -> None:
        """A batch goes back to the queue."""
        self._received.inc(received)
        self._requeued.inc(received)

    def retried(self) -> None:
        """The storage failed, and will be tried again."""
        self._waiting.set(1)
        self._retries.inc()

    def alive(self, *, connected: bool, writing: float) -> None:
        """How the worker is.

        :param connected: to the bus
        :param writing: for how many seconds the storage has been busy with
            what it was given; 0 when it has nothing
        """
        self._connected.set(connected)
        self._writing.set(writing)
