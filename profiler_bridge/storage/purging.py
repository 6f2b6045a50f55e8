# SPDX-License-Identifier: Apache-2.0

"""Which traces are old, where they stand in the index, and how they go.

With rules traces are kept for several lengths of time, and most that are
stored may be of the longest. To read all of these at each purge would cost
the more the longer they are kept. So a purge looks at a trace when its age
passes one of the lengths, and not again until it passes the next: for each
length it walks that part of the index that has come to be so old since the
purge before. What it meets and is not to go at this length it leaves to a
longer one; so no more is remembered than how far each length has come.

Traces stand in the index by their start, and their age counts from their last
notification. So there is one thing more to remember: traces that began before
a length ago and ended since. They are those that went on at one moment, and
are looked at when they have come to the length, too. In the index of a trace
what stands later than its start stands before its end, so it has been passed
by then.

Who walks anew, because it has just been started or failed, goes through all
that is older than the shortest length once, for a trace is met at one start,
and is judged by all lengths then. And it does so each day, for what came late,
as a copy of old traces does. Of the longest length everything that is left is
walked each time, for it goes: unless there are traces that are kept for ever,
so without rules nothing comes too late.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import NamedTuple

from profiler_bridge.operation import operations
from profiler_bridge.storage.pages import LONGEST_STRETCH
from profiler_bridge.storage.places import (
    duration_place,
    duration_places,
    place_of,
)
from profiler_bridge.storage.plugin import (
    Entry,
    Kind,
    Mark,
    Place,
    Position,
    StoragePlugin,
)
from profiler_bridge.storage.portions import portions
from profiler_bridge.storage.retention import Retention
from profiler_bridge.summary import (
    ALL_TRACES,
    AT_LEAST,
    LONGEST,
    PartialSummary,
    duration_terms,
    summarize,
    term_names,
)

# So many traces at most are deleted in one transaction, and so many pieces
# and entries, which takes a second or so.
_TRACES = 50
_ROWS = 10_000

_SECOND = 1_000_000
# Microseconds, after which all is walked anew.
_WALK_EVERY = 86_400 * _SECOND

#: Deletes pieces of traces, by base_id, and entries.
Delete = Callable[[Mapping[str, Collection[int]], Collection[Entry]], None]


class Doomed(NamedTuple):
    """What goes of one trace.

    :param pieces: their digests; none of a trace that is in the index only
    :param entries: latest first, and at last the one that a purge starts from
    """

    base_id: str
    pieces: Sequence[int]
    entries: Sequence[Entry]


class _Waiting(NamedTuple):
    """A trace that began before a length ago, and ended since.

    :param finished: its last notification
    :param starts: where it stands in the index, as far as that was passed
    """

    finished: int
    starts: set[int]


class _Length:
    """How far purges have come with one of the lengths of time.

    :ivar passed: what began before was looked at; None for nothing
    """

    def __init__(self, seconds: int) -> None:
        self.microseconds = seconds * _SECOND
        self.begin_anew()

    def begin_anew(self) -> None:
        self.passed: int | None = None
        self.waiting: dict[str, _Waiting] = {}


class _Run(NamedTuple):
    """One time that traces are looked for.

    :param ends: of each length, before when a notification is so old
    :param anew: whether nothing is known from another time
    :param counted: whether the rules that count are found out
    """

    plugin: StoragePlugin
    now: int
    ends: Sequence[int]
    anew: bool
    counted: bool


class Purge:
    """Finds what is to go of one storage, again and again.

    :param retention: which has a length, or there is nothing to do
    :ivar gone: how many traces were found that are to go, by the name of the
        rule that counts, or None where no rule matches; what was read of the
        others is in ``kept``
    """

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._lengths = [*map(_Length, retention.lengths)]
        self._walked = 0
        self._is_over = True
        self._names: set[str] = set()
        self.gone: Counter[str | None] = Counter()
        self.kept: Counter[str | None] = Counter()

    def find(
        self, plugin: StoragePlugin, now: int, held: int | None, count: bool
    ) -> Iterator[list[Doomed]]:
        """Traces that are to go.

        A trace can stand at later starts, too, from when its true start was
        not known yet. It comes when all of these have been passed, and once.

        :param now: microseconds since 1970
        :param held: what has a notification then or later stays
        :param count: find out which rules count, for which more notifications
            may have to be read
        :returns: some at a time; they may be deleted meanwhile
        """
        if not self._is_over or now - self._walked >= _WALK_EVERY:
            for length in self._lengths:
                length.begin_anew()
        self._is_over = False
        self._names = set()
        anew = all(length.passed is None for length in self._lengths)
        if anew:
            self._walked = now
        ends = [self._end(length, now, held) for length in self._lengths]
        run = _Run(plugin, now, ends, anew, count)
        longer: int | None = None
        for at, length in reversed([*enumerate(self._lengths)]):
            since = longer if anew else length.passed
            if length is self._lengths[-1] and not self._retention.for_ever:
                since = None
            yield from self._walk(run, at, since)
            longer = ends[at]
            length.passed = max(ends[at], length.passed or ends[at])
        # Who only counts leaves everything to whoever deletes it.
        self._is_over = not count

    @staticmethod
    def _end(length: _Length, now: int, held: int | None) -> int:
        end = now - length.microseconds
        return end if held is None else min(end, held)

    def names(self) -> set[str]:
        """Of the traces that were found to outlive the longest length."""
        return self._names

    def oldest(self, now: int, held: int | None) -> int | None:
        """From when there are traces whose names are not kept otherwise.

        :returns: microseconds since 1970; None for ever
        """
        if self._retention.for_ever:
            return None
        return self._end(self._lengths[-1], now, held)

    def _walk(
        self, run: _Run, at: int, since: int | None
    ) -> Iterator[list[Doomed]]:
        """Look at what has passed one of the lengths.

        :param at: which one
        :param since: what began before was looked at
        """
        end = run.ends[at]
        for partials, starts, gone in _passed(run.plugin, end, since):
            yield self._look(run, at, since, partials, starts)
            yield [_doomed(base_id, {}, starts[base_id]) for base_id in gone]
        waiting = self._lengths[at].waiting
        due = {
            base_id: trace.starts
            for base_id, trace in waiting.items()
            if trace.finished < end
        }
        for partials in portions(run.plugin, due):
            yield self._look(run, at, since, partials, due)
        for base_id in due:
            if base_id in waiting and waiting[base_id].finished < end:
                del waiting[base_id]  # somebody else has deleted it

    def _look(
        self,
        run: _Run,
        at: int,
        since: int | None,
        partials: Mapping[str, Mapping[int, PartialSummary]],
        starts: Mapping[str, Collection[int]],
    ) -> list[Doomed]:
        """Look at some traces.

        :param starts: where they stand, as far as that was passed
        :returns: those that are to go
        """
        old = []
        for base_id, pieces in partials.items():
            own = {*starts[base_id]}
            before = self._lengths[at].waiting.pop(base_id, None)
            if before is not None:
                own |= before.starts
            started = min(piece.started for piece in pieces.values())
            finished = max(piece.finished for piece in pieces.values())
            if (since is not None and started < since) or (
                finished >= run.ends[at]
            ):
                # It may stand where another walk has been, or will be.
                own.update(piece.started for piece in pieces.values())
            if finished < run.ends[0] and self._goes(run, base_id, pieces):
                old.append(_doomed(base_id, pieces, own))
                continue
            if at == len(run.ends) - 1:
                self._names |= term_names(pieces.values())
            for number in range(at + 1) if run.anew else [at]:
                if finished >= run.ends[number]:
                    waiting = self._lengths[number].waiting
                    waiting[base_id] = _Waiting(finished, own)
        return old

    def _goes(
        self, run: _Run, base_id: str, pieces: Mapping[int, PartialSummary]
    ) -> bool:
        """Whether a trace is to go that is older than the shortest length."""
        if not self._retention.rules:
            return True
        summary = summarize(base_id, pieces.values())

        @functools.cache
        def did() -> Collection[str]:
            return operations(run.plugin.notifications(summary.base_id))

        age = (run.now - summary.finished) / _SECOND
        goes = self._retention.goes(summary, age, did)
        if run.counted:
            rule = self._retention.rule_of(summary, did)
            counts = self.gone if goes else self.kept
            counts[rule and rule.name] += 1
        return goes


def _passed(
    plugin: StoragePlugin, before: int, since: int | None
) -> Iterator[
    tuple[
        Mapping[str, Mapping[int, PartialSummary]],
        Mapping[str, set[int]],
        set[str],
    ]
]:
    """Traces that stand in a part of the index.

    A trace comes when its start has been passed, so once unless it stands
    before that, too.

    :returns: some at a time, their pieces; where they stand in this part; and
        those of which there are no pieces
    """
    # By trace, where it stands, as far as that was passed; and its start,
    # where that comes later.
    starts: dict[str, set[int]] = {}
    ahead: dict[str, int] = {}
    end: Position | None = Position(before, "")
    while end is not None:
        stretch = plugin.index(ALL_TRACES, end, since, LONGEST_STRETCH)
        end = stretch[-1] if len(stretch) == LONGEST_STRETCH else None
        for position in stretch:
            starts.setdefault(position.base_id, set()).add(position.at)
        unread = {
            base_id
            for base_id in starts
            if base_id not in ahead or _is_passed(ahead[base_id], base_id, end)
        }
        gone = set(unread)
        for partials in portions(plugin, unread):
            gone -= partials.keys()
            ready = {}
            for base_id, pieces in partials.items():
                started = min(piece.started for piece in pieces.values())
                if not _is_passed(started, base_id, end):
                    ahead[base_id] = started
                    continue
                ahead.pop(base_id, None)
                ready[base_id] = pieces
            yield ready, {one: starts.pop(one) for one in ready}, set()
        for base_id in gone:
            ahead.pop(base_id, None)
        yield {}, {one: starts.pop(one) for one in gone}, gone


def _is_passed(started: int, base_id: str, end: Position | None) -> bool:
    return end is None or Position(started, base_id) >= end


class Pace:
    """Works for a share of the time.

    :param share: 1 is without pauses
    :param pause: gets seconds
    """

    def __init__(
        self, share: float = 1, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._rest_for_work = 1 / share - 1
        self._pause = pause
        self._since = time.monotonic()

    def rest(self) -> None:
        """Make a pause for the work since the last one."""
        if self._rest_for_work:
            worked = time.monotonic() - self._since
            self._pause(worked * self._rest_for_work)
            self._since = time.monotonic()


def _doomed(
    base_id: str, pieces: Mapping[int, PartialSummary], starts: Collection[int]
) -> Doomed:
    if not pieces:
        return Doomed(base_id, (), [*_entries(base_id, starts, (), None)])
    finishes = {partial.finished for partial in pieces.values()}
    place = place_of(pieces.values())
    return Doomed(
        base_id, [*pieces], [*_entries(base_id, starts, finishes, place)]
    )


def _entries(
    base_id: str,
    starts: Collection[int],
    finishes: Collection[int],
    place: Place | None,
) -> Iterator[Entry]:
    """All entries that a trace can have, the one for all traces at last.

    :param starts: where it stands
    :param finishes: of its pieces
    :param place: what is known of its terms
    """
    places: Iterable[int] = ()
    if len(starts) * len(finishes) < _ROWS:
        # At each moment it stood at the least start and the greatest finish
        # of those that were there, or were taken to be.
        places = {
            duration_place(finished - started)
            for finished in finishes
            for started in starts
            if finished >= started
        }
    else:
        places = duration_places(max(finishes) - min(starts))
    for duration in places:
        yield Entry(LONGEST, duration, base_id)
    terms = {ALL_TRACES, *duration_terms(AT_LEAST[-1])}
    if place is not None:
        terms |= place.terms
    # Whoever adds an entry adds one for all traces at the same start, if that
    # is not there.
    ordered = sorted(terms, key=lambda term: term == ALL_TRACES)
    for started in sorted(starts, reverse=True):
        for term in ordered:
            yield Entry(term, started, base_id)


def delete_old(
    plugin: StoragePlugin,
    traces: Sequence[Doomed],
    delete: Delete,
    pace: Pace,
) -> None:
    """Delete traces, in transactions of bounded size.

    :param delete: what ends the deletion of some traces
    :param pace: rests after each transaction
    """
    for some in _together(_with_marked_entries(plugin, traces)):
        entries = [entry for trace in some for entry in trace.entries]
        pieces = [
            (trace.base_id, digest)
            for trace in some
            for digest in trace.pieces
        ]
        # These are of one trace. Until the end it stays in the index, so that
        # who is interrupted can begin anew.
        while len(entries) > _ROWS:
            plugin.delete({}, sorted(entries[:_ROWS]))
            del entries[:_ROWS]
            pace.rest()
        while len(pieces) > _ROWS:
            plugin.delete(_by_trace(pieces[:_ROWS]), ())
            del pieces[:_ROWS]
            pace.rest()
        nothing: dict[str, list[int]] = {trace.base_id: [] for trace in some}
        delete(nothing | _by_trace(pieces), sorted(entries))
        pace.rest()


def _with_marked_entries(
    plugin: StoragePlugin, traces: Sequence[Doomed]
) -> list[Doomed]:
    """The same; of traces that are gone with what their marks tell.

    Somebody indexed those anew while they were purged.
    """
    gone = [trace for trace in traces if not trace.pieces]
    # To read marks is to insert some; these go with the rest.
    marks = [
        Mark(trace.base_id, Kind.START, trace.entries[-1].at) for trace in gone
    ]
    places = plugin.insert((), sorted(marks), ()).places if marks else {}
    return [
        trace
        if trace.pieces or trace.base_id not in places
        else Doomed(
            trace.base_id,
            (),
            [
                *_entries(
                    trace.base_id,
                    {entry.at for entry in trace.entries},
                    [places[trace.base_id].finished],
                    places[trace.base_id],
                )
            ],
        )
        for trace in traces
    ]


def _together(traces: Sequence[Doomed]) -> Iterator[list[Doomed]]:
    """Those that are deleted at once: one, or few enough."""
    some: list[Doomed] = []
    rows = 0
    for trace in traces:
        own = len(trace.pieces) + len(trace.entries)
        if some and (len(some) == _TRACES or rows + own > _ROWS):
            yield some
            some, rows = [], 0
        some.append(trace)
        rows += own
    if some:
        yield some


def _by_trace(pieces: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    traces: dict[str, list[int]] = {}
    for base_id, digest in pieces:
        traces.setdefault(base_id, []).append(digest)
    return traces
