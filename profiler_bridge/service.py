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

import collections
import contextlib
import gc
import random
import re
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import cotyledon
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions, queue
from profiler_bridge import storage as storages
from profiler_bridge.collector import Collector
from profiler_bridge.masking import Masker
from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage.base import Storage

with warnings.catch_warnings():
    # oslo.messaging imports eventlet where it is installed, and so says to
    # everybody that eventlet is deprecated. The bridge does not use it.
    warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
    warnings.filterwarnings("ignore", "eventletutils")
    import oslo_messaging
    import oslo_messaging.opts
    from oslo_messaging.notify.listener import BatchNotificationServer

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
    cfg.ListOpt(
        "topics",
        default=["profiler"],
        help="Topics to listen on. osprofiler sends to 'profiler'.",
    ),
    cfg.ListOpt(
        "exchanges",
        default=[
            "openstack",
            "cinder",
            "glance",
            "heat",
            "keystone",
            "magnum",
            "manila",
            "masakari",
            "mistral",
            "neutron",
            "nova",
            "octavia",
            "trove",
            "watcher",
            "zun",
        ],
        help="The control_exchange of each profiled service: a pool's queue"
        " gets what is published to these. Only of use with 'pool' and with"
        " several storages; publishers themselves bind the plain queue to"
        " their exchanges.",
    ),
    cfg.StrOpt(
        "pool",
        help="Name of a pool of listeners with a queue of its own, which gets"
        " a copy of every notification. The plain queue still fills, so some"
        " other consumer has to drain it. Of several storages this is the"
        " first one's pool; the others have theirs without being told.",
    ),
    cfg.IntOpt(
        "batch_size",
        default=500,
        min=1,
        help="Store at most so many messages at once.",
    ),
    cfg.FloatOpt(
        "batch_timeout",
        default=0.5,
        min=0.01,
        help="Store what has arrived after so many seconds, however little"
        " it is.",
    ),
    cfg.BoolOpt(
        "at_most_once",
        default=False,
        help="Go on with a bus that takes no message back, such as Kafka."
        " Notifications in hand are lost then when the bridge or its storage"
        " fails.",
    ),
    cfg.IntOpt(
        "prefetch",
        default=1000,
        min=1,
        help="Hold at most so many messages in a worker's memory. The"
        " default of rabbit_qos_prefetch_count, which overrides it.",
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

# Written to by the thread that polls the bus; see Listener.
_ACKNOWLEDGE_WITHIN = 0.3
# So often old traces are deleted, in seconds; more often where they are kept
# for less than ten times that.
_PURGE_EVERY = 3600.0
# So often a worker says how it is, in seconds.
_ALIVE_EVERY = 1.0


class Listener(BatchNotificationServer):  # type: ignore[misc]
    """A batch listener that acknowledges every message that it took.

    Once for all messages of a batch, which is what the broker and this side
    spend much of their time on otherwise.

    Two things in oslo.messaging's RabbitMQ driver (18.3) are in the way. It
    drops a message whose id is among the last 16 without acknowledging it:
    after a reconnect such messages stay with us for good. Storing twice does
    no harm, so its memory is switched off. And when it stops, it leaves the
    last acknowledgements to a thread that looks every millisecond, but closes
    the connection without asking whether that thread had its turn. So give
    it time.

    And it waits, here and whenever the broker refuses the queue later on,
    until the queue is one that it can listen to. :attr:`stopping` ends that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopping = threading.Event()

    def _wait_for_queues(self) -> None:
        for target in self.targets:
            queue.wait_until_usable(
                self.transport,
                target.topic,
                target.exchange,
                self._pool,
                self.stopping,
            )

    def _create_listener(self) -> Any:
        self._wait_for_queues()
        listener = super()._create_listener()
        driver: Any = getattr(listener, "_poll_style_listener", None)
        if hasattr(driver, "msg_id_cache"):
            driver.msg_id_cache.prev_msgids = collections.deque(maxlen=0)
            poll = driver.poll

            def poll_or_wait(**options: Any) -> Any:
                with contextlib.suppress(
                    oslo_messaging.MessageDeliveryFailure
                ):
                    return poll(**options)
                self._wait_for_queues()
                self.stopping.wait(1)  # should it not have been the queue
                return None

            driver.poll = poll_or_wait
        if hasattr(driver, "prefetch_size"):
            # It is for each consumer, and batches are cut to it. There is one
            # for each queue.
            driver.prefetch_size *= 1 if self._pool else len(self.targets)
        cleanup = listener.cleanup

        def acknowledge_and_cleanup() -> None:
            time.sleep(_ACKNOWLEDGE_WITHIN)
            cleanup()

        listener.cleanup = acknowledge_and_cleanup
        return listener

    def _process_incoming(self, incoming: Sequence[Any]) -> None:
        if self.dispatcher.dispatch(incoming):
            for each in incoming:
                each.requeue()
            return
        last_of_channels: dict[int, Any] = {}
        for each in incoming:
            raw = getattr(each.message, "_raw_message", None)
            if raw is None:
                each.acknowledge()  # not RabbitMQ
            else:
                last_of_channels[id(raw.channel)] = each
        for each in last_of_channels.values():
            # "Up to and including" this one. All before it are settled: there
            # is one thread, and it takes batches in their order.
            raw = each.message._raw_message
            each.message.acknowledge = partial(raw.ack, multiple=True)
            each.acknowledge()

    @property
    def connected(self) -> bool:
        """Whether messages can come; of a bus that does not tell, yes."""
        if self.listener is None:
            return False
        driver: Any = getattr(self.listener, "_poll_style_listener", None)
        link: Any = getattr(getattr(driver, "conn", None), "connection", None)
        if not hasattr(link, "_new_tags"):
            return True
        # Those are consumers that RabbitMQ does not know of yet, or any more.
        return link.connection.connected and not link._new_tags


def get_targets(conf: cfg.ConfigOpts, pool: str | None) -> list[Any]:
    """What a queue is bound to.

    :param pool: whose queue it is; None for the plain queue
    """
    # The plain queue's publishers bind it.
    exchanges = dict.fromkeys(conf[GROUP].exchanges) if pool else [None]
    return [
        oslo_messaging.Target(topic=topic, exchange=exchange)
        for topic in conf[GROUP].topics
        for exchange in exchanges
    ]


def get_transport(conf: cfg.ConfigOpts, consumers: int = 1) -> Any:
    """The bus of [oslo_messaging_notifications] or [DEFAULT] transport_url.

    :param consumers: how many of them share what is prefetched
    :raises ConfigurationError: the URL cannot be used
    """
    for group, options in oslo_messaging.opts.list_opts():
        if group == "oslo_messaging_rabbit":
            conf.register_opts(options, group)
    # Unlimited otherwise: a backlog would be read into memory whole.
    conf.set_default(
        "rabbit_qos_prefetch_count",
        max(1, conf[GROUP].prefetch // consumers),
        "oslo_messaging_rabbit",
    )
    try:
        transport = oslo_messaging.get_notification_transport(conf)
    except (
        oslo_messaging.InvalidTransportURL,
        oslo_messaging.DriverLoadFailure,
    ) as error:
        raise exceptions.ConfigurationError(
            f"transport_url cannot be used: {error}"
        ) from None
    try:
        transport._require_driver_features(requeue=True)
    except NotImplementedError:
        if not conf[GROUP].at_most_once:
            raise exceptions.ConfigurationError(
                "this bus takes no message back: what is in hand when the"
                " bridge or its storage fails is lost. To go on all the"
                " same set at_most_once = true in [bridge]"
            ) from None
        LOG.warning(
            "This bus takes no message back: each notification is stored at"
            " most once, and lost when the bridge or its storage fails"
        )
    return transport


def get_pools(
    conf: cfg.ConfigOpts, stores: Sequence[Storage]
) -> list[str | None]:
    """For each storage the pool whose queue it drains.

    Made of nothing but the connection string without passwords: the queue
    that fills while the bridge is away has to be found again.

    :returns: for the first the configured pool, None for the plain queue
    """
    pools: list[str | None] = [conf[GROUP].pool]
    for name in map(str, stores[1:]):
        scheme = re.split(r"[+:]", name)[0]
        digest = blake2b(name.encode(), digest_size=4).hexdigest()
        pools.append(f"{PROJECT}-{scheme}-{digest}")
    return pools


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


class Purger(cotyledon.Service):
    """The process that deletes what is older than ``retention``.

    There is one for all storages. That of another host may be at it at the
    same time, which does no harm; that both begin at once is unlikely.

    :param metrics: whether there are any
    """

    name = "purge"

    def __init__(
        self, worker_id: Any, conf: cfg.ConfigOpts, metrics: bool
    ) -> None:
        super().__init__(worker_id)
        self._retention: int = conf[storages.GROUP].retention
        self._storages = [
            each for each in storages.get_storages(conf) if not each.expires
        ]
        self._metrics = metrics
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
            storage.close()  # a connection would know old rights, too
        if storage not in self._failing:
            self._failing.add(storage)
            LOG.warning("Old traces are not deleted: %s", problem)

    def _count(self, storage: Storage, purged: int) -> None:
        if self._metrics:
            from profiler_bridge import metrics

            metrics.count_purged(str(storage), purged)


class _ServiceManager(cotyledon.ServiceManager):
    """Starts workers again that have died, even when SIGHUP comes then.

    In cotyledon (2.2) the thread that does it remembers the last times, and
    waits when they are close together. SIGHUP forgets them; at its waking up
    the thread fails, and no worker is started any more.
    """

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
