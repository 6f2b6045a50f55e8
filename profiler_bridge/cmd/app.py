# SPDX-License-Identifier: Apache-2.0

"""What the commands of the console scripts share."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from importlib import metadata
from typing import Any, cast

from cliff.app import App
from cliff.command import Command
from cliff.commandmanager import CommandManager
from oslo_config import cfg

from profiler_bridge import config, exceptions
from profiler_bridge import storage as storages
from profiler_bridge.storage.traces import Storage

# The name that the osprofiler command reads too.
ENVIRONMENT = "OSPROFILER_CONNECTION_STRING"


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options of :class:`Source`."""
    parser.add_argument(
        "--config-file",
        action="append",
        metavar="PATH",
        default=[],
        help="The daemon's configuration file; may be given more than once.",
    )
    parser.add_argument(
        "--connection-string",
        metavar="URL",
        default=os.environ.get(ENVIRONMENT),
        help="The storage, instead of the first in the configuration"
        f" file (Env: {ENVIRONMENT}).",
    )


def _no_storage(conf: cfg.ConfigOpts) -> str:
    """What to do about it; on one line."""
    return (
        "no storage is configured: set connection_string in [osprofiler] of"
        f" a configuration file ({config.files_of(conf)}), or give"
        f" --connection-string, or set {ENVIRONMENT}"
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
        # Imported here, for many commands read no configuration.
        from profiler_bridge.daemon import set_aside

        return config.prepare(
            [f"--config-file={path}" for path in self._options.config_file],
            storages,
            set_aside,
            # The daemon's user alone may be able to read it.
            needed=not self._options.connection_string,
        )

    @cached_property
    def storages(self) -> list[Storage]:
        """The storage that was asked for, or all that are configured."""
        asked_for = self._options.connection_string
        if not asked_for:
            if not storages.connection_strings(self.conf):
                raise exceptions.ConfigurationError(_no_storage(self.conf))
            return storages.get_storages(self.conf)
        # A file that somebody names is read, whatever for.
        is_read = (
            self._options.config_file or storages.get_plugin(asked_for).OPTS
        )
        return [
            storages.get_storage(asked_for, self.conf if is_read else None)
        ]

    def close(self) -> None:
        for storage in self.__dict__.get("storages", ()):
            storage.close()


def _open_missing() -> None:
    """Have standard streams that are closed lead nowhere.

    For those Python has None; and what is opened next would get their numbers.
    """
    for name, mode in [("stdin", "r"), ("stdout", "w"), ("stderr", "w")]:
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


class BridgeApp(App):
    """A console script with the options that all of its commands take.

    :param namespace: the entry points that are its commands
    :param description: what it is for
    """

    def __init__(self, namespace: str, description: str) -> None:
        _open_missing()
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

    def run(self, argv: list[str]) -> int:
        # Of all that was imported nothing is garbage. Python would look for
        # some at its end, which takes as long as many a command.
        atexit.register(gc.freeze)
        code: int = super().run(argv)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has seen enough, and Python would complain at its
            # end (docs.python.org/3/library/signal.html#note-on-sigpipe).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code

    @cached_property
    def source(self) -> Source:
        return Source(self.options)

    def prepare_to_run_command(self, cmd: Command) -> None:
        if isinstance(cmd, BridgeCommand):
            cmd.is_run = True

    def clean_up(
        self, cmd: Command, result: int, err: BaseException | None
    ) -> None:
        self.source.close()

    def interact(self) -> None:
        """Without a command: print what ``--help`` does, and exit with 0.

        As the clients of OpenStack's services do.
        """
        self.options.deferred_help = True
        self.print_help_if_requested()


#: Takes a line that counts off a terminal, whatever that can do.
CLEARED = f"\r{' ' * 60}\r"


class BridgeCommand(Command):
    """A command of a :class:`BridgeApp`."""

    #: Whether it is run, and not only described.
    is_run = False

    def get_description(self) -> str:
        """The docstring, whose first line ends as a sentence does in help."""
        line, blank, rest = str(super().get_description()).partition("\n\n")
        return f"{line}.{blank}{rest}"

    def get_epilog(self) -> str:
        """cliff's, where it is shown.

        To find out whether it has to name the package that a command is from,
        cliff looks through the files of all that is installed.
        """
        return "" if self.is_run else str(super().get_epilog())

    def follow(
        self, steps: Iterable[object], counted: Callable[[], str]
    ) -> None:
        """Take all steps; count on a terminal meanwhile.

        :param counted: what is shown after a step
        """
        terminal = self.app.stderr.isatty()
        for _ in steps:
            if terminal:
                self.app.stderr.write(f"\r{counted()} ")
                self.app.stderr.flush()
        if terminal:
            self.app.stderr.write(CLEARED)

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
