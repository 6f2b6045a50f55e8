# SPDX-License-Identifier: Apache-2.0

"""Statements that are repeated, and such as take long."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from profiler_bridge.operation import operation
from profiler_bridge.report.findings.finding import (
    Finding,
    Limits,
    Rule,
    Subject,
    by_start,
    service,
)
from profiler_bridge.report.statements import by_shape, statement
from profiler_bridge.report.text import duration
from profiler_bridge.trace import Span

# The service and the statement's shape.
_Kind = tuple[str, str]

# These are repeated with what they are around. What opens a transaction
# counts as part of the statement behind it.
_OPENING = frozenset(("BEGIN", "START", "SAVEPOINT"))
_CLOSING = frozenset(("COMMIT", "END", "ROLLBACK", "RELEASE"))
# So many of the statements that take turns are named.
_MOST_NAMED = 3


def repeated(subject: Subject, limits: Limits) -> Iterator[Finding]:
    """The same statement for one thing after the other: N+1 queries.

    One caller, the span above, executes it at least ``limits.repeats`` times.
    In between it may do other things. Statements that it executes in turn,
    A B A B, are one finding, in which all of the trace's executions are, also
    those of other callers.
    """
    callers: dict[str, list[tuple[_Kind, Span]]] = defaultdict(list)
    executions: dict[_Kind, list[Span]] = defaultdict(list)
    openings: dict[str, list[Span]] = {}
    for caller, statements in _by_caller(subject.spans).items():
        opened: list[Span] = []
        for kind, span in statements:
            verb = operation(span.first).partition(" ")[0]
            if verb in _OPENING:
                opened.append(span)
                continue
            if verb not in _CLOSING:
                callers[caller].append((kind, span))
                executions[kind].append(span)
                openings[span.trace_id] = opened
            opened = []
    groups = _Groups()
    counted: dict[_Kind, list[Span]] = defaultdict(list)
    for statements in callers.values():
        times = Counter(kind for kind, _ in statements)
        often = [
            item for item in statements if times[item[0]] >= limits.repeats
        ]
        for kind, span in often:
            counted[kind].append(span)
        groups.join_turns([kind for kind, _ in often], times)
    for kinds in groups.of(counted):
        some = [span for kind in kinds for span in counted[kind]]
        if not subject.is_worth(_total(some, openings), limits):
            continue
        spans = [span for kind in kinds for span in executions[kind]]
        spans += [one for span in spans for one in openings[span.trace_id]]
        yield subject.finding(
            Rule.REPEATED_SQL,
            operation(executions[kinds[0]][0].first),
            _title(subject, [executions[kind] for kind in kinds]),
            sorted(spans, key=by_start),
            kinds[0][0],
        )


def _by_caller(
    spans: Iterable[Span],
) -> Mapping[str, Sequence[tuple[_Kind, Span]]]:
    """The statements below each span, in their order."""
    kinds = {
        span.trace_id: (service(span), shape)
        for shape, alike in by_shape(spans).items()
        for span in alike
    }
    callers: dict[str, list[tuple[_Kind, Span]]] = defaultdict(list)
    for span in spans:
        if span.trace_id in kinds:
            callers[span.parent_id].append((kinds[span.trace_id], span))
    return callers


def _total(spans: Iterable[Span], openings: Mapping[str, list[Span]]) -> int:
    return sum(
        max(one.duration or 0, 0)
        for span in spans
        for one in (span, *openings[span.trace_id])
    )


class _Groups:
    """Which statements take turns."""

    def __init__(self) -> None:
        self._first: dict[_Kind, _Kind] = {}

    def _of(self, kind: _Kind) -> _Kind:
        while (first := self._first.setdefault(kind, kind)) != kind:
            self._first[kind] = self._first.setdefault(first, first)
            kind = first
        return kind

    def join_turns(
        self, kinds: Iterable[_Kind], times: Mapping[_Kind, int]
    ) -> None:
        """Join what one caller executes equally often, always in one order.

        What comes more or less often may stand in between.
        """
        sequences: dict[int, list[_Kind]] = defaultdict(list)
        for kind in kinds:
            sequences[times[kind]].append(kind)
        for sequence in sequences.values():
            before: dict[_Kind, set[_Kind | None]] = defaultdict(set)
            before[sequence[0]].add(None)
            for one, kind in itertools.pairwise(sequence):
                before[kind].add(one)
            for kind, those in before.items():
                last = those.pop()
                if not those and last is not None:
                    self._first[self._of(kind)] = self._of(last)

    def of(self, kinds: Iterable[_Kind]) -> Iterable[list[_Kind]]:
        groups: dict[_Kind, list[_Kind]] = defaultdict(list)
        for kind in kinds:
            groups[self._of(kind)].append(kind)
        return groups.values()


def _title(subject: Subject, executions: Sequence[Sequence[Span]]) -> str:
    """What ran how often, and where most often.

    :param executions: of each of the statements that take turns
    """
    spans = max(executions, key=len)
    callers = Counter(span.parent_id for span in spans)
    [(most, times)] = callers.most_common(1)
    mine = [span for span in spans if span.parent_id == most]
    parent = subject.parents.get(mine[0].trace_id)
    where = "no known caller" if parent is None else operation(parent.first)
    names = [operation(some[0].first) for some in executions[:_MOST_NAMED]]
    what = names[0]
    if len(executions) > 1:
        left = len(executions) - len(names)
        what = f"({'; '.join(names)}{f'; {left} more' if left else ''})"
    title = f"{what} ran {len(spans):,} times"
    if len(executions) > 1:
        title += " in turn"
    else:
        title += _texts(spans)
    if len(callers) > 1:
        title += f" below {len(callers):,} spans, {times:,} of them"
    return f"{title} below {where}{_parameters(mine)}"


def _texts(spans: Iterable[Span]) -> str:
    """How often in which text, where lists are not equally long."""
    texts = Counter(statement(span.first) for span in spans)
    if len(texts) < 2:
        return ""
    [(_, first)] = texts.most_common(1)
    rest = texts.total() - first
    if len(texts) == 2:
        return f" ({first:,} of one text, {rest:,} of another)"
    return f" ({first:,} of one text, {rest:,} of {len(texts) - 1:,} others)"


def _parameters(spans: Iterable[Span]) -> str:
    known = set()
    for span in spans:
        db = span.first.info.get("db")
        if not isinstance(db, dict) or not db.get("params"):
            return ""
        known.add(repr(db["params"]))
    if len(known) == 1:
        return ", always with the same parameters"
    return f", with {len(known):,} different parameters"


def slow(subject: Subject, limits: Limits) -> Iterator[Finding]:
    """Statements of which one execution takes ``limits.statement``."""
    least = limits.statement
    slow = [span for span in subject.spans if (span.duration or 0) >= least]
    for alike in by_shape(slow).values():
        first = max(alike, key=lambda span: span.duration or 0)
        did = operation(first.first)
        title = f"{did} took {duration(first.duration or 0)}"
        if len(alike) > 1:
            title = (
                f"{did} took {duration(least)} or longer"
                f" {len(alike):,} times, and {duration(first.duration or 0)}"
                " once"
            )
        parent = subject.parents.get(first.trace_id)
        if parent is not None:
            title += f" below {operation(parent.first)}"
        yield subject.finding(Rule.SLOW_SQL, did, title, alike, service(first))
