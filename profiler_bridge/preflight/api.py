# SPDX-License-Identifier: Apache-2.0

"""Whether who listens in the network can read what is read over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from oslo_config import cfg

from profiler_bridge.api.options import GROUP, OPTS, is_loopback
from profiler_bridge.preflight.findings import Finding, Result, finding


def check_api(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    """Look at where the service for reading listens, if the files say that.

    :returns: nothing where it is on this machine alone
    """
    conf.register_opts(OPTS, GROUP)
    host = conf[GROUP].host
    try:
        if is_loopback(host):
            return
    except OSError as error:
        yield finding(
            "api",
            Result.FAILURE,
            f"host in [api]: {host}: {error.strerror}",
        )
        return
    yield finding(
        "api",
        Result.WARNING,
        f"host in [api] is {host}, and profiler-bridge-api has no TLS:"
        " passwords, tokens and traces can be read on their way. Set host ="
        " 127.0.0.1, behind a proxy that has TLS",
    )
