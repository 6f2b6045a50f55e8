# SPDX-License-Identifier: Apache-2.0

"""What differs between two traces, row by row, and as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given

from profiler_bridge.late import late_spans
from profiler_bridge.operation import operation
from profiler_bridge.report import side_by_side
from profiler_bridge.report.differences import Differences, Row
from profiler_bridge.testing.sample import MILLISECOND, Payload
from profiler_bridge.trace import Trace
from tests import recorded
from tests.unit.test_report_tree import alike
from tests.unit.test_trace import build, child, payload_lists


def told(differences: Differences, rows: Iterable[Row]) -> list[str]:
    """What is said of rows: a word, how often, and the change in ms."""
    return [
        f"{differences.word(row) or '='} {operation(row.pairs[0].span.first)}"
        f" {row.times} {(row.change or 0) / MILLISECOND:+.0f}"
        f" {(row.own_change or 0) / MILLISECOND:+.0f}"
        for row in rows
    ]


def compared(before: Trace, after: Trace) -> list[str]:
    differences = Differences.of(before, after)
    return told(differences, differences.rows)


def request(took: int, *inside: list[Payload]) -> Trace:
    return build(child(1, duration=took, name="top"), *inside)


def test_like_siblings_are_one_row() -> None:
    before = request(100, *alike(2, "ddd"))
    after = request(120, *alike(2, "ddddddd"))
    assert compared(before, after) == [
        "slower top 1 +20 +16",
        "= d 3 +0 +0",
        "new d 4 +40 +40",
    ]
    assert compared(after, before) == [
        "faster top 1 -20 -16",
        "= d 3 +0 +0",
        "gone d 4 -40 -40",
    ]


def test_what_failed_on_one_side_is_told() -> None:
    fine = request(100, child(2, 1, 10, 20))
    failed = request(100, child(2, 1, 10, 20, error="DBError"))
    assert compared(fine, failed)[1] == "fails db 1 +0 +0"
    assert compared(failed, fine)[1] == "failed db 1 +0 +0"
    assert compared(failed, failed)[1] == "= db 1 +0 +0"
    [_, row] = Differences.of(fine, failed).rows
    assert row.error == "DBError: it broke"


def test_where_an_end_is_missing_nothing_is_known() -> None:
    whole = request(100, child(2, 1, 10, 20))
    open_ = request(100, child(2, 1, 10, 20)[:1])
    [_, row] = Differences.of(whole, open_).rows
    assert (row.change, row.own_change, row.took(1)) == (None, None, None)
    assert "unfinished" in "".join(side_by_side.render(whole, open_))


def test_costs_are_of_what_ran_itself() -> None:
    before = request(100, child(2, 1, 10, 20), child(3, 1, 40, 50, name="b"))
    after = request(130, child(2, 1, 10, 70), child(3, 1, 80, 20, name="b"))
    differences = Differences.of(before, after)
    assert told(differences, differences.costing_more()) == [
        *("slower db 1 +50 +50", "slower top 1 +30 +10"),
    ]
    assert told(differences, differences.costing_less()) == [
        "faster b 1 -30 -30"
    ]


def test_only_what_differs_is_unfolded() -> None:
    inside = [child(2, 1), child(3, 2), child(4, 1), child(5, 4, name="x")]
    before = build(child(1, duration=100), child(9, at=200), *inside)
    after = build(child(1, duration=100), child(9, at=200), *inside[:-1])
    rows = Differences.of(before, after).rows
    assert [row.is_open for row in rows] == [
        *(True, False, False, True, False),
        False,
    ]
    assert [row.below for row in rows] == [4, 1, 0, 1, 0, 0]


def test_late_spans_are_left_out_and_counted() -> None:
    [trace] = recorded.traces(recorded.server_create())
    differences = Differences.of(trace, trace)
    late = len(late_spans(trace))
    assert differences.late == (late, late) != (0, 0)
    assert differences.counts() == (1227 - late, 0, 0)
    assert differences.costing_more() == differences.costing_less() == []
    # 18.9 s, and not the two minutes in which heartbeats came.
    assert all(
        18_000_000 < length < 20_000_000 for length in differences.lengths
    )


@given(payload_lists(cycles=True), payload_lists(skew=True))
def test_any_two_traces(one: list[Any], other: list[Any]) -> None:
    traces = build(one), build(other)
    differences = Differences.of(*traces)
    for side, trace in enumerate(traces):
        shown = [
            span.trace_id
            for row in differences.rows
            for span in row.spans(side)
        ]
        late = late_spans(trace)
        assert sorted(shown) == sorted(
            span.trace_id for span in trace.spans if span.trace_id not in late
        )
    for row in differences.rows:
        own, back = row.own_change, row.change
        assert (own is None) == (back is None)
    text = "".join(side_by_side.render(*traces))
    assert text.count("<details") == text.count("</details>")
    assert text.count("<summary") == text.count("</summary>")
    for match in re.finditer(r"[hM]?(-?[0-9.]+)(?= [0-9]+h)", text):
        assert 0 <= float(match[1]) <= 1000


def test_equal_traces_differ_in_nothing() -> None:
    [first, *_] = recorded.traces(recorded.keystone())
    text = "".join(side_by_side.render(first, first))
    assert "0 only after (new), 0 only before (gone)" in text
    assert text.count("<p>Nothing.</p>") == 2
    assert "&#x25b2;" not in text
    nothing = build()
    assert "0 spans are in both" in "".join(
        side_by_side.render(nothing, nothing)
    )


def test_rows_that_hardly_differ_are_one_line() -> None:
    quiet = [child(n, 1, n, 1, name=f"q{n}") for n in range(2, 7)]
    text = "".join(
        side_by_side.render(
            request(100, *quiet),
            request(200, *quiet, child(20, 1, 50, 90, name="new")),
        )
    )
    assert text.count("<i>5 that hardly differ</i>") == 1
    assert text.index("q2") > text.index("5 that hardly differ")


def test_a_deep_trace_and_one_of_very_many_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deep = build(*(child(n, n - 1, n) for n in range(1, 2000)))
    text = "".join(side_by_side.render(deep, deep))
    assert text.count("<details") < 100
    assert text.count('id="row-') == 1999
    monkeypatch.setattr(side_by_side, "MOST_ROWS", 10)
    text = "".join(side_by_side.render(deep, request(5)))
    assert text.count('id="row-') == 10
    assert "<p>and 1,990 more rows</p>" in text
    links = {int(number) for number in re.findall("#row-([0-9]+)", text)}
    assert all(number < 10 for number in links)
    assert text.count("<details") == text.count("</details>")
