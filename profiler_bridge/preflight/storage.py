# SPDX-License-Identifier: Apache-2.0

"""Whether a storage can be used."""

from __future__ import annotations

from collections.abc import Iterator

from profiler_bridge import exceptions
from profiler_bridge.preflight.findings import Finding, Result, finding
from profiler_bridge.storage.traces import Storage


def check_storage(storage: Storage, purged: bool) -> Iterator[Finding]:
    """Have a storage look at itself.

    :param purged: whether old traces are deleted from it
    """
    try:
        warnings = storage.check()
        if purged:
            storage.plugin.check_deletion()
    except exceptions.StorageNotPrepared as error:
        yield finding("storage", Result.OK, error)
    except exceptions.StorageError as error:
        yield finding("storage", Result.FAILURE, error)
    else:
        for warning in warnings:
            yield finding("storage", Result.WARNING, warning)
        if not warnings:
            yield finding(
                "storage",
                Result.OK,
                f"{storage}: it answers, can be written and read, and its"
                " settings are right",
            )
