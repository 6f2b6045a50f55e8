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

"""What the commands of the console scripts share."""

from __future__ import annotations

import argparse
import os
from functools import cached_property
from importlib import metadata
from typing import Any, cast

from cliff.app import App
from cliff.command import Command
from cliff.commandmanager import CommandManager
from oslo_config import cfg

from profiler_bridge import config, set_aside
from profiler_bridge import storage as storages
from profiler_bridge.storage.base import Storage

# The name that the osprofiler command reads too.
ENVIRONMENT = "OSPROFILER_CONNECTION_STRING"


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options of :class:`Source`."""
    parser.add_argument(
        "--config-file",
        action="append",
        metavar="PATH",
        default=[],
        help="the daemon's configuration file; may be repeated",
    )
    parser.add_argument(
        "--connection-string",
        metavar="URL",
        default=os.environ.get(ENVIRONMENT),
        help="the storage, instead of the first in the configuration"
        f" file; env[{ENVIRONMENT}]",
    )


class Source:
    """Where commands read and write; nothing of it is read before its use.

    :param options: what :func:`add_source` added
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    @cached_property
    def conf(self) -> cfg.ConfigOpts:
        """What the configuration files say of storages and set-aside file."""
        return config.prepare(
            [f"--config-file={path}" for path in self._options.config_file],
            storages,
            set_aside,
        )

    @cached_property
    def storages(self) -> list[Storage]:
        """The storage that was asked for, or all that are configured."""
        asked_for = self._options.connection_string
        if asked_for:
            return [storages.get_storage(asked_for, self.conf)]
        return storages.get_storages(self.conf)

    def close(self) -> None:
        for storage in self.__dict__.get("storages", ()):
            storage.close()


class BridgeApp(App):
    """A console script with the options that all of its commands take.

    :param namespace: the entry points that are its commands
    :param description: what it is for
    """

    def __init__(self, namespace: str, description: str) -> None:
        super().__init__(
            description=description,
            version=metadata.version(config.PROJECT),
            command_manager=CommandManager(namespace),
            deferred_help=True,
        )

    def build_option_parser(
        self, *args: Any, **kwargs: Any
    ) -> argparse.ArgumentParser:
        parser = super().build_option_parser(*args, **kwargs)
        add_source(parser)
        return parser

    @cached_property
    def source(self) -> Source:
        return Source(self.options)

    def clean_up(
        self, cmd: Command, result: int, err: BaseException | None
    ) -> None:
        self.source.close()

    def interact(self) -> None:
        """Without a command: say what there is."""
        self.parser.print_help(self.stderr)


class BridgeCommand(Command):
    """A command of a :class:`BridgeApp`."""

    @property
    def source(self) -> Source:
        return cast(BridgeApp, self.app).source

    @property
    def storage(self) -> Storage:
        """The one that is read."""
        return self.storages[0]

    @property
    def storages(self) -> list[Storage]:
        return self.source.storages

    @property
    def conf(self) -> cfg.ConfigOpts:
        return self.source.conf
