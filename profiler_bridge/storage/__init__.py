# SPDX-License-Identifier: Apache-2.0

"""From a connection string to a storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import stevedore
from oslo_config import cfg

from profiler_bridge import exceptions, url
from profiler_bridge.storage.retention import (
    RETENTION,
    Retention,
    get_rules,
    value,
)
from profiler_bridge.storage.traces import Storage

NAMESPACE = "profiler_bridge.storage"
GROUP = "osprofiler"

OPTS: Sequence[cfg.Opt] = [
    cfg.MultiStrOpt(
        "connection_string",
        default=[],
        secret=True,
        deprecated_group="profiler",
        help="Where notifications are stored, for example"
        " mysql+pymysql://username:password@192.168.192.81/profiler"
        "?charset=utf8 or sqlite:////var/lib/profiler_bridge/traces.sqlite."
        " Make the database and its user by hand; the user needs the rights"
        " to create tables, and to select and insert rows. Given more than"
        " once, each storage gets every notification; reports read the first.",
    ),
    RETENTION,
]


def get_plugin(connection_string: str | None) -> Any:
    """The subclass of StoragePlugin for a connection string's scheme.

    :raises ConfigurationError: there is no such plugin
    """
    if not connection_string:
        raise exceptions.ConfigurationError(
            "no storage is configured: set connection_string in [osprofiler]"
        )
    scheme = url.scheme(connection_string)
    if not scheme:
        raise exceptions.ConfigurationError(
            "the connection string has no scheme, such as mysql+pymysql://"
        )
    if scheme not in known_schemes():
        raise exceptions.ConfigurationError(
            f"no storage plugin for {scheme}://; there are"
            f" {', '.join(known_schemes())}"
        )
    try:
        plugin: Any = stevedore.DriverManager(NAMESPACE, scheme).driver
    except ImportError as error:
        raise exceptions.ConfigurationError(
            f"the storage plugin for {scheme}:// cannot be loaded: {error}"
        ) from None
    return plugin


def get_storage(
    connection_string: str | None, conf: cfg.ConfigOpts | None = None
) -> Storage:
    """Load the plugin of a connection string's scheme.

    :param conf: where the plugin's options are read; without it they have
        their defaults
    :raises ConfigurationError: there is no such plugin, or it does not
        understand the connection string
    """
    plugin: Any = get_plugin(connection_string)
    options = {}
    for option in plugin.OPTS:
        options[option.dest] = option.default
        if conf is not None:
            conf.register_opt(option, GROUP)
            options[option.dest] = value(conf, option.dest, GROUP)
    try:
        return Storage(plugin(connection_string, **options))
    except exceptions.BridgeError:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin's bug
        # Its words may have a part of the password.
        raise exceptions.ConfigurationError(
            f"the storage plugin for {url.scheme(connection_string or '')}://"
            f" does not take the connection string: {type(error).__name__}"
        ) from None


def connection_strings(conf: cfg.ConfigOpts) -> list[str]:
    """Those of [osprofiler]; of [profiler] where it has none.

    An option with several values has those of all its sections, otherwise,
    and [profiler] of a service's file is likely to say ``messaging://``.
    """
    conf.register_opt(
        cfg.MultiStrOpt("connection_string", default=[], secret=True),
        "profiler",
    )
    old: list[str] = conf.profiler.connection_string
    given: list[str] = conf[GROUP].connection_string
    return [url for url in given if url not in old] or old


def set_connection_strings(conf: cfg.ConfigOpts, given: Sequence[str]) -> None:
    """Have :func:`connection_strings` give these."""
    conf.set_override("connection_string", list(given), GROUP)
    conf.set_override("connection_string", [], "profiler")


def get_storages(conf: cfg.ConfigOpts) -> list[Storage]:
    """The configured storages, in the order in which they are given.

    :returns: at least one
    :raises ConfigurationError: there is none, one is given twice, or as for
        :func:`get_storage`
    """
    given: list[str | None] = [*connection_strings(conf)]
    storages = [get_storage(url, conf) for url in given or [None]]
    names = [str(storage) for storage in storages]
    for name in names:
        if names.count(name) > 1:
            raise exceptions.ConfigurationError(
                f"{name} is given more than once as connection_string"
            )
    return storages


def get_retention(conf: cfg.ConfigOpts) -> Retention:
    """How long traces are kept, with the rules in the configuration's files.

    :raises ConfigurationError: a rule or an option cannot be used
    """
    plain = value(conf, RETENTION.dest, GROUP)
    return Retention(plain, get_rules(conf))


def known_schemes() -> list[str]:
    """The schemes that installed plugins serve, sorted; loads none of them."""
    # stevedore remembers what it has read of all installed packages.
    nothing: Any = stevedore.NamedExtensionManager(NAMESPACE, names=[])
    return sorted({*nothing.entry_points_names()})
