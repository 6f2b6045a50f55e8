# SPDX-License-Identifier: Apache-2.0

"""What a worker does, in its log: a line a minute, and one at its end."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oslo_log import log as logging

from profiler_bridge.exceptions import Reason

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.daemon.metrics import Metrics

LOG = logging.getLogger(__name__)

#: So many seconds a line is about, and more where one batch takes longer.
EVERY = 60.0


@dataclass
class _Counts:
    """Notifications of a time, by their verdicts.

    :param lag: the longest, in seconds from the newest notification of a
        batch until the batch was stored
    """

    since: float = field(default_factory=time.monotonic)
    stored: int = 0
    redelivered: int = 0
    set_aside: int = 0
    requeued: int = 0
    lag: float = 0.0

    def received(self) -> int:
        return self.stored + self.redelivered + self.set_aside + self.requeued

    def __str__(self) -> str:
        return (
            f"received {self.received()} in"
            f" {time.monotonic() - self.since:.0f} s: stored {self.stored},"
            f" redelivered {self.redelivered}, set aside {self.set_aside},"
            f" requeued {self.requeued}; lag at most {self.lag:.1f} s"
        )


class Activity:
    """Counts what one collector does, for its log and for metrics.

    :param storage: that it writes to, without passwords
    :param metrics: get the same; None where they are off
    """

    def __init__(self, storage: str, metrics: Metrics | None = None) -> None:
        self._storage = storage
        self._metrics = metrics
        self._total = _Counts()
        self._latest = _Counts()

    def log(self) -> None:
        """Log what the last minute had, if one is over and had anything."""
        if time.monotonic() - self._latest.since < EVERY:
            return
        if self._latest.received():
            LOG.info("%s: %s", self._storage, self._latest)
        self._latest = _Counts()

    def log_total(self) -> None:
        """Log what there was since the start."""
        LOG.info("%s: ending, %s", self._storage, self._total)

    def count_stored(
        self, received: int, stored: int, seconds: float, newest: int
    ) -> None:
        """Count notifications that are in the storage now.

        :param received: how many
        :param stored: how many of them were not there before
        :param seconds: how long the storage took
        :param newest: the last timestamp, in microseconds since 1970
        """
        lag = time.time() - newest / 1_000_000
        for counts in (self._total, self._latest):
            counts.stored += stored
            counts.redelivered += received - stored
            counts.lag = max(counts.lag, lag)
        if self._metrics:
            self._metrics.count_stored(received, stored, seconds, newest)

    def count_set_aside(self, reasons: Counter[Reason]) -> None:
        """Count notifications that are set aside, by their reasons."""
        for counts in (self._total, self._latest):
            counts.set_aside += reasons.total()
        if self._metrics:
            self._metrics.count_set_aside(reasons)

    def count_requeued(self, notifications: int) -> None:
        """Count notifications that go back to the queue."""
        for counts in (self._total, self._latest):
            counts.requeued += notifications
        if self._metrics:
            self._metrics.count_requeued(notifications)

    def count_retry(self) -> None:
        """Count a failure of the storage, which will be tried again."""
        if self._metrics:
            self._metrics.count_retry()

    def report_set_aside_waiting(self, messages: int) -> None:
        """Report how many messages wait for the set-aside file."""
        if self._metrics:
            self._metrics.report_set_aside_waiting(messages)
