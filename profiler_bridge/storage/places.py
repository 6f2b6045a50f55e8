# SPDX-License-Identifier: Apache-2.0

"""Where traces stand in the index, and what of it a writer has to add. Pure.

Why this is enough stands in :mod:`profiler_bridge.storage.traces`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from profiler_bridge.storage.plugin import Entry, Kind, Mark, Place
from profiler_bridge.summary import (
    LONGEST,
    PartialSummary,
    duration_terms,
    index_terms,
)

# Durations are told apart by so many bits, to less than 1 %: otherwise a trace
# that something is added to for long would have an entry for each time.
_BITS = 8

# Of so many traces at least the places are remembered, and of twice as many
# at most: some 20 MB.
_REMEMBERED = 20_000


class Places:
    """Where this process has indexed traces, of those it wrote last."""

    def __init__(self) -> None:
        self._recent: dict[str, Place] = {}
        self._older: dict[str, Place] = {}

    def get(self, base_id: str) -> Place | None:
        return self._recent.get(base_id) or self._older.get(base_id)

    def remember(self, places: Mapping[str, Place]) -> None:
        if len(self._recent) > _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent.update(places)

    def forget(self, base_ids: Iterable[str]) -> None:
        for base_id in base_ids:
            self._recent.pop(base_id, None)
            self._older.pop(base_id, None)


def place_of(partials: Collection[PartialSummary]) -> Place:
    """What pieces tell of the place of their trace."""
    return Place(
        min(partial.started for partial in partials),
        max(partial.finished for partial in partials),
        frozenset(index_terms(partials)),
    )


def merge(one: Place | None, other: Place) -> Place:
    if one is None:
        return other
    # Mostly there is nothing new in the terms.
    terms = one.terms
    if not terms >= other.terms:
        terms |= other.terms
    return Place(
        min(one.started, other.started),
        max(one.finished, other.finished),
        terms,
    )


def covers(marked: Place, wanted: Place) -> bool:
    return (
        marked.started <= wanted.started
        and marked.finished >= wanted.finished
        and marked.terms >= wanted.terms
    )


def duration_place(duration: int) -> int:
    """Where a trace of this duration, in microseconds, stands."""
    rest = max(0, duration.bit_length() - _BITS)
    return duration >> rest << rest


def duration_places(longest: int) -> Iterator[int]:
    """Where traces of at most this duration, in microseconds, can stand."""
    duration = 0
    while duration <= longest:
        yield duration
        duration += 1 << max(0, duration.bit_length() - _BITS)


def missing_marks(
    base_id: str, indexed: Place | None, wanted: Place
) -> Iterator[Mark]:
    if indexed is None or wanted.started < indexed.started:
        yield Mark(base_id, Kind.START, wanted.started)
    if indexed is None or wanted.finished > indexed.finished:
        yield Mark(base_id, Kind.FINISH, wanted.finished)
    terms = wanted.terms
    if indexed is not None:
        terms -= indexed.terms
    for term in terms:
        yield Mark(base_id, Kind.TERM, term)


def missing_entries(
    base_id: str, indexed: Place | None, wanted: Place
) -> Iterator[Entry]:
    duration = wanted.finished - wanted.started
    stands = duration_place(duration)
    if indexed is None or indexed.started != wanted.started:
        terms = entry_terms(wanted)
        stood = None
    else:
        # Mostly it is only longer than before, by little.
        terms = wanted.terms - indexed.terms
        before = indexed.finished - indexed.started
        if duration_terms(duration) is not duration_terms(before):
            terms |= duration_terms(duration) - duration_terms(before)
        stood = duration_place(before)
    for term in terms:
        yield Entry(term, wanted.started, base_id)
    if stands != stood:
        yield Entry(LONGEST, stands, base_id)


def entry_terms(place: Place) -> frozenset[int]:
    """The terms under which a trace with this place stands at its start."""
    return place.terms | duration_terms(place.finished - place.started)
