# SPDX-License-Identifier: Apache-2.0

"""The tables that the chaos suite prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import pytest


@dataclass(frozen=True)
class Row:
    """A fault, a storage, and what became of the notifications.

    :param recovery: from the end of the fault until all of them were stored
    """

    fault: str
    storage: str
    sent: int
    stored: int
    set_aside: int
    lost: int
    doubled: int
    recovery: str


@dataclass(frozen=True)
class LagRow:
    """How far behind the bus that stays was, while another was killed.

    :param mean_lag: of all batches, in seconds
    :param worst_second: the mean lag of the second that had the longest
    :param most_waiting: messages in the queue, looked at every second
    """

    other_bus: str
    batches: int
    mean_lag: str
    worst_second: str
    most_waiting: int


ROWS = pytest.StashKey[list[Row]]()
LAGS = pytest.StashKey[list[LagRow]]()


def render(rows: Sequence[Row] | Sequence[LagRow]) -> str:
    """The rows, at least one, as a simple table of reStructuredText."""
    head = tuple(field.name.replace("_", " ") for field in fields(rows[0]))
    cells = [head, *(tuple(map(str, astuple(row))) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
