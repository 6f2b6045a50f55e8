# SPDX-License-Identifier: Apache-2.0

"""What was measured, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measure.

    :param ours: the medians of what was measured, in ``unit``
    :param other: the same of the other side
    :param ratio: the median of the ratios of each turn
    :param at_least: what the ratio is to reach, or ``ours`` without a ratio
    :param at_most: what it may reach
    :param samples: everything that was measured
    """

    measure: str
    unit: str
    ours: float
    other_side: str = ""
    other: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    samples: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None where nothing is."""
        judged = self.ours if self.ratio is None else self.ratio
        if self.at_least is not None:
            return judged >= self.at_least
        return None if self.at_most is None else judged <= self.at_most

    @property
    def wanted(self) -> str:
        if self.met is None:
            return ""
        limit = (
            f"at least {self.at_least:g}"
            if self.at_least is not None
            else f"at most {self.at_most:g}"
        )
        return f"{limit}: {'met' if self.met else 'NOT MET'}"

    def __str__(self) -> str:
        return "  ".join(filter(None, self.cells()))

    def cells(self) -> tuple[str, str, str, str, str]:
        """What the table shows."""
        other = self.other_side
        if self.other is not None:
            other += f": {_short(self.other)}"
        return (
            self.measure,
            f"{_short(self.ours)} {self.unit}",
            other,
            "" if self.ratio is None else _short(self.ratio),
            self.wanted,
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def compare(
    measure: str,
    unit: str,
    ours: Sequence[float],
    other_side: str,
    other: Sequence[float],
    *,
    inverse: bool = False,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """A row of what two sides did in turns.

    :param ours: of each turn
    :param other: of each turn
    :param inverse: the ratio is how many times less ours is
    """
    ratios = [
        (theirs / our if inverse else our / theirs)
        for our, theirs in zip(ours, other, strict=True)
    ]
    return Row(
        measure,
        unit,
        statistics.median(ours),
        other_side,
        statistics.median(other),
        statistics.median(ratios),
        at_least,
        at_most,
        {"ours": [*ours], "other": [*other], "ratios": ratios},
    )


def single(
    measure: str,
    unit: str,
    ours: Sequence[float],
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row that is compared with nothing, but perhaps with a limit."""
    return Row(
        measure,
        unit,
        statistics.median(ours),
        at_least=at_least,
        at_most=at_most,
        samples={"ours": [*ours]},
    )


def render(rows: Iterable[Row]) -> str:
    """The rows as a simple table of reStructuredText."""
    cells = [("measure", "ours", "other side", "ratio", "wanted")]
    cells += [row.cells() for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _short(value: float) -> str:
    """Three digits that count; more before the point."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
