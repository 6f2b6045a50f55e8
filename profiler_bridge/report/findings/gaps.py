# SPDX-License-Identifier: Apache-2.0

"""Times in which nothing ran that is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from profiler_bridge.critical import Segment
from profiler_bridge.operation import operation
from profiler_bridge.report.findings.finding import (
    Finding,
    Limits,
    Rule,
    Subject,
)
from profiler_bridge.report.text import duration
from profiler_bridge.trace import Span


def gaps(subject: Subject, limits: Limits) -> Iterator[Finding]:
    """Parts of the critical path of ``limits.gap`` on which nothing ran.

    The client, a service that is not profiled, or a thread that lost its
    profiler has worked then, or waited. The evidence is what ran before and
    after: what each service did for one request or call.
    """
    path = subject.path
    known: dict[tuple[str, str], list[tuple[Segment, Span, Span]]] = (
        defaultdict(list)
    )
    for before, gap, after in zip(path, path[1:], path[2:], strict=False):
        if gap.span is not None or gap.end - gap.start < limits.gap:
            continue
        if before.span is None or after.span is None:
            continue
        one = subject.entries[before.span.trace_id]
        other = subject.entries[after.span.trace_id]
        names = operation(one.first), operation(other.first)
        known[names].append((gap, one, other))
    for (one_did, other_did), alike in known.items():
        total = sum(gap.end - gap.start for gap, *_ in alike)
        title = f"nothing that is known ran for {duration(total)}"
        if len(alike) > 1:
            title += f" in {len(alike):,} gaps"
        longest, one, other = max(alike, key=_took)
        who = " the client's" if other.parent_id == other.first.base_id else ""
        yield Finding(
            Rule.GAP,
            "",
            f"{one_did} -> {other_did}",
            f"{title}, between {one_did} and{who} {other_did}",
            (one.trace_id, other.trace_id),
            longest.start,
            total,
            total,
        )


def _took(gap: tuple[Segment, Span, Span]) -> int:
    return gap[0].end - gap[0].start
