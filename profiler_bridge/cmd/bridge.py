# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge: the daemon."""

from __future__ import annotations

import gc
import sys
from functools import partial
from importlib import metadata
from typing import Any

from oslo_config import cfg

from profiler_bridge import config, exceptions


class _Version:
    """What a report on the process says of the program."""

    def vendor_string(self) -> str:
        return "OpenStack"

    def product_string(self) -> str:
        return config.PROJECT

    def version_string_with_package(self) -> str:
        return metadata.version(config.PROJECT)


def report_on_signal(conf: cfg.ConfigOpts) -> Any:
    """On SIGUSR2 write what each thread is doing, and options, to stderr.

    This process does so, and all that are forked from it.

    :returns: what holds the options, as ``conf_obj``
    """
    # Imported where the daemon starts: nobody else needs it.
    from oslo_reports import guru_meditation_report
    from oslo_reports.generators.conf import ConfigReportGenerator

    report = guru_meditation_report.TextGuruMeditation
    options = ConfigReportGenerator(conf)
    report.register_section(f"Configuration of {config.PROJECT}", options)
    report.setup_autorun(_Version())
    return options


def main() -> int:
    # What is imported and set up stays. To look whether it is garbage takes a
    # tenth of the start; and in the processes that are forked it would copy
    # memory that they share (docs.python.org/3/library/gc.html#gc.freeze).
    gc.disable()
    # Imported here, after that.
    from profiler_bridge.daemon import service

    load = partial(config.load, sys.argv[1:])
    try:
        conf = load()
        config.set_up_logging(conf)
        reported = report_on_signal(conf)

        def use(conf: cfg.ConfigOpts) -> None:
            config.set_up_logging(conf)
            reported.conf_obj = conf

        gc.freeze()
        gc.enable()
        service.run(conf, load, use)
    except exceptions.BridgeError as error:
        print(f"profiler-bridge: {error}", file=sys.stderr)
        return 1
    return 0
