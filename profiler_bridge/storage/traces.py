# SPDX-License-Identifier: Apache-2.0

"""A storage: everything about traces that is the same for all plugins.

Parts of one trace come from many services, through many writers, in any
order, some of them twice; and writers may only add. So what one write brings
of one trace is a piece of its own, and a trace's place in the index, under its
terms at its start, has to be found out from what others wrote, at a cost that
does not grow with the trace. That is what marks are for: with each piece come
its start and its terms, once for each value. Every write does this::

    add the pieces, their marks, and entries at what seems to be the start
    read the least start and the terms from the marks of these traces
    add the entries that this shows to be missing

Let s be the true start of a trace and t one of its terms. Of the writers of
the first pieces that have s and t, whoever commits last reads after both
commits, sees both, and adds the entry (t, s). If it ends before that, its
messages come again, and it is done then. Entries at later starts may be left
from before; readers skip those, because the merged summary tells the start.

The same goes for the greatest finish, and for the trace's duration, at which
it stands under a term of its own. A trace is never shorter than an entry says.

A writer remembers the places that it has read and indexed, and writes no mark
or entry that they cover. When reading shows less than the pieces it has just
written, the trace was purged meanwhile: it writes these again, with the marks
of all pieces that there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification, is_id
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import purging
from profiler_bridge.storage.names import (
    Names,
    names_of,
    of_this_week,
    parts,
    week_of,
)
from profiler_bridge.storage.pages import LONGEST_STRETCH, Page, page
from profiler_bridge.storage.places import (
    Places,
    covers,
    merge,
    missing_entries,
    missing_marks,
    place_of,
)
from profiler_bridge.storage.plugin import (
    Entry,
    Mark,
    Name,
    Piece,
    Place,
    Position,
    StoragePlugin,
)
from profiler_bridge.storage.portions import portions
from profiler_bridge.storage.retention import Retention
from profiler_bridge.storage.slots import Arrivals
from profiler_bridge.summary import (
    ALL_TRACES,
    PartialSummary,
    TraceSummary,
    service_name,
)
from profiler_bridge.text import printable
from profiler_bridge.trace import Trace

# How many characters of JSON a piece has, unless it is one notification.
_LONGEST_PIECE = 2**20
# How often marks are written again that are not there when they are read.
_MARK_TRIES = 10


class Storage:
    """What is stored by a plugin, as callers want it.

    Errors are those of :class:`StoragePlugin`.

    :param plugin: where the pieces are; what it alone can tell, such as
        whether it can be reached, is asked of it directly
    """

    def __init__(self, plugin: StoragePlugin) -> None:
        self.plugin = plugin
        #: Where what is written sets something off.
        self.arrivals: Arrivals | None = None
        self._places = Places()
        self._names = Names()

    def __str__(self) -> str:
        return str(self.plugin)

    def prepare(self) -> list[str]:
        """As :meth:`StoragePlugin.prepare`."""
        return self.plugin.prepare()

    def check(self) -> list[str]:
        """As :meth:`StoragePlugin.check`."""
        return self.plugin.check()

    def close(self) -> None:
        """Let go of connections. The storage can be used again."""
        self.plugin.close()

    # Writing

    def write(self, notifications: Sequence[Notification]) -> int:
        """Store notifications: of many traces, in any order, some again.

        When this returns they are durable and can be queried. Any number of
        writers may write parts of the same trace at the same time. After an
        error nothing is known of what was stored: write all of it again.

        :returns: how many are in pieces that were not stored before. Those
            that come again in other company are another piece, so they count
            again; those that two writers store at the same moment may count
            for none of them, or for both.
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
            return self.write_pieces(split_into_pieces(notifications))
        except exceptions.WriteRefused as error:
            if len(notifications) == 1:
                rejected.append((notifications[0], str(error)))
                return 0
            middle = len(notifications) // 2
            return sum(
                self._write_or_halve(half, rejected)
                for half in (notifications[:middle], notifications[middle:])
            )

    def write_pieces(self, pieces: Sequence[Piece]) -> int:
        """Store pieces, as :meth:`write` does notifications.

        :param pieces: sorted as :func:`split_into_pieces` does it
        :raises WriteRefused: one can never be stored; nothing is known of the
            others
        """
        partials: dict[str, list[PartialSummary]] = {}
        for piece in pieces:
            partials.setdefault(piece.base_id, []).append(piece.summary)
        arrived = self.arrivals.due(partials) if self.arrivals else ()
        known = self._insert(
            pieces,
            {base_id: place_of(parts) for base_id, parts in partials.items()},
            names_of(piece.summary for piece in pieces),
            arrived,
        )
        if self.arrivals:
            self.arrivals.remember(arrived)
        return sum(
            len(piece.notifications)
            for piece in pieces
            if piece.digest not in known
        )

    def index_again(
        self, traces: Mapping[str, Mapping[int, PartialSummary]]
    ) -> None:
        """Have traces found that are stored, whatever was done for it before.

        :param traces: what :meth:`StoragePlugin.partials` gave
        """
        self._places.forget(traces)
        self._insert(
            (),
            {
                base_id: place_of(pieces.values())
                for base_id, pieces in traces.items()
            },
            names_of(
                partial
                for pieces in traces.values()
                for partial in pieces.values()
            ),
        )

    def reindex(self) -> Iterator[int]:
        """Index all traces again, those that older releases stored, too.

        Others may write meanwhile.

        :returns: now and then, how many were done
        """
        done = 0
        for base_ids in self.plugin.base_ids():
            for traces in portions(self.plugin, base_ids):
                self.index_again(traces)
                done += len(traces)
                yield done
        self.plugin.note_reindexed()

    def _insert(
        self,
        pieces: Sequence[Piece],
        wanted: Mapping[str, Place],
        names: Collection[Name],
        arrived: Collection[Entry] = (),
    ) -> Collection[int]:
        """Insert pieces, and have their traces found.

        :param wanted: of each trace, what these pieces tell of its place
        :param names: of the terms that these pieces have
        :param arrived: further entries
        :returns: digests of the pieces that were there before
        """
        known: Collection[int] = ()
        if not wanted:
            return known
        due = self._names.due(names)
        for attempt in range(_MARK_TRIES):
            marks: list[Mark] = []
            entries = [*arrived]
            likely: dict[str, Place] = {}
            for base_id, place in wanted.items():
                indexed = self._places.get(base_id)
                likely[base_id] = merge(indexed, place)
                if self.plugin.expires:
                    indexed = None  # written again so that it lives on
                marks += missing_marks(base_id, indexed, place)
                entries += missing_entries(base_id, indexed, likely[base_id])
            inserted = self.plugin.insert(
                pieces, sorted(marks), sorted(entries), sorted(due)
            )
            self._names.remember(due)
            if not attempt:
                known = inserted.known
            lost = self._correct(wanted, likely, inserted.places)
            if not lost:
                return known
            # The pieces may be gone, too; and whoever brought others may not
            # know that theirs have no marks any more. Entries may be too early
            # or too long; by the one for all traces a purge finds them.
            early = [
                Entry(ALL_TRACES, likely[base_id].started, base_id)
                for base_id in lost
            ]
            self.plugin.insert((), (), sorted(early))
            pieces = [piece for piece in pieces if piece.base_id in lost]
            wanted = self._with_all_pieces(lost)
        raise exceptions.StorageUnavailable(
            f"{self}: what was written is not there when it is read: if"
            " something between sends reads to another server, it must not"
        )

    def _with_all_pieces(
        self, wanted: Mapping[str, Place]
    ) -> dict[str, Place]:
        """The places, with what all pieces of their traces tell."""
        there = {
            base_id: place_of(pieces.values())
            for base_id, pieces in self.plugin.partials(wanted).items()
        }
        return {
            base_id: merge(there.get(base_id), place)
            for base_id, place in wanted.items()
        }

    def _correct(
        self,
        wanted: Mapping[str, Place],
        likely: Mapping[str, Place],
        places: Mapping[str, Place],
    ) -> dict[str, Place]:
        """Add the entries that the marks show to be missing.

        :param likely: where the traces have entries for certain
        :param places: what their marks tell
        :returns: of ``wanted``, the traces whose marks are not all there
        """
        lost: dict[str, Place] = {}
        right: dict[str, Place] = {}
        entries: list[Entry] = []
        for base_id, place in wanted.items():
            marked = places.get(base_id)
            if marked is None or not covers(marked, place):
                lost[base_id] = place
                continue
            right[base_id] = marked
            # Mostly nobody else has written anything of it.
            if marked != likely[base_id]:
                entries += missing_entries(base_id, likely[base_id], marked)
        self._places.forget(lost)
        if entries:
            self.plugin.insert((), (), sorted(entries))
        self._places.remember(right)
        return lost

    def purge(
        self, before: int, dry_run: bool = False, held: int | None = None
    ) -> int:
        """Delete traces whose last notification is older.

        As :meth:`purge_by`, once, whatever rules there are.

        :param before: microseconds since 1970
        """
        # As if they were kept for a second, a second later.
        once = purging.Purge(Retention(1))
        return self.purge_by(once, before + 1_000_000, dry_run, held)

    def purge_by(
        self,
        purge: purging.Purge,
        now: int,
        dry_run: bool = False,
        held: int | None = None,
        pace: purging.Pace | None = None,
    ) -> int:
        """Delete traces that have been kept for as long as they are to be.

        Some at a time, so that nobody waits long for it. Several may do this
        at once. What is written meanwhile stays, and is found.

        :param purge: by which retention; and, if it is used again, what has
            been looked at already
        :param now: microseconds since 1970; ages count from then
        :param dry_run: delete nothing; find out whether that is possible, and
            how many traces there are of each rule
        :param held: traces whose last notification is then or later stay,
            microseconds since 1970
        :param pace: rests between transactions
        :returns: how many traces went, or would go
        """
        # Before anything is gone: what came meanwhile will have to be inserted
        # anew, and a newer release may keep more of a trace.
        self.plugin.check()
        self.plugin.check_deletion()
        pace = pace or purging.Pace()
        purged = 0
        for traces in purge.find(self.plugin, now, held, count=dry_run):
            if not dry_run:
                purging.delete_old(self.plugin, traces, self._delete, pace)
            purged += sum(bool(trace.pieces) for trace in traces)
            pace.rest()
        oldest = purge.oldest(now, held)
        if not dry_run and oldest is not None:
            # A week more than that, as names are added now and then only.
            self.plugin.delete_names(week_of(oldest) - 1)
            self.plugin.insert((), (), (), sorted(of_this_week(purge.names())))
        return purged

    def _delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        self._places.forget(pieces)
        self.plugin.delete(pieces, entries)
        # Of what came meanwhile the marks and entries may be gone, too; and
        # other entries of it may go by where the trace began.
        rest = self.plugin.partials(pieces)
        early = [
            entry
            for entry in entries
            if entry.term == ALL_TRACES and entry.base_id in rest
        ]
        if early:
            self.plugin.insert((), (), sorted(early))
        self.index_again(rest)

    # Reading

    def notifications(self, base_id: str) -> list[Notification]:
        """As :meth:`StoragePlugin.notifications`."""
        return self.plugin.notifications(base_id)

    def trace(self, base_id: str) -> Trace:
        """The tree of a trace.

        :raises TraceNotFound: nothing of it is stored
        """
        notifications = self.plugin.notifications(base_id)
        gone = self.plugin.count_gone([base_id], exactly=True).get(base_id, 0)
        if not notifications:
            what = f"trace {printable(base_id)} is not in this storage"
            if gone:
                what += f" any more: its {gone} notification(s) are gone"
            raise exceptions.TraceNotFound(what)
        return Trace.build(base_id, notifications, gone)

    def find(self, prefix: str) -> str:
        """The one base_id that begins so.

        Those of all traces are looked at, unless it is a whole one.

        :raises TraceNotFound: there is none, or more than one
        """
        if is_id(prefix):
            return prefix
        before: Position | None = None
        base_ids: set[str] = set()
        while stretch := self.plugin.index(
            ALL_TRACES, before, None, LONGEST_STRETCH
        ):
            before = stretch[-1]
            base_ids.update(
                position.base_id
                for position in stretch
                if position.base_id.lower().startswith(prefix.lower())
            )
            if len(base_ids) > 1:
                raise exceptions.TraceNotFound(
                    f"{printable(prefix)} begins the base_id of more than one"
                    f" trace: {' and '.join(sorted(base_ids)[:2])}, for"
                    " example"
                )
        for base_id in base_ids:
            return base_id
        raise exceptions.TraceNotFound(
            f"trace {printable(prefix)} is not in this storage"
        )

    def traces(self, query: TraceQuery) -> Iterator[Trace]:
        """The traces of a page, one after the other."""
        for summary in self.list_traces(query):
            # Some may be purged meanwhile.
            if notifications := self.notifications(summary.base_id):
                yield Trace.build(summary.base_id, notifications)

    def page(self, query: TraceQuery) -> Page:
        """A page of traces; see :func:`profiler_bridge.storage.pages.page`.

        The beginning of a marker is enough.
        """
        if query.marker is not None:
            marker = self.find(query.marker)
            query = dataclasses.replace(query, marker=marker)
        return page(self.plugin, query)

    def list_traces(self, query: TraceQuery) -> list[TraceSummary]:
        """The traces of a page."""
        return self.page(query).traces

    def services(self, since: int | None = None) -> list[str]:
        """The qualified services of which there is something.

        :param since: in the week of that moment or later, in microseconds
            since 1970; in any when None
        """
        return parts(self.plugin, since, service_name(""))

    def list_error_traces(self, query: TraceQuery) -> list[TraceSummary]:
        """A page of the traces in which an operation raised."""
        return self.list_traces(dataclasses.replace(query, error=True))


def split_into_pieces(notifications: Iterable[Notification]) -> list[Piece]:
    """Sort a batch by trace, in pieces of bounded size.

    :returns: in the same order for all who write the same pieces, so that
        they do not lock each other's; empty for an empty batch
    """
    traces: dict[str, list[Notification]] = {}
    for notification in notifications:
        traces.setdefault(notification.base_id, []).append(notification)
    pieces = [
        Piece.of(part) for whole in traces.values() for part in _bounded(whole)
    ]
    return sorted(pieces, key=lambda piece: (piece.base_id, piece.digest))


def _bounded(
    notifications: Iterable[Notification],
) -> Iterator[list[Notification]]:
    part: list[Notification] = []
    size = 0
    for notification in notifications:
        if part and size + len(notification.text) > _LONGEST_PIECE:
            yield part
            part, size = [], 0
        part.append(notification)
        size += len(notification.text)
    yield part
