# SPDX-License-Identifier: Apache-2.0

"""Whether messages that cannot be stored can be kept."""

from __future__ import annotations

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.daemon.set_aside import GROUP, SetAside
from profiler_bridge.preflight.findings import Finding, Result, finding


def check_set_aside(conf: cfg.ConfigOpts) -> Finding:
    """Look at the set-aside file, and whether there is anything in it."""
    path = conf[GROUP].set_aside
    try:
        kept = SetAside.from_conf(conf).check()
    except exceptions.ConfigurationError as error:
        return finding("set-aside", Result.FAILURE, error)
    if kept:
        return finding(
            "set-aside",
            Result.WARNING,
            f"{path} has {kept} message(s) that could not be stored: see"
            " 'profiler-bridge-manage set-aside list'",
        )
    return finding(
        "set-aside",
        Result.OK,
        f"{path}: messages that cannot be stored can be kept",
    )
