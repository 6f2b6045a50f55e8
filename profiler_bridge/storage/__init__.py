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

"""From a connection string to a storage."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import stevedore
from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.storage.base import Storage
from profiler_bridge.storage.retention import RETENTION

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
        " The database and its user are made by hand; the user needs the"
        " rights to create tables, and to select and insert rows. Given more"
        " than once, each of these storages gets every notification; reports"
        " read the first.",
    ),
    RETENTION,
]


def get_storage(
    connection_string: str | None, conf: cfg.ConfigOpts | None = None
) -> Storage:
    """Load the plugin of a connection string's scheme.

    :param conf: where the plugin's options are read; without it they have
        their defaults
    :raises ConfigurationError: there is no such plugin, or it does not
        understand the connection string
    """
    if not connection_string:
        raise exceptions.ConfigurationError(
            "no storage is configured: set connection_string in [osprofiler]"
        )
    scheme, separator, _ = connection_string.partition("://")
    if not separator:
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
    options = {}
    for option in plugin.OPTS:
        options[option.dest] = option.default
        if conf is not None:
            conf.register_opt(option, GROUP)
            options[option.dest] = conf[GROUP][option.dest]
    storage: Storage = plugin(connection_string, **options)
    return storage


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
    return [each for each in given if each not in old] or old


def get_storages(conf: cfg.ConfigOpts) -> list[Storage]:
    """The configured storages, in the order in which they are given.

    :returns: at least one
    :raises ConfigurationError: there is none, one is given twice, or as for
        :func:`get_storage`
    """
    given: list[str | None] = [*connection_strings(conf)]
    found = [get_storage(each, conf) for each in given or [None]]
    names = [str(each) for each in found]
    for name in names:
        if names.count(name) > 1:
            raise exceptions.ConfigurationError(
                f"{name} is given more than once as connection_string"
            )
    return found


def known_schemes() -> list[str]:
    """The schemes that installed plugins serve, sorted; loads none of them."""
    return sorted(each.name for each in metadata.entry_points(group=NAMESPACE))
