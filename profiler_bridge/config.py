# SPDX-License-Identifier: Apache-2.0

"""All options, and how they are read. There is no global configuration."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

from oslo_config import cfg, iniparser

from profiler_bridge import exceptions

PROJECT = "profiler_bridge"
# Of the configuration file, without its .conf.
_FILE = "bridge"
# Where oslo.config looks for it.
_FOLDERS = (f"~/.{PROJECT}", "~", f"/etc/{PROJECT}", "/etc")
# AMQP's names have at most 255 bytes; a queue's is a topic's and ".info".
_LONGEST_NAME = 250


class HasOptions(Protocol):
    """A module that reads options: they stand at its top."""

    GROUP: str
    OPTS: Sequence[cfg.Opt]


def prepare(
    args: Sequence[str],
    *modules: HasOptions,
    needed: bool = True,
    prog: str = "profiler-bridge",
    description: str | None = None,
) -> cfg.ConfigOpts:
    """Read configuration files, options and logging options.

    :param args: the command line, without the program's name
        Without ``--config-file`` a ``bridge.conf`` is looked for in
        ``~/.profiler_bridge``, ``~``, ``/etc/profiler_bridge`` and ``/etc``.
    :param modules: whose options are wanted
    :param needed: a file in one of those places that this user may not read
        is an error; otherwise it is left out
    :param prog: what ``--help`` calls the program
    :param description: what ``--help`` says of it
    :raises ConfigurationError: a file or a value is wrong
    """
    # Imported here, for a report needs no options, unless a file is named.
    from oslo_log import log

    files = cfg.find_config_files(PROJECT, _FILE)
    if not needed:
        files = [path for path in files if os.access(path, os.R_OK)]
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for module in modules:
        conf.register_opts(module.OPTS, module.GROUP)
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            conf(
                list(args),
                project=PROJECT,
                prog=prog,
                version=metadata.version(PROJECT),
                description=description,
                default_config_files=files,
                default_config_dirs=cfg.find_config_dirs(PROJECT, _FILE),
            )
    except (cfg.Error, OSError, ValueError) as error:
        raise exceptions.ConfigurationError(
            _describe(error, _file_names(args))
        ) from None
    except SystemExit as error:
        # 2 is for a wrong command line. 1 is for a value in a file, of an
        # option that the command line has too.
        if error.code == 1:
            raise exceptions.ConfigurationError(
                complaints.getvalue().strip()
            ) from None
        sys.stderr.write(complaints.getvalue())
        raise
    sys.stderr.write(complaints.getvalue())
    read(conf)
    return conf


def read(conf: cfg.ConfigOpts) -> None:
    """Read every option that is registered.

    What is wrong with a value shows when it is read, and not before.

    :raises ConfigurationError: a value is wrong
    """
    for name in conf:
        value = _read_value(conf, name, "DEFAULT")
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            for option in value:
                _read_value(value, option, name)


def _read_value(options: Mapping[str, Any], name: str, section: str) -> object:
    try:
        value = options[name]
        # Values that libraries do not refuse, and cannot use.
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError("is no number that can be used")
            if isinstance(item, str) and "\0" in item:
                raise ValueError("has a NUL in it")
    except cfg.ConfigFileValueError as error:
        file, words = _locate(str(error))
        raise exceptions.ConfigurationError(
            f"{name} in [{section}]{file}: {words}"
        ) from None
    except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
        # What stands behind the $ may be a part of a password.
        raise exceptions.ConfigurationError(
            f"{name} in [{section}]: write $$ for $, behind which the name of"
            " another option would stand"
        ) from None
    except (cfg.Error, ValueError) as error:
        raise exceptions.ConfigurationError(
            f"{name} in [{section}]: {error}"
        ) from None
    return value


# What oslo.config (10.6) reports of a value: where it stands, what is wrong.
_not_valid = re.compile(r"detail='(.+)'\) is not valid: (.*)", re.DOTALL)


def _locate(text: str) -> tuple[str, str]:
    """The file that a value stands in, and what is wrong with it."""
    match = _not_valid.search(text)
    return (f" of {match[1]}", match[2]) if match else ("", text)


def _describe(error: Exception, files: Sequence[str] = ()) -> str:
    """What is wrong with files, without anything that stands in them."""
    reason = error.__context__
    if isinstance(error, cfg.ConfigFileParseError) and isinstance(
        reason, iniparser.ParseError
    ):
        return f"{error.config_file}: line {reason.lineno}: {reason.msg}"
    if isinstance(error, UnicodeDecodeError):
        for path in files:
            try:
                Path(path).read_text()
            except UnicodeDecodeError as wrong:
                line = wrong.object.count(b"\n", 0, wrong.start) + 1
                return f"{path}: line {line} is not in UTF-8"
            except OSError:
                pass
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, cfg.NoSuchOptError):
        return f"{error}: write $$ for $ where no option is meant"
    return str(error)


def _file_names(args: Sequence[str]) -> list[str]:
    """The configuration files that a command line names, or the usual ones."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-file", action="append")
    parser.add_argument("--config-dir", action="append")
    given, _ = parser.parse_known_args([*args])
    folders = given.config_dir or cfg.find_config_dirs(PROJECT, _FILE)
    return [
        *(given.config_file or cfg.find_config_files(PROJECT, _FILE)),
        *(
            str(path)
            for folder in folders
            for path in sorted(Path(folder).glob("*.conf"))
        ),
    ]


def files_of(conf: cfg.ConfigOpts) -> str:
    """Which configuration files were read, or where none was found."""
    files = [*(conf.config_file or ()), *(conf.config_dir or ())]
    if files:
        return f"read: {', '.join(files)}"
    return f"there is no {_FILE}.conf in {', '.join(_FOLDERS)}"


def load(args: Sequence[str]) -> cfg.ConfigOpts:
    """The daemon's configuration, with everything in it looked at.

    What this gives, processes can start with.

    :param args: the command line, without the program's name
    :raises ConfigurationError: something of it cannot be used
    """
    # Imported here, for what reads reports needs no bus.
    from profiler_bridge import storage
    from profiler_bridge.bus.management import Management
    from profiler_bridge.bus.rabbit_options import check_options
    from profiler_bridge.bus.transport import get_buses, get_transport
    from profiler_bridge.daemon import settling
    from profiler_bridge.storage import retention

    conf = prepare(
        args,
        *modules(),
        description="Take OSProfiler's notifications off the message bus and"
        " store them.",
    )
    verify(conf)
    storage.get_storages(conf)
    retention.check_sections(conf)
    storage.get_retention(conf)
    settling.check(conf)
    read(conf)  # the options of plugins
    for bus in get_buses(conf):
        transport = get_transport(conf, bus)
        try:
            check_options(transport)
            Management(conf, transport)
        finally:
            transport.cleanup()
    return conf


def load_api(
    args: Sequence[str], prog: str = "profiler-bridge"
) -> cfg.ConfigOpts:
    """The configuration of the service for reading.

    :param args: the command line, without the program's name
    :param prog: what ``--help`` calls the program
    :raises ConfigurationError: a file or a value is wrong
    """
    from profiler_bridge import storage
    from profiler_bridge.api import options

    return prepare(
        args,
        storage,
        options,
        prog=prog,
        description="Serve stored traces over HTTP.",
    )


def verify(conf: cfg.ConfigOpts) -> None:
    """Look at the daemon's options, beyond their types.

    :param conf: with the options of :func:`modules`
    :raises ConfigurationError: something of it cannot be used
    """
    import oslo_messaging.opts

    for group, options in oslo_messaging.opts.list_opts():
        conf.register_opts(options, group)
    read(conf)
    options = conf.bridge
    if options.management_url and len(options.transport_url) > 1:
        raise exceptions.ConfigurationError(
            "management_url in [bridge] is for one bus: with several, their"
            " management plugins have to have the usual port"
        )
    if options.request_metrics and not options.metrics_port:
        raise exceptions.ConfigurationError(
            "request_metrics in [bridge] needs metrics_port: what it counts is"
            " on /metrics"
        )
    for name in ("topics", "exchanges"):
        names = getattr(options, name)
        if not names or not all(names):
            raise exceptions.ConfigurationError(
                f"{name} in [bridge]: there has to be at least one, and none"
                " without a name"
            )
    for name in (*options.topics, *options.exchanges, options.pool or ""):
        if len(name.encode()) > _LONGEST_NAME:
            raise exceptions.ConfigurationError(
                f"the name of a topic, exchange or pool in [bridge] has more"
                f" than {_LONGEST_NAME} bytes: {name[:20]}..."
            )


def set_up_logging(conf: cfg.ConfigOpts) -> None:
    """Set up the log of this process, and those that it forks, by options.

    :raises ConfigurationError: something of it cannot be used; the log may
        be neither as before nor as wanted
    """
    from oslo_log import log

    try:
        # oslo.log compares the time of log_config_append only, and would not
        # read a changed file of the same time.
        cast(Any, log._load_log_config).old_time = 0
        log.setup(conf, PROJECT)
        for handler in logging.getLogger().handlers:
            for level in (logging.DEBUG, logging.INFO, logging.ERROR):
                handler.format(
                    logging.LogRecord(PROJECT, level, "", 0, "", (), None)
                )
    except Exception as error:  # noqa: BLE001 - logging raises any
        file = conf.log_config_append
        raise exceptions.ConfigurationError(
            f"logging cannot be set up: {f'{file}: ' if file else ''}"
            f"{_describe(error)}"
        ) from None


def modules() -> list[HasOptions]:
    """The modules whose options the daemon reads."""
    # Imported here, for what reads reports needs no bus.
    from profiler_bridge import forward, masking, storage
    from profiler_bridge.bus import management, reader, transport
    from profiler_bridge.daemon import service, set_aside, settling

    return [
        storage,
        transport,
        reader,
        service,
        set_aside,
        masking,
        management,
        forward,
        settling,
    ]


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """For oslo-config-generator and oslo-config-validator."""
    from profiler_bridge.api import options
    from profiler_bridge.storage import retention

    return [
        *((module.GROUP, module.OPTS) for module in [*modules(), options]),
        *retention.list_opts(),
    ]
