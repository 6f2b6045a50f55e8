# SPDX-License-Identifier: Apache-2.0

"""What the ends of requests waited for, summed up. Pure.

Traces are added one after the other, and nothing of them is kept but sums,
in memory that does not grow with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiler_bridge.critical import Segment, critical_path, time_on_path
from profiler_bridge.report.statistics import KEYS, Key, Sums
from profiler_bridge.trace import Trace

#: What a time is called in which nothing that is known ran.
NOTHING = "(nothing known ran)"


@dataclass(slots=True)
class Wait:
    """What was waited for under one key. Times are in microseconds.

    :param time: on the critical path
    :param share: of each trace's path, 0 to 1; the sum
    :param spans: how many were on a path; 0 where nothing known ran
    :param traces: on how many paths they were
    :param most: the longest time on one path
    :param base_id: that trace
    """

    time: int = 0
    share: float = 0.0
    spans: int = 0
    traces: int = 0
    most: int = 0
    base_id: str = ""

    def add(self, base_id: str, time: int, length: int, spans: int) -> None:
        """Add what a trace waited for.

        :param length: of its whole path
        """
        self.time += time
        self.share += time / length
        self.spans += spans
        self.traces += 1
        if time > self.most:
            self.most, self.base_id = time, base_id


@dataclass(slots=True)
class Waits(Sums[Wait]):
    """Of the critical paths of traces, by anything but the root.

    :param paths: how many traces have one
    :param time: the length of all of them, microseconds
    """

    paths: int = 0
    time: int = 0

    def share(self, wait: Wait) -> float:
        """The mean over all paths of how much of it was waited for; 0 to 1."""
        return wait.share / self.paths if self.paths else 0.0

    @property
    def nothing(self) -> Key:
        """The key of the time in which nothing known ran."""
        return self._key_of_none(NOTHING)

    def ordered(self) -> list[tuple[Key, Wait]]:
        """What most time was waited for first."""
        return sorted(
            self.groups.items(), key=lambda row: (-row[1].time, row[0])
        )

    def _new(self) -> Wait:
        return Wait()

    def _add(self, trace: Trace) -> None:
        self.add_path(trace.base_id, critical_path(trace))

    def add_path(self, base_id: str, path: Sequence[Segment]) -> None:
        """Add what :func:`~profiler_bridge.critical.critical_path` gave."""
        times = time_on_path(path)
        length = sum(times.values())
        if not length:
            return
        self.paths += 1
        self.time += length
        spans = {span.trace_id: span for _, _, span in path if span}
        key_of = KEYS[self.by]
        within: dict[Key, tuple[int, int]] = {}
        for trace_id, time in times.items():
            if trace_id is None:
                key: Key | None = self.nothing
                # There is always room for it.
                self.groups.setdefault(self.nothing, Wait())
            else:
                key = key_of(spans[trace_id].first)
                key = key and self._admit(key)
            if key is not None:
                known, count = within.get(key, (0, 0))
                count += trace_id is not None
                within[key] = known + time, count
        for key, (time, count) in within.items():
            self.groups[key].add(base_id, time, length, count)
