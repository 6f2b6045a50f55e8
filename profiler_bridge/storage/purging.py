# SPDX-License-Identifier: Apache-2.0

"""Which traces are old, where they stand in the index, and how they go."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import NamedTuple

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
from profiler_bridge.summary import (
    ALL_TRACES,
    AT_LEAST,
    LONGEST,
    PartialSummary,
    duration_terms,
    term_names,
)

# So many traces at most are deleted in one transaction, and so many pieces
# and entries, which takes a second or so.
_TRACES = 50
_ROWS = 10_000

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


def find_old(
    plugin: StoragePlugin, before: int, kept: set[str]
) -> Iterator[list[Doomed]]:
    """Traces whose last notification is older.

    A trace can stand at later starts, too, from when its true start was not
    known yet. It comes when all of these have been passed, and once.

    :param before: microseconds since 1970
    :param kept: gets the names of traces that began before, and stay
    :returns: some at a time; they may be deleted meanwhile
    """
    # By trace, where it stands, as far as that was passed; and its start,
    # where that comes later.
    starts: dict[str, set[int]] = {}
    ahead: dict[str, int] = {}
    end: Position | None = Position(before, "")
    while end is not None:
        stretch = plugin.index(ALL_TRACES, end, None, LONGEST_STRETCH)
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
            old = []
            for base_id, pieces in partials.items():
                started = min(piece.started for piece in pieces.values())
                if not _is_passed(started, base_id, end):
                    ahead[base_id] = started
                    continue
                ahead.pop(base_id, None)
                own = starts.pop(base_id)
                if max(piece.finished for piece in pieces.values()) < before:
                    old.append(_doomed(base_id, pieces, own))
                else:
                    kept |= term_names(pieces.values())
            yield old
        for base_id in gone:
            ahead.pop(base_id, None)
        yield [_doomed(base_id, {}, starts.pop(base_id)) for base_id in gone]


def _is_passed(started: int, base_id: str, end: Position | None) -> bool:
    return end is None or Position(started, base_id) >= end


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
    plugin: StoragePlugin, traces: Sequence[Doomed], delete: Delete
) -> None:
    """Delete traces, in transactions of bounded size.

    :param delete: what ends the deletion of some traces
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
        while len(pieces) > _ROWS:
            plugin.delete(_by_trace(pieces[:_ROWS]), ())
            del pieces[:_ROWS]
        nothing: dict[str, list[int]] = {trace.base_id: [] for trace in some}
        delete(nothing | _by_trace(pieces), sorted(entries))


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
