# SPDX-License-Identifier: Apache-2.0

"""What became of operations from one set of traces to another. Pure.

Whether a change is more than noise is told from one value a trace: how long
an operation ran there itself, all its calls together. Its single calls would
be more, but those of one trace are not independent: one slow disk, lock or
host makes all of them slow, and a hundred calls would seem to be a hundred
witnesses of what was seen once.

A trace without the operation has no such value. To take it for zero would
hide what happens to all but the most common: of an operation that is in one
trace of ten, ranks are zeros at 90 %, and ten times the time does not stand
out. To leave such traces out would not see an operation that has begun to run
in every trace. So both are asked: whether it is in more of the traces, and
whether it takes longer in those where it is.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from profiler_bridge.report.significance import (
    FEWEST,
    benjamini_hochberg,
    mann_whitney,
)
from profiler_bridge.report.statistics import By, Group, Key, Statistics
from profiler_bridge.report.text import duration, percent

#: Of the changes that are told, so many may be there by chance.
CHANCE = 0.05

_WHAT = {By.ROOT: "until a trace was answered", By.STATEMENT: "SQL of a trace"}


class Verdict(enum.StrEnum):
    """What is said of an operation.

    ``SAME``: it differs by no more than noise; ``TOO_FEW``: there is no
    telling, for it is in too few traces
    """

    SLOWER = "slower"
    FASTER = "faster"
    NEW = "new"
    GONE = "gone"
    SAME = "same"
    TOO_FEW = "too few"


@dataclass(frozen=True)
class Side:
    """An operation in one of two sets of traces; times in microseconds.

    :param traces: how many the set has; by root, only those of the name that
        were answered
    :param group: what is known of the operation; empty where it is not
    """

    traces: int
    group: Group

    @property
    def calls(self) -> float:
        """How often it runs in a trace."""
        return self.group.count / self.traces if self.traces else 0.0

    @property
    def time(self) -> float:
        """How long it runs itself in a trace; by root, until the answer.

        The mean over all traces, those without it too.
        """
        return self.group.self_time / self.traces if self.traces else 0.0


@dataclass(frozen=True)
class Change:
    """What became of an operation.

    :param probability: how probable as much of a change is by chance, where
        many operations are looked at; None where there is no telling
    """

    key: Key
    before: Side
    after: Side
    verdict: Verdict
    probability: float | None

    @property
    def time(self) -> float:
        """By how many microseconds a trace it became slower; or faster."""
        return self.after.time - self.before.time

    @property
    def percent(self) -> float | None:
        """The same by its share; None where it took no time before."""
        if self.before.time <= 0 or self.verdict is Verdict.GONE:
            return None
        return (self.after.time / self.before.time - 1) * 100


class Comparison:
    """Two sets of traces, operation by operation.

    :param before: by the same as the other
    """

    def __init__(self, before: Statistics, after: Statistics) -> None:
        self.before = before
        self.after = after

    @cached_property
    def changes(self) -> list[Change]:
        """What takes the most time more, or less, first; noise last."""
        pairs = [
            (key, self._side(self.before, key), self._side(self.after, key))
            for key in {**self.before.groups, **self.after.groups}
        ]
        probabilities = benjamini_hochberg(
            [self._probability(before, after) for _, before, after in pairs]
        )
        compared = [
            Change(
                *(key, before, after),
                self._verdict(key, before, after, probability),
                probability,
            )
            for (key, before, after), probability in zip(
                pairs, probabilities, strict=True
            )
        ]
        compared.sort(
            key=lambda change: (
                change.verdict is Verdict.SAME,
                -abs(change.time),
                change.key,
            )
        )
        return compared

    @staticmethod
    def _side(statistics: Statistics, key: Key) -> Side:
        group = statistics.groups.get(key) or Group()
        is_whole = statistics.by is By.ROOT
        return Side(group.traces if is_whole else statistics.traces, group)

    def _verdict(
        self, key: Key, before: Side, after: Side, probability: float | None
    ) -> Verdict:
        if not (before.group.count and after.group.count):
            is_new = not before.group.count
            other = self.before if is_new else self.after
            if other.others in other.groups:
                return Verdict.TOO_FEW  # it may be one of these
            return Verdict.NEW if is_new else Verdict.GONE
        if probability is not None and probability <= CHANCE:
            is_slower = after.time > before.time
            return Verdict.SLOWER if is_slower else Verdict.FASTER
        fewest = min(before.group.traces, after.group.traces)
        return Verdict.SAME if fewest >= FEWEST else Verdict.TOO_FEW

    @staticmethod
    def _probability(before: Side, after: Side) -> float | None:
        """How probable the change of one operation is by chance.

        Only what points the same way as the change of the mean can tell that
        it is there. Where two questions are asked, the answer to each has to
        be twice as sure (Bonferroni).

        :returns: None where it is not in both sets, or in too few traces
        """
        if not (before.group.count and after.group.count):
            return None
        asked = [(before.group.times.buckets(), after.group.times.buckets())]
        if before.traces > before.group.traces or (
            after.traces > after.group.traces
        ):
            asked.append((_presence(before), _presence(after)))
        change = after.time - before.time
        told = [
            probability if _leaning(*values) * change > 0 else 1.0
            for values in asked
            if (probability := mann_whitney(*values)) is not None
        ]
        return min(1.0, len(told) * min(told)) if told else None

    def __str__(self) -> str:
        """What it comes to, in one line."""
        times = [
            side.self_time / max(side.traces, 1)
            for side in (self.before, self.after)
        ]
        before, after = times
        what = _WHAT.get(self.before.by, "self time of a trace")
        text = f"{what}: {duration(before)} before, {duration(after)} after"
        if before > 0:
            text += f" ({percent((after / before - 1) * 100)})"
        counts = Counter(change.verdict for change in self.changes)
        verdicts = ", ".join(
            f"{counts[verdict]} {verdict}"
            for verdict in Verdict
            if counts[verdict]
        )
        return f"{text}; {verdicts or 'nothing to compare'}"


def _presence(side: Side) -> dict[int, int]:
    """How many traces of a set have an operation (1), how many do not (0)."""
    return {0: side.traces - side.group.traces, 1: side.group.traces}


def _leaning(one: Mapping[int, int], other: Mapping[int, int]) -> int:
    """Whether the other's values tend to be greater (> 0) or less (< 0)."""
    count = sum(one.values())
    leaning = below = 0
    for value in sorted({*one, *other}):
        alike = one.get(value, 0)
        leaning += other.get(value, 0) * (2 * below + alike - count)
        below += alike
    return leaning
