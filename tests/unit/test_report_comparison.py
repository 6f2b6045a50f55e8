# SPDX-License-Identifier: Apache-2.0

"""What became slower from one set of traces to another, and what is noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report import statistics
from profiler_bridge.report.comparison import (
    Change,
    Comparison,
    Verdict,
    _leaning,
)
from profiler_bridge.report.statistics import By, Statistics
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    notifications,
    seeded,
    span,
)
from profiler_bridge.trace import Trace
from tests.unit.test_report_statistics import http, sql, summed, trace
from tests.unit.test_trace import uid

# Of a trace's operations, by name, how long each call takes.
Calls = dict[str, list[int]]


def noise(rng: random.Random, median: float) -> int:
    """Times as services have them: a few are very long."""
    return round(median * rng.lognormvariate(0, 0.5))


def traces(
    count: int, seed: int, calls: Callable[[random.Random, int], Calls]
) -> Iterator[Trace]:
    """Requests, each with operations of its own below it.

    In each trace everything is some share faster or slower, as when a host
    is busy.
    """
    rng = seeded(seed)
    for number in range(count):
        base, top = uid(number), uid(1)
        busy = rng.lognormvariate(0, 0.3)
        at, place = STARTED, 2
        payloads = []
        for name, durations in calls(rng, number).items():
            for duration in durations:
                lasts = round(duration * busy)
                payloads += span(
                    *(base, uid(place), top, at, lasts),
                    info=sql(f"SELECT a FROM {name}"),
                )
                at, place = at + lasts, place + 1
        payloads += span(
            *(base, top, base, STARTED, at + 1000 - STARTED, "wsgi"),
            info=http("GET", "/servers"),
        )
        yield Trace.build(base, notifications(payloads))


def compared(
    before: Iterator[Trace], after: Iterator[Trace], by: By = By.OPERATION
) -> dict[str, Change]:
    comparison = Comparison(summed(before, by), summed(after, by))
    return {change.key[-1]: change for change in comparison.changes}


def verdicts(changes: dict[str, Change]) -> dict[str, str]:
    return {key: str(change.verdict) for key, change in changes.items()}


def usual(rng: random.Random, _: int) -> Calls:
    return {
        f"t{number}": [
            noise(rng, 2 * MILLISECOND) for _ in range(1 + number % 4)
        ]
        for number in range(30)
    }


def test_a_slowdown_is_found_and_noise_is_not() -> None:
    """One of thirty takes half again as long, one runs twice as often."""

    def slow(rng: random.Random, number: int) -> Calls:
        calls = usual(rng, number)
        calls["t5"] = [lasts * 3 // 2 for lasts in calls["t5"]]
        calls["t8"] += [noise(rng, 2 * MILLISECOND)]
        return calls

    changes = compared(traces(200, 1, usual), traces(200, 2, slow))
    told = [
        key
        for key, change in changes.items()
        if change.verdict is Verdict.SLOWER
    ]
    assert sorted(told) == ["SELECT t5", "SELECT t8"]
    assert list(changes)[:2] == sorted(told, key=lambda k: -changes[k].time)
    assert changes["SELECT t5"].percent == pytest.approx(50, abs=20)
    assert changes["SELECT t8"].after.calls == 2
    assert set(verdicts(changes).values()) == {"slower", "same"}
    back = compared(traces(200, 2, slow), traces(200, 1, usual))
    assert {
        key for key, change in back.items() if change.verdict is Verdict.FASTER
    } == set(told)


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_noise(seed: int) -> None:
    changes = compared(
        traces(60, 2 * seed, usual), traces(60, 2 * seed + 1, usual)
    )
    assert set(verdicts(changes).values()) == {"same"}


def test_what_is_in_few_of_many_traces_is_found() -> None:
    """Where ranks with the others' zeros would show nothing."""

    def rare(rng: random.Random, number: int, lasts: int) -> Calls:
        calls = {"often": [noise(rng, 2000)]}
        if number % 20 == 0:
            calls["rare"] = [noise(rng, lasts)]
        return calls

    changes = compared(
        traces(400, 1, lambda rng, number: rare(rng, number, 2000)),
        traces(400, 2, lambda rng, number: rare(rng, number, 8000)),
    )
    assert verdicts(changes) == {
        "SELECT rare": "slower",
        "SELECT often": "same",
        "GET /servers": "same",
    }


def test_what_begins_to_run_in_most_traces_is_found() -> None:
    """Though it takes as long as before where it runs."""

    def one_of(share: int) -> Callable[[random.Random, int], Calls]:
        return lambda rng, number: (
            {"cached": [noise(rng, 2000)]} if number % 10 < share else {}
        )

    changes = compared(traces(200, 1, one_of(1)), traces(200, 2, one_of(8)))
    assert changes["SELECT cached"].verdict is Verdict.SLOWER
    # Each single call does not take longer.
    [before, after] = [
        side.group.durations.mean
        for side in (
            changes["SELECT cached"].before,
            changes["SELECT cached"].after,
        )
    ]
    assert after == pytest.approx(before, rel=0.3)


def test_what_ranks_and_mean_disagree_on_is_not_told() -> None:
    """All but one became faster, and that one is so slow that it outweighs."""

    def before(rng: random.Random, _: int) -> Calls:
        return {"t": [noise(rng, 10_000)]}

    def after(rng: random.Random, number: int) -> Calls:
        return {"t": [noise(rng, 5_000) if number else 60 * SECOND]}

    changes = compared(traces(50, 1, before), traces(50, 2, after))
    assert changes["SELECT t"].time > 0
    assert changes["SELECT t"].verdict is Verdict.SAME


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (7, 1000, Verdict.TOO_FEW),
        (1000, 7, Verdict.TOO_FEW),
        (1, 1, Verdict.TOO_FEW),
        (8, 8, Verdict.SLOWER),
    ],
)
def test_too_few(before: int, after: int, verdict: Verdict) -> None:
    changes = compared(
        (trace(n, inner=[1000 + n]) for n in range(before)),
        (trace(n, inner=[9000 + n]) for n in range(after)),
    )
    assert changes["SELECT t"].verdict is verdict


def test_too_few_of_many_have_it() -> None:
    def traces_with(few: int, lasts: int) -> Iterator[Trace]:
        for number in range(100):
            yield trace(number, inner=[lasts] if number < few else [])

    changes = compared(traces_with(5, 1000), traces_with(5, 9000))
    assert changes["SELECT t"].verdict is Verdict.TOO_FEW
    assert changes["GET /v2.1/servers"].verdict is Verdict.SAME


def test_new_and_gone() -> None:
    changes = compared(
        (trace(n, statement="SELECT a FROM old", inner=[5]) for n in range(9)),
        (trace(n, statement="SELECT a FROM new", inner=[7]) for n in range(9)),
    )
    old, new = changes["SELECT old"], changes["SELECT new"]
    assert (old.verdict, old.time, old.percent) == (Verdict.GONE, -5, None)
    assert (new.verdict, new.time, new.percent) == (Verdict.NEW, 7, None)


def test_nothing_is_new_that_may_have_had_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "_MOST_GROUPS", 3)
    many = [
        trace(number, statement=f"SELECT a FROM t{number}", inner=[5])
        for number in range(9)
    ]
    few = [trace(1, statement="SELECT a FROM t8", inner=[5])]
    changes = compared(iter(many), iter(few))
    assert changes["SELECT t8"].verdict is Verdict.TOO_FEW


def test_by_root_whole_traces_are_compared() -> None:
    """Of those with the same name, however many others there are."""
    before = [trace(n, n * MILLISECOND, path="/a") for n in range(100, 110)]
    other = [trace(n, n * MILLISECOND, path="/b") for n in range(100, 150)]
    after = [trace(n, 2 * n * MILLISECOND, path="/a") for n in range(100, 110)]
    changes = compared(iter(before + other), iter(after + other), By.ROOT)
    assert verdicts(changes) == {"GET /a": "slower", "GET /b": "same"}
    assert changes["GET /a"].percent == pytest.approx(100)
    assert changes["GET /a"].before.traces == 10


def test_says_what_it_comes_to() -> None:
    before = summed(trace(n, 100_000, inner=[1000]) for n in range(20))
    after = summed(trace(n, 125_000 + n) for n in range(20))
    assert str(Comparison(before, after)) == (
        "self time of a trace: 100 ms before, 125 ms after (+25.0%);"
        " 1 slower, 1 gone"
    )
    nothing = Comparison(Statistics(), Statistics())
    assert str(nothing) == (
        "self time of a trace: 0 us before, 0 us after; nothing to compare"
    )


values = st.dictionaries(st.integers(-5, 5), st.integers(1, 5), min_size=1)


@given(values, values)
def test_leaning_is_how_many_pairs_are_greater(
    one: dict[int, int], other: dict[int, int]
) -> None:
    expected = sum(
        count * count_of_other * ((value < greater) - (value > greater))
        for value, count in one.items()
        for greater, count_of_other in other.items()
    )
    assert _leaning(one, other) == expected == -_leaning(other, one)
