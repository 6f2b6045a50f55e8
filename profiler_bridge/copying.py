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

"""From one storage to another, trace by trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import Notification
from profiler_bridge.query import PartialSummary, TraceQuery, end
from profiler_bridge.set_aside import SetAside, SetAsideMessage, body_of
from profiler_bridge.storage.base import Piece, Storage, cut

# Traces of a page, and how much of them is in memory before it is written.
_PAGE = 100
_NOTIFICATIONS = 5_000
_CHARACTERS = 8_000_000

Partials = Mapping[bytes, PartialSummary]


class Copying:
    """Into a storage: what it has already is neither written nor counted.

    Whether it has a trace is told by digests of what is stored, and where
    these differ by every notification; never by a summary.

    :param target: the storage, prepared
    :param set_aside: where goes what can never be stored
    :param say: is told of each such, in one line
    :ivar traces: how many had something that was written
    :ivar notifications: how many were written
    :ivar there: how many traces were there, whole
    :ivar refused: how many notifications were set aside
    """

    def __init__(
        self,
        target: Storage,
        set_aside: SetAside,
        say: Callable[[str], object],
    ) -> None:
        self._target = target
        self._set_aside = set_aside
        self._say = say
        self._source = ""
        # By base_id, with the pieces that they make in the source.
        self._waiting: dict[str, tuple[list[Notification], Partials]] = {}
        self._count = self._size = 0
        self.traces = self.notifications = self.there = self.refused = 0

    def copy(self, source: Storage, query: TraceQuery) -> Iterator[None]:
        """Copy the traces that a query chooses; its limit has no meaning.

        :returns: stops at moments at which progress can be shown
        """
        self._source = str(source)
        for page in _pages(source, query):
            theirs = source.partials(page)
            ours = self._target.partials(page)
            # As cheap as can be, for after a cut this is most of them.
            there = {
                base_id: ours[base_id]
                for base_id in page
                if base_id in ours
                and theirs.get(base_id, {}).keys() <= ours[base_id].keys()
            }
            self._are_there(there)
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
            found: dict[str, list[Notification]] = {}
            for payload in payloads:
                try:
                    each = decode(payload)
                except exceptions.InvalidNotification as error:
                    self._refuse(base_id, payload, error.reason, str(error))
                else:
                    found.setdefault(each.base_id, []).append(each)
            for own_id, notifications in found.items():
                summary = PartialSummary.of(notifications).summary(own_id)
                if query.matches(summary):
                    self._add(own_id, notifications, {})
            yield
        self._flush()

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
        self._size += sum(len(each.text) for each in notifications)
        if self._count >= _NOTIFICATIONS or self._size >= _CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        """Write what waits to be written with more."""
        known = self._target.partials(self._waiting)
        there: dict[str, Partials] = {}
        new: list[Piece] = []
        traces = 0
        for base_id, (notifications, partials) in self._waiting.items():
            if base_id in known:
                pieces = self._missing(notifications, known[base_id])
            else:
                pieces = _pieces(notifications, partials)
            if pieces:
                new += pieces
                traces += 1
            else:
                there[base_id] = known[base_id]
        self._waiting = {}
        self._count = self._size = 0
        self._are_there(there)
        self._write(new)
        self.traces += traces

    def _are_there(self, traces: Mapping[str, Partials]) -> None:
        # Whoever wrote them may have ended before that.
        self._target.index_traces(traces)
        self.there += len(traces)

    def _missing(
        self, notifications: Sequence[Notification], known: Partials
    ) -> list[Piece]:
        """What the target does not have of a trace.

        :param known: what it has
        """
        if known.keys() >= {each.digest for each in cut(notifications)}:
            return []
        missing = {each.text: each for each in notifications}
        for each in self._target.notifications(notifications[0].base_id):
            missing.pop(each.text, None)
        return cut(missing.values())

    def _write(self, pieces: list[Piece]) -> None:
        pieces.sort(key=lambda each: (each.base_id, each.digest))
        notifications = [
            each for piece in pieces for each in piece.notifications
        ]
        rejected: Sequence[tuple[Notification, str]] = ()
        try:
            self._target.insert(pieces)
        except exceptions.WriteRefused:
            try:
                self._target.write(notifications)
            except exceptions.NotificationsRejected as error:
                rejected = error.rejected
        else:
            base_ids = {each.base_id for each in pieces}
            self._target.index_traces(self._target.partials(base_ids))
        for each, problem in rejected:
            self._refuse(
                each.base_id, each.payload, Reason.STORAGE_REFUSED, problem
            )
        self.notifications += len(notifications) - len(rejected)

    def _refuse(
        self, base_id: str, payload: object, reason: Reason, problem: str
    ) -> None:
        body = body_of({"payload": payload})
        self._set_aside.add(
            [SetAsideMessage(reason, problem, self._source, body)]
        )
        self.refused += 1
        self._say(f"{self._source}: {base_id or 'no base_id'}: {problem}")


def _pages(source: Storage, query: TraceQuery) -> Iterator[list[str]]:
    """The base_ids of all traces that a query chooses."""
    query = dataclasses.replace(query, limit=_PAGE)
    page = source.list_traces(query)
    while page:
        yield [each.base_id for each in page]
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
    for each in notifications:
        by_end.setdefault(end(each), []).append(each)
    found = []
    for digest, partial in partials.items():
        members = [
            each
            for of_piece in partial.ends()
            for each in by_end.pop(of_piece, ())
        ]
        if not members:
            return cut(notifications)
        found.append(Piece.of(members))
        if found[-1].digest != digest:
            return cut(notifications)
    return cut(notifications) if by_end else found
