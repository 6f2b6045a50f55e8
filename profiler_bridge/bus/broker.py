# SPDX-License-Identifier: Apache-2.0

"""What RabbitMQ says of a queue, before anybody listens to it.

A queue is as the first one who declared it wanted it, which often is a
profiled service. Whoever then asks for another kind is refused. oslo.messaging
would end the worker with a traceback that speaks of a connection, and every
worker after it.
"""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed

from profiler_bridge import exceptions
from profiler_bridge.bus import private
from profiler_bridge.bus.link import ERRORS, Hosts, Link, words
from profiler_bridge.bus.rabbit_options import queue_arguments


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
    :param exists: if not, nothing else is known of it; the first who listens
        or sends makes it
    :param kind: None when it is none of those, or not known
    :param messages: how many wait, without those that a consumer has
    :param consumers: how many read it, our own workers among them
    :param problem: one line on how it differs from what our options ask for,
        and what to do; empty when it does not
    :param usable: whether the bridge can listen to it despite that
    :param version: of RabbitMQ, such as ``3.10.8``
    """

    name: str
    exists: bool = False
    kind: Kind | None = None
    messages: int = 0
    consumers: int = 0
    problem: str = ""
    usable: bool = True
    version: str = field(default="", compare=False)


def inspect(
    transport: Any,
    topic: str,
    exchanges: Sequence[str] = (),
    pool: str | None = None,
    *,
    rights: bool = True,
) -> Queue | None:
    """Ask RabbitMQ for the queue of a topic. Makes and changes nothing.

    :param transport: of oslo.messaging
    :param exchanges: to which services publish
    :param pool: of listeners, which have a queue of its name; None for the
        plain queue, which is bound to control_exchange, too
    :param rights: whether to ask for the rights of a listener, too
    :returns: None when the bus is no RabbitMQ
    :raises BusUnavailable: the broker does not answer, or refuses the user
    """
    if not private.is_rabbitmq(transport):
        return None
    bound = exchanges if pool else [transport.conf.control_exchange]
    link = Hosts(transport).connect()
    try:
        return examine(
            link,
            transport.conf.oslo_messaging_rabbit,
            pool or f"{topic}.info",
            bound if rights else None,
            [*dict.fromkeys([*bound, *exchanges])],
        )
    except ERRORS as error:
        raise exceptions.BusUnavailable(
            f"RabbitMQ at {link.host} does not answer: {words(error)}"
        ) from None
    finally:
        link.close()


def require(transport: Any, topic: str) -> None:
    """See that the queue of a topic can be sent to.

    :param transport: of oslo.messaging
    :raises BusUnavailable: the broker does not answer, or its queue is not
        one of those that the options here ask for
    """
    queue = inspect(transport, topic, rights=False)
    if queue is not None and not queue.usable:
        raise exceptions.BusUnavailable(queue.problem)


def examine(
    link: Link,
    options: Any,
    name: str,
    bound: Sequence[str] | None,
    exchanges: Sequence[str] = (),
) -> Queue:
    """Ask for a queue on a connection that is there.

    :param options: of [oslo_messaging_rabbit]
    :param bound: the exchanges that a listener binds it to, to ask for the
        rights of one; None to ask for none
    :param exchanges: to which services publish
    :raises Exception: one of :data:`profiler_bridge.bus.link.ERRORS`
    """
    queue = _Inspection(link, options, name).run(bound, exchanges)
    return replace(queue, version=link.version)


def refuses_transient(version: str) -> bool:
    """Whether a release of RabbitMQ refuses queues that are not durable.

    4.3 and later do by default, unless the queue is exclusive.

    :param version: such as ``3.10.8``
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (
        (int(numbers[1]), int(numbers[2])) >= (4, 3)
    )


class _Inspection:
    """One inspection of one queue.

    AMQP tells how full a queue is, but not of which kind: whoever declares it
    as another kind is refused. To declare one that exists changes nothing, so
    that is asked first.

    :param options: of [oslo_messaging_rabbit]
    """

    def __init__(self, link: Link, options: Any, name: str) -> None:
        self._link = link
        self._options = options
        self._name = name
        self._ours = Kind.TRANSIENT
        if options.amqp_durable_queues:
            self._ours = Kind.DURABLE
        if options.rabbit_quorum_queue:
            self._ours = Kind.QUORUM

    def run(
        self, bound: Sequence[str] | None, exchanges: Sequence[str]
    ) -> Queue:
        counts: list[int] = []

        def count(channel: Any) -> None:
            queue = channel.queue_declare(self._name, passive=True)
            counts.extend((queue.message_count, queue.consumer_count))

        error = self._link.refusal(count)
        missing = [] if bound is None else self._missing_rights(bound)
        if missing:
            messages, consumers = counts or (0, 0)
            return Queue(
                self._name,
                error is None,
                None,
                messages,
                consumers,
                problem=f"user {self._link.user} has no right to"
                f" {' and to '.join(missing)} in virtual host"
                f" {self._link.virtual_host}: see rabbitmqctl set_permissions",
                usable=False,
            )
        if error is None:
            queue = self._compare(*counts)
        elif isinstance(error, NotFound) and "no queue" in words(error):
            queue = Queue(self._name)
        else:
            # Such as a queue of a node that is down, or that we may not see.
            return Queue(
                self._name,
                exists=True,
                problem=f"RabbitMQ refuses queue {self._name}: {words(error)}",
                usable=False,
            )
        problem = queue.problem or self._exchange_problem(exchanges)
        return replace(queue, problem=problem)

    def _missing_rights(self, bound: Sequence[str]) -> list[str]:
        """The rights that a listener needs and the user lacks.

        RabbitMQ checks rights before anything else. So it is asked for what it
        would otherwise refuse for another reason, or for what has no effect.
        To unbind is to write to a queue and to read from an exchange; RabbitMQ
        names the first of these rights that is missing.
        """
        name = self._name
        requests: list[tuple[str, Callable[[Any], object]]] = [
            (
                f"configure queue {name}",
                lambda channel: channel.queue_declare(
                    name,
                    durable=True,
                    auto_delete=False,
                    arguments={"x-message-ttl": "no number"},
                ),
            ),
            *(
                (f"write to queue {name}", partial(self._unbind, exchange))
                for exchange in bound
            ),
            (
                f"read queue {name}",
                lambda channel: channel.basic_consume(
                    name, arguments={"x-priority": "no number"}
                ),
            ),
        ]
        missing: dict[str, None] = {}
        for right, request in requests:
            error = self._link.refusal(request)
            if not isinstance(error, AccessRefused):
                continue
            text = words(error)
            exchange = re.search("access to exchange '(.*?)'", text)
            if exchange:
                missing[f"read exchange {exchange[1]}"] = None
            elif "access to topic" not in text:
                missing[right] = None
        return [*missing]

    def _unbind(self, exchange: str, channel: Any) -> None:
        """Without effect, as there is no such binding."""
        channel.queue_unbind(
            self._name, exchange, f"{self._name}.{uuid.uuid4()}"
        )

    def _compare(self, messages: int, consumers: int) -> Queue:
        """Compare the queue, which exists, with what our options ask for."""
        error = self._refusal_of_kind(self._ours)
        if error is None:
            return Queue(self._name, True, self._ours, messages, consumers)
        kind = next(
            (
                other
                for other in Kind
                if other is not self._ours and not self._refusal_of_kind(other)
            ),
            None,
        )
        return Queue(
            self._name,
            True,
            kind,
            messages,
            consumers,
            self._difference(kind, error),
            # As in oslo.messaging, which declares one of this kind then.
            usable=kind is Kind.TRANSIENT and self._ours is Kind.DURABLE,
        )

    def _difference(self, kind: Kind | None, error: Exception) -> str:
        if kind is None:
            return (
                f"queue {self._name} is not as [oslo_messaging_rabbit] here"
                " has it: set the options there as the services have them"
                f" ({words(error)})"
            )
        return (
            f"queue {self._name} is {kind}, but [oslo_messaging_rabbit] here"
            f" has {_OPTIONS[self._ours]}: set {_OPTIONS[kind]} as the"
            " services have it, or change the services and delete the queue"
        )

    def _refusal_of_kind(self, kind: Kind) -> Exception | None:
        """Why the queue cannot be declared as of this kind; None if it can."""
        quorum = kind is Kind.QUORUM
        return self._link.refusal(
            lambda channel: channel.queue_declare(
                self._name,
                durable=kind is not Kind.TRANSIENT,
                auto_delete=self._options.amqp_auto_delete,
                arguments=queue_arguments(
                    self._options,
                    ha=self._options.rabbit_ha_queues and not quorum,
                    quorum=quorum,
                ),
            )
        )

    def _exchange_problem(self, exchanges: Sequence[str]) -> str:
        """How services' options differ from ours, as their exchanges show.

        Who declares a durable exchange declares a durable queue.
        """
        ours = self._ours is not Kind.TRANSIENT
        others = [
            name for name in exchanges if self._durable(name) is (not ours)
        ]
        if not others:
            return ""
        return (
            f"exchange {', '.join(others)} is {'not ' if ours else ''}durable,"
            " but [oslo_messaging_rabbit] here has"
            f" {_OPTIONS[self._ours]}: set the same in the services that have"
            " it and here, or they and the bridge want queues of different"
            " kinds, and RabbitMQ refuses who comes second"
        )

    def _durable(self, exchange: str) -> bool | None:
        """Whether an exchange is durable; None when RabbitMQ does not tell.

        Nothing is ever declared with this argument. Of an exchange that
        exists RabbitMQ compares the type, durability and then the rest.
        """
        error = self._link.refusal(
            lambda channel: channel.exchange_declare(
                exchange,
                type="topic",
                durable=True,
                auto_delete=self._options.amqp_auto_delete,
                arguments={"alternate-exchange": 0},
            )
        )
        text = words(error) if isinstance(error, PreconditionFailed) else ""
        if "inequivalent arg" not in text or "arg 'type'" in text:
            return None
        return "arg 'durable'" not in text
