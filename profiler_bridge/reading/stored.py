# SPDX-License-Identifier: Apache-2.0

"""The first storage of a configuration file, as a source."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from profiler_bridge import config, exceptions, storage
from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.query import TraceQuery
from profiler_bridge.reading.answers import Answers, Listed
from profiler_bridge.reading.options import LIMIT, limit, options
from profiler_bridge.storage.traces import Storage

# Reading options, config takes over stderr, which is the process's.
_reading_options = threading.Lock()


def answers(connection_str: str) -> Answers:
    """Those of ``bridge:///etc/profiler_bridge/bridge.conf?limit=100``.

    The file is read at once; the storage is opened for each answer.

    :raises ValueError: there is something wrong with the connection string
    :raises ConfigurationError: or with the file
    """
    parts = urlsplit(connection_str)
    if parts.netloc or parts.fragment:
        raise ValueError(
            "a file for bridge:// is written bridge:///etc/..., with three"
            " slashes and %23 for #"
        )
    given = options(parts.query, {"limit": limit}, "bridge:///FILE")
    return Answers(_Stored(unquote(parts.path)), given.get("limit", LIMIT))


class _Stored:
    """A :class:`profiler_bridge.reading.answers.Source`."""

    def __init__(self, path: str) -> None:
        with _reading_options:
            conf = config.prepare([f"--config-file={path}"], storage)
        first = [*storage.connection_strings(conf), None][0]
        if first is None:
            raise exceptions.ConfigurationError(
                f"no storage is configured in {path}: there is no"
                " connection_string in its [osprofiler]"
            )
        self._storage = storage.get_storage(first, conf)

    def notifications(self, base_id: str) -> list[Notification]:
        with self._opened() as opened:
            return opened.notifications(base_id)

    def newest(self, limit: int, error: bool) -> list[Listed]:
        with self._opened() as opened:
            return [
                Listed(
                    summary.base_id,
                    format_timestamp(summary.started),
                    summary.title,
                )
                for summary in opened.list_traces(
                    TraceQuery(limit=limit, error=error)
                )
            ]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Storage]:
        try:
            yield self._storage
        finally:
            self._storage.close()
