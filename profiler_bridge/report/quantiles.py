# SPDX-License-Identifier: Apache-2.0

"""How values are spread, in bounded memory however many there are. Pure.

As DDSketch has it (Masson, Rim and Lee, VLDB 2019): values are counted in
buckets, each 2 % wider than the one before it, so that no quantile is wrong
by more than 1 % of itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: By how much of itself a quantile may be wrong.
ERROR = 0.01
# So few values are kept as they are: what a person may count is exact.
_MOST_EXACT = 64
_GROWTH = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH = math.log(_GROWTH)


@dataclass(slots=True)
class Distribution:
    """Any number of integers, such as durations in microseconds.

    Which ones came first, and how they were merged, makes no difference.

    :param count: how many there are
    :param total: their sum
    :param least: 0 where there are none
    :param greatest: 0 where there are none
    """

    count: int = 0
    total: int = 0
    least: int = 0
    greatest: int = 0
    _exact: list[int] = field(default_factory=list)
    # Empty while there are few values. For values of 300,000 years it has
    # 2,200 buckets, and as many for those below zero.
    _buckets: dict[int, int] = field(default_factory=dict)

    def add(self, value: int) -> None:
        if not self.count or value < self.least:
            self.least = value
        if not self.count or value > self.greatest:
            self.greatest = value
        self.count += 1
        self.total += value
        if self.count <= _MOST_EXACT:
            self._exact.append(value)
            return
        if self._exact:
            self._buckets = self.buckets()
            self._exact = []
        key = bucket(value)
        self._buckets[key] = self._buckets.get(key, 0) + 1

    def merge(self, other: Distribution) -> None:
        """Take in all of another's values."""
        if not other.count:
            return
        if other._exact:
            for value in other._exact:
                self.add(value)
            return
        self._buckets = self.buckets()
        self._exact = []
        for key, count in other._buckets.items():
            self._buckets[key] = self._buckets.get(key, 0) + count
        if self.count:
            self.least = min(self.least, other.least)
            self.greatest = max(self.greatest, other.greatest)
        else:
            self.least, self.greatest = other.least, other.greatest
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float:
        """0 where there are no values."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """By the nearest rank; 100 is the greatest, 0 where there are none.

        :returns: exact up to 64 values; beyond, within :data:`ERROR`, but
            the least and the greatest are exact
        """
        rank = math.ceil(self.count * percent / 100)
        if rank <= 1:
            return self.least
        if rank >= self.count:
            return self.greatest
        if self._exact:
            return sorted(self._exact)[rank - 1]
        below = 0
        ordered = iter(sorted(self._buckets))
        while below < rank:
            key = next(ordered)
            below += self._buckets[key]
        return min(max(_middle(key), self.least), self.greatest)

    def buckets(self) -> dict[int, int]:
        """How many values are in each bucket; see :func:`bucket`."""
        if not self._exact:
            return dict(self._buckets)
        counts: dict[int, int] = {}
        for value in self._exact:
            key = bucket(value)
            counts[key] = counts.get(key, 0) + 1
        return counts


def bucket(value: int) -> int:
    """The number of a value's bucket; greater for greater values.

    Zero has one of its own, and for values below zero there are the same as
    above.
    """
    if value > 0:
        return math.ceil(math.log(value) / _LOG_GROWTH) + 1
    return -bucket(-value) if value else 0


def _middle(key: int) -> float:
    """The value that is wrong by the same share at both ends of a bucket."""
    if key > 0:
        return 2 * math.exp((key - 1) * _LOG_GROWTH) / (_GROWTH + 1)
    return -_middle(-key) if key else 0.0
