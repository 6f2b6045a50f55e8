# SPDX-License-Identifier: Apache-2.0

"""Whether traces can be sent to others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from oslo_config import cfg

from profiler_bridge import exceptions, forward
from profiler_bridge.daemon import settling
from profiler_bridge.preflight.findings import Finding, Result, finding


def check_forward(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    """Send a request without spans to each endpoint.

    :returns: nothing where nothing is to be sent
    """
    try:
        settling.check(conf)
        targets = forward.targets(conf)
    except exceptions.ConfigurationError as error:
        yield finding("forward", Result.FAILURE, error)
        return
    for target in targets:
        with contextlib.closing(target):
            problem = target.check()
        yield finding(
            "forward",
            # Others do not keep the bridge from starting and storing.
            Result.WARNING if problem else Result.OK,
            f"{target}: {problem or 'it takes traces'}",
        )
