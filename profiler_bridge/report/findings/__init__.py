# SPDX-License-Identifier: Apache-2.0

"""What a trace says of itself: what was repeated, waited for, failed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from profiler_bridge.critical import Segment
from profiler_bridge.report.findings import errors, gaps, requests, sql
from profiler_bridge.report.findings.finding import (
    Finding,
    Limits,
    Rule,
    Subject,
)
from profiler_bridge.trace import Trace

__all__ = ["DEFAULTS", "Finding", "Limits", "Rule", "findings"]

#: What is worth telling unless somebody says otherwise.
DEFAULTS = Limits()

# What is beyond this of one rule was made up by somebody.
_MOST = 20

_RULES: tuple[Callable[[Subject, Limits], Iterator[Finding]], ...] = (
    sql.repeated,
    requests.repeated,
    requests.validated,
    gaps.gaps,
    sql.slow,
    errors.errors,
)


def findings(
    trace: Trace,
    limits: Limits = DEFAULTS,
    path: Sequence[Segment] | None = None,
) -> list[Finding]:
    """Look at a trace by all rules.

    What is late is not looked at, see
    :func:`~profiler_bridge.late.late_spans`.

    :param path: its critical path, where that is known
    :returns: those that took longest on the critical path first, of those
        that took longest in all; at most 20 of a rule. Empty where there is
        nothing to tell.
    """
    subject = Subject(trace, path)
    told: list[Finding] = []
    for rule in _RULES:
        told += sorted(rule(subject, limits), key=_order)[:_MOST]
    return sorted(told, key=_order)


def _order(finding: Finding) -> tuple[object, ...]:
    return -finding.critical, -finding.total, finding.rule, finding.spans
