# SPDX-License-Identifier: Apache-2.0

"""Has a storage that lets traces expire keep some of them longer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from oslo_log import log as logging

from profiler_bridge import exceptions, retry
from profiler_bridge.operation import operation
from profiler_bridge.settled import Consumer, Settled
from profiler_bridge.storage.retention import KeepRule, Retention
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import TraceSummary

LOG = logging.getLogger(__name__)

# As good as for ever; in seconds.
_FOR_EVER = 100 * 366 * 86400
# Seconds between two tries at last.
_PAUSE = 60.0


class Keeping(Consumer):
    """Lengthens the lives of traces that a rule keeps longer.

    A trace expires by ``retention`` from the moment it is written. When it
    has settled it is known which rules match, and it lives on for as long as
    the longest of them says, from then. A rule that keeps shorter than
    ``retention`` does nothing here.

    :param storage: one that lets traces expire
    :param retention: a length, and rules
    """

    name = "keep"

    def __init__(self, storage: Storage, retention: Retention) -> None:
        self._storage = storage
        self._rules = [
            rule
            for rule in retention.rules
            if retention.plain and rule.lasts(retention.plain + 1)
        ]
        self._retention = Retention(retention.plain, self._rules)

    @property
    def is_needed(self) -> bool:
        """Whether there is a rule that keeps longer in this storage."""
        return self._storage.plugin.expires and bool(self._rules)

    def wants(self, summary: TraceSummary) -> bool:
        return any(rule.decide(summary) is not False for rule in self._rules)

    def take(
        self, traces: Sequence[Settled], wait: Callable[[float], None]
    ) -> None:
        lives: dict[str, int] = {}
        for trace in traces:
            rule = self._rule_of(trace)
            if rule is not None:
                lives[trace.summary.base_id] = rule.keep or _FOR_EVER
        if lives:
            self._keep(lives, wait)

    def _rule_of(self, settled: Settled) -> KeepRule | None:
        return self._retention.rule_of(
            settled.summary, partial(_operations, settled)
        )

    def _keep(
        self, lives: Mapping[str, int], wait: Callable[[float], None]
    ) -> None:
        """Lengthen lives, whatever goes wrong at first."""
        is_failing = False
        for pause in retry.pauses(last=_PAUSE):
            problem = self._problem(lives)
            if problem and not is_failing:
                LOG.warning("Traces are not kept longer: %s", problem)
            if not problem:
                if is_failing:
                    LOG.info("Traces are kept longer again")
                return
            is_failing = True
            wait(pause)

    def _problem(self, lives: Mapping[str, int]) -> str:
        """Try to lengthen lives; why that failed."""
        try:
            self._storage.plugin.keep(lives)
        except exceptions.StorageError as error:
            return str(error)
        return ""


def _operations(settled: Settled) -> Collection[str]:
    return {operation(span.first) for span in settled.trace.spans}
