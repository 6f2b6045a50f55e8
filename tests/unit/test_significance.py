# SPDX-License-Identifier: Apache-2.0

"""What is more than noise, held against published results."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report.quantiles import Distribution
from profiler_bridge.report.significance import (
    FEWEST,
    benjamini_hochberg,
    mann_whitney,
)
from profiler_bridge.testing.sample import seeded

# Ozone in New York in May and August 1973: the example of R's wilcox.test,
# whose documentation has W = 127.5, p-value = 0.0001208; with ties.
MAY = [
    *(41, 36, 12, 18, 28, 23, 19, 8, 7, 16, 11, 14, 18, 14, 34, 6, 30, 11, 1),
    *(11, 4, 32, 23, 45, 115, 37),
]
AUGUST = [
    *(39, 9, 16, 78, 35, 66, 122, 89, 110, 44, 28, 65, 22, 59, 23, 31, 44),
    *(21, 9, 45, 168, 73, 76, 118, 84, 85),
]


def test_published_example_of_mann_and_whitney() -> None:
    probability = mann_whitney(Counter(MAY), Counter(AUGUST))
    assert probability == pytest.approx(0.0001208, abs=5e-8)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # As scipy.stats.mannwhitneyu(method="asymptotic") has them.
        (range(8), range(8, 16), 0.0009391056991171899),
        (range(8), range(4, 16), 0.002272583292310232),
        (
            [1] * 8 + [2] * 3,
            [1] * 3 + [2] * 8 + [3] * 5,
            0.0037229379169843565,
        ),
        (range(0, 2000, 2), range(15, 2015, 2), 0.5628622965950288),
        ([5] * 20, [5] * 30, 1.0),
        ([1] * 8 + [2], [1] * 9, 0.37406279749088245),
    ],
)
def test_known_probabilities(
    one: list[int], other: list[int], expected: float
) -> None:
    probability = mann_whitney(Counter(one), Counter(other))
    assert probability == pytest.approx(expected, rel=1e-9)


def test_too_few_are_no_evidence() -> None:
    few, many = Counter(range(FEWEST - 1)), Counter(range(100, 1000))
    assert mann_whitney(few, many) is None
    assert mann_whitney(many, few) is None
    assert mann_whitney({}, {}) is None
    assert mann_whitney({1: 8}, {2: 8}) is not None


samples = st.lists(st.integers(-5, 5), min_size=8, max_size=30)


@given(samples, samples, st.integers(1, 5))
def test_only_the_order_counts(
    one: list[int], other: list[int], factor: int
) -> None:
    probability = mann_whitney(Counter(one), Counter(other))
    assert probability is not None
    assert 0 <= probability <= 1
    assert probability == mann_whitney(Counter(other), Counter(one))
    assert probability == mann_whitney(
        Counter(value * factor for value in one),
        Counter(value * factor for value in other),
    )


def test_buckets_tell_nearly_the_same() -> None:
    """Where values are counted in buckets of 2 %, these are what there is."""
    rng = seeded(3)
    for shift in (1.0, 1.02, 1.05, 1.2):
        sides: list[list[int]] = [
            [
                int(1e5 * factor * rng.lognormvariate(0, 0.3))
                for _ in range(300)
            ]
            for factor in (1, shift)
        ]
        distributions = [Distribution(), Distribution()]
        for distribution, side in zip(distributions, sides, strict=True):
            for value in side:
                distribution.add(value)
        exact = mann_whitney(*map(Counter, sides))
        probability = mann_whitney(
            *(distribution.buckets() for distribution in distributions)
        )
        assert exact is not None
        assert probability == pytest.approx(exact, abs=0.02)


# The example of Benjamini and Hochberg's paper, of which at 0.05 the first
# four are significant, though nine of them are below 0.05.
PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]


def test_published_example_of_benjamini_and_hochberg() -> None:
    adjusted = benjamini_hochberg(PUBLISHED)
    assert adjusted[:5] == pytest.approx(
        [0.0015, 0.003, 0.0095, 0.035625, 0.0603]
    )
    # The sixth takes what the seventh has, which is less.
    assert adjusted[5:8] == pytest.approx([0.0638571, 0.0638571, 0.0645])
    assert sum(value is not None and value <= 0.05 for value in adjusted) == 4


def test_rows_of_which_nothing_is_known_count_for_nothing() -> None:
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([None, None]) == [None, None]
    assert benjamini_hochberg([0.5]) == [0.5]
    assert benjamini_hochberg([None, 0.04, None, 0.02]) == [
        *(None, 0.04, None, 0.04)
    ]


@given(st.lists(st.none() | st.floats(0, 1)))
def test_adjusted_values_keep_their_order(rows: list[float | None]) -> None:
    adjusted = benjamini_hochberg(rows)
    pairs = sorted(
        (before, after)
        for before, after in zip(rows, adjusted, strict=True)
        if before is not None and after is not None
    )
    assert len(pairs) == len(rows) - rows.count(None)
    assert [after for _, after in pairs] == sorted(after for _, after in pairs)
    assert all(before <= after <= 1 for before, after in pairs)
