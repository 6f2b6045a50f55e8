# SPDX-License-Identifier: Apache-2.0

"""What a finding is, and what the rules know of the trace they look at."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from profiler_bridge.critical import Segment, critical_path, time_on_path
from profiler_bridge.late import late_spans
from profiler_bridge.report import edges
from profiler_bridge.report import spans as _spans
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

_LONGEST_SERVICE = 100


class Rule(enum.StrEnum):
    """What a finding is of."""

    REPEATED_SQL = "repeated-sql"
    REPEATED_REQUEST = "repeated-request"
    REPEATED_TOKEN = "repeated-token"  # noqa: S105 - no password
    GAP = "gap"
    SLOW_SQL = "slow-sql"
    ERROR = "error"
    HANDLED_ERROR = "handled-error"


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is worth telling; times in microseconds.

    :param repeats: so often one caller repeats a statement
    :param tokens: so often Keystone validates one
    :param time: so long all that is repeated takes together,
    :param share: or so many percent of the critical path's length
    :param pause: so long nothing runs of who waits for something
    :param gap: so long nothing that is known runs at all: what a person
        begins to notice
    :param statement: so long one statement takes: likewise, and ten to a
        hundred times what most take
    """

    repeats: int = 5
    tokens: int = 3
    time: int = 50_000
    share: float = 5.0
    pause: int = 250_000
    gap: int = 100_000
    statement: int = 100_000


class Finding(NamedTuple):
    """What a rule has found in a trace.

    Not to be taken for what ``profiler-bridge-manage check`` finds.

    :param service: where, as ``project:service``; empty where that does not
        matter. Printable, as the next two.
    :param operation: what it is about, for findings in many traces to be
        added up
    :param title: a sentence that says what, where and how often
    :param spans: the evidence: trace_ids, in the order in which to look
    :param started: when it began: the first of these, or a gap; microseconds
        since 1970
    :param critical: microseconds on the critical path of these spans and of
        all below them
    :param total: microseconds that these spans took together; one that is
        below another counts for nothing
    """

    rule: Rule
    service: str
    operation: str
    title: str
    spans: tuple[str, ...]
    started: int
    critical: int
    total: int


class Subject:
    """A trace with what several rules ask of it.

    :param path: its critical path, where that is known

    :ivar late: by trace_id the spans that are not of the request
    :ivar spans: the others, earliest first
    :ivar parents: the parent of each span that has one, by trace_id
    :ivar path: the critical path
    :ivar length: its microseconds
    :ivar entries: by trace_id the span with which the service's work began
        that a span is part of: the request or the call that it answers
    """

    def __init__(
        self, trace: Trace, path: Sequence[Segment] | None = None
    ) -> None:
        self.trace = trace
        self.late = late_spans(trace)
        self.spans = [
            span for span in trace.spans if span.trace_id not in self.late
        ]
        self.parents = edges.parents(trace)
        self.path = critical_path(trace) if path is None else path
        times = time_on_path(self.path)
        self.length = sum(times.values())
        walked = [span for _, span in trace.walk()]
        self.entries = self._entries(walked)
        self._places = {
            span.trace_id: place for place, span in enumerate(walked)
        }
        # Of each span the place behind all that is below it.
        self._behind = {
            span.trace_id: place for place, span in enumerate(walked, 1)
        }
        for span in reversed(walked):
            if span.children:
                last = span.children[-1].trace_id
                self._behind[span.trace_id] = self._behind[last]
        own = [0] * len(walked)
        for trace_id, time in times.items():
            if trace_id is not None:
                own[self._places[trace_id]] = time
        self._critical = [0, *itertools.accumulate(own)]

    def _entries(self, walked: Iterable[Span]) -> dict[str, Span]:
        entries: dict[str, Span] = {}
        for span in walked:
            parent = self.parents.get(span.trace_id)
            is_entry = (
                parent is None
                or _spans.kind(span) == "wsgi"
                or service(span) != service(parent)
            )
            entries[span.trace_id] = (
                span if is_entry else entries[span.parent_id]
            )
        return entries

    def finding(
        self,
        rule: Rule,
        operation: str,
        title: str,
        spans: Iterable[Span],
        service: str = "",
    ) -> Finding:
        spans = tuple(spans)
        ids = tuple(span.trace_id for span in spans)
        started = spans[0].started
        cost = self.cost(spans)
        return Finding(rule, service, operation, title, ids, started, *cost)

    def cost(self, spans: Iterable[Span]) -> tuple[int, int]:
        """Microseconds on the critical path, and in all; see Finding."""
        critical = total = behind = 0
        for span in sorted(spans, key=self._place):
            place = self._place(span)
            if place < behind:
                continue
            behind = self._behind[span.trace_id]
            critical += self._critical[behind] - self._critical[place]
            total += max(span.duration or 0, 0)
        return critical, total

    def _place(self, span: Span) -> int:
        return self._places[span.trace_id]

    def is_worth(self, total: int, limits: Limits) -> bool:
        """Whether what is repeated takes long enough to be told."""
        return total >= limits.time or (
            0 < limits.share * self.length <= 100 * total
        )


by_start = attrgetter("started", "trace_id")


def service(span: Span) -> str:
    """``project:service``; ``unknown`` where nothing is known of it."""
    name = span.first.qualified_service or "unknown"
    return printable(name[:_LONGEST_SERVICE])


def ended(span: Span) -> int:
    """When; where the stop is missing, at once."""
    return span.started if span.stop is None else span.stop.timestamp
