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

"""The bus: which queues there are, and how messages are taken off them."""

from __future__ import annotations

import collections
import contextlib
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions, queue
from profiler_bridge.storage.base import Storage

with warnings.catch_warnings():
    # oslo.messaging imports eventlet where it is installed, and so says to
    # everybody that eventlet is deprecated. The bridge does not use it.
    warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
    warnings.filterwarnings("ignore", "eventletutils")
    import oslo_messaging
    import oslo_messaging.opts
    from oslo_messaging.notify.listener import BatchNotificationServer

LOG = logging.getLogger(__name__)

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
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
        help="A worker takes at most so many messages off the queue before"
        " they are stored, and fewer when they are large: it reads no further"
        " while it holds 4 MiB. The default of rabbit_qos_prefetch_count,"
        " which overrides it.",
    ),
]

# Written to by the thread that polls the bus; see Listener.
_ACKNOWLEDGE_WITHIN = 0.3

#: A worker reads on while the bodies of the messages in its hands, stored or
#: not, are of fewer bytes; as Python objects they take several times that.
HELD_BYTES = 4 << 20
#: A batch is full when its bodies are of so many: some are stored while others
#: are read.
BATCH_BYTES = HELD_BYTES // 2
# Messages read in one go, in which the last ones' size is taken for theirs:
# few, for each of them may be much larger.
_AT_ONCE = 4
# Seconds. RabbitMQ (3.10) closes a connection on which it cannot write on for
# 30.
_PAUSE_AFTER = 15


class Listener(BatchNotificationServer):  # type: ignore[misc]
    """A batch listener that acknowledges every message that it took.

    Once for all messages of a batch, which is what the broker and this side
    spend much of their time on otherwise.

    It bounds what it holds in bytes, for a prefetch counts messages, of which
    one can be as large as a thousand others; and buses other than RabbitMQ
    know of no prefetch. What is too much stays at the broker.

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
        self._held = 0
        self._last_read = 0.0
        self._paused: Any = None
        self._settled = threading.Condition()
        self._largest = BATCH_BYTES

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
        driver = listener._poll_style_listener
        if hasattr(driver, "msg_id_cache"):
            driver.msg_id_cache.prev_msgids = collections.deque(maxlen=0)
        driver.poll = partial(self._poll_batch, driver, driver.poll)
        cleanup = listener.cleanup

        def acknowledge_and_cleanup() -> None:
            time.sleep(_ACKNOWLEDGE_WITHIN)
            # It warns of each message that the broker sends meanwhile, and
            # will send again.
            logging.getLogger("amqp").setLevel("ERROR")
            cleanup()

        listener.cleanup = acknowledge_and_cleanup
        return listener

    def _poll_batch(
        self,
        driver: Any,
        poll: Callable[..., list[Any]],
        *,
        batch_size: int,
        batch_timeout: float,
    ) -> list[Any]:
        """Read until the batch is full, its time is over, or hands are."""
        if driver.prefetch_size > 0:
            # Of each consumer, and there is one for each queue.
            queues = 1 if self._pool else len(self.targets)
            batch_size = min(batch_size, driver.prefetch_size * queues)
        end = time.monotonic() + batch_timeout
        batch: list[Any] = []
        size = 0
        while (
            len(batch) < batch_size
            and size < BATCH_BYTES
            and (left := end - time.monotonic()) > 0
            and (count := self._room(driver, size, 0 if batch else left))
        ):
            try:
                read = poll(
                    timeout=left,
                    batch_size=min(count, batch_size - len(batch)),
                )
            except oslo_messaging.MessageDeliveryFailure:
                self._wait_for_queues()
                self.stopping.wait(1)  # should it not have been the queue
                break
            if not read:
                break
            self._last_read = time.monotonic()
            if self._is_paused(driver):
                for each in read:
                    each.requeue()
                continue
            for each in read:
                each.size = _size(each.message)
            self._largest = max(each.size for each in read)
            size += sum(each.size for each in read)
            batch += read
        with self._settled:
            self._held += size
        return batch

    def _room(self, driver: Any, batch: int, seconds: float) -> int:
        """How many messages to read now, if need be after a wait.

        :param batch: bytes that have been read, and not handed over yet
        :param seconds: to wait at most for what is held to be stored
        """

        def enough() -> bool:
            return self._held + batch < HELD_BYTES or self.stopping.is_set()

        link = _connection(driver)
        paused = self._is_paused(driver)
        with self._settled:
            found = self._settled.wait_for(enough, 0 if paused else seconds)
        if found:
            if paused and not self.stopping.is_set():
                link._new_tags = set(link._consumers.values())
                self._paused = None
            few = (BATCH_BYTES - batch) // (self._largest or 1)
            return max(1, min(few, _AT_ONCE))
        if link is None or paused:
            return int(paused)
        if time.monotonic() - self._last_read > _PAUSE_AFTER:
            self._pause(link)
        # It cannot hear the broker now, and would say so.
        with contextlib.suppress(*link.connection.connection_errors):
            if link.connection.connected:
                link._heartbeat_check()
        return 0

    def _pause(self, link: Any) -> None:
        """Have the broker send no more; what it sent already goes back.

        Otherwise it would end the connection again and again, and quorum
        queues count how often a message comes back.
        """
        if any(each.queue_auto_delete for each in link._consumers):
            return  # a queue without consumers would go
        LOG.info("Taking no messages until those in hand are stored")
        with contextlib.suppress(*link.connection.connection_errors):
            for tag in link._consumers.values():
                link.channel.basic_cancel(str(tag), nowait=True)
            self._paused = link.channel

    def _is_paused(self, driver: Any) -> bool:
        # On a new channel the driver has new consumers.
        link = _connection(driver)
        return self._paused is not None and self._paused is link.channel

    def _process_incoming(self, incoming: Sequence[Any]) -> None:
        try:
            if self.dispatcher.dispatch(incoming):
                for each in incoming:
                    each.requeue()
            else:
                self._acknowledge(incoming)
        finally:
            with self._settled:
                self._held -= sum(each.size for each in incoming)
                self._settled.notify()

    def _acknowledge(self, incoming: Sequence[Any]) -> None:
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
        link = _connection(driver)
        if not hasattr(link, "_new_tags"):
            return True
        # Those are consumers that RabbitMQ does not know of yet, or any more.
        return link.connection.connected and not link._new_tags


def _connection(driver: Any) -> Any:
    """The RabbitMQ driver's; None of other drivers."""
    return getattr(getattr(driver, "conn", None), "connection", None)


def _size(message: Any) -> int:
    """The bytes of a message's body, of which RabbitMQ's driver keeps two."""
    raw = getattr(message, "_raw_message", None)
    if raw is None:
        return len(repr(message))
    return len(raw.body)


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
    # Unlimited otherwise: one worker would be handed a backlog whole.
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
        pools.append(f"profiler_bridge-{scheme}-{digest}")
    return pools
