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

"""All options, and how they are read. There is no global configuration."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Protocol

from oslo_config import cfg
from oslo_log import log

from profiler_bridge import exceptions

PROJECT = "profiler_bridge"
# Of the configuration file, without its .conf.
_FILE = "bridge"


class HasOptions(Protocol):
    """A module that reads options: they stand at its top."""

    GROUP: str
    OPTS: Sequence[cfg.Opt]


def prepare(args: Sequence[str], *modules: HasOptions) -> cfg.ConfigOpts:
    """Read configuration files, options and logging options.

    :param args: the command line, without the program's name
        Without ``--config-file`` a ``bridge.conf`` is looked for in
        ``~/.profiler_bridge``, ``~``, ``/etc/profiler_bridge`` and ``/etc``.
    :param modules: whose options are wanted
    :raises ConfigurationError: a file or a value is wrong
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for module in modules:
        conf.register_opts(module.OPTS, module.GROUP)
    try:
        conf(
            list(args),
            project=PROJECT,
            prog="profiler-bridge",
            version=metadata.version(PROJECT),
            default_config_files=cfg.find_config_files(PROJECT, _FILE),
            default_config_dirs=cfg.find_config_dirs(PROJECT, _FILE),
        )
        # Unreadable values show when they are read: read them all now.
        for module in modules:
            for option in module.OPTS:
                getattr(conf[module.GROUP], option.dest)
    except (cfg.Error, ValueError) as error:
        raise exceptions.ConfigurationError(str(error)) from None
    return conf


def modules() -> list[HasOptions]:
    """The modules whose options the daemon reads."""
    # Imported here, for what reads reports needs no bus.
    from profiler_bridge import (
        listener,
        masking,
        service,
        set_aside,
        storage,
    )

    return [storage, listener, service, set_aside, masking]


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """For oslo-config-generator and oslo-config-validator."""
    return [(module.GROUP, module.OPTS) for module in modules()]
