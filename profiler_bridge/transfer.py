# SPDX-License-Identifier: Apache-2.0

"""From one storage to another, or to files and back, trace by trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.archive import Archive, Damage, Portion
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage, body_of
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import Notification
from profiler_bridge.operation import operations
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage.plugin import Piece
from profiler_bridge.storage.traces import Storage, split_into_pieces
from profiler_bridge.summary import PartialSummary, TraceSummary, end

# Traces of a page, and how much of them is in memory before it is written.
_PAGE = 100
_NOTIFICATIONS = 5_000
_CHARACTERS = 8_000_000

_EVERYTHING = TraceQuery()

Partials = Mapping[int, PartialSummary]


class Transfer:
    """Into a storage: what it has already is neither written nor counted.

    Whether it has a trace is told by digests of what is stored, and where
    these differ by every notification; never by a summary.

    :param target: the storage, prepared
    :param set_aside: where goes what can never be stored
    :param report: is told of each such, in one line
    :ivar traces: how many had something that was written
    :ivar notifications: how many were written
    :ivar there: how many traces were there, whole
    :ivar refused: how many notifications were set aside
    :ivar unread: how many files of archives could not be read to the end
    """

    def __init__(
        self,
        target: Storage,
        set_aside: SetAside,
        report: Callable[[str], object],
    ) -> None:
        self._target = target
        self._set_aside = set_aside
        self._report = report
        self._source = ""
        # By base_id, with the pieces that they make in the source.
        self._waiting: dict[str, tuple[list[Notification], Partials]] = {}
        self._count = self._size = 0
        # The trace that was looked at last; there may be more of it.
        self._last = ""
        self.traces = self.notifications = self.there = self.refused = 0
        self.unread = 0

    def copy(self, source: Storage, query: TraceQuery) -> Iterator[None]:
        """Copy the traces that a query chooses; its limit has no meaning.

        :returns: stops at moments at which progress can be shown
        """
        self._source = str(source)
        for summaries in pages(source, query):
            page = [summary.base_id for summary in summaries]
            theirs = source.plugin.partials(page)
            ours = self._target.plugin.partials(page)
            # As cheap as can be, for after a cut this is most of them.
            there = {
                base_id: ours[base_id]
                for base_id in page
                if base_id in ours
                and theirs.get(base_id, {}).keys() <= ours[base_id].keys()
            }
            self._are_there(there)
            self.there += len(there)
            yield
            for base_id in page:
                if base_id not in there:
                    self._add(
                        base_id,
                        source.notifications(base_id),
                        theirs.get(base_id, {}),
                    )
                    yield
        self._flush()

    def take_in(
        self,
        source: str,
        traces: Iterable[tuple[str, Sequence[object]]],
        query: TraceQuery,
        decode: Callable[[object], Notification],
    ) -> Iterator[None]:
        """Copy what is not validated yet, as :meth:`copy` does.

        :param source: where it is from, without passwords
        :param traces: of each one base_id, all payloads
        :param decode: as :meth:`Notification.from_payload`
        """
        self._source = source
        for base_id, payloads in traces:
            decoded: dict[str, list[Notification]] = {}
            for payload in payloads:
                try:
                    notification = decode(payload)
                except exceptions.InvalidNotification as error:
                    self._refuse(base_id, payload, error.reason, str(error))
                else:
                    decoded.setdefault(notification.base_id, []).append(
                        notification
                    )
            for own_id, notifications in decoded.items():
                summary = PartialSummary.of(notifications).summary(own_id)
                if query.matches(summary):
                    self._add(own_id, notifications, {})
            yield
        self._flush()

    def restore(
        self,
        name: str,
        content: Iterable[Portion | Damage],
        query: TraceQuery,
    ) -> Iterator[None]:
        """Copy a file of an archive, as :meth:`copy` does.

        Of a trace that is too large to be looked at as a whole, nothing but
        its start decides whether it is chosen.

        :param name: the file's
        :param content: what :func:`profiler_bridge.archive.read` gives
        """
        self._source = name
        self._last = ""
        base_id, is_chosen = "", False
        for portion in content:
            if isinstance(portion, Damage):
                self._leave(portion)
                yield
                continue
            notifications = portion.notifications
            if portion.whole or notifications[0].base_id != base_id:
                base_id = notifications[0].base_id
                is_chosen = _is_chosen(query, portion)
            if is_chosen:
                self._add(base_id, notifications, {})
            yield
        self._flush()

    def _leave(self, damage: Damage) -> None:
        where = f"line {damage.line}"
        if damage.reason is None:
            self.unread += 1
            self._report(f"{self._source}: {where}: {damage.problem}")
        else:
            self._refuse(where, damage.payload, damage.reason, damage.problem)

    def _add(
        self,
        base_id: str,
        notifications: list[Notification],
        partials: Partials,
    ) -> None:
        if not notifications:
            return  # purged meanwhile
        if base_id in self._waiting:
            more, _ = self._waiting[base_id]
            self._waiting[base_id] = [*more, *notifications], {}
        else:
            self._waiting[base_id] = notifications, partials
        self._count += len(notifications)
        self._size += sum(len(one.text) for one in notifications)
        if self._count >= _NOTIFICATIONS or self._size >= _CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        """Write what waits to be written with more."""
        known = self._target.plugin.partials(self._waiting)
        there: dict[str, Partials] = {}
        new: list[Piece] = []
        traces = were_there = 0
        for base_id, (notifications, partials) in self._waiting.items():
            is_another = base_id != self._last
            self._last = base_id
            if base_id in known:
                pieces = self._missing(notifications, known[base_id])
            else:
                pieces = _pieces(notifications, partials)
            if pieces:
                new += pieces
                traces += is_another
            else:
                there[base_id] = known[base_id]
                were_there += is_another
        self._waiting = {}
        self._count = self._size = 0
        self._are_there(there)
        self._write(new)
        self.traces += traces
        self.there += were_there

    def _are_there(self, traces: Mapping[str, Partials]) -> None:
        # Whoever wrote them may have ended before that.
        self._target.index_again(traces)

    def _missing(
        self, notifications: Sequence[Notification], known: Partials
    ) -> list[Piece]:
        """What the target does not have of a trace.

        :param known: what it has
        """
        pieces = split_into_pieces(notifications)
        if known.keys() >= {piece.digest for piece in pieces}:
            return []
        missing = {one.text: one for one in notifications}
        for one in self._target.notifications(notifications[0].base_id):
            missing.pop(one.text, None)
        return split_into_pieces(missing.values())

    def _write(self, pieces: list[Piece]) -> None:
        pieces.sort(key=lambda piece: (piece.base_id, piece.digest))
        notifications = [
            one for piece in pieces for one in piece.notifications
        ]
        rejected: Sequence[tuple[Notification, str]] = ()
        try:
            self._target.write_pieces(pieces)
        except exceptions.WriteRefused:
            try:
                self._target.write(notifications)
            except exceptions.NotificationsRejected as error:
                rejected = error.rejected
        for one, problem in rejected:
            self._refuse(
                one.base_id, one.payload, Reason.STORAGE_REFUSED, problem
            )
        self.notifications += len(notifications) - len(rejected)

    def _refuse(
        self, which: str, payload: object, reason: Reason, problem: str
    ) -> None:
        body = body_of({"payload": payload})
        self._set_aside.add(
            [SetAsideMessage(reason, problem, self._source, body)]
        )
        self.refused += 1
        self._report(f"{self._source}: {which or 'no base_id'}: {problem}")


def archive(
    source: Storage, query: TraceQuery, target: Archive
) -> Iterator[None]:
    """Write the traces that a query chooses; its limit has no meaning.

    :returns: stops at moments at which progress can be shown
    """
    for page in pages(source, query):
        for summary in page:
            target.add(source.notifications(summary.base_id))
            yield
    target.finish()


def _is_chosen(query: TraceQuery, portion: Portion) -> bool:
    notifications = portion.notifications
    if not portion.whole:
        query = TraceQuery(since=query.since, until=query.until)
    base_id = notifications[0].base_id
    return query == _EVERYTHING or (
        query.matches(PartialSummary.of(notifications).summary(base_id))
        and (
            not query.operations
            or query.has_operations(operations(notifications))
        )
    )


def pages(
    source: Storage, query: TraceQuery
) -> Iterator[Sequence[TraceSummary]]:
    """All traces that a query chooses; its limit has no meaning.

    :returns: some at a time, never none; a few may come twice
    """
    query = dataclasses.replace(query, limit=_PAGE)
    page = source.list_traces(query)
    while page:
        yield page
        last = page[-1]
        try:
            page = source.list_traces(
                dataclasses.replace(query, marker=last.base_id)
            )
        except exceptions.TraceNotFound:
            # Purged meanwhile. Some of the same moment may come again.
            query = dataclasses.replace(query, until=last.started + 1)
            page = source.list_traces(query)


def _pieces(
    notifications: Sequence[Notification], partials: Partials
) -> list[Piece]:
    """A trace in the pieces that the source has, to be known again by them."""
    by_end: dict[tuple[str, str], list[Notification]] = {}
    for one in notifications:
        by_end.setdefault(end(one), []).append(one)
    pieces = []
    for digest, partial in partials.items():
        members = [
            one
            for end_of_span in partial.ends()
            for one in by_end.pop(end_of_span, ())
        ]
        if not members:
            return split_into_pieces(notifications)
        pieces.append(Piece.of(members))
        if pieces[-1].digest != digest:
            return split_into_pieces(notifications)
    return split_into_pieces(notifications) if by_end else pieces
