# SPDX-License-Identifier: Apache-2.0

"""The findings of many traces, added up in memory that is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from profiler_bridge.report.findings import DEFAULTS, Limits, Rule, findings
from profiler_bridge.trace import Trace

# How many groups there may be; see report/statistics.py.
_MOST_GROUPS = 10_000
_OTHERS = "(others)"


class Key(NamedTuple):
    """What findings are added up by; see Finding."""

    rule: Rule
    service: str
    operation: str


@dataclass(slots=True)
class Group:
    """The findings of one key; times are in microseconds.

    :param traces: how many traces have such
    :param critical: on their critical paths, together
    :param total: in all
    :param most: of one trace on its critical path
    :param base_id: of the first trace that has most
    :param title: what is said of that trace
    """

    traces: int = 0
    critical: int = 0
    total: int = 0
    most: int = -1
    base_id: str = ""
    title: str = ""


@dataclass(slots=True)
class Totals:
    """Of any number of traces.

    :param traces: how many were looked at
    :param traces_with_any: how many of them have findings
    """

    limits: Limits = DEFAULTS
    traces: int = 0
    traces_with_any: int = 0
    groups: dict[Key, Group] = field(default_factory=dict)

    def add(self, trace: Trace) -> None:
        self.traces += 1
        # A trace can have several findings of one key, such as two errors.
        own: dict[Key, Group] = {}
        for finding in findings(trace, self.limits):
            key = Key(finding.rule, finding.service, finding.operation)
            if key not in self.groups and len(self.groups) >= _MOST_GROUPS:
                key = Key(finding.rule, "", _OTHERS)
            group = own.setdefault(key, Group(title=finding.title))
            group.critical += finding.critical
            group.total += finding.total
        self.traces_with_any += bool(own)
        for key, group in own.items():
            known = self.groups.setdefault(key, Group())
            known.traces += 1
            known.critical += group.critical
            known.total += group.total
            if group.critical > known.most:
                known.most = group.critical
                known.base_id, known.title = trace.base_id, group.title

    def ordered(self) -> list[tuple[Key, Group]]:
        """What took longest on critical paths first."""
        return sorted(
            self.groups.items(),
            key=lambda item: (-item[1].critical, -item[1].total, item[0]),
        )

    def __str__(self) -> str:
        traces = "trace" if self.traces == 1 else "traces"
        with_any = f"{self.traces_with_any:,} with findings"
        return f"{self.traces:,} {traces}, {with_any}"
