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

"""The service: worker processes, each with a listener on the bus."""

from __future__ import annotations

import contextlib
import gc
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import cotyledon
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge import storage as storages
from profiler_bridge.collector import Collector
from profiler_bridge.listener import (
    Listener,
    get_pools,
    get_targets,
    get_transport,
)
from profiler_bridge.masking import Masker
from profiler_bridge.purger import Purger
from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage.base import Storage

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.endpoint import Endpoint
    from profiler_bridge.metrics import Metrics

LOG = logging.getLogger(__name__)

PROJECT = "profiler_bridge"

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.IntOpt(
        "workers",
        default=1,
        min=1,
        help="Number of worker processes for each storage. They share its"
        " queue; more of them store more per second. Bridges on several hosts"
        " share it too.",
    ),
    cfg.PortOpt(
        "metrics_port",
        min=1,
        help="TCP port on which /metrics for Prometheus, /healthz and /readyz"
        " are served. Without it they are not.",
    ),
    cfg.StrOpt(
        "metrics_host",
        default="127.0.0.1",
        help="Address to listen on for that. There is neither password nor"
        " encryption, so others than this host should reach it only where"
        " they may know how much is profiled.",
    ),
]

# So often a worker says how it is, in seconds.
_ALIVE_EVERY = 1.0


class Bridge:
    """One listener and its collector: what a worker process runs.

    :param conf: with the options of this module
    :param transport: what :func:`get_transport` gave, in this process
    :param storage: where notifications go
    :param pool: whose queue it drains; None for the plain queue
    :param metrics: None where they are off
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: Any,
        storage: Storage,
        pool: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        self._collector = Collector(
            storage, SetAside.from_conf(conf), Masker.from_conf(conf), metrics
        )
        self._listener = Listener(
            transport,
            get_targets(conf, pool),
            self._collector,
            pool=pool,
            batch_size=conf[GROUP].batch_size,
            batch_timeout=conf[GROUP].batch_timeout,
        )
        self._started = threading.Event()

    def start(self) -> None:
        """Connect to the bus, waiting for it if need be, and listen."""
        if self._metrics:
            threading.Thread(
                target=self._say_how_it_is, args=[self._metrics], daemon=True
            ).start()
        # One thread: a second batch waits in the driver while one is stored.
        self._listener.start(override_pool_size=1)
        self._started.set()

    def stop(self) -> None:
        """Store and acknowledge what is in hand, then let go of the bus."""
        self._collector.stop()
        self._listener.stopping.set()
        if self._started.is_set():
            self._listener.stop()
            self._listener.wait()
        self._storage.close()

    def _say_how_it_is(self, metrics: Metrics) -> None:
        while True:
            metrics.alive(
                connected=self._listener.connected,
                writing=self._collector.writing(),
            )
            time.sleep(_ALIVE_EVERY)


class Worker(cotyledon.Service):
    """A worker process of the daemon.

    :param number: of the storage that it is for, in the configuration
    :param metrics: whether there are any
    """

    name = "collector"

    def __init__(
        self,
        worker_id: Any,
        conf: cfg.ConfigOpts,
        number: int,
        metrics: bool = False,
    ) -> None:
        super().__init__(worker_id)
        stores = storages.get_storages(conf)
        pool = get_pools(conf, stores)[number]
        self._bridge = Bridge(
            conf,
            get_transport(conf, 1 if pool else len(conf[GROUP].topics)),
            stores[number],
            pool,
            self._metrics(str(stores[number]), number) if metrics else None,
        )

    def _metrics(self, storage: str, number: int) -> Metrics:
        from profiler_bridge.metrics import Metrics

        return Metrics(storage, f"{number}-{self.worker_id}")

    def run(self) -> None:
        # What is there now is there to stay: no need to look at it again and
        # again for cycles of garbage.
        gc.freeze()
        self._bridge.start()
        LOG.info("Listening")

    def terminate(self) -> None:
        self._bridge.stop()


class MetricsServer(cotyledon.Service):
    """The process that serves metrics and health of all the others."""

    name = "metrics"

    def __init__(
        self, worker_id: Any, conf: cfg.ConfigOpts, endpoint: Endpoint
    ) -> None:
        super().__init__(worker_id)
        self._endpoint = endpoint
        self._expected = {
            str(storage): conf[GROUP].workers
            for storage in storages.get_storages(conf)
        }

    def run(self) -> None:
        self._endpoint.serve(self._expected)


class _ServiceManager(cotyledon.ServiceManager):
    """Starts workers again that have died, even when SIGHUP comes then.

    In cotyledon (2.2) the thread that does it remembers the last times, and
    waits when they are close together. SIGHUP forgets them; at its waking up
    the thread fails, and no worker is started any more.

    And SIGINT ends it as SIGTERM does, so that nothing is left behind.
    """

    def _on_signal_received(self, sig: int) -> None:
        if sig == signal.SIGINT:
            sig = signal.SIGTERM
        super()._on_signal_received(sig)

    def _slowdown_respawn_if_needed(self) -> None:
        with contextlib.suppress(IndexError):
            super()._slowdown_respawn_if_needed()


def run(conf: cfg.ConfigOpts) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    :raises BridgeError: configuration or storage have to be mended first
    """
    stores = storages.get_storages(conf)
    pools = get_pools(conf, stores)
    SetAside.from_conf(conf).prepare()
    get_transport(conf).cleanup()
    with _endpoint(conf) as endpoint:
        for storage, pool in zip(stores, pools, strict=True):
            try:
                storage.prepare()
            except exceptions.StorageUnavailable as error:
                LOG.warning("Starting without the storage: %s", error)
            finally:
                storage.close()  # connections do not survive a fork
            LOG.info(
                "Bridging %s to %s",
                f"queue {pool}" if pool else ", ".join(conf[GROUP].topics),
                storage,
            )
        _manager(conf, pools, endpoint).run()


@contextlib.contextmanager
def _endpoint(conf: cfg.ConfigOpts) -> Iterator[Endpoint | None]:
    """Where metrics are served, and the files that they are kept in."""
    options = conf[GROUP]
    if not options.metrics_port:
        yield None
        return
    from profiler_bridge import endpoint, metrics

    served = endpoint.Endpoint(options.metrics_host, options.metrics_port)
    folder = metrics.prepare()
    try:
        yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _manager(
    conf: cfg.ConfigOpts,
    pools: Sequence[str | None],
    endpoint: Endpoint | None,
) -> cotyledon.ServiceManager:
    manager = _ServiceManager(graceful_shutdown_timeout=_SHUTDOWN_TIMEOUT)
    workers = [
        manager.add(
            Worker,
            conf[GROUP].workers,
            args=(conf, number, endpoint is not None),
        )
        for number in range(len(pools))
    ]
    if conf[storages.GROUP].retention and not all(
        each.expires for each in storages.get_storages(conf)
    ):
        manager.add(Purger, args=(conf, endpoint is not None))
    if endpoint is not None:
        manager.add(MetricsServer, args=(conf, endpoint))
        manager.register_hooks(on_dead_worker=partial(_forget_worker, workers))

    def reload() -> None:
        """On SIGHUP: the workers that follow have the files' new options."""
        given = conf[storages.GROUP].connection_string
        conf.clear_override("connection_string", storages.GROUP)
        conf.reload_config_files()
        logging.setup(conf, PROJECT)
        try:
            now = get_pools(conf, storages.get_storages(conf))
        except exceptions.ConfigurationError as error:
            LOG.error("%s", error)
            now = []
        # The first has the plain queue, wherever it is now.
        if not now or now[1:] != pools[1:]:
            LOG.error(
                "Going on with the storages of before; restart"
                " profiler-bridge for others"
            )
            conf.set_override("connection_string", given, storages.GROUP)
        for each in workers:
            manager.reconfigure(each, conf[GROUP].workers)

    manager.register_hooks(on_reload=reload)
    return manager


def _forget_worker(
    workers: Sequence[Any], service_id: Any, worker_id: Any, _code: int
) -> None:
    from profiler_bridge import metrics

    if service_id in workers:
        metrics.forget_process(f"{workers.index(service_id)}-{worker_id}")


# A worker that cannot store what it has gives it back to the queue; this is
# for one that hangs in a client library.
_SHUTDOWN_TIMEOUT = 10
