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

A plugin keeps pieces of traces and finds them again; what a piece is, where a
trace stands in the index, paging, summaries, traces and reports are made here,
so that they mean the same in every storage.
"""

from __future__ import annotations

import abc
import dataclasses
import heapq
import itertools
import time
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, Self

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.query import (
    ALL_TRACES,
    PartialSummary,
    Sort,
    TraceQuery,
    TraceSummary,
    index_terms,
    summarize,
)
from profiler_bridge.report import osprofiler
from profiler_bridge.report.statistics import Statistics
from profiler_bridge.report.text import printable
from profiler_bridge.trace import Trace

# How far to read ahead in the index, where little of it matches a query.
_LONGEST_STRETCH = 500
# How many characters of JSON a piece has, unless it is one notification.
_LONGEST_PIECE = 2**20
# Seconds; what NTP keeps is far below.
_CLOCKS_MAY_DIFFER = 2.0


@dataclass(frozen=True, slots=True)
class Piece:
    """What one write brings of one trace.

    :param base_id: the trace
    :param notifications: one or more, no two alike
    :param text: theirs, each on a line of its own, sorted
    :param digest: 8 bytes; the same for the same notifications
    :param summary: what they say for the trace's summary
    """

    base_id: str
    notifications: Sequence[Notification]
    text: str
    digest: bytes
    summary: PartialSummary

    @classmethod
    def of(cls, notifications: Iterable[Notification]) -> Self:
        """Make one of one or more notifications of one trace."""
        by_text = {each.text: each for each in notifications}
        text = "\n".join(sorted(by_text))
        return cls(
            next(iter(by_text.values())).base_id,
            [*by_text.values()],
            text,
            blake2b(text.encode("ascii"), digest_size=8).digest(),
            PartialSummary.of(by_text.values()),
        )


def cut(notifications: Iterable[Notification]) -> list[Piece]:
    """Sort a batch by trace, in pieces of bounded size.

    :returns: in the same order for all who write the same pieces, so that
        they do not lock each other's
    """
    traces: dict[str, list[Notification]] = {}
    for each in notifications:
        traces.setdefault(each.base_id, []).append(each)
    pieces = [
        Piece.of(part) for whole in traces.values() for part in _parts(whole)
    ]
    return sorted(pieces, key=lambda piece: (piece.base_id, piece.digest))


def _parts(
    notifications: Iterable[Notification],
) -> Iterator[list[Notification]]:
    part: list[Notification] = []
    size = 0
    for each in notifications:
        if part and size + len(each.text) > _LONGEST_PIECE:
            yield part
            part, size = [], 0
        part.append(each)
        size += len(each.text)
    yield part


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
    #: Whether traces go by themselves at the end of ``retention``, which is
    #: one of the plugin's options then. Otherwise the bridge purges them.
    expires: ClassVar[bool] = False

    @abc.abstractmethod
    def __str__(self) -> str: ...

    def prepare(self) -> None:  # noqa: B027 - most storages need nothing
        """Make what writing needs, such as tables; do nothing if it is there.

        Several processes may do this at once.
        """

    @abc.abstractmethod
    def insert(self, pieces: Sequence[Piece]) -> Collection[bytes]:
        """Keep pieces; one that is there already is left as it is.

        When this returns they are durable, and every reader finds them. Any
        number of writers may insert at the same time, the same pieces too.
        After an error nothing is known of what was kept.

        :returns: the digests of those that were there already
        :raises WriteRefused: because of what is in a piece; it would be
            refused again
        """

    @abc.abstractmethod
    def add_to_index(self, entries: Mapping[str, Sequence[Position]]) -> None:
        """Have traces found under terms; again, for all it does.

        :param entries: by term
        """

    @abc.abstractmethod
    def notifications(self, base_id: str) -> list[Notification]:
        """All notifications of a trace, each once, in any order.

        :returns: an empty list for an unknown trace
        """

    @abc.abstractmethod
    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[bytes, PartialSummary]]:
        """What each piece says for the summary of its trace.

        :returns: by base_id, then by the piece's digest; unknown traces are
            left out, others have at least one
        """

    @abc.abstractmethod
    def index(
        self, term: str, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        """A stretch of the index, newest first.

        A trace stands under each of its terms at the time it started. It may
        stand at later times too, from when its start was not yet known.

        :param term: see :func:`profiler_bridge.query.index_terms`
        :param before: only what is older; everything when None
        :param since: only what started then or later
        :param count: at most so many
        :returns: fewer than ``count`` when the end is reached
        """

    @abc.abstractmethod
    def delete(
        self, base_id: str, partials: Collection[PartialSummary]
    ) -> None:
        """Delete a trace; what is gone already is no error.

        :param partials: all of its partial summaries: in the index it can
            stand under each of its terms, at the start of each of them
        """

    @abc.abstractmethod
    def check(self) -> list[str]:
        """Find out whether reading and writing will work; write nothing.

        :returns: warnings, one line each; empty when all is well
        :raises StorageNotPrepared: it will, after :meth:`prepare`
        :raises StorageError: it will not work, and why
        """

    def left_by_osprofiler(self) -> Iterator[tuple[str, list[object]]]:
        """What osprofiler's own driver stored here, trace by trace.

        :returns: a base_id, and payloads in any order, not validated; what is
            no JSON is a text. Everything without a base_id is under none.
        :raises StorageMisconfigured: it stores nothing in such a storage
        """
        raise exceptions.StorageMisconfigured(
            f"{self} has nothing that osprofiler stored"
        )

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections. The storage can be used again."""

    def check_clock(self, read: Callable[[], float]) -> list[str]:
        """Compare this host's clock with the storage's; for :meth:`check`.

        :param read: asks for the storage's, in seconds since 1970
        :returns: a warning; empty while they are as good as equal
        """
        before = time.time()
        theirs = read()
        after = time.time()
        # It was read at some moment in between.
        apart = max(before - theirs, theirs - after)
        if apart < _CLOCKS_MAY_DIFFER:
            return []
        return [
            f"{self}: its clock is {apart:.1f} s"
            f" {'behind' if theirs < before else 'ahead of'} this host's, so"
            " one of them is wrong, and with it ages of traces: synchronize"
            " both, as with NTP"
        ]

    def write(self, notifications: Sequence[Notification]) -> int:
        """Store notifications: of many traces, in any order, some again.

        When this returns they are durable and can be queried. Any number of
        writers may write parts of the same trace at the same time. After an
        error nothing is known of what was stored: write all of it again.

        :returns: how many were not stored before. Those that two writers
            store at the same moment are new to none of them.
        :raises NotificationsRejected: some can never be stored; the others
            are stored
        """
        rejected: list[tuple[Notification, str]] = []
        stored = self._write_or_halve(notifications, rejected)
        if rejected:
            raise exceptions.NotificationsRejected(rejected, stored)
        return stored

    def _write_or_halve(
        self,
        notifications: Sequence[Notification],
        rejected: list[tuple[Notification, str]],
    ) -> int:
        """Write; where the storage refuses, find what it refuses."""
        try:
            return self._write(notifications)
        except exceptions.WriteRefused as error:
            if len(notifications) == 1:
                rejected.append((notifications[0], str(error)))
                return 0
            middle = len(notifications) // 2
            return sum(
                self._write_or_halve(half, rejected)
                for half in (notifications[:middle], notifications[middle:])
            )

    def _write(self, notifications: Sequence[Notification]) -> int:
        pieces = cut(notifications)
        known = self.insert(pieces)
        # Only now, so that of all who write parts of a trace at least the
        # last sees every part, and indexes the trace where it really starts.
        found = self.partials({piece.base_id for piece in pieces})
        self.index_traces(found)
        return sum(
            piece.summary.count_beside(
                partial
                for digest, partial in found.get(piece.base_id, {}).items()
                if digest != piece.digest
            )
            for piece in pieces
            if piece.digest not in known
        )

    def index_traces(
        self, traces: Mapping[str, Mapping[bytes, PartialSummary]]
    ) -> None:
        """Have traces found under their terms; again, for all it does.

        :param traces: what :meth:`partials` gave
        """
        entries: dict[str, list[Position]] = {}
        for base_id, partials in traces.items():
            # Without merging them, which a large trace would pay each time.
            started = min(each.started for each in partials.values())
            position = Position(started, base_id)
            for term in index_terms(partials.values()):
                entries.setdefault(term, []).append(position)
        self.add_to_index(entries)

    def purge(self, before: int, dry_run: bool = False) -> int:
        """Delete traces whose last notification is older.

        One after the other, so that nobody waits long for it. Several may
        do this at once.

        :param before: microseconds since 1970
        :param dry_run: delete nothing
        :returns: how many traces went, or would go
        """
        purged = 0
        end: Position | None = Position(before, "")
        while end is not None:
            stretch = self.index(ALL_TRACES, end, None, _LONGEST_STRETCH)
            end = stretch[-1] if len(stretch) == _LONGEST_STRETCH else None
            partials = self.partials({each.base_id for each in stretch})
            for base_id, pieces in partials.items():
                if max(each.finished for each in pieces.values()) < before:
                    if not dry_run:
                        self.delete(base_id, pieces.values())
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
        return summarize(marker, pieces.values())

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
                summary = summarize(position.base_id, pieces.values())
                if summary.started == position.started:
                    yield summary
            if len(stretch) < count:
                return
            before = stretch[-1]
            count = min(2 * count, _LONGEST_STRETCH)
