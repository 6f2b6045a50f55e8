# SPDX-License-Identifier: Apache-2.0

"""The daemon: which processes it has, and new options on SIGHUP."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge import storage as storages
from profiler_bridge.bus.transport import (
    get_buses,
    get_pools,
    get_transport,
    transport_urls,
)
from profiler_bridge.daemon import settling
from profiler_bridge.daemon.liveness import Liveness
from profiler_bridge.daemon.manager import ServiceManager
from profiler_bridge.daemon.purger import Purger
from profiler_bridge.daemon.routes import get_routes
from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.daemon.settling import Settling
from profiler_bridge.daemon.worker import Worker, log_losses, process_name
from profiler_bridge.storage.traces import Storage

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.daemon.endpoint import Endpoint

LOG = logging.getLogger(__name__)

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.IntOpt(
        "workers",
        default=1,
        min=0,
        help="Number of worker processes for each bus and each storage: 2 of"
        " them, for three buses and one storage, are 6 processes. Workers of"
        " the same bus and storage share a queue, also across hosts; more of"
        " them store more per second. With 0 this daemon reads no bus, and"
        " only works on settled traces and retention.",
    ),
    cfg.PortOpt(
        "metrics_port",
        min=1,
        help="TCP port that serves /metrics for Prometheus, /healthz and"
        " /readyz. By default there is none.",
    ),
    cfg.StrOpt(
        "metrics_host",
        default="127.0.0.1",
        help="Address that metrics_port listens on. There is neither password"
        " nor encryption: whoever reaches it learns how much is profiled.",
    ),
    cfg.BoolOpt(
        "request_metrics",
        default=False,
        help="Whether /metrics also has how often each operation of the"
        " profiled services ran, how long it took and how often it failed, and"
        " which service asked which. Needs metrics_port.",
    ),
    cfg.IntOpt(
        "request_metrics_series",
        default=1000,
        min=1,
        help="How many operations, by service, kind and outcome, have series"
        " of their own in request_metrics, and how many pairs of services. The"
        " others are counted together, as 'other'.",
    ),
]


def run(
    conf: cfg.ConfigOpts,
    load: Callable[[], cfg.ConfigOpts],
    use: Callable[[cfg.ConfigOpts], None],
) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    :param conf: what :meth:`load` gave
    :param load: gives a configuration that processes can start with; raises
        ConfigurationError
    :param use: applies a configuration to this process; raises
        ConfigurationError
    :raises BridgeError: configuration or storage have to be mended first
    """
    routes = get_routes(conf)
    SetAside.from_conf(conf).prepare()
    for bus in get_buses(conf):
        get_transport(conf, bus).cleanup()
    with _endpoint(conf) as endpoint:
        for storage in dict.fromkeys(route.storage for route in routes):
            _prepare(storage)
        for route in routes:
            LOG.info(
                "Bridging %s of %s to %s",
                f"queue {route.pool}"
                if route.pool
                else ", ".join(conf[GROUP].topics),
                route.bus,
                route.storage,
            )
        _Processes(conf, endpoint, load, use).run()


@contextlib.contextmanager
def _endpoint(conf: cfg.ConfigOpts) -> Iterator[Endpoint | None]:
    """Where metrics are served, and the files that they are kept in."""
    options = conf[GROUP]
    if not options.metrics_port:
        yield None
        return
    from profiler_bridge.daemon import endpoint, metrics

    served = endpoint.Endpoint(options.metrics_host, options.metrics_port)
    folder = metrics.prepare()
    try:
        yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(storage: Storage) -> None:
    """Prepare a storage, if it is there: workers wait for it if it is not."""
    problem = ""
    try:
        for warning in storage.prepare():
            LOG.warning("%s", warning)
    except exceptions.StorageUnavailable as error:
        problem = str(error)
    finally:
        storage.close()  # connections do not survive a fork
    if problem:
        LOG.warning("Starting without the storage: %s", problem)


def _refuse_other_processes(
    before: cfg.ConfigOpts, after: cfg.ConfigOpts
) -> None:
    """Look whether new options mean processes of another kind.

    :raises ConfigurationError: they do
    """
    changed = [
        what
        for what, process in (
            (
                f"workers in [{GROUP}] from or to 0",
                lambda c: not c[GROUP].workers,
            ),
            (f"here in [{settling.GROUP}]", lambda c: c[settling.GROUP].here),
            (
                "what settled traces set off: endpoint in [forward],"
                f" request_metrics in [{GROUP}], storage in"
                f" [{settling.GROUP}], or rules for Redis",
                settling.check,
            ),
            ("whether there is something to purge", _purges),
        )
        if process(before) != process(after)
    ]
    if changed:
        raise exceptions.ConfigurationError(
            f"restart profiler-bridge for another {' and '.join(changed)}"
        )


def _purges(conf: cfg.ConfigOpts) -> bool:
    """Whether a process has to delete old traces."""
    return bool(storages.get_retention(conf).lengths) and not all(
        storage.plugin.expires for storage in storages.get_storages(conf)
    )


class _Processes:
    """The daemon's processes.

    :param endpoint: None where metrics are off

    The other parameters are those of :func:`run`.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        endpoint: Endpoint | None,
        load: Callable[[], cfg.ConfigOpts],
        use: Callable[[cfg.ConfigOpts], None],
    ) -> None:
        self._conf = conf
        # As many as these there are until the daemon ends.
        self._pools = get_pools(conf, storages.get_storages(conf))
        self._buses = len(get_buses(conf))
        self._routes = range(self._buses * len(self._pools))
        self._has_metrics = endpoint is not None
        self._load = load
        self._use = use
        self._manager = ServiceManager(self._reload)
        self._liveness = Liveness(len(self._routes))
        # Of each route the id by which the manager knows its workers.
        self._workers = [
            self._manager.add(
                self._start(Worker, number, self._liveness, self._has_metrics),
                conf[GROUP].workers,
            )
            # The manager starts no service without a process.
            for number in self._routes
            if conf[GROUP].workers
        ]
        self._expect_workers()
        self._manager.register_hooks(
            on_new_worker=self._on_new_worker,
            on_dead_worker=self._on_dead_worker,
        )
        if _purges(conf):
            self._manager.add(self._start(Purger, self._has_metrics))
        for consumer in settling.check(conf):
            if conf[settling.GROUP].here:
                self._manager.add(
                    self._start(Settling, consumer, self._has_metrics)
                )
        if endpoint is not None:
            from profiler_bridge.daemon.endpoint import MetricsServer

            self._manager.add(
                self._start(MetricsServer, endpoint, self._liveness)
            )

    def run(self) -> None:
        self._manager.run()

    def _start(self, service: Any, *args: Any) -> Any:
        """What starts a process, with the configuration of that moment."""
        return lambda worker_id: service(worker_id, self._conf, *args)

    def _expect_workers(self) -> None:
        for number in self._routes:
            self._liveness.await_start(number, self._conf[GROUP].workers)

    def _on_new_worker(
        self, service_id: Any, worker_id: Any, _service: Any
    ) -> None:
        """In a worker that has started; the first of a bus logs losses."""
        if service_id not in self._workers or worker_id != 0:
            return
        bus, storage = divmod(
            self._workers.index(service_id), len(self._pools)
        )
        if storage == 0:
            threading.Thread(
                target=log_losses,
                args=[self._conf, get_buses(self._conf)[bus]],
                daemon=True,
            ).start()

    def _on_dead_worker(
        self, service_id: Any, worker_id: Any, _code: int
    ) -> None:
        """In the master, after a worker has ended: another takes its place."""
        if service_id not in self._workers:
            return
        number = self._workers.index(service_id)
        self._liveness.await_restart(number, int(worker_id))
        if self._has_metrics:
            from profiler_bridge.daemon import metrics

            metrics.forget_process(process_name(number, worker_id))

    def _reload(self) -> bool:
        """Have the processes that start from now on use the new options.

        :returns: False when all stays as it is, which is logged
        """
        try:
            conf = self._load()
            _refuse_other_processes(self._conf, conf)
            self._keep_storages(conf)
            self._keep_buses(conf)
            SetAside.from_conf(conf).prepare()
            self._use(conf)
        except Exception as error:  # noqa: BLE001 - the daemon goes on
            problem = str(error)
        else:
            self._conf = conf
            for service_id in self._workers:
                self._manager.reconfigure(service_id, conf[GROUP].workers)
            self._expect_workers()
            return True
        with contextlib.suppress(exceptions.ConfigurationError):
            self._use(self._conf)
        LOG.error("Going on with the options of before: %s", problem)
        return False

    def _keep_storages(self, conf: cfg.ConfigOpts) -> None:
        """Have new options go on with the storages that there are."""
        pools = get_pools(conf, storages.get_storages(conf))
        # The first has the plain queue, wherever it is now.
        if pools[1:] != self._pools[1:]:
            LOG.error(
                "Going on with the storages of before; restart"
                " profiler-bridge for others"
            )
            storages.set_connection_strings(
                conf, storages.connection_strings(self._conf)
            )

    def _keep_buses(self, conf: cfg.ConfigOpts) -> None:
        """Have new options go on with as many buses as there are."""
        if len(get_buses(conf)) != self._buses:
            LOG.error(
                "Going on with the buses of before; restart profiler-bridge"
                " for more or fewer"
            )
            conf.set_override(
                "transport_url", transport_urls(self._conf), GROUP
            )
