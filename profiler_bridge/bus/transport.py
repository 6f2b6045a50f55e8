# SPDX-License-Identifier: Apache-2.0

"""The buses: how one is reached, and which of its queues are read."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

import oslo_messaging
import oslo_messaging.opts
import stevedore
from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions, url
from profiler_bridge.bus import private
from profiler_bridge.bus.polled import PolledSource
from profiler_bridge.bus.rabbit import RabbitSource
from profiler_bridge.storage.traces import Storage

LOG = logging.getLogger(__name__)

GROUP = "bridge"
RABBIT = "oslo_messaging_rabbit"
_DRIVERS = "oslo.messaging.drivers"
_RABBIT_PORT = 5672
OPTS: Sequence[cfg.Opt] = [
    cfg.MultiStrOpt(
        "transport_url",
        default=[],
        secret=True,
        help="A bus to read, such as rabbit://user:password@cell1:5672/nova."
        " Given more than once, each bus is read by workers of its own. By"
        " default the bridge reads the bus of transport_url in"
        " [oslo_messaging_notifications], or else in [DEFAULT]."
        " [oslo_messaging_rabbit] is for all buses; options that differ for"
        " one follow the ? of its URL, as in"
        " rabbit://user:password@cell2:5672/?amqp_durable_queues=true.",
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
        help="The control_exchange of each profiled service. The queue of a"
        " pool is bound to these, and 'check' compares their durability with"
        " the options here. The bridge never makes them; it waits for them."
        " The plain queue is bound by those who publish.",
    ),
    cfg.StrOpt(
        "pool",
        help="Name of a pool of listeners with a queue of its own, which gets"
        " a copy of every notification. The plain queue still fills, so some"
        " other consumer has to drain it. With several storages this is the"
        " pool of the first; the others always have one.",
    ),
    cfg.BoolOpt(
        "at_most_once",
        default=False,
        help="Allow a bus that takes no message back, such as Kafka. When the"
        " bridge or its storage fails, the notifications in hand are lost"
        " then.",
    ),
    cfg.IntOpt(
        "prefetch",
        default=1000,
        min=1,
        max=65535,
        help="How many messages a worker holds at most that are not stored"
        " yet. It begins with 16, is sent more if they are small, and reads no"
        " further while it holds 4 MiB. rabbit_qos_prefetch_count overrides"
        " it.",
    ),
]


def get_targets(conf: cfg.ConfigOpts, pool: str | None) -> list[Any]:
    """The targets that a queue is bound to, at least one.

    :param pool: whose queue it is; None for the plain queue
    """
    # The plain queue is bound by those who publish to it.
    exchanges = dict.fromkeys(conf[GROUP].exchanges) if pool else [None]
    return [
        oslo_messaging.Target(topic=topic, exchange=exchange)
        for topic in conf[GROUP].topics
        for exchange in exchanges
    ]


@dataclass(frozen=True)
class Bus:
    """One of the buses that are read.

    :param url: as it is configured, with its passwords
    :param name: for people: the URL without logins and options, such as
        ``rabbit://controller:5672/nova``
    :param option: how an error names the URL, of which it shows nothing
    """

    url: str = field(repr=False)
    name: str
    option: str

    def __str__(self) -> str:
        return self.name


def get_buses(conf: cfg.ConfigOpts) -> list[Bus]:
    """The buses that are read, in the order in which they are given.

    :returns: at least one
    :raises ConfigurationError: a URL cannot be used, or a bus is given twice
    """
    buses: list[Bus] = []
    urls = transport_urls(conf)
    for number, text in enumerate(urls, 1):
        option = "transport_url"
        if len(urls) > 1:
            option += f" {number} of {len(urls)} in [{GROUP}]"
        bus = Bus(text, _name(conf, text, option), option)
        if bus.name in map(str, buses):
            raise exceptions.ConfigurationError(
                f"{bus} is given more than once as transport_url in [{GROUP}]"
            )
        buses.append(bus)
    return buses


def transport_urls(conf: cfg.ConfigOpts) -> list[str]:
    """The URLs of the buses, as they are configured; at least one."""
    for group, options in _library_options():
        conf.register_opts(options, group)
    return conf[GROUP].transport_url or [
        conf.oslo_messaging_notifications.transport_url or conf.transport_url
    ]


@functools.cache
def _library_options() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    # Each call copies all of them.
    return [
        (group, options)
        for group, options in oslo_messaging.opts.list_opts()
        if group in (None, "oslo_messaging_notifications", RABBIT)
    ]


def _name(conf: cfg.ConfigOpts, text: str, option: str) -> str:
    url.check(text, option, plain="@", several=True)
    # stevedore remembers what it has read of all installed packages.
    nothing: Any = stevedore.NamedExtensionManager(_DRIVERS, names=[])
    drivers = sorted({*nothing.entry_points_names()})
    if url.scheme(text).partition("+")[0] not in drivers:
        raise exceptions.ConfigurationError(
            f"{option} cannot be used: no driver for {url.scheme(text)}://;"
            f" there are {', '.join(drivers)}"
        )
    try:
        parsed = oslo_messaging.TransportURL.parse(conf, text)
    except oslo_messaging.InvalidTransportURL as error:
        raise _unusable(option, error) from None
    # A login without a host is a host without a name.
    hosts = [(host.hostname or "", host.port) for host in parsed.hosts]
    virtual_host = parsed.virtual_host or ""
    if private.is_rabbitmq_url(parsed):
        # What stands for the same has the same name.
        hosts = [
            (hostname or "localhost", port or _RABBIT_PORT)
            for hostname, port in hosts or [("", 0)]
        ]
        virtual_host = "" if virtual_host == "/" else virtual_host
    places = sorted(
        (f"[{hostname}]" if ":" in hostname else hostname)
        + (f":{port}" if port else "")
        for hostname, port in hosts
    )
    return f"{parsed.transport}://{','.join(places)}/{quote(virtual_host, '')}"


def _unusable(option: str, error: Exception) -> exceptions.ConfigurationError:
    # What the error says may contain the URL.
    return exceptions.ConfigurationError(
        f"{option} cannot be used: {type(error).__name__}"
    )


def get_transport(
    conf: cfg.ConfigOpts, bus: Bus | None = None, consumers: int = 1
) -> Any:
    """How a bus is reached. Nothing connects yet.

    :param bus: one of :func:`get_buses`; by default the first
    :param consumers: how many of them a worker has: they share the prefetch
    :raises ConfigurationError: the URL cannot be used
    """
    bus = bus or get_buses(conf)[0]
    # Otherwise it is unlimited, and one worker would be sent all that waits.
    conf.set_default(
        "rabbit_qos_prefetch_count",
        max(1, conf[GROUP].prefetch // consumers),
        RABBIT,
    )
    try:
        transport = oslo_messaging.get_notification_transport(conf, bus.url)
    except (
        oslo_messaging.InvalidTransportURL,
        oslo_messaging.DriverLoadFailure,
    ) as error:
        raise _unusable(bus.option, error) from None
    except ValueError:
        # What it says contains the value.
        raise exceptions.ConfigurationError(
            f"{bus.option} cannot be used: an option behind its ? has a value"
            " of another type than [oslo_messaging_rabbit] takes for it"
        ) from None
    private.escape_fully(transport)
    if not private.takes_back(transport):
        if not conf[GROUP].at_most_once:
            raise exceptions.ConfigurationError(
                "this bus takes no message back: what is in hand when the"
                " bridge or its storage fails is lost. To go on all the"
                " same set at_most_once = true in [bridge]"
            )
        LOG.warning(
            "This bus takes no message back: each notification is stored at"
            " most once, and lost when the bridge or its storage fails"
        )
    return transport


def get_source_class(transport: Any) -> type[RabbitSource | PolledSource]:
    """The class that reads a queue of this bus."""
    return RabbitSource if private.is_rabbitmq(transport) else PolledSource


def get_pools(
    conf: cfg.ConfigOpts, stores: Sequence[Storage]
) -> list[str | None]:
    """For each storage the pool whose queue it drains.

    A name is made of the connection string without passwords, and of nothing
    else: after a restart it has to be the queue that has filled meanwhile.

    :returns: the configured pool for the first storage; None for the plain
        queue
    """
    pools: list[str | None] = [conf[GROUP].pool]
    for name in map(str, stores[1:]):
        scheme = re.split(r"[+:]", name)[0]
        digest = blake2b(name.encode(), digest_size=4).hexdigest()
        pools.append(f"profiler_bridge-{scheme}-{digest}")
    return pools
