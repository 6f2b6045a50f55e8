# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Where the time of one trace or of many went. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from profiler_bridge.report import spans as _spans
from profiler_bridge.trace import Span, Trace


@dataclass(slots=True)
class Total:
    """What spans have in common, summed up; times in microseconds.

    :param count: spans
    :param errors: those that ended with an exception
    :param durations: of those that have both ends
    :param self_time: in which no child of theirs ran
    """

    count: int = 0
    errors: int = 0
    durations: list[int] = field(default_factory=list)
    self_time: int = 0

    def add(self, span: Span) -> None:
        self.count += 1
        self.errors += span.exception is not None
        if span.duration is not None:
            self.durations.append(span.duration)
            self.self_time += span.self_time or 0

    @property
    def total(self) -> int:
        return sum(self.durations)

    @property
    def mean(self) -> float:
        """0 where no span has both ends."""
        return self.total / len(self.durations) if self.durations else 0.0

    def percentile(self, percent: int) -> int:
        """By the nearest rank; 100 is the longest, 0 where there is none."""
        ordered = sorted(self.durations)
        rank = -(-len(ordered) * percent // 100)
        return ordered[max(rank - 1, 0)] if ordered else 0


@dataclass(slots=True)
class Statement:
    """A kind of SQL statement: all that are alike without their literals.

    :param count: how often it ran, in all traces
    :param total: microseconds, in all traces
    :param most: how often it ran in the trace where it ran most
    :param base_id: that trace
    """

    count: int = 0
    total: int = 0
    most: int = 0
    base_id: str = ""


@dataclass(slots=True)
class Statistics:
    """Of any number of traces.

    :param traces: how many
    :param duration: of the traces, as totals are of spans
    :param operations: by service and name
    :param kinds: by ``wsgi``, ``rpc``, ``db``, ``http`` and ``other``
    :param hosts: by host
    :param statements: by the statement without its literals
    """

    traces: int = 0
    duration: Total = field(default_factory=Total)
    operations: dict[tuple[str, str], Total] = field(default_factory=dict)
    kinds: dict[str, Total] = field(default_factory=dict)
    hosts: dict[str, Total] = field(default_factory=dict)
    statements: dict[str, Statement] = field(default_factory=dict)

    def add(self, trace: Trace) -> None:
        self.traces += 1
        self.duration.count += 1
        self.duration.durations.append(trace.finished - trace.started)
        repeats: Counter[str] = Counter()
        for span in trace.spans:
            first = span.first
            operation = (first.service or "", first.name)
            self.operations.setdefault(operation, Total()).add(span)
            self.kinds.setdefault(_spans.kind(span), Total()).add(span)
            self.hosts.setdefault(first.host or "", Total()).add(span)
            statement = statement_of(span)
            if statement is not None:
                alike = without_literals(statement)
                repeats[alike] += 1
                known = self.statements.setdefault(alike, Statement())
                known.count += 1
                known.total += span.duration or 0
        for alike, count in repeats.items():
            known = self.statements[alike]
            if count > known.most:
                known.most, known.base_id = count, trace.base_id

    @classmethod
    def of(cls, traces: Iterable[Trace]) -> Statistics:
        statistics = cls()
        for trace in traces:
            statistics.add(trace)
        return statistics


def statement_of(span: Span) -> str | None:
    """The SQL that a span ran; None where it ran none."""
    db = span.first.info.get("db")
    statement = db.get("statement") if isinstance(db, dict) else None
    return statement if isinstance(statement, str) else None


# What makes two executions of a statement differ. A quote that is never
# closed takes the rest.
_LITERAL = re.compile(
    r"'(?:[^'\\]|\\.|'')*+(?:'|\Z)|(?<![\w.$:?%@])[0-9][\w.]*+", re.DOTALL
)
_LIST = re.compile(
    r"\bIN\s*\((?!\s*(?:SELECT|WITH)\b)(?:[^()]|\([^()]*+\))*+\)",
    re.IGNORECASE,
)


def without_literals(statement: str) -> str:
    """A statement on one line, without what differs between executions.

    Texts and numbers are ``?``, lists ``IN (...)``.
    """
    text = " ".join(_LITERAL.sub("?", statement).split())
    return _LIST.sub("IN (...)", text)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an operation from one set of traces to another.

    Times are microseconds a trace: an operation that runs twice as often has
    become slower by this, even where each run takes as long as before.

    :param before: None where it is new
    :param after: None where it vanished
    """

    service: str
    operation: str
    before: float | None
    after: float | None
    calls_before: float
    calls_after: float

    @property
    def percent(self) -> float | None:
        """By how much it got slower, negative: faster; None: no telling."""
        if not self.before or self.after is None:
            return None
        return (self.after / self.before - 1) * 100

    @property
    def verdict(self) -> str:
        if self.before is None:
            return "new"
        if self.after is None:
            return "vanished"
        if self.after == self.before:
            return "same"
        return "slower" if self.after > self.before else "faster"


def changes(before: Statistics, after: Statistics) -> list[Change]:
    """Compare operation by operation; the most time gained or lost first."""
    found = [
        Change(
            service,
            name,
            _time_a_trace(before, (service, name)),
            _time_a_trace(after, (service, name)),
            _calls_a_trace(before, (service, name)),
            _calls_a_trace(after, (service, name)),
        )
        for service, name in {**before.operations, **after.operations}
    ]
    return sorted(
        found,
        key=lambda each: (
            -abs((each.after or 0) - (each.before or 0)),
            each.service,
            each.operation,
        ),
    )


def _time_a_trace(
    statistics: Statistics, operation: tuple[str, str]
) -> float | None:
    total = statistics.operations.get(operation)
    return None if total is None else total.total / statistics.traces


def _calls_a_trace(
    statistics: Statistics, operation: tuple[str, str]
) -> float:
    total = statistics.operations.get(operation)
    return 0.0 if total is None else total.count / statistics.traces
