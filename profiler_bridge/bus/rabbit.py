# SPDX-License-Identifier: Apache-2.0

"""A queue of RabbitMQ: declared, bound and read.

Only queues are declared. Exchanges are the services' own: whoever declares one
first decides on its durability, and RabbitMQ refuses a service that wants it
otherwise.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import amqp
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.bus import broker
from profiler_bridge.bus.consumer import Consumer
from profiler_bridge.bus.link import ERRORS, Hosts, Link, words

# For the daemon, until it takes it from where it is.
from profiler_bridge.bus.polled import quieten_driver as quieten_driver
from profiler_bridge.bus.rabbit_options import queue_arguments
from profiler_bridge.bus.reader import Message

LOG = logging.getLogger(__name__)

# Seconds until a broker is asked again that answered, and refused.
_AFTER_REFUSAL = 5.0
# Seconds until exchanges are looked for again that are not there: doubling
# from the first to the last, as RabbitMQ logs each time that one is not.
_FIRST_LOOK = 1.0
_LAST_LOOK = 300.0


class _Binding(NamedTuple):
    queue: str
    exchange: str
    key: str

    def bind(self, channel: Any) -> None:
        channel.queue_bind(self.queue, self.exchange, self.key)


class RabbitSource:
    """See :class:`profiler_bridge.bus.reader.Source`.

    :param transport: of oslo.messaging
    :param targets: what the queue is bound to
    :param pool: whose queue it is; None for the plain one
    :param receive: called with messages
    """

    def __init__(
        self,
        transport: Any,
        targets: Sequence[Any],
        pool: str | None,
        receive: Callable[[Sequence[Message]], None],
    ) -> None:
        self._options = options = transport.conf.oslo_messaging_rabbit
        self._receive = receive
        self._bindings = [
            _Binding(
                pool or f"{target.topic}.info",
                target.exchange or transport.conf.control_exchange,
                f"{target.topic}.info",
            )
            for target in targets
        ]
        self._queues = [
            *dict.fromkeys(binding.queue for binding in self._bindings)
        ]
        # The plain queue is bound by services, whenever they make an exchange.
        self._awaits_exchanges = pool is not None
        self._unbound: list[_Binding] = []
        self._look_pause = self._look_at = 0.0
        self._consumer = Consumer(
            self._queues,
            options.rabbit_qos_prefetch_count,
            {"x-cancel-on-ha-failover": True}
            if options.enable_cancel_on_failover
            else {},
        )
        self._hosts = Hosts(transport)
        self._link: Link | None = None
        # Rounds over the hosts in which none answered.
        self._rounds = 0
        self.delay = 0.0

    # Connecting

    def connect(self) -> None:
        self._drop()
        options = self._options
        self.delay = min(
            options.rabbit_retry_interval
            + options.rabbit_retry_backoff * self._rounds,
            options.rabbit_interval_max,
        )
        self._rounds += 1
        self._link = self._hosts.connect(self._consumer.deliver)
        self._rounds = 0
        self.delay = _AFTER_REFUSAL
        with self._using_link() as link:
            for queue in self._queues:
                self._declare(link, queue)
            self._begin_to_bind(link)
            self._consume(link, link.channel())
        self.delay = options.kombu_reconnect_delay
        LOG.info("Connected to RabbitMQ at %s", link.host)

    def _declare(self, link: Link, name: str) -> None:
        options = self._options
        quorum = options.rabbit_quorum_queue
        refusal = link.refusal(
            lambda channel: channel.queue_declare(
                name,
                durable=options.amqp_durable_queues or quorum,
                auto_delete=options.amqp_auto_delete,
                arguments=queue_arguments(
                    options, ha=options.rabbit_ha_queues, quorum=quorum
                ),
            )
        )
        if refusal is None:
            return
        queue = self._examine(link, name)
        if not queue.problem or not queue.usable:
            raise exceptions.BusUnavailable(queue.problem or words(refusal))
        LOG.warning("Listening all the same: %s", queue.problem)

    def _consume(self, link: Link, channel: Any) -> None:
        try:
            self._consumer.start(channel)
        except amqp.ChannelError as error:
            refusal = error
        else:
            return
        for queue in self._queues:
            self._require(link, queue)
        raise exceptions.BusUnavailable(words(refusal))

    def _require(self, link: Link, name: str) -> None:
        """See whether a queue can be listened to.

        :raises BusUnavailable: it cannot, with what is to be done
        """
        queue = self._examine(link, name)
        if not queue.usable:
            raise exceptions.BusUnavailable(queue.problem)

    def _examine(self, link: Link, queue: str) -> broker.Queue:
        return broker.examine(
            link,
            self._options,
            queue,
            [
                binding.exchange
                for binding in self._bindings
                if binding.queue == queue
            ],
        )

    # Binding

    def _begin_to_bind(self, link: Link) -> None:
        self._unbound = [*self._bindings]
        self._look_pause = _FIRST_LOOK
        self._bind(link)
        if not self._awaits_exchanges:
            self._unbound.clear()
        elif self._unbound:
            LOG.info(
                "Queue %s is bound to these exchanges as soon as they exist:"
                " %s",
                self._unbound[0].queue,
                ", ".join(binding.exchange for binding in self._unbound),
            )

    def _bind(self, link: Link) -> None:
        """Bind to the exchanges that there are."""
        for binding in [*self._unbound]:
            refusal = link.refusal(binding.bind)
            if refusal is None:
                self._unbound.remove(binding)
                # Services often come together.
                self._look_pause = _FIRST_LOOK
            elif not isinstance(refusal, amqp.NotFound):
                self._require(link, binding.queue)
                raise exceptions.BusUnavailable(words(refusal))
        self._look_at = time.monotonic() + self._look_pause
        self._look_pause = min(2 * self._look_pause, _LAST_LOOK)

    # Reading

    def read(self, seconds: float) -> None:
        with self._using_link() as link:
            refusal = self._read(link, seconds)
            if self._consumer.reopened:
                LOG.warning(
                    "RabbitMQ closed the channel; opening it again: %s",
                    refusal,
                )
                self._consume(link, self._consumer.channel)
            elif refusal:
                raise exceptions.BusUnavailable(refusal)

    def _read(self, link: Link, seconds: float) -> str:
        """Read, and do what is due.

        :returns: why the broker has closed a channel; empty when it has not
        """
        try:
            link.read(seconds)
            self._hand_over()
            self._consumer.raise_prefetch()
            if self._unbound and time.monotonic() >= self._look_at:
                self._bind(link)
        except amqp.ChannelError as error:
            return words(error)
        finally:
            self._hand_over()
        return ""

    def _hand_over(self) -> None:
        arrived = self._consumer.collect()
        if arrived:
            self._receive(arrived)

    def settle(
        self, acknowledged: Sequence[Message], given_back: Sequence[Message]
    ) -> None:
        if self._link is not None:
            with self._using_link():
                self._consumer.settle(acknowledged, given_back)

    def keep_alive(self) -> None:
        with self._using_link() as link:
            link.beat()

    def pause(self) -> None:
        """Cancel the consumers.

        Otherwise the broker, which cannot write on, would end the connection
        again and again, and quorum queues count how often a message comes
        back.
        """
        # RabbitMQ deletes such a queue without consumers.
        if not self._options.amqp_auto_delete:
            with self._using_link():
                self._consumer.cancel()

    @property
    def paused(self) -> bool:
        return self._link is not None and self._consumer.cancelled

    def resume(self) -> None:
        with self._using_link():
            self._consumer.consume()

    @property
    def connected(self) -> bool:
        link = self._link
        return link is not None and link.connected

    def stop(self) -> None:
        self._hosts.stop()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    @contextlib.contextmanager
    def _using_link(self) -> Iterator[Link]:
        """Lose the connection when something goes wrong with it.

        :raises BusUnavailable: it did, or there is none
        """
        link = self._link
        if link is None:
            raise exceptions.BusUnavailable("there is no connection")
        try:
            yield link
        except amqp.ConsumerCancelled:
            problem = "a queue was deleted, or is no longer led by its node"
        except ERRORS as error:
            problem = words(error)
        except exceptions.BusUnavailable:
            # The broker has answered.
            self._link = None
            link.close()
            raise
        else:
            return
        self._drop()
        # Which older releases of oslo.messaging do not have.
        splay = getattr(self._options, "kombu_reconnect_splay", 0.0)
        self.delay = self._options.kombu_reconnect_delay
        self.delay += random.uniform(0, splay)  # noqa: S311 - no secret
        raise exceptions.BusUnavailable(f"RabbitMQ at {link.host}: {problem}")

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()
