# SPDX-License-Identifier: Apache-2.0

"""Deletes what has been kept for as long as it is to be."""

from __future__ import annotations

import random
import time
from typing import Any

import cotyledon
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge import storage as storages
from profiler_bridge.daemon import settling
from profiler_bridge.storage.purging import Pace, Purge
from profiler_bridge.storage.traces import Storage

LOG = logging.getLogger(__name__)

# So often old traces are deleted, in seconds; more often where some are kept
# for less than ten times that.
_PURGE_EVERY = 3600.0
# The least share of the time, in which storing is hardly slower.
_SHARE = 0.05


class Purger(cotyledon.Service):
    """The process that deletes what ``retention`` and its rules do not keep.

    There is one for all storages. Another host's may run at the same time,
    which does no harm; a random pause makes it unlikely that both begin at
    once.

    :param has_metrics: whether the daemon serves any
    """

    name = "purge"

    def __init__(
        self, worker_id: Any, conf: cfg.ConfigOpts, has_metrics: bool
    ) -> None:
        super().__init__(worker_id)
        self._conf = conf
        self._retention = storages.get_retention(conf)
        self._purges = {
            storage: Purge(self._retention)
            for storage in storages.get_storages(conf)
            if not storage.plugin.expires
        }
        self._share = _SHARE
        self._has_metrics = has_metrics
        self._failing: set[Storage] = set()

    def run(self) -> None:
        lengths = self._retention.lengths
        if not lengths:
            return
        every = min(_PURGE_EVERY, max(1.0, lengths[0] / 10))
        time.sleep(random.uniform(0, every))  # noqa: S311 - no secret
        while True:
            began = time.monotonic()
            for storage in self._purges:
                self._purge(storage)
            taken = time.monotonic() - began
            if not self._failing:
                self._share = next_share(self._share, taken, every)
            time.sleep(every)

    def _purge(self, storage: Storage) -> None:
        try:
            held = settling.held(self._conf, storage)
            purged = storage.purge_by(
                self._purges[storage],
                time.time_ns() // 1000,
                held=held,
                pace=Pace(self._share),
            )
        except exceptions.StorageError as error:
            problem = str(error)
        except Exception as error:
            # A plugin's bug must not have this process start over and over.
            problem = f"{type(error).__name__}: {error}"
            if storage not in self._failing:
                LOG.exception("The storage plugin failed")
        else:
            self._failing.discard(storage)
            if purged:
                LOG.info("Deleted %d old traces from %s", purged, storage)
                self._count(storage, purged)
            return
        finally:
            storage.close()  # a new connection gets the rights of its time
        if storage not in self._failing:
            self._failing.add(storage)
            LOG.warning("Old traces are not deleted: %s", problem)

    def _count(self, storage: Storage, purged: int) -> None:
        if self._has_metrics:
            from profiler_bridge.daemon import metrics

            metrics.count_purged(str(storage), purged)


def next_share(share: float, taken: float, every: float) -> float:
    """The share of the time that lets the next purge keep up.

    As much work as this time is done in half of the time between two purges;
    so one that was too slow for what comes is not for long, whatever the
    storage takes to delete a trace.

    :param share: of this purge
    :param taken: seconds from its begin to its end, with its rests
    :param every: seconds from the end of a purge to the next one's begin
    :returns: from the least share to 1, which is without rests
    """
    return min(1.0, max(_SHARE, 2 * share * taken / every))
