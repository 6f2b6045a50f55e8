# SPDX-License-Identifier: Apache-2.0

"""Tables that fit a terminal: cells are cut, and never wrapped."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from cliff.columns import FormattableColumn
from cliff.formatters.base import ListFormatter

from profiler_bridge.cmd.report import terminal
from profiler_bridge.cmd.report.columns import BaseID, Printable
from profiler_bridge.report.text import cut, width

# Of a text at least so many columns are left.
_LEAST = 12
# A space on each side of a cell, and the border before it.
_AROUND_CELL = 3


class FittingTable(ListFormatter):
    """Looks like cliff's own table, which wraps cells where it is too wide.

    In a terminal that is too narrow, base ids are the beginnings of them, and
    then texts are cut, the widest first. What still does not fit makes the
    lines longer.
    """

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """None of its own: cliff's table has those of this format."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        rows = [*data]
        if not rows and not parsed_args.print_empty:
            stdout.write("\n")
            return
        most = parsed_args.max_width
        if most <= 0:
            most = terminal.width(stdout)
        is_ascii = terminal.is_ascii(stdout)
        for line in draw(column_names, rows, most):
            if is_ascii:
                line = line.replace("…", "~")
            stdout.write(f"{line}\n")


def draw(
    names: Sequence[str], rows: Sequence[Sequence[Any]], most: int | None
) -> Iterator[str]:
    """The lines of a table.

    :param most: how many columns of a terminal it should take; None for any
    """
    columns = [
        [_text(row[place]) for row in rows] for place in range(len(names))
    ]
    if most is not None:
        room = most - 1 - _AROUND_CELL * len(names)
        columns = _fitting(names, columns, rows, room)
    widths = [
        max(map(width, (name, *cells)))
        for name, cells in zip(names, columns, strict=True)
    ]
    border = f"+{'+'.join('-' * (columns + 2) for columns in widths)}+"
    yield border
    yield _line(names, widths, [False] * len(names))
    yield border
    if rows:
        numbers = [isinstance(value, int | float) for value in rows[0]]
        for line in zip(*columns, strict=True):
            yield _line(line, widths, numbers)
        yield border


def _text(value: object) -> str:
    if isinstance(value, FormattableColumn):
        value = value.human_readable()
    return "" if value is None else str(value)


def _fitting(
    names: Sequence[str],
    columns: Sequence[list[str]],
    rows: Sequence[Sequence[Any]],
    room: int,
) -> list[list[str]]:
    """The cells, as far as they can be made to take no more than the room."""
    widths = [
        max(map(width, (name, *cells)))
        for name, cells in zip(names, columns, strict=True)
    ]
    fitting = [*columns]
    for place, cells in enumerate(columns):
        if _has(rows, place, BaseID) and sum(widths) > room:
            fitting[place] = [cell[: BaseID.ENOUGH] for cell in cells]
            widths[place] = max(len(names[place]), BaseID.ENOUGH)
    by_width = sorted(range(len(names)), key=widths.__getitem__, reverse=True)
    for place in by_width:
        # Of the widest what is too much; if it is not enough, of the next.
        least = max(_LEAST, width(names[place]))
        too_much = sum(widths) - room
        if too_much <= 0:
            break
        if widths[place] > least and _has(rows, place, Printable):
            widths[place] = max(widths[place] - too_much, least)
            fitting[place] = [
                cut(cell, widths[place]) for cell in fitting[place]
            ]
    return fitting


def _has(
    rows: Sequence[Sequence[Any]], place: int, kind: type[object]
) -> bool:
    return any(isinstance(row[place], kind) for row in rows)


def _line(
    cells: Iterable[str], widths: Sequence[int], numbers: Sequence[bool]
) -> str:
    padded = (
        " " * (most - width(cell)) + cell
        if is_number
        else cell + " " * (most - width(cell))
        for cell, most, is_number in zip(cells, widths, numbers, strict=True)
    )
    return f"| {' | '.join(padded)} |"
