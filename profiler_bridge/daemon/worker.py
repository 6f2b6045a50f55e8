# SPDX-License-Identifier: Apache-2.0

"""A worker process: from one queue to one storage."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from logging import LogRecord, getLogRecordFactory, setLogRecordFactory
from typing import TYPE_CHECKING, Any

import cotyledon
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions, url
from profiler_bridge import storage as storages
from profiler_bridge.bus.management import Management
from profiler_bridge.bus.rabbit import quieten_driver
from profiler_bridge.bus.reader import Reader
from profiler_bridge.bus.transport import (
    GROUP,
    Bus,
    get_buses,
    get_pools,
    get_source_class,
    get_targets,
    get_transport,
)
from profiler_bridge.daemon import consumers, settling
from profiler_bridge.daemon.collector import Collector
from profiler_bridge.daemon.liveness import READ, STORE, Liveness
from profiler_bridge.daemon.routes import get_routes
from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.masking import Masker
from profiler_bridge.storage.slots import Arrivals
from profiler_bridge.storage.traces import Storage

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.daemon.metrics import Metrics

LOG = logging.getLogger(__name__)

# So often a worker reports its state to the metrics, in seconds.
_REPORT_EVERY = 1.0


def _ignore(seconds: float) -> None:
    """Where nobody watches the loops."""


class Bridge:
    """From one queue to one storage: what a worker process runs.

    :param conf: with the options of :func:`profiler_bridge.config.modules`
    :param transport: what :func:`get_transport` gave, in this process
    :param storage: where notifications go
    :param pool: whose queue it drains; None for the plain queue
    :param metrics: None where they are off
    :param expect: for the loop that reads and the one that stores, called
        with the seconds within which it calls that again
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: Any,
        storage: Storage,
        pool: str | None = None,
        metrics: Metrics | None = None,
        expect: tuple[Callable[[float], None], ...] = (_ignore, _ignore),
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        expect_read, expect_store = expect
        options = conf[GROUP]
        self._reader = Reader(
            partial(
                get_source_class(transport),
                transport,
                get_targets(conf, pool),
                pool,
            ),
            # A batch of more would never be full.
            min(options.batch_size, options.prefetch),
            options.batch_timeout,
            expect_read,
        )
        self._collector = Collector(
            storage,
            SetAside.from_conf(conf),
            Masker.from_conf(conf),
            metrics,
            options.prefetch // 2,
            expect_store,
        )
        self._threads = [
            threading.Thread(target=_run, args=[loop], daemon=True)
            for loop in (
                self._reader.run,
                partial(self._collector.run, self._reader),
            )
        ]

    def start(self) -> None:
        """Begin to connect to the bus, and to store what comes."""
        if self._metrics:
            threading.Thread(
                target=self._report_state, args=[self._metrics], daemon=True
            ).start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Store and acknowledge what is in hand, then let go of the bus."""
        self._collector.stop()
        self._reader.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._storage.close()

    def _report_state(self, metrics: Metrics) -> None:
        while True:
            metrics.report_state(
                connected=self._reader.connected,
                writing=self._collector.writing(),
            )
            time.sleep(_REPORT_EVERY)


def _run(loop: Callable[[], None]) -> None:
    """Run a loop; end the process if it raises.

    The daemon starts another, and what this one has goes back to the queue.
    """
    try:
        loop()
    except BaseException:  # noqa: BLE001 - it ends the process
        try:
            LOG.critical("The worker ends", exc_info=True)
        finally:
            os._exit(1)


class Worker(cotyledon.Service):
    """A worker process of the daemon.

    :param number: of its route, among :func:`get_routes`
    :param liveness: where its loops report
    :param has_metrics: whether the daemon serves any
    """

    name = "collector"

    def __init__(
        self,
        worker_id: Any,
        conf: cfg.ConfigOpts,
        number: int,
        liveness: Liveness,
        has_metrics: bool = False,
    ) -> None:
        super().__init__(worker_id)
        bus, storage, pool = get_routes(conf)[number]
        if len(get_buses(conf)) > 1:
            _name_in_log(bus)
        sets_off = settling.get_storage(conf)
        if str(storage) == str(sets_off) and consumers.is_any(conf, storage):
            storage.arrivals = Arrivals()
        metrics = None
        if has_metrics:
            from profiler_bridge.daemon.metrics import Metrics

            metrics = Metrics(
                str(bus), str(storage), process_name(number, worker_id)
            )
        self._bridge = Bridge(
            conf,
            get_transport(conf, bus, 1 if pool else len(conf[GROUP].topics)),
            storage,
            pool,
            metrics,
            (
                liveness.loop(number, int(worker_id), READ),
                liveness.loop(number, int(worker_id), STORE),
            ),
        )

    def run(self) -> None:
        # All objects that there are now will stay: they need not be searched
        # for cyclic garbage.
        gc.freeze()
        quieten_driver()
        self._bridge.start()

    def terminate(self) -> None:
        self._bridge.stop()


def _name_in_log(bus: Bus) -> None:
    """Begin each log line of this process with the bus."""
    make_record = getLogRecordFactory()

    def make_named_record(*args: Any, **kwargs: Any) -> LogRecord:
        record = make_record(*args, **kwargs)
        # Without arguments a message is no format.
        name = str(bus).replace("%", "%%") if record.args else bus
        record.msg = f"{name}: {record.msg}"
        return record

    setLogRecordFactory(make_named_record)


def process_name(number: int, worker_id: Any) -> str:
    """By which metrics know a worker, and the one that takes its place.

    :param number: of its route, among :func:`get_routes`
    :param worker_id: its number among the route's workers
    """
    return f"{number}-{worker_id}"


def log_losses(conf: cfg.ConfigOpts, bus: Bus) -> None:
    """Log the limits at which a broker loses messages, if it names them."""
    if url.scheme(bus.url) not in ("rabbit", "kombu"):
        return
    transport = get_transport(conf, bus)
    with contextlib.suppress(exceptions.BusUnavailable):
        management = Management(conf, transport)
        for pool in get_pools(conf, storages.get_storages(conf)):
            topics = conf[GROUP].topics
            for queue in [pool] if pool else [f"{t}.info" for t in topics]:
                for loss in management.losses(queue):
                    LOG.warning("Queue %s loses messages: %s", queue, loss)
    transport.cleanup()
