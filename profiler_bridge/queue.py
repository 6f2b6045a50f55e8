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

"""What RabbitMQ says of a queue, before anybody listens to it.

The queue belongs to whoever declares it first, often a profiled service. A
later one that asks for another kind is refused. oslo.messaging then ends the
worker with a traceback that speaks of a connection, and again with the next.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oslo_log import log as logging

from profiler_bridge import exceptions

LOG = logging.getLogger(__name__)

# Seconds between looks at a queue that cannot be used yet.
PAUSE = 5.0


class Kind(enum.StrEnum):
    """The kinds of queues that oslo.messaging's options can ask for."""

    TRANSIENT = "not durable"
    DURABLE = "durable"
    QUORUM = "a quorum queue"


_OPTIONS = {
    Kind.TRANSIENT: "amqp_durable_queues = false, rabbit_quorum_queue = false",
    Kind.DURABLE: "amqp_durable_queues = true, rabbit_quorum_queue = false",
    Kind.QUORUM: "rabbit_quorum_queue = true",
}


@dataclass(frozen=True)
class Queue:
    """A queue as the broker has it.

    :param name: such as ``profiler.info``
    :param exists: nothing else is known of one that does not; the first who
        listens or sends makes it
    :param kind: None when it is none of those, or not known
    :param messages: how many wait and are in nobody's hands
    :param consumers: how many read it, our own workers among them
    :param problem: one line on how it differs from what our options ask for,
        and what to do; empty when it does not
    :param usable: whether the bridge can listen to it all the same
    """

    name: str
    exists: bool = False
    kind: Kind | None = None
    messages: int = 0
    consumers: int = 0
    problem: str = ""
    usable: bool = True


def inspect(
    transport: Any,
    topic: str,
    exchange: str | None = None,
    pool: str | None = None,
    *,
    wait: bool = False,
) -> Queue | None:
    """Ask RabbitMQ for the queue of a topic. Makes and changes nothing.

    :param transport: of oslo.messaging
    :param exchange: defaults to control_exchange
    :param pool: of listeners, which have a queue of its name
    :param wait: for a broker that does not answer, for ever
    :returns: None when the bus is no RabbitMQ
    :raises BusUnavailable: the broker does not answer, or lets us not in
    """
    driver = transport._driver
    if driver._url.transport not in ("rabbit", "kombu"):
        return None
    import amqp
    import kombu.exceptions
    from oslo_messaging._drivers.common import PURPOSE_LISTEN

    # oslo.messaging's own, with its options for TLS and logins. Each host is
    # tried once.
    tries = None if wait else max(len(driver._url.hosts) - 1, 0)
    try:
        connection = driver._connection_pool.create(PURPOSE_LISTEN, tries)
        try:
            return _Inspection(
                connection,
                pool or f"{topic}.info",
                exchange or driver._default_exchange,
            ).run()
        finally:
            connection.close()
    except (
        amqp.AMQPError,
        kombu.exceptions.KombuError,
        OSError,
    ) as error:
        raise exceptions.BusUnavailable(
            f"RabbitMQ does not answer, or refuses: {_words(error)}"
        ) from None


def wait_until_usable(
    transport: Any,
    topic: str,
    exchange: str | None,
    pool: str | None,
    stopping: threading.Event,
) -> None:
    """Come back when the bridge can listen; say once what is in the way.

    For the rest see :func:`inspect`.

    :param stopping: when set, do not wait
    """
    said = ""
    while not stopping.is_set():
        try:
            queue = inspect(transport, topic, exchange, pool, wait=True)
        except exceptions.BusUnavailable as error:
            problem, usable = str(error), False
        else:
            problem = queue.problem if queue else ""
            usable = queue is None or queue.usable
        if usable:
            if problem:
                LOG.warning("Listening all the same: %s", problem)
            return
        if problem != said:
            LOG.error("Waiting to listen: %s", problem)
            said = problem
        stopping.wait(PAUSE)


class _Inspection:
    """One look at one queue.

    AMQP tells how full a queue is, but not of which kind: that is found by
    declaring it, which changes nothing of one that exists. Whether it does
    is looked at right before.

    :param connection: of oslo.messaging's driver
    """

    def __init__(self, connection: Any, name: str, exchange: str) -> None:
        self._connection = connection
        self._name = name
        self._exchange = exchange
        self._ours = Kind.TRANSIENT
        if connection.amqp_durable_queues:
            self._ours = Kind.DURABLE
        if connection.rabbit_quorum_queue:
            self._ours = Kind.QUORUM

    def run(self) -> Queue:
        from amqp.exceptions import NotFound

        counts: list[int] = []

        def look(channel: Any) -> None:
            found = channel.queue_declare(self._name, passive=True)
            counts.extend((found.message_count, found.consumer_count))

        error = self._refusal(look)
        if error is None:
            return self._existing(*counts)
        if isinstance(error, NotFound) and "no queue" in _words(error):
            problem = self._exchange_problem()
            return Queue(self._name, problem=problem, usable=not problem)
        # Such as a queue of a node that is down, or that we may not see.
        return Queue(
            self._name,
            exists=True,
            problem=f"RabbitMQ refuses queue {self._name}: {_words(error)}",
            usable=False,
        )

    def _existing(self, messages: int, consumers: int) -> Queue:
        problem, usable = "", True
        kind: Kind | None = self._ours
        error = self._refusal_of(self._ours)
        if error is not None:
            others = [each for each in Kind if each is not self._ours]
            kind = next(
                (each for each in others if not self._refusal_of(each)), None
            )
            # Refused a durable exchange, oslo.messaging asks for a transient
            # exchange and queue instead.
            usable = (
                kind is Kind.TRANSIENT
                and self._ours is Kind.DURABLE
                and self._exchange_durable() is False
            )
            problem = self._difference(kind, error)
        else:
            problem = self._exchange_problem()
            usable = not problem
        return Queue(
            self._name, True, kind, messages, consumers, problem, usable
        )

    def _difference(self, kind: Kind | None, error: Exception) -> str:
        if kind is None:
            return (
                f"queue {self._name} is not as [oslo_messaging_rabbit] here"
                " has it: set the options there as the services have them"
                f" ({_words(error)})"
            )
        return (
            f"queue {self._name} is {kind}, but [oslo_messaging_rabbit] here"
            f" has {_OPTIONS[self._ours]}: set {_OPTIONS[kind]} as the"
            " services have it, or change the services and delete the queue"
        )

    def _refusal_of(self, kind: Kind) -> Exception | None:
        """What the broker has against this kind of queue; None: nothing."""
        from oslo_messaging._drivers.impl_rabbit import _get_queue_arguments

        connection = self._connection
        quorum = kind is Kind.QUORUM
        return self._refusal(
            lambda channel: channel.queue_declare(
                self._name,
                durable=kind is not Kind.TRANSIENT,
                auto_delete=connection.amqp_auto_delete,
                arguments=_get_queue_arguments(
                    connection.rabbit_ha_queues and not quorum,
                    0,
                    quorum,
                    connection.rabbit_quorum_queue_config,
                    False,
                ),
            )
        )

    def _exchange_durable(self) -> bool | None:
        """Whether the exchange is; None when there is none yet."""
        if self._refusal(lambda c: self._declare_exchange(c, passive=True)):
            return None
        return not self._refusal(
            lambda c: self._declare_exchange(c, durable=True)
        )

    def _declare_exchange(self, channel: Any, **options: bool) -> None:
        channel.exchange_declare(
            self._exchange,
            type="topic",
            auto_delete=self._connection.amqp_auto_delete,
            **options,
        )

    def _exchange_problem(self) -> str:
        durable = self._exchange_durable()
        if durable is None or durable is (self._ours is not Kind.TRANSIENT):
            return ""
        return (
            f"exchange {self._exchange} is {'' if durable else 'not '}durable,"
            " but [oslo_messaging_rabbit] here has"
            f" {_OPTIONS[self._ours]}: set control_exchange in [DEFAULT] here"
            " to a name that nobody has"
        )

    def _refusal(self, declare: Callable[[Any], object]) -> Exception | None:
        """Do it on a channel of its own, as a refusal closes the channel."""
        from amqp.exceptions import ChannelError

        channel = self._connection.connection.channel()
        try:
            declare(channel)
        except ChannelError as error:
            refusal: Exception = error
            return refusal
        finally:
            self._connection.connection.maybe_close_channel(channel)
        return None


def _words(error: Exception) -> str:
    """The broker's own, in one line."""
    text = getattr(error, "reply_text", None) or str(error)
    return ascii(str(text) or type(error).__name__)[1:-1]
