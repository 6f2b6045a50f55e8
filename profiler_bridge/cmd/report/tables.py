# SPDX-License-Identifier: Apache-2.0

"""Tables that show people fewer columns than programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from profiler_bridge.cmd.report.columns import Printable, Statement
from profiler_bridge.report.statistics import By, Key

T = TypeVar("T")


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table.

    :param cell: what stands there of a row
    :param is_long: whether people see it with ``--long`` only
    """

    head: str
    cell: Callable[[T], object]
    is_long: bool = False


def add_long(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--long",
        action="store_true",
        help="Show all columns. Formats for programs always have them, with"
        " durations in microseconds.",
    )


def keys(by: By, key: Callable[[T], Key]) -> list[Column[T]]:
    """The columns of what was summed up by.

    :param key: gives it of a row
    """

    def column(head: str, place: int) -> Column[T]:
        cell = Statement if head == "Statement" else Printable
        return Column(head, lambda row: cell(key(row)[place]))

    heads = _HEADS.get(by, (by.capitalize(),))
    return [column(head, place) for place, head in enumerate(heads)]


_HEADS = {
    By.OPERATION: ("Service", "Operation"),
    By.ROOT: ("Service", "Root"),
}


def table(
    columns: Iterable[Column[T]],
    rows: Iterable[T],
    parsed_args: argparse.Namespace,
) -> tuple[Sequence[str], Iterator[tuple[Any, ...]]]:
    """Heads and rows as cliff takes them."""
    if not (
        parsed_args.long
        or parsed_args.columns
        or parsed_args.formatter != "table"
    ):
        columns = [column for column in columns if not column.is_long]
    shown = list(columns)
    return (
        [column.head for column in shown],
        (tuple(column.cell(row) for column in shown) for row in rows),
    )
