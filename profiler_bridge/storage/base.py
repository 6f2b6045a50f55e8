# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The interface of a storage, and everything that is the same for all.

A plugin writes notifications and finds them again; paging, summaries, traces
and reports are made here, so that they mean the same in every storage.
"""

from __future__ import annotations

import abc
import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.query import (
    ALL_TRACES,
    PartialSummary,
    Sort,
    TraceQuery,
    TraceSummary,
    summarize,
)
from profiler_bridge.report import osprofiler
from profiler_bridge.report.statistics import Statistics
from profiler_bridge.report.text import printable
from profiler_bridge.trace import Trace

# How far to read ahead in the index, where little of it matches a query.
_LONGEST_STRETCH = 500


class Position(NamedTuple):
    """A place in the index, which is ordered by start, then by base_id.

    :param started: microseconds since 1970
    :param base_id: the trace; empty for the place before all that start then
    """

    started: int
    base_id: str


class Storage(abc.ABC):
    """Where notifications are kept.

    A plugin's constructor takes a connection string, and by name each of its
    options. It raises :class:`ConfigurationError` for what it cannot use.
    Constructors do no I/O. Methods that do raise :class:`StorageUnavailable`
    where the same call may succeed later, and :class:`StorageMisconfigured`
    where somebody has to change something first. ``str()`` of a storage is
    its connection string without passwords.
    """

    #: Options that the plugin reads from [osprofiler], and no other does.
    OPTS: ClassVar[Sequence[cfg.Opt]] = ()

    @abc.abstractmethod
    def __str__(self) -> str: ...

    def prepare(self) -> None:  # noqa: B027 - most storages need nothing
        """Make what writing needs, such as tables; do nothing if it is there.

        Several processes may do this at once.
        """

    @abc.abstractmethod
    def write(self, notifications: Sequence[Notification]) -> None:
        """Store notifications: of many traces, in any order, some again.

        When this returns they are durable and can be queried. Any number of
        writers may write parts of the same trace at the same time. After an
        error nothing is known of what was stored: write all of it again.

        :raises NotificationsRejected: some can never be stored; the others
            are stored
        """

    @abc.abstractmethod
    def notifications(self, base_id: str) -> list[Notification]:
        """All notifications of a trace, in any order.

        :returns: an empty list for an unknown trace
        """

    @abc.abstractmethod
    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Sequence[PartialSummary]]:
        """The partial summaries of traces, at least one for each.

        :returns: by base_id; unknown traces are left out
        """

    @abc.abstractmethod
    def index(
        self, term: str, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        """A stretch of the index, newest first.

        A trace stands under each of its terms at the time it started. It may
        stand at later times too, from when its start was not yet known.

        :param term: see :meth:`TraceSummary.terms`
        :param before: only what is older; everything when None
        :param since: only what started then or later
        :param count: at most so many
        :returns: fewer than ``count`` when the end is reached
        """

    @abc.abstractmethod
    def delete(self, base_id: str, partials: Sequence[PartialSummary]) -> None:
        """Delete a trace; what is gone already is no error.

        :param partials: all of its partial summaries: in the index it can
            stand under each of its terms, at the start of each of them
        """

    @abc.abstractmethod
    def check(self) -> list[str]:
        """Find out whether reading and writing will work; write nothing.

        :returns: warnings, one line each; empty when all is well
        :raises StorageError: it will not work, and why
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections. The storage can be used again."""

    def purge(self, before: int) -> int:
        """Delete traces whose last notification is older.

        :param before: microseconds since 1970
        :returns: how many traces went
        """
        purged = 0
        end: Position | None = Position(before, "")
        while end is not None:
            stretch = self.index(ALL_TRACES, end, None, _LONGEST_STRETCH)
            end = stretch[-1] if len(stretch) == _LONGEST_STRETCH else None
            partials = self.partials({each.base_id for each in stretch})
            for base_id, pieces in partials.items():
                if max(piece.finished for piece in pieces) < before:
                    self.delete(base_id, pieces)
                    purged += 1
        return purged

    def trace(self, base_id: str) -> Trace:
        """The tree of a trace.

        :raises TraceNotFound: nothing of it is stored
        """
        notifications = self.notifications(base_id)
        if not notifications:
            raise exceptions.TraceNotFound(
                f"trace {printable(base_id)} is not in this storage"
            )
        return Trace.build(base_id, notifications)

    def report(self, base_id: str) -> dict[str, Any]:
        """The report of a trace, as osprofiler's drivers give it.

        :raises TraceNotFound: nothing of it is stored
        """
        return osprofiler.report(self.trace(base_id))

    def list_traces(self, query: TraceQuery) -> list[TraceSummary]:
        """A page of traces, in the order of ``query.sort``.

        The newest cost as much as they are. To find the longest, every
        summary between ``since`` and ``until`` is looked at.

        :returns: at most ``query.limit``; empty when none matches
        :raises TraceNotFound: the marker is not stored
        """
        if query.sort == Sort.DURATION:
            return self._longest_first(query)
        before = None
        if query.marker is not None:
            marker = self._summary(query.marker)
            before = Position(marker.started, marker.base_id)
        found = filter(query.matches, self._newest_first(query, before))
        return list(itertools.islice(found, query.limit))

    def _longest_first(self, query: TraceQuery) -> list[TraceSummary]:
        def order(summary: TraceSummary) -> tuple[int, str]:
            return summary.duration, summary.base_id

        found = filter(query.matches, self._newest_first(query, None))
        if query.marker is not None:
            marker = order(self._summary(query.marker))
            found = filter(lambda each: order(each) < marker, found)
        return heapq.nlargest(query.limit, found, key=order)

    def list_error_traces(self, query: TraceQuery) -> list[TraceSummary]:
        """A page of the traces in which an operation raised, newest first."""
        return self.list_traces(dataclasses.replace(query, error=True))

    def traces(self, query: TraceQuery) -> Iterator[Trace]:
        """The traces of a page, one after the other."""
        for summary in self.list_traces(query):
            # Some may be purged meanwhile.
            if notifications := self.notifications(summary.base_id):
                yield Trace.build(summary.base_id, notifications)

    def statistics(self, query: TraceQuery) -> Statistics:
        """Where the time of a page of traces went."""
        return Statistics.of(self.traces(query))

    def _summary(self, marker: str) -> TraceSummary:
        pieces = self.partials([marker]).get(marker)
        if pieces is None:
            raise exceptions.TraceNotFound(
                f"marker {printable(marker)} is not in this storage"
            )
        return summarize(marker, pieces)

    def _newest_first(
        self, query: TraceQuery, before: Position | None
    ) -> Iterator[TraceSummary]:
        """What the index has of the query's term and time, from a place on."""
        if query.until is not None:
            until = Position(query.until, "")
            before = until if before is None else min(before, until)
        # Reading a little ahead costs less than asking twice.
        count = query.limit + 1
        while True:
            stretch = self.index(query.term, before, query.since, count)
            partials = self.partials({each.base_id for each in stretch})
            for position in stretch:
                pieces = partials.get(position.base_id)
                if pieces is None:
                    continue  # purged since the index was read
                summary = summarize(position.base_id, pieces)
                if summary.started == position.started:
                    yield summary
            if len(stretch) < count:
                return
            before = stretch[-1]
            count = min(2 * count, _LONGEST_STRETCH)
