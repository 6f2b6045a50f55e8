# SPDX-License-Identifier: Apache-2.0

"""Which spans of a tree are one line, and that all are in one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report import tree
from profiler_bridge.report.folding import LEAST_TIMES, runs
from profiler_bridge.report.heading import Heading
from tests.unit.test_report_tree import HEAD, alike, lines, operations
from tests.unit.test_trace import build, child, payload_lists


def test_folds_siblings_that_are_alike() -> None:
    trace = build(
        child(1, duration=100),
        *alike(2, "ddddd"),
        child(7, 1, 50, error="E"),
    )
    folded = lines(trace)[HEAD:]
    assert [line[39:] for line in folded] == [
        "db [shop:api@node-1]",
        "  d × 5",
        "  db ! E: it broke",
    ]
    assert folded[1].split()[:4] == ["2.00", "ms", "50.0", "ms"]
    assert len(operations(trace, tree.TreeOptions(fold=False))) == 7


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("bsbsbsbs", ["(b; s) × 4"]),
        ("bsbsbsb", ["(b; s) × 3", "b"]),
        ("xbsbsbsy", ["x", "(b; s) × 3", "y"]),
        ("bsbs", ["b", "s", "b", "s"]),
        ("bsrbsrbsrb", ["(b; s; r) × 3", "b"]),
        ("bbbsbbbsbbbs", ["(b; b; b; s) × 3"]),
        ("aaabbb", ["a × 3", "b × 3"]),
        ("aabb", ["a", "a", "b", "b"]),
    ],
)
def test_folds_groups_that_come_again(names: str, shown: list[str]) -> None:
    trace = build(child(1, duration=100), *alike(2, names))
    assert operations(trace)[1:] == [f"  {line}" for line in shown]


def test_does_not_fold_what_has_something_below_it() -> None:
    trace = build(
        *(child(1), *alike(2, "aaa"), child(5, 3)),
    )
    assert len(operations(trace)) == 5


@given(st.lists(st.none() | st.integers(0, 2), max_size=60))
def test_runs_cover_a_sequence(looks: list[int | None]) -> None:
    at = 0
    for start, length, period in runs(looks):
        assert start == at
        at += length
        part = looks[start:at]
        assert length % period == 0
        if length > 1:
            assert length >= LEAST_TIMES * period
            assert part[period:] == part[:-period]
            assert None not in part
    assert at == len(looks)


@given(payload_lists(cycles=True))
def test_every_span_is_in_one_line(payloads: list[Any]) -> None:
    trace = build(payloads)
    late = Heading.of(trace).late
    shown = [*tree.rows(trace, tree.TreeOptions(), late)]
    assert sum(len(row.spans) + row.inside for row in shown) == len(
        trace.spans
    )
    unfolded = tree.rows(trace, tree.TreeOptions(fold=False), late)
    assert sum(1 for _ in unfolded) == len(trace.spans)
