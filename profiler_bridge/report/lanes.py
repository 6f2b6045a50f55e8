# SPDX-License-Identifier: Apache-2.0

"""Spans laid out in lanes, for formats whose bars may nest but not overlap."""

from __future__ import annotations

import heapq
import sys
from dataclasses import dataclass, field
from typing import NamedTuple

from profiler_bridge.report.spans import Place, ended, place
from profiler_bridge.trace import Span, Trace


class Bar(NamedTuple):
    """A span in its lane, from one microsecond to another.

    :param depth: the number of bars of the lane that it lies on
    """

    span: Span
    start: int
    end: int
    depth: int


@dataclass(slots=True)
class _Lane:
    bars: list[Bar] = field(default_factory=list)
    open: list[Bar] = field(default_factory=list)

    def has_room(self, parent: Span, start: int, end: int) -> bool:
        """Whether a child fits onto its parent, with nothing in between."""
        while (
            self.open
            and self.open[-1].span is not parent
            and self.open[-1].end <= start
        ):
            self.open.pop()
        return (
            bool(self.open)
            and self.open[-1].span is parent
            and self.open[-1].end >= end
        )

    def add(self, span: Span, start: int, end: int) -> None:
        bar = Bar(span, start, end, len(self.open))
        self.bars.append(bar)
        self.open.append(bar)


@dataclass(slots=True)
class _Lanes:
    """The lanes of one place.

    :param free: heap of the numbers of lanes in which nothing runs
    :param busy: heap of the others: when the lane becomes free, its number
    """

    lanes: list[_Lane] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    busy: list[tuple[int, int]] = field(default_factory=list)

    def take(self, start: int, end: int) -> _Lane:
        """Occupy the first lane in which nothing runs any more."""
        while self.busy and self.busy[0][0] <= start:
            heapq.heappush(self.free, heapq.heappop(self.busy)[1])
        if self.free:
            number = heapq.heappop(self.free)
            self.lanes[number].open.clear()
        else:
            number = len(self.lanes)
            self.lanes.append(_Lane())
        heapq.heappush(self.busy, (end, number))
        return self.lanes[number]


def lay_out(
    trace: Trace, levels: int = sys.maxsize
) -> dict[Place, list[list[Bar]]]:
    """Lay the spans of each place out in lanes.

    A span lies on its parent if that ran in the same place and lasted as
    long. Otherwise it goes to a lane in which nothing runs any more, or to a
    new one. So what lies on a bar is always its child; siblings at the same
    time, children that outlive their parent, and children that start before
    it because clocks disagree lie side by side.

    :param levels: how many bars may lie on one another
    :returns: the lanes of each place, and the bars of each lane in the order
        in which they begin; empty for a trace without spans
    """
    finished = trace.finished
    parents = {
        child.trace_id: span for span in trace.spans for child in span.children
    }
    by_place: dict[Place, _Lanes] = {}
    lane_of: dict[str, _Lane] = {}
    # The sort is stable: of spans that begin together, parents come first.
    for _, span in sorted(trace.walk(), key=lambda item: item[1].started):
        here = place(span)
        start, end = span.started, ended(span, finished)
        parent = parents.get(span.trace_id)
        lane = lane_of.get(span.parent_id)
        if (
            parent is None
            or lane is None
            or place(parent) != here
            or not lane.has_room(parent, start, end)
            or len(lane.open) >= levels
        ):
            lane = by_place.setdefault(here, _Lanes()).take(start, end)
        lane.add(span, start, end)
        lane_of[span.trace_id] = lane
    return {
        here: [lane.bars for lane in lanes.lanes]
        for here, lanes in by_place.items()
    }
