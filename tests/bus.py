# SPDX-License-Identifier: Apache-2.0

"""Messages put on the bus: as osprofiler does, and as nobody should."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kombu
from oslo_config import cfg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_messaging.opts
    from osprofiler import notifier, profiler

QUEUE = "profiler.info"


@contextmanager
def osprofiler_to(
    transport_url: str,
    project: str = "nova",
    service: str = "api",
    exchange: str = "openstack",
    rabbit: Mapping[str, object] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Have osprofiler send what is profiled meanwhile to a bus.

    :param exchange: the service's control_exchange
    :param rabbit: what the service has in [oslo_messaging_rabbit]
    :returns: the payloads that the broker confirmed, as they grow
    """
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    for group, options in oslo_messaging.opts.list_opts():
        conf.register_opts(options, group)
    for option, value in (rabbit or {}).items():
        conf.set_override(option, value, "oslo_messaging_rabbit")
    conf.set_override("control_exchange", exchange)
    notifier.clear_notifier_cache()
    notify = notifier.create(
        "messaging://",
        conf=conf,
        context={},
        transport_url=transport_url,
        project=project,
        service=service,
        host="host",
    )
    confirmed: list[dict[str, Any]] = []
    transport = notify.__self__.transport
    send = transport._send_notification

    def send_and_note(
        target: Any, ctxt: Any, message: Any, **kwargs: Any
    ) -> None:
        send(target, ctxt, message, **kwargs)
        confirmed.append(message["payload"])

    transport._send_notification = send_and_note
    notifier.set(notify)
    try:
        yield confirmed
    finally:
        profiler.clean()
        notifier.set(lambda *_args, **_kwargs: None)
        notifier.clear_notifier_cache()
        transport.cleanup()


def make_exchange(
    transport_url: str, name: str, durable: bool = False
) -> None:
    """Make what a service makes at its start, or with its first message."""
    url = transport_url.replace("rabbit://", "amqp://")
    with kombu.Connection(url) as connection:
        kombu.Exchange(name, "topic", durable=durable)(
            connection.channel()
        ).declare()


def envelope(payload: object) -> dict[str, Any]:
    """What oslo.messaging's notifier makes of a payload of osprofiler's."""
    return {
        "message_id": str(uuid.uuid4()),
        "publisher_id": "host",
        "event_type": "profiler.api",
        "priority": "INFO",
        "payload": payload,
        "timestamp": "2026-11-23 00:39:46.817719",
        "_unique_id": uuid.uuid4().hex,
    }


def publish(
    transport_url: str, messages: Iterable[object], durable: bool = False
) -> int:
    """Put message bodies on the queue, confirmed by the broker, in order.

    Bytes go as they are; everything else as JSON.

    :returns: how many there were
    """
    url = transport_url.replace("rabbit://", "amqp://")
    count = 0
    with kombu.Connection(
        url, transport_options={"confirm_publish": True}
    ) as connection:
        queue = kombu.Queue(
            QUEUE,
            kombu.Exchange(
                "openstack",
                type="topic",
                durable=durable,
                auto_delete=False,
            ),
            routing_key=QUEUE,
            durable=durable,
            auto_delete=False,
        )
        producer = connection.Producer()
        queue.bind(producer.channel).declare()
        for message in messages:
            producer.publish(
                message
                if isinstance(message, bytes)
                else json.dumps(message).encode(),
                exchange=queue.exchange,
                routing_key=QUEUE,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2 if durable else 1,
            )
            count += 1
    return count
