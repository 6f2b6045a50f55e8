# SPDX-License-Identifier: Apache-2.0

"""Tables that fit a terminal."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.cmd.report.columns import BaseID, Printable
from profiler_bridge.cmd.report.fitting import draw
from profiler_bridge.report.text import width

ID = "03235d9f-2f97-4514-b0ad-317fc0bc7adc"
NAMES = ("Base ID", "Title", "Spans")


def table(*rows: tuple[Any, ...], most: int | None = None) -> list[str]:
    return [*draw(NAMES, rows, most)]


def row(title: str) -> tuple[Any, ...]:
    return BaseID(ID), Printable(title), 7


def test_what_fits_is_whole() -> None:
    assert table(row("GET /v3"), most=60) == [
        "+--------------------------------------+---------+-------+",
        "| Base ID                              | Title   | Spans |",
        "+--------------------------------------+---------+-------+",
        f"| {ID} | GET /v3 |     7 |",
        "+--------------------------------------+---------+-------+",
    ]
    assert table(row("x" * 90))[3] == f"| {ID} | {'x' * 90} |     7 |"


def test_ids_are_shortened_before_texts_are_cut() -> None:
    assert table(row("POST /v2.1/servers +13"), most=50)[3] == (
        "| 03235d9f | POST /v2.1/servers +13 |     7 |"
    )
    assert table(row("POST /v2.1/servers +13"), most=40)[3] == (
        "| 03235d9f | POST /v2.1/serve… |     7 |"
    )


def test_what_does_not_fit_is_not_wrapped() -> None:
    assert table(row("POST /v2.1/servers"), most=10)[3] == (
        "| 03235d9f | POST /v2.1/… |     7 |"
    )


def test_the_widest_are_cut_first() -> None:
    names = ("a", "b", "c")
    cells = ("x" * 20, "y" * 50, "z" * 14)
    for most, widths in (
        (94, [20, 50, 14]),
        (74, [20, 30, 14]),
        (50, [14, 12, 14]),
        (40, [12, 12, 12]),
    ):
        [*_, line, _] = draw(names, [tuple(map(Printable, cells))], most)
        shown = [len(cell) - 2 for cell in line.split("|")[1:-1]]
        assert shown == widths, most


@pytest.mark.parametrize("most", [None, 40])
def test_nothing(most: int | None) -> None:
    assert len(table(most=most)) == 3


@given(
    st.lists(st.text(max_size=30).map(row), min_size=1, max_size=4),
    st.integers(40, 100),
)
def test_lines_are_alike_and_fit(rows: list[Any], most: int) -> None:
    lines = table(*rows, most=most)
    [columns] = set(map(width, lines))
    assert columns <= most
    assert all(line.isprintable() for line in lines)
    places = [
        [at for at, char in enumerate(line) if char == "+"]
        for line in lines[:3:2]
    ]
    assert all(one == other for one, other in itertools.pairwise(places))
