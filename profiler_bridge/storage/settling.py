# SPDX-License-Identifier: Apache-2.0

"""Which traces have settled, and what of them a consumer has not had. Pure.

A trace has settled when nothing of it came for a while, and every span has its
end. What a consumer has had is noted with the trace: each piece that was there
then. Of these the spans that had both ends have been given to it; and all
spans, where it was given up to wait for the rest. So the next time it gets the
others, and none twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from typing import NamedTuple

from profiler_bridge.storage.plugin import Kind, Mark
from profiler_bridge.summary import (
    PartialSummary,
    TraceSummary,
    digest,
    summarize,
)


class Due(NamedTuple):
    """What of a trace is to be given to a consumer.

    :param pieces: the digests of those that were there
    :param spans: their short ids
    :param is_given_up: whether some of these will have no end any more
    """

    base_id: str
    summary: TraceSummary
    pieces: Collection[int]
    spans: Set[str]
    is_given_up: bool


def due(
    consumer: str,
    base_id: str,
    pieces: Mapping[int, PartialSummary],
    notes: Collection[int],
    *,
    is_quiet: bool,
    gives_up: bool,
) -> Due | None:
    """What of a trace a consumer has not had, if it is to have it now.

    :param pieces: at least one
    :param notes: the values of the trace's marks of that kind
    :param is_quiet: whether nothing came for a while; otherwise it goes on,
        but is waited for no longer
    :param gives_up: whether spans without an end are waited for no longer
    """
    had, given_up = _had(consumer, pieces, notes)
    ended, open_ = _spans(pieces.values())
    before = _spans(had)[0].union(*_spans(given_up))
    new = ended - before
    waiting = open_ - before
    if gives_up:
        new |= waiting
    elif waiting and is_quiet:
        return None
    if not new:
        return None
    summary = summarize(base_id, pieces.values())
    return Due(base_id, summary, [*pieces], new, gives_up and bool(waiting))


def _had(
    consumer: str,
    pieces: Mapping[int, PartialSummary],
    notes: Collection[int],
) -> tuple[list[PartialSummary], list[PartialSummary]]:
    if not notes:
        return [], []
    known = {*notes}
    return (
        [
            partial
            for piece, partial in pieces.items()
            if _note(consumer, piece) in known
        ],
        [
            partial
            for piece, partial in pieces.items()
            if _note(consumer, piece, is_given_up=True) in known
        ],
    )


def _spans(partials: Iterable[PartialSummary]) -> tuple[set[str], set[str]]:
    """Those with both ends, and those with one."""
    starts: set[str] = set()
    stops: set[str] = set()
    for partial in partials:
        starts |= partial.starts
        stops |= partial.stops
    return starts & stops, starts ^ stops


def notes_of(consumer: str, taken: Due) -> Iterable[Mark]:
    """What is to be noted when the consumer has taken it."""
    for piece in taken.pieces:
        yield Mark(taken.base_id, Kind.NOTE, _note(consumer, piece))
        if taken.is_given_up:
            yield Mark(
                taken.base_id,
                Kind.NOTE,
                _note(consumer, piece, is_given_up=True),
            )


def _note(consumer: str, piece: int, *, is_given_up: bool = False) -> int:
    return digest(f"{consumer} {piece}{' given up' if is_given_up else ''}")
