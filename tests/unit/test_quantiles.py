# SPDX-License-Identifier: Apache-2.0

"""Distributions: quantiles of any number of values in bounded memory."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profiler_bridge.report.quantiles import ERROR, Distribution, bucket
from profiler_bridge.testing.sample import seeded

# 10,000 years in microseconds.
MOST = 10_000 * 366 * 86_400 * 10**6
values = st.one_of(
    *(st.integers(-3, 3), st.integers(-1000, 10**6), st.integers(-MOST, MOST))
)


def spread(numbers: list[int]) -> Distribution:
    distribution = Distribution()
    for number in numbers:
        distribution.add(number)
    return distribution


def nearest_rank(numbers: list[int], percent: int) -> int:
    rank = -(-len(numbers) * percent // 100)
    return sorted(numbers)[max(rank, 1) - 1]


def test_nothing() -> None:
    empty = Distribution()
    assert empty.count == empty.total == empty.least == empty.greatest == 0
    assert empty.mean == empty.percentile(50) == 0
    assert empty.buckets() == {}
    empty.merge(Distribution())
    assert empty == Distribution()


# More than are kept as they are, without many draws.
many = st.lists(values, max_size=30) | st.lists(values, min_size=1).map(
    lambda few: few * 65
)


@given(many, st.integers(0, 100))
def test_percentiles_are_within_the_error(
    numbers: list[int], percent: int
) -> None:
    distribution = spread(numbers)
    assert distribution.count == len(numbers)
    assert distribution.total == sum(numbers)
    if not numbers:
        return
    assert distribution.least == min(numbers) == distribution.percentile(0)
    assert distribution.greatest == max(numbers)
    expected = nearest_rank(numbers, percent)
    percentile = distribution.percentile(percent)
    assert abs(percentile - expected) <= abs(expected) * (ERROR + 1e-9)
    if len(numbers) <= 64:
        assert percentile == expected


@given(many, many, many)
@example([1] * 64, [2], [])
@example([-1] * 65, [-2], [0])
def test_merged_in_any_order_it_is_the_same(
    one: list[int], two: list[int], three: list[int]
) -> None:
    whole = spread(one + two + three)
    for parts in ((one, two, three), (three, one, two), (two, three, one)):
        merged = Distribution()
        for part in parts:
            other = spread(part)
            merged.merge(other)
            assert other == spread(part)
        assert merged.buckets() == whole.buckets()
        assert [
            *(merged.count, merged.total, merged.least, merged.greatest),
            *map(merged.percentile, (0, 1, 50, 95, 100)),
        ] == [
            *(whole.count, whole.total, whole.least, whole.greatest),
            *map(whole.percentile, (0, 1, 50, 95, 100)),
        ]


@given(st.lists(values))
def test_buckets_are_in_the_order_of_values(numbers: list[int]) -> None:
    ordered = [bucket(number) for number in sorted(numbers)]
    assert ordered == sorted(ordered)
    assert spread(numbers).buckets() == Counter(ordered)


@pytest.mark.parametrize("value", [0, 1, 1000, -1000, MOST])
def test_values_that_are_all_alike_have_exact_percentiles(value: int) -> None:
    distribution = spread([value] * 1000)
    assert distribution.percentile(50) == distribution.percentile(95) == value


def test_memory_is_bounded() -> None:
    rng = seeded(1)
    distribution = Distribution()
    for _ in range(50_000):
        distribution.add(int(rng.lognormvariate(8, 3)))
    held = distribution._buckets
    assert len(held) < 1500
    assert sys.getsizeof(held) < 100_000
    assert not distribution._exact
    assert bucket(MOST) < 2200
