# SPDX-License-Identifier: Apache-2.0

"""The findings of many traces, added up in memory that is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from profiler_bridge.report.findings import DEFAULTS, Limits, Rule, findings
from profiler_bridge.report.statistics import Key, Sums
from profiler_bridge.trace import Trace


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
class Totals(Sums[Group]):
    """Of any number of traces, by rule, service and operation.

    :param traces_with_any: how many of them have findings
    :param rules: of which there are any
    """

    limits: Limits = DEFAULTS
    traces_with_any: int = 0
    rules: set[Rule] = field(default_factory=set)

    def _new(self) -> Group:
        return Group()

    def _key_of_none(self, text: str) -> Key:
        return "", "", text

    def _add(self, trace: Trace) -> None:
        # A trace can have several findings of one key, such as two errors.
        own: dict[Key, Group] = {}
        for finding in findings(trace, self.limits):
            self.rules.add(finding.rule)
            key = self._admit(
                (finding.rule, finding.service, finding.operation)
            )
            group = own.setdefault(key, Group(title=finding.title))
            group.critical += finding.critical
            group.total += finding.total
        self.traces_with_any += bool(own)
        for key, group in own.items():
            known = self.groups[key]
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
        # Without arguments super() knows the class before it had slots.
        return f"{Sums.__str__(self)}, {self.traces_with_any:,} with findings"
