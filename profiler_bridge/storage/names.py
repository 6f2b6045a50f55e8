# SPDX-License-Identifier: Apache-2.0

"""Names of the index's terms, so that a part of one leads to traces.

The index has digests only. A name stands in the weeks in which something of
that name was written, so that it goes when what it names has gone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Set

from profiler_bridge.storage.plugin import LONGEST_NAME, Name, StoragePlugin
from profiler_bridge.summary import PartialSummary, term_names

_HOUR = 3600 * 1_000_000
_WEEK = 7 * 24 * _HOUR
# Anybody who may publish makes up names. So many at most are added in a week
# by one process; without their names traces are found by whole names only.
_MOST = 10_000
# Seconds. A cache may evict them, and somebody may delete what he thinks old.
_AGAIN_AFTER = 600.0


class Names:
    """What this process has added this week, and what of it lately."""

    def __init__(self) -> None:
        self._week = 0
        self._known: set[Name] = set()
        self._recent: set[Name] = set()
        self._until = 0.0

    def due(self, names: Iterable[Name]) -> Set[Name]:
        """Those that are to be added, if there is room for them."""
        week = week_of(time.time_ns() // 1000)
        if week != self._week:
            self._week, self._known = week, set()
        if time.monotonic() >= self._until:
            self._recent = set()
            self._until = time.monotonic() + _AGAIN_AFTER
        due = {name for name in names if name not in self._recent}
        room = _MOST - len(self._known)
        return due if len(due - self._known) <= room else due & self._known

    def remember(self, names: Iterable[Name]) -> None:
        """Be told that these have been added."""
        self._known.update(names)
        self._recent.update(names)


def week_of(moment: int) -> int:
    """The week since 1970 of a moment in microseconds since 1970."""
    return moment // _WEEK


def names_of(partials: Iterable[PartialSummary]) -> Collection[Name]:
    """The names that pieces of traces have when they are written."""
    return of_this_week(term_names(partials))


def of_this_week(texts: Iterable[str]) -> Collection[Name]:
    """Names as they are added now, of those that are not too long."""
    week = week_of(time.time_ns() // 1000)
    return {Name(week, text) for text in texts if len(text) <= LONGEST_NAME}


def parts(plugin: StoragePlugin, since: int | None, prefix: str) -> list[str]:
    """What stands after the prefix in those names that begin with it.

    :param since: microseconds since 1970
    """
    # A name may have been added a little before what was written with it.
    first = -(2**31) if since is None else week_of(since - _HOUR)
    return sorted(
        text.removeprefix(prefix)
        for text in plugin.names(first)
        if text.startswith(prefix)
    )
