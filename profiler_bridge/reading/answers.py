# SPDX-License-Identifier: Apache-2.0

"""What osprofiler's drivers answer, wherever the traces are."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from osprofiler import exc

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.report.osprofiler import report
from profiler_bridge.report.text import shortened
from profiler_bridge.text import printable
from profiler_bridge.trace import Trace

# osprofiler's, where none are asked for.
_FIELDS = ("base_id", "timestamp")
# How many characters of a trace's title are given.
_LONGEST = 200


class Listed(NamedTuple):
    """A trace in a list.

    :param timestamp: when it started, as osprofiler writes it
    :param title: what it is called; None while it has no root
    """

    base_id: str
    timestamp: str
    title: str | None


class Source(Protocol):
    """Where the traces are.

    What it opens for a call it closes before it returns. What goes wrong is a
    BridgeError, of one line.
    """

    def notifications(self, base_id: str) -> Sequence[Notification]:
        """Those of a trace, in any order; empty for an unknown one."""

    def newest(self, limit: int, error: bool) -> list[Listed]:
        """The traces that started last, the newest first.

        :param error: only those in which an operation raised
        """


class Answers:
    """The methods of a driver that read.

    Each raises osprofiler's CommandError, with one line, when the source
    cannot be read.

    :param limit: how many traces a list has at most
    """

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit

    def get_report(self, base_id: str) -> dict[str, Any]:
        """The report of a trace; without children for an unknown one."""
        with _as_command_error():
            notifications = self._source.notifications(base_id)
        return report(Trace.build(base_id, notifications))

    def list_traces(
        self, fields: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """The newest traces, the newest first.

        :param fields: of ``base_id``, ``timestamp`` and ``info``; what begins
            with ``info.`` stands for that. Its one text is
            ``info.request.path``, the trace's title, or ``-``. Others are
            left out
        """
        wanted = {field.partition(".")[0] for field in fields or _FIELDS}
        return [
            {name: value for name, value in item.items() if name in wanted}
            for item in map(_item, self._newest(error=False))
        ]

    def list_error_traces(self) -> list[dict[str, Any]]:
        """The newest traces in which an operation raised, the newest first.

        :returns: with ``base_id`` and ``timestamp``
        """
        return [
            {"base_id": listed.base_id, "timestamp": listed.timestamp}
            for listed in self._newest(error=True)
        ]

    def _newest(self, *, error: bool) -> list[Listed]:
        with _as_command_error():
            return self._source.newest(self._limit, error)


def _item(listed: Listed) -> dict[str, Any]:
    # Horizon's panel needs a path of every trace.
    title = printable(shortened(listed.title or "-", _LONGEST))
    return {
        "base_id": listed.base_id,
        "timestamp": listed.timestamp,
        "info": {"request": {"path": title}},
    }


@contextlib.contextmanager
def _as_command_error() -> Iterator[None]:
    """osprofiler's command prints errors of its own alone."""
    try:
        yield
    except exceptions.BridgeError as error:
        raise exc.CommandError(str(error)) from None
