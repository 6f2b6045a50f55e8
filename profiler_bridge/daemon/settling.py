# SPDX-License-Identifier: Apache-2.0

"""The processes that see to settled traces: one for each consumer."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cotyledon
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions, forward
from profiler_bridge import storage as storages
from profiler_bridge.daemon import consumers
from profiler_bridge.daemon.settler import Interrupted, Settler, Waiting, tasks
from profiler_bridge.retry import pauses
from profiler_bridge.storage import slots
from profiler_bridge.storage.retention import Duration
from profiler_bridge.storage.slots import SLOT
from profiler_bridge.storage.traces import Storage

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.daemon.metrics import SettlingMetrics

LOG = logging.getLogger(__name__)

GROUP = "settled"
OPTS: Sequence[cfg.Opt] = [
    cfg.BoolOpt(
        "here",
        default=True,
        help="Whether this daemon works on settled traces: forwards them,"
        " counts them for metrics, and in Redis keeps them for as long as"
        " rules say. Daemons of several hosts share the work. At least one"
        " daemon has to do it.",
    ),
    cfg.IntOpt(
        "storage",
        default=1,
        min=1,
        help="The storage whose traces these are: 1 is the first"
        " connection_string. Set the same on all hosts.",
    ),
    cfg.Opt(
        "settle_after",
        type=Duration(),
        default=10,
        help="A trace has settled when each of its spans has an end, and"
        " nothing of it came for this long.",
    ),
    cfg.Opt(
        "settle_at_most",
        type=Duration(),
        default=900,
        help="When nothing of a trace came for this long, it has settled even"
        " if ends of spans are missing.",
    ),
]
# By so much others' processes come first; the most that is usual for work
# that may wait (nice(1)).
_NICE = 10
# Seconds between two looks.
_TURN = 1.0
# Seconds until a storage that failed is tried again.
_LONGEST_PAUSE = 30.0
# Seconds in which what is in hand may be finished when the daemon ends; less
# than its master process waits.
_LAST_TURN = 8.0
# A purge may wait for traces that came so long before it was their turn; in
# microseconds.
_ON_THE_WAY = 3600 * 1_000_000


def waiting(conf: cfg.ConfigOpts) -> Waiting:
    """How long what is waited for.

    :raises ConfigurationError: a trace would be given up before it is settled
    """
    options = conf[GROUP]
    quiet = options.settle_after * 1_000_000
    at_most = options.settle_at_most * 1_000_000
    if at_most < quiet:
        raise exceptions.ConfigurationError(
            f"settle_at_most in [{GROUP}] is less than settle_after"
        )
    hold = conf[forward.GROUP].hold * 1_000_000
    life = 0
    if get_storage(conf).plugin.expires:
        life = storages.get_retention(conf).plain * 1_000_000
        if life < 2 * at_most and consumers.is_any(conf, get_storage(conf)):
            raise exceptions.ConfigurationError(
                f"settle_at_most in [{GROUP}] must be less than half of"
                " retention: otherwise traces expire before they have settled"
            )
    return Waiting(quiet, at_most, max(hold, 2 * at_most + 6 * SLOT), life)


def get_storage(conf: cfg.ConfigOpts) -> Storage:
    """The storage whose settled traces set something off.

    :raises ConfigurationError: there are not so many
    """
    configured = storages.get_storages(conf)
    number: int = conf[GROUP].storage
    if number > len(configured):
        raise exceptions.ConfigurationError(
            f"storage in [{GROUP}] is {number}, and there are"
            f" {len(configured)} connection strings"
        )
    return configured[number - 1]


def check(conf: cfg.ConfigOpts) -> list[str]:
    """Look at what settled traces set off, as it is configured.

    :returns: the names of the consumers
    :raises ConfigurationError: it cannot be used
    """
    names = consumers.get_names(conf, get_storage(conf))
    waiting(conf)
    return names


def held(conf: cfg.ConfigOpts, storage: Storage) -> int | None:
    """Since when traces of a storage may not have been forwarded yet.

    :returns: microseconds since 1970; None where none are
    :raises StorageError: it cannot be found out
    """
    names = consumers.get_targets(conf)
    hold: int = conf[forward.GROUP].hold * 1_000_000
    if not names or not hold or str(storage) != str(get_storage(conf)):
        return None
    earliest = slots.now() - hold
    first = slots.slot_of(earliest)
    done = min(
        slots.done_before(storage.plugin, task, first)
        for name in names
        for task in tasks(name)
    )
    return max(done * SLOT - _ON_THE_WAY, earliest)


class Settling(cotyledon.Service):
    """The process that sees to settled traces for one consumer.

    :param consumer: its name
    :param has_metrics: whether the daemon serves any
    """

    name = "settled"

    def __init__(
        self,
        worker_id: Any,
        conf: cfg.ConfigOpts,
        consumer: str,
        has_metrics: bool,
    ) -> None:
        super().__init__(worker_id)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._storage = get_storage(conf)
        self._waiting = waiting(conf)
        metrics: SettlingMetrics | None = None
        if has_metrics:
            from profiler_bridge.daemon.metrics import SettlingMetrics

            metrics = SettlingMetrics(
                consumer, consumers.process_name(consumer)
            )
        self._metrics = metrics
        self._consumer = consumers.get_consumer(
            conf, self._storage, consumer, has_metrics=has_metrics
        )

    def run(self) -> None:
        # Where cores are scarce storing comes first: what has settled can
        # wait, and what is on the bus takes its room.
        os.nice(_NICE)
        try:
            # Of several hosts' processes one shall not do it all.
            self._stopping.wait(random.uniform(0, _TURN))  # noqa: S311
            self._run()
        finally:
            self._ended.set()

    def _run(self) -> None:
        waits = pauses(last=_LONGEST_PAUSE)
        while True:
            began = time.monotonic()
            problem = self._try()
            if problem is None:
                return
            LOG.warning(
                "Settled traces wait for %s: %s", self._consumer.name, problem
            )
            if time.monotonic() - began > 2 * _LONGEST_PAUSE:
                waits = pauses(last=_LONGEST_PAUSE)
            is_there = False
            while not is_there:
                self._storage.close()
                if self._stopping.wait(next(waits)):
                    return
                is_there = self._is_storage_there()
            LOG.info("Settled traces are seen to again")

    def _is_storage_there(self) -> bool:
        try:
            self._storage.check()
        except exceptions.StorageError:
            return False
        except Exception as error:  # noqa: BLE001 - a plugin's bug
            LOG.debug("%s: %s", type(error).__name__, error, exc_info=False)
            return False
        return True

    def _try(self) -> str | None:
        """See to traces until the process is to end.

        :returns: why that is not possible now; None at the end
        """
        try:
            self._settle()
        except Interrupted:
            pass
        except exceptions.StorageError as error:
            return str(error)
        except Exception as error:
            # A bug must not have this process start over and over.
            LOG.exception("What settled traces set off failed")
            return f"{type(error).__name__}: {error}"
        return None

    def _settle(self) -> None:
        settler = Settler(
            self._storage.plugin,
            self._consumer,
            self._waiting,
            self._stopping,
            self._lose,
            self._report,
        )
        while not self._stopping.is_set():
            if not settler.turn():
                self._stopping.wait(_TURN)

    def _report(self, taken: int, waiting: int, seen: float) -> None:
        if self._metrics:
            self._metrics.report(taken, waiting, seen)

    def _lose(self, traces: int) -> None:
        if not traces:
            return
        LOG.error(
            "%d trace(s) may be lost to %s, which did not take them in time",
            traces,
            self._consumer.name,
        )
        if self._metrics:
            self._metrics.count_lost(traces)

    def terminate(self) -> None:
        self._stopping.set()
        self._ended.wait(_LAST_TURN)
        self._storage.close()
