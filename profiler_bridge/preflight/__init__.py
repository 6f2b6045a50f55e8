# SPDX-License-Identifier: Apache-2.0

"""What will go wrong: found out before the bridge goes live.

A check disturbs nobody: it takes no message, and makes and changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from oslo_config import cfg

from profiler_bridge import config, exceptions
from profiler_bridge import storage as storages
from profiler_bridge.bus.transport import get_pools
from profiler_bridge.preflight.api import check_api
from profiler_bridge.preflight.bus import check_bus
from profiler_bridge.preflight.configuration import (
    NAMESPACES,
    check_configuration,
)
from profiler_bridge.preflight.findings import (
    Finding,
    Result,
    exit_code,
    finding,
)
from profiler_bridge.preflight.forward import check_forward
from profiler_bridge.preflight.set_aside import check_set_aside
from profiler_bridge.preflight.storage import check_storage
from profiler_bridge.preflight.traces import check_traces
from profiler_bridge.storage.retention import check_sections
from profiler_bridge.storage.traces import Storage

__all__ = ["check", "exit_code", "Finding", "Result", "NAMESPACES"]


def check(
    config_files: Sequence[str],
    connection_string: str | None = None,
    bridges: int | None = None,
) -> Iterator[Finding]:
    """Look at everything that the daemon would use, always in this order.

    :param config_files: those of the daemon; empty for the usual places
    :param connection_string: a storage in place of the configured
    :param bridges: how many daemons with this configuration run now, on all
        hosts; None to count those of this one
    """
    try:
        conf = config.prepare(
            [f"--config-file={path}" for path in config_files],
            *config.modules(),
        )
        config.verify(conf)
        check_sections(conf)
        retention = storages.get_retention(conf)
    except exceptions.ConfigurationError as error:
        yield finding("configuration", Result.FAILURE, error)
        return
    stores: list[Storage] = []
    problem: exceptions.ConfigurationError | None = None
    try:
        stores = _storages(conf, connection_string)
    except exceptions.ConfigurationError as error:
        problem = error
    yield check_configuration(conf, stores)
    yield from check_bus(conf, get_pools(conf, stores), bridges)
    if problem:
        yield finding("storage", Result.FAILURE, problem)
    for storage in stores:
        with contextlib.closing(storage):
            yield from check_storage(
                storage,
                purged=bool(retention.lengths) and not storage.plugin.expires,
            )
            yield from check_traces(storage)
    yield check_set_aside(conf)
    yield from check_api(conf)
    # Which storage's traces these are, only a right one tells.
    if stores and not problem:
        yield from check_forward(conf)


def _storages(
    conf: cfg.ConfigOpts, connection_string: str | None
) -> list[Storage]:
    if connection_string:
        return [storages.get_storage(connection_string, conf)]
    return storages.get_storages(conf)
