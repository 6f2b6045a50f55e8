# SPDX-License-Identifier: Apache-2.0

"""What the bridge uses of the bus libraries although they do not publish it.

Each private name of oslo.messaging, kombu and amqp, and each behaviour that
they do not promise, is used in this file only, and is held against the
installed releases by ``tests/unit/test_bus_names.py``.

amqp has an upper bound: the bridge reads frames for it, which a new major
release may see otherwise. The others have none: a name that they change is an
error at once, and they are shared with the services that have ``bridge://``,
whose operators choose their releases. oslo.messaging has a new major one every
half year.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import oslo_messaging
from oslo_messaging._drivers import impl_rabbit

from profiler_bridge.body import decode_body

#: Where RabbitMQ's driver logs its trouble.
DRIVER_LOGGER = "oslo.messaging._drivers.impl_rabbit"


# Any bus


def transport_url(transport: Any) -> oslo_messaging.TransportURL:
    """The URL of a transport, parsed."""
    return transport._driver._url


def is_rabbitmq(transport: Any) -> bool:
    """Whether the bus is RabbitMQ, and not another that kombu knows."""
    return is_rabbitmq_url(transport_url(transport))


def is_rabbitmq_url(url: oslo_messaging.TransportURL) -> bool:
    """Whether a transport's URL is RabbitMQ's."""
    name = url.transport.removeprefix("kombu+")
    return name in ("rabbit", "kombu", "amqp", "pyamqp")


def takes_back(transport: Any) -> bool:
    """Whether the bus takes a message back."""
    try:
        transport._require_driver_features(requeue=True)
    except NotImplementedError:
        return False
    return True


def listen(transport: Any, targets: Sequence[Any], pool: str | None) -> Any:
    """A listener that is polled, by whoever has it.

    :param targets: what its queue is bound to
    :param pool: whose queue it is; None for the plain one
    """
    adapter = transport._listen_for_notifications(
        [(target, "info") for target in targets], pool, 1, None
    )
    return adapter._poll_style_listener


def get_notifier(
    transport: Any,
    publisher_id: str | None,
    topic: str,
    on_failure: Callable[[Exception], None],
) -> Any:
    """A notifier of oslo.messaging that tries once.

    :param on_failure: called with what went wrong. Otherwise the failure would
        only be logged, with all that is in the message
    """
    send = transport._send_notification

    def send_and_tell(*args: Any, **kwargs: Any) -> None:
        try:
            send(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - of many libraries
            on_failure(error)

    transport._send_notification = send_and_tell
    return oslo_messaging.Notifier(
        transport,
        publisher_id=publisher_id,
        driver="messaging",
        topics=[topic],
        retry=0,
    )


class Json:
    """JSON in a message, for what it is of. See :func:`take_json`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __json__(self) -> Any:
        # kombu asks for it where it encodes the message in spite of us.
        return json.loads(self.text)


def take_json(transport: Any) -> Callable[[str], Any]:
    """Have RabbitMQ's driver (18.3) send JSON in a message as it is.

    It would encode all of a message, and takes only objects. The message has
    the same bytes as one that the driver encodes.

    :returns: makes of JSON what stands for it in messages to this transport.
        For other buses that is what the JSON is of, with text for the values
        that kombu marks with a type
    """
    connections: Any = getattr(transport._driver, "_connection_pool", None)
    if (
        getattr(connections, "connection_cls", None)
        is not impl_rabbit.Connection
    ):
        return lambda text: decode_body(text.encode())

    class Connection(impl_rabbit.Connection):  # type: ignore[misc]
        def _set_current_channel(self, new_channel: Any) -> None:
            super()._set_current_channel(new_channel)
            if self._producer is not None:
                self._producer.publish = functools.partial(
                    _publish, type(self._producer).publish, self._producer
                )

    connections.connection_cls = Connection
    return Json


def _publish(
    publish: Callable[..., Any], producer: Any, body: Any, **properties: Any
) -> Any:
    """Publish what has Json in it, encoded as kombu would do it."""
    texts: dict[str, str] = {}

    def stand_in(value: Json) -> str:
        name = uuid.uuid4().hex
        texts[json.dumps(name)] = value.text
        return name

    text = json.dumps(body, default=stand_in)
    for name, given in texts.items():
        text = text.replace(name, given)
    return publish(
        producer,
        text,
        content_type="application/json",
        content_encoding="utf-8",
        **properties,
    )


def note_sent(
    transport: Any, note: Callable[[dict[str, Any]], object]
) -> None:
    """Have each message that the bus has taken told.

    :param note: called with the message as it was handed over
    """
    send = transport._send_notification

    def send_and_note(
        target: Any,
        context: Any,
        message: dict[str, Any],
        *args: Any,
        **kw: Any,
    ) -> None:
        send(target, context, message, *args, **kw)
        note(message)

    transport._send_notification = send_and_note


def size_of(message: dict[str, Any]) -> int:
    """How many bytes a message that may have Json in it has, about."""
    inner = 0

    def leave_out(value: object) -> None:
        nonlocal inner
        inner += len(value.text) if isinstance(value, Json) else 0

    return len(json.dumps(message, default=leave_out)) + inner


def abandon(transport: Any) -> bool:
    """Close the connections of a parent process in this one only.

    To end one properly, or to shut down its socket, would end the parent's.

    :returns: False when the transport, or its sockets, are of another kind,
        such as eventlet's
    """
    try:
        for link in transport._driver._connection_pool.iter_free():
            connection = getattr(link.channel, "connection", None)
            if connection is not None and connection.sock is not None:
                os.close(connection.sock.detach())
    except (AttributeError, OSError):
        return False
    return True


# RabbitMQ


def escape_fully(transport: Any) -> None:
    """Have the driver (18.3) connect with any password and virtual host.

    It gives them to kombu in a URL in which a / of the password, and anything
    of the virtual host, stand as they are.
    """
    pool: Any = getattr(transport._driver, "_connection_pool", None)
    if getattr(pool, "connection_cls", None) is not impl_rabbit.Connection:
        return

    class Connection(impl_rabbit.Connection):  # type: ignore[misc]
        def _transform_transport_url(
            self, url: Any, host: Any, *args: Any, **kwargs: Any
        ) -> str:
            whole = super()._transform_transport_url(
                url, host, *args, **kwargs
            )
            scheme, _, rest = whole.partition("://")
            login, at, place = rest.partition("@")
            host_and_port, _, virtual_host = place.partition("/")
            return (
                f"{scheme}://{login.replace('/', '%2F')}{at}{host_and_port}"
                f"/{quote(virtual_host, safe='')}"
            )

    pool.connection_cls = Connection
