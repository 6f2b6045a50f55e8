# SPDX-License-Identifier: Apache-2.0

"""What differs between two traces, row by row. Pure.

These are differences, and no verdicts: of two traces nobody knows what is
chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from profiler_bridge.late import late_spans
from profiler_bridge.report import spans as _spans
from profiler_bridge.report.alignment import Pair, align, service
from profiler_bridge.report.folding import runs
from profiler_bridge.trace import Span, Trace

# What takes less more, or less, is not worth a word: 1 % of the longer trace,
# and so many microseconds.
_LEAST_SHARE = 0.01
_LEAST = 1000


@dataclass(slots=True, eq=False)
class Row:
    """What is one row: a pair, or siblings that are alike in both traces.

    Times are microseconds, of all spans of the row together.

    :param depth: 0 for a root
    :param pairs: all of them new, or gone, or neither
    :param period: after how many of them the same comes again
    :param parent: None for a root
    :param below: how many rows are below it; they follow it
    :param is_open: whether one of these is worth a word
    """

    depth: int
    pairs: Sequence[Pair]
    period: int
    parent: Row | None
    below: int = 0
    is_open: bool = False

    @property
    def times(self) -> int:
        """How often what it is comes in a row."""
        return len(self.pairs) // self.period

    @property
    def is_new(self) -> bool:
        return self.pairs[0].before is None

    @property
    def is_gone(self) -> bool:
        return self.pairs[0].after is None

    def spans(self, side: int) -> list[Span]:
        """Of one side, 0 for before; none where it has none of it."""
        return [span for pair in self.pairs if (span := pair.sides[side])]

    def took(self, side: int) -> int | None:
        """How long a side's spans took; None where that is not known."""
        return _sum(span.duration for span in self.spans(side))

    def itself(self, side: int) -> int | None:
        """In how much of that none of their children ran, likewise."""
        return _sum(span.self_time for span in self.spans(side))

    @property
    def change(self) -> int | None:
        """By how much it takes longer; None where that is not known.

        What is new takes all its time more, what is gone as much less.
        """
        return _change(self.took(0), self.took(1), self)

    @property
    def own_change(self) -> int | None:
        """The same of the self time: what it does not owe to those below."""
        return _change(self.itself(0), self.itself(1), self)

    @property
    def error(self) -> str | None:
        """The exception that ended it on one side only."""
        before, after = (_failure(self.spans(side)) for side in (0, 1))
        if before is not None and after is not None:
            return None
        return after if before is None else before


@dataclass(frozen=True)
class Differences:
    """Two traces beside each other, both from 0.

    :param lengths: how long the work of each went on, in microseconds
    :param late: how many spans of each are late, and left out
    """

    before: Trace
    after: Trace
    rows: Sequence[Row]
    lengths: tuple[int, int]
    late: tuple[int, int]

    @classmethod
    def of(cls, before: Trace, after: Trace) -> Self:
        """Compare two traces. What is late is not of their requests."""
        late = late_spans(before), late_spans(after)
        lengths = []
        for trace, out in zip((before, after), late, strict=True):
            ends = (
                _spans.ended(span, trace.finished)
                for span in trace.spans
                if span.trace_id not in out
            )
            lengths.append(max(ends, default=trace.started) - trace.started)
        compared = cls(
            *(before, after, [*_rows(align(before, after, *late))]),
            (lengths[0], lengths[1]),
            (len(late[0]), len(late[1])),
        )
        compared._open()
        return compared

    @cached_property
    def least(self) -> int:
        """What takes so many microseconds more, or less, is worth a word."""
        return max(_LEAST, round(_LEAST_SHARE * max(self.lengths)))

    def is_told(self, row: Row) -> bool:
        """Whether a row is worth a word: it is what differs."""
        own = row.own_change
        return (
            row.is_new
            or row.is_gone
            or row.error is not None
            or (own is not None and abs(own) >= self.least)
        )

    def is_quiet(self, row: Row) -> bool:
        """Whether neither a row nor what is below it is worth a word."""
        return not (row.is_open or self.is_told(row) or self.word(row))

    def word(self, row: Row) -> str:
        """What became of a row; empty where it is not worth a word."""
        if row.is_new:
            return "new"
        if row.is_gone:
            return "gone"
        if row.error is not None:
            is_now = any(span.exception is not None for span in row.spans(1))
            return "fails" if is_now else "failed"
        change = row.change or 0
        if abs(change) < self.least:
            return ""
        return "slower" if change > 0 else "faster"

    def costing_more(self) -> list[Row]:
        """What takes more time itself, most of it first."""
        return _by_cost(self.rows, 1)

    def costing_less(self) -> list[Row]:
        """What takes less time itself, likewise."""
        return _by_cost(self.rows, -1)

    def counts(self) -> tuple[int, int, int]:
        """How many spans are in both, only after, and only before."""
        both = new = gone = 0
        for row in self.rows:
            if row.is_new:
                new += len(row.pairs)
            elif row.is_gone:
                gone += len(row.pairs)
            else:
                both += len(row.pairs)
        return both, new, gone

    def _open(self) -> None:
        """Say of each row what is below it, children first."""
        for row in reversed(self.rows):
            # All that is below what is new is new as well.
            if row.is_new or row.is_gone:
                row.is_open = False
            parent = row.parent
            if parent is not None:
                parent.below += 1 + row.below
                parent.is_open |= row.is_open or self.is_told(row)
        roots = [row for row in self.rows if row.parent is None]
        if len(roots) == 1:
            roots[0].is_open = True


def _rows(roots: Sequence[Pair]) -> Iterator[Row]:
    """What has a row each; parents first."""
    waiting = [_siblings(roots, None, 0)]
    while waiting:
        row = next(waiting[-1], None)
        if row is None:
            waiting.pop()
            continue
        yield row
        # Spans that are shown as one have no children.
        children = row.pairs[0].children
        if children:
            waiting.append(_siblings(children, row, row.depth + 1))


def _siblings(
    pairs: Sequence[Pair], parent: Row | None, depth: int
) -> Iterator[Row]:
    for start, length, period in runs([*map(_look, pairs)]):
        yield Row(depth, pairs[start : start + length], period, parent)


def _look(pair: Pair) -> tuple[object, ...] | None:
    """What pairs of one row have in common; None: never in one."""
    if pair.children:
        return None
    for span in pair.sides:
        if span is None:
            continue
        if span.duration is None or span.exception is not None:
            return None
    return (
        *(_spans.label(pair.span), service(pair.span)),
        *(side is None for side in pair.sides),
    )


def _by_cost(rows: Iterable[Row], sign: int) -> list[Row]:
    costs = [
        (sign * own, row)
        for row in rows
        if (own := row.own_change) is not None and sign * own > 0
    ]
    costs.sort(key=lambda cost: -cost[0])
    return [row for _, row in costs]


def _change(before: int | None, after: int | None, row: Row) -> int | None:
    if row.is_new:
        return after
    if row.is_gone:
        return None if before is None else -before
    return None if before is None or after is None else after - before


def _failure(spans: Iterable[Span]) -> str | None:
    return next(
        (text for span in spans if (text := _spans.error(span)) is not None),
        None,
    )


def _sum(times: Iterable[int | None]) -> int | None:
    known = [time for time in times if time is not None]
    return sum(known) if known else None
