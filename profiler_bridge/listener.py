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
from collections.abc import Sequence
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
        help="Hold at most so many messages in a worker's memory. The"
        " default of rabbit_qos_prefetch_count, which overrides it.",
    ),
]

# Written to by the thread that polls the bus; see Listener.
_ACKNOWLEDGE_WITHIN = 0.3


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
        pools.append(f"profiler_bridge-{scheme}-{digest}")
    return pools
