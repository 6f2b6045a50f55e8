# SPDX-License-Identifier: Apache-2.0

"""Deletes what is older than the storages' retention."""

from __future__ import annotations

import random
import time
from typing import Any

import cotyledon
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge import storage as storages
from profiler_bridge.storage.traces import Storage

LOG = logging.getLogger(__name__)

# So often old traces are deleted, in seconds; more often where they are kept
# for less than ten times that.
_PURGE_EVERY = 3600.0


class Purger(cotyledon.Service):
    """The process that deletes what is older than ``retention``.

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
        self._retention: int = conf[storages.GROUP].retention
        self._storages = [
            storage
            for storage in storages.get_storages(conf)
            if not storage.plugin.expires
        ]
        self._has_metrics = has_metrics
        self._failing: set[Storage] = set()

    def run(self) -> None:
        pause = min(_PURGE_EVERY, max(1.0, self._retention / 10))
        time.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
        while self._retention:
            for storage in self._storages:
                self._purge(storage)
            time.sleep(pause)

    def _purge(self, storage: Storage) -> None:
        before = time.time_ns() // 1000 - self._retention * 1_000_000
        try:
            purged = storage.purge(before)
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
