# SPDX-License-Identifier: Apache-2.0

"""Traces by when they started and how long they took, as points. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profiler_bridge.summary import TraceSummary

#: Nobody tells more apart, and each is an element.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Dot:
    """A trace; ``x`` and ``y`` are percent from the left and the top."""

    x: float
    y: float
    summary: TraceSummary


@dataclass(frozen=True, slots=True)
class Scatter:
    """Where traces stand.

    :param dots: of the first :data:`MOST`; last those with an error
    :param lines: durations in microseconds, and where they are, in percent
        from the top: powers of ten
    :param first: the least start, microseconds since 1970
    :param last: the greatest
    """

    dots: Sequence[Dot]
    lines: Sequence[tuple[int, float]]
    first: int
    last: int

    @classmethod
    def of(cls, summaries: Sequence[TraceSummary]) -> Scatter | None:
        """None where there is too little to see: fewer than two."""
        shown = summaries[:MOST]
        if len(shown) < 2:
            return None
        powers = [math.log10(max(one.duration, 1)) for one in shown]
        bottom, top = math.floor(min(powers)), math.floor(max(powers)) + 1
        first = min(one.started for one in shown)
        last = max(one.started for one in shown)
        length = last - first

        def height(power: float) -> float:
            return round(100 * (top - power) / (top - bottom), 2)

        dots = [
            Dot(
                round(100 * (one.started - first) / length, 2)
                if length
                else 50,
                height(power),
                one,
            )
            for one, power in zip(shown, powers, strict=True)
        ]
        # What lies on another is seen.
        dots.sort(key=lambda dot: dot.summary.errors > 0)
        # Of many powers not each has a line.
        step = math.ceil((top - bottom) / 4)
        lines = [
            (10**power, height(power))
            for power in range(bottom, top + 1, step)
        ]
        return cls(dots, lines, first, last)
