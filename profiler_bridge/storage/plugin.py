# SPDX-License-Identifier: Apache-2.0

"""What a storage plugin writes: the interface, and what passes through it.

A plugin keeps five sets, and finds their members again: *pieces* of traces,
*marks* of traces, *entries* of an index, *names* of what is in it, and
*leases*. Of the first three nothing but whole traces is ever taken out, of the
last two what is old. To add what is in a set already changes nothing. What
they mean, and when which is added, is the same for all storages, and stands in
:mod:`profiler_bridge.storage.traces`; no plugin has to know it.

What a plugin imports of profiler_bridge stands in this module, in
:mod:`profiler_bridge.notification`, :mod:`profiler_bridge.summary` and
:mod:`profiler_bridge.exceptions`.
"""

from __future__ import annotations

import abc
import enum
import time
import uuid
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.summary import ALL_TRACES, PartialSummary, digest

#: No longer name is added.
LONGEST_NAME = 255

# Seconds; what NTP keeps is far below.
_CLOCKS_MAY_DIFFER = 2.0
# So many traces at a time, where all are gone through.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Piece:
    """What one write brings of one trace.

    :param base_id: the trace
    :param notifications: one or more, no two alike
    :param text: theirs, each on a line of its own, sorted; ASCII
    :param digest: 64 bits, signed; the same for the same notifications
    :param summary: what they say for the trace's summary
    """

    base_id: str
    notifications: Sequence[Notification]
    text: str
    digest: int
    summary: PartialSummary

    @classmethod
    def of(cls, notifications: Iterable[Notification]) -> Self:
        """Make one of one or more notifications of one trace."""
        by_text = {
            notification.text: notification for notification in notifications
        }
        text = "\n".join(sorted(by_text))
        return cls(
            next(iter(by_text.values())).base_id,
            [*by_text.values()],
            text,
            digest(text),
            PartialSummary.of(by_text.values()),
        )


class Kind(enum.IntEnum):
    """What a mark says of its trace."""

    START = 0  #: a piece of it starts then, in microseconds since 1970
    TERM = 1  #: it is found under this term of the index
    FINISH = 2  #: a piece of it ends then, in microseconds since 1970
    NOTE = 3  #: what is done with it; see :mod:`profiler_bridge.storage.slots`


class Mark(NamedTuple):
    """What a piece of a trace means for the trace's place in the index.

    :param base_id: the trace
    :param kind: what the value is
    :param value: 64 bits, signed
    """

    base_id: str
    kind: Kind
    value: int


class Place(NamedTuple):
    """Where a trace stands in the index, as far as its marks tell.

    :param started: its least start, microseconds since 1970
    :param finished: its greatest finish, microseconds since 1970
    :param terms: all of its terms
    """

    started: int
    finished: int
    terms: frozenset[int]


class Entry(NamedTuple):
    """A member of the index, which is ordered as these tuples are.

    :param term: 64 bits, signed; see :mod:`profiler_bridge.summary`
    :param at: under most terms the trace's start, microseconds since 1970
    :param base_id: the trace
    """

    term: int
    at: int
    base_id: str


class Position(NamedTuple):
    """A place among the entries of one term.

    :param at: of an entry
    :param base_id: the trace; empty for the place before all that are there
    """

    at: int
    base_id: str


class Name(NamedTuple):
    """The name of a term that traces stand under.

    :param week: in which something of them was written, since 1970
    :param text: printable or not; :data:`LONGEST_NAME` characters at most
    """

    week: int
    text: str


class Lease(NamedTuple):
    """Who alone may do something for a while.

    :param task: what; ASCII, at most 128 characters
    :param slot: a part of it, numbered in the order of time
    :param attempt: from 0; each begins where the one before has run out
    :param holder: whose it is, a UUID
    :param until: microseconds since 1970
    """

    task: str
    slot: int
    attempt: int
    holder: str
    until: int


class Inserted(NamedTuple):
    """What :meth:`StoragePlugin.insert` answers.

    :param known: digests of the pieces that were there before
    :param places: by base_id, of each trace of which there was a piece or a
        mark to insert, what its marks tell *after* these were committed; one
        without a start, or without the term of all traces, may be left out
    """

    known: Collection[int]
    places: Mapping[str, Place]


class StoragePlugin(abc.ABC):
    """Where the pieces of traces are kept.

    A plugin's constructor takes a connection string, and by name each of its
    options. It raises :class:`ConfigurationError` for what it cannot use.
    Constructors do no I/O. Methods that do raise :class:`StorageUnavailable`
    where the same call may succeed later, and :class:`StorageMisconfigured`
    where somebody has to change something first. ``str()`` of a plugin is
    its connection string without passwords.
    """

    #: Options that the plugin reads from [osprofiler], and no other does.
    OPTS: ClassVar[Sequence[cfg.Opt]] = ()
    #: Whether what is stored here goes by itself at the end of ``retention``,
    #: which is one of the plugin's options then. Otherwise the bridge purges.
    expires: bool = False

    @abc.abstractmethod
    def __str__(self) -> str: ...

    def prepare(self) -> list[str]:
        """Make what writing needs, such as tables; do nothing if it is there.

        Several processes may do this at once.

        :returns: warnings, as :meth:`check` gives them
        :raises StorageMisconfigured: writing will not work
        """
        return self.check()

    @abc.abstractmethod
    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        """Add to the four sets; then, and not before, read marks.

        Any number of writers may insert at the same time, the same things
        too. When this returns all is durable, and every reader finds it.
        After an error nothing is known of what was kept. The cost must not
        grow with what is there of the same traces.

        Each of the four may be empty. With pieces and marks, what is read is
        what other writers have committed too: of two that write parts of one
        trace at least one must see the marks of both. A storage that has
        transactions inserts everything in one, commits, and reads.

        :raises WriteRefused: because of what is in a piece; it would be
            refused again
        """

    @abc.abstractmethod
    def notifications(self, base_id: str) -> list[Notification]:
        """All notifications of a trace, each once, in any order.

        :returns: an empty list for an unknown trace
        """

    def notifications_of(
        self, base_ids: Collection[str]
    ) -> Mapping[str, list[Notification]]:
        """Those of some traces, each as :meth:`notifications` gives them.

        For plugins that can read them together.

        :param base_ids: no more than fit into memory
        :returns: by base_id; unknown traces are left out
        """
        traces = {base_id: self.notifications(base_id) for base_id in base_ids}
        return {base_id: own for base_id, own in traces.items() if own}

    @abc.abstractmethod
    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        """What each piece says for the summary of its trace.

        :returns: by base_id, then by the piece's digest; unknown traces are
            left out, others have at least one
        """

    @abc.abstractmethod
    def index(
        self, term: int, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        """A stretch of a term's entries, the latest first.

        :param before: only what comes before it; everything when None
        :param since: only what is there or later
        :param count: at most so many; what this costs is bounded by it
        :returns: fewer than ``count`` when the end is reached
        """

    @abc.abstractmethod
    def names(self, week: int) -> set[str]:
        """The names of this week and of all after."""

    @abc.abstractmethod
    def delete_names(self, before: int) -> None:
        """Delete the names of all weeks before this one."""

    @abc.abstractmethod
    def marks(
        self, base_ids: Iterable[str], kind: Kind
    ) -> Mapping[str, Collection[int]]:
        """The values of the traces' marks of one kind.

        :returns: by base_id; those that have none may be left out
        """

    @abc.abstractmethod
    def lease(self, lease: Lease) -> bool:
        """Insert a lease, unless one of its task, slot and attempt is there.

        :returns: whether it is there now, and its holder's
        """

    @abc.abstractmethod
    def leases(self, task: str, slot: int) -> Sequence[Lease]:
        """Those of a task, of this slot and all after, in their order."""

    @abc.abstractmethod
    def delete_leases(self, task: str, slot: int) -> None:
        """Delete those of a task of all slots before this one."""

    @abc.abstractmethod
    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        """Delete pieces of traces, all marks of these traces, and entries.

        Both may be empty. In one transaction where there are any. A piece
        that another writer brings meanwhile stays. What is gone already is no
        error.

        :param pieces: by base_id, the digests of those that go
        :param entries: of these traces, each that they can have
        """

    def keep(self, lives: Mapping[str, int]) -> None:  # noqa: B027
        """Have traces expire later, whole; not sooner than they would.

        What is written to them later does not shorten it. For plugins that
        let traces expire; to others nothing happens here.

        :param lives: by base_id, for how many seconds from now at least;
            unknown traces are left out
        """

    @abc.abstractmethod
    def check(self) -> list[str]:
        """Find out whether reading and writing will work; write nothing.

        :returns: warnings, one line each; empty when all is well
        :raises StorageNotPrepared: it will, after :meth:`prepare`
        :raises StorageError: it will not work, and why
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections. The plugin can be used again."""

    def check_deletion(self) -> None:
        """Find out whether traces can be deleted; delete nothing.

        :raises StorageError: they cannot, and why
        """
        nobody = str(uuid.uuid4())
        self.delete({nobody: [0]}, [Entry(ALL_TRACES, 0, nobody)])
        self.delete_names(-(2**31))

    def base_ids(self) -> Iterator[Sequence[str]]:
        """All traces of which there is a piece, some at a time.

        In any order, each at least once. Plugins that can tell without the
        index should: it is how a damaged or an older index is made anew.
        """
        before: Position | None = None
        while stretch := self.index(ALL_TRACES, before, None, _PAGE):
            yield [position.base_id for position in stretch]
            before = stretch[-1]

    def note_reindexed(self) -> None:  # noqa: B027 - few have to
        """Be told that all traces have been indexed anew.

        For plugins whose :meth:`check` warns of what older releases stored.
        """

    def count_gone(
        self, base_ids: Sequence[str], *, exactly: bool
    ) -> Mapping[str, int]:
        """How many notifications of traces were stored, and are lost since.

        For storages that may lose a part of a trace, as a cache that evicts.

        :param exactly: otherwise a few that are gone may not be noticed, if
            to look at all of them costs much
        :returns: only of traces that lost any
        """
        return {}

    def with_osprofiler(self) -> StoragePlugin:
        """This storage, with what osprofiler's own driver keeps beside it.

        :returns: to be read from, by one command
        :raises ConfigurationError: it keeps nothing in such a storage
        """
        raise exceptions.ConfigurationError(
            f"{self} has nothing that osprofiler stored"
        )

    def left_by_osprofiler(self) -> Iterator[tuple[str, list[object]]]:
        """What osprofiler's own driver stored here, trace by trace.

        :returns: a base_id, and payloads in any order, not validated; what is
            no JSON is a text. Everything without a base_id is under none.
        :raises StorageMisconfigured: it stores nothing in such a storage
        """
        raise exceptions.StorageMisconfigured(
            f"{self} has nothing that osprofiler stored"
        )

    def compare_clocks(self, read: Callable[[], float]) -> list[str]:
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
