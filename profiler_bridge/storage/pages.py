# SPDX-License-Identifier: Apache-2.0

"""Pages of traces: what the index and the summaries of a storage tell."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from profiler_bridge import exceptions
from profiler_bridge.operation import operations
from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage.places import duration_place
from profiler_bridge.storage.plugin import Position, StoragePlugin
from profiler_bridge.storage.portions import portions
from profiler_bridge.storage.terms import Terms, terms_for
from profiler_bridge.summary import LONGEST, TraceSummary, summarize
from profiler_bridge.text import printable

#: How far to read ahead in the index, where little of it matches a query.
LONGEST_STRETCH = 500
# Of so many traces at once it is asked what is gone.
_GONE_AT_ONCE = 20


class Page(NamedTuple):
    """What was asked for, or what was found of it until the time was over.

    :param traces: at most as many as were asked for; empty when none matches
    :param stopped: the trace that was looked at last, if the time was over;
        what comes after it is not known
    """

    traces: list[TraceSummary]
    stopped: TraceSummary | None = None


def page(plugin: StoragePlugin, query: TraceQuery) -> Page:
    """A page of traces, in the order of ``query.sort``.

    Durations of more than a second are told apart by about 1 %.

    A page costs as much as what it looks at: what the index has under the term
    that leads to the fewest traces.

    :raises TraceNotFound: the marker is not stored
    """
    marker = None if query.marker is None else _summary(plugin, query.marker)
    terms = terms_for(plugin, query)
    if query.sort == Sort.START:
        before = None
        if marker is not None:
            before = Position(marker.started, marker.base_id)
        looked_at = _newest_first(plugin, query, terms, before)
        return _first(plugin, query, looked_at)
    if not terms.lead_to_few and query.since is None:
        return _first(plugin, query, _longest_first(plugin, query, marker))
    return _longest_of(plugin, query, terms, marker)


def _first(
    plugin: StoragePlugin, query: TraceQuery, traces: Iterator[TraceSummary]
) -> Page:
    """Those of the traces that match, up to the limit."""
    search = _Search(plugin, query)
    own = [*itertools.islice(search.among(traces), query.limit)]
    return Page([*_with_gone(plugin, own)], search.stopped)


def _longest_of(
    plugin: StoragePlugin,
    query: TraceQuery,
    terms: Terms,
    marker: TraceSummary | None,
) -> Page:
    """The longest of all that there are, or of those that were looked at."""
    traces = _newest_first(plugin, query, terms, None)
    search = _Search(plugin, query)
    own = (
        summary
        for summary in search.among(traces)
        if marker is None or _by_duration(summary) < _by_duration(marker)
    )
    if query.limit is None:
        longest = sorted(own, key=_by_duration, reverse=True)
    else:
        longest = heapq.nlargest(query.limit, own, key=_by_duration)
    return Page([*_with_gone(plugin, longest)], search.stopped)


def _by_duration(summary: TraceSummary) -> tuple[int, str]:
    """As the index has it."""
    return _indexed_duration(summary), summary.base_id


class _Search:
    """Looks at traces, until the time is over.

    :ivar stopped: the one that was looked at last, if it was over
    """

    def __init__(self, plugin: StoragePlugin, query: TraceQuery) -> None:
        self._plugin = plugin
        self._query = query
        self._end = (
            None
            if query.time_limit is None
            else time.monotonic() + query.time_limit
        )
        self.stopped: TraceSummary | None = None

    def among(self, traces: Iterable[TraceSummary]) -> Iterator[TraceSummary]:
        for summary in traces:
            if self._query.matches(summary) and self._has_operations(summary):
                yield summary
            if self._end is not None and time.monotonic() > self._end:
                self.stopped = summary
                return

    def _has_operations(self, summary: TraceSummary) -> bool:
        if not self._query.operations:
            return True
        notifications = self._plugin.notifications(summary.base_id)
        return self._query.has_operations(operations(notifications))


def _summary(plugin: StoragePlugin, marker: str) -> TraceSummary:
    pieces = plugin.partials([marker]).get(marker)
    if pieces is None:
        raise exceptions.TraceNotFound(
            f"marker {printable(marker)} is not in this storage"
        )
    return summarize(marker, pieces.values())


def _newest_first(
    plugin: StoragePlugin,
    query: TraceQuery,
    terms: Terms,
    before: Position | None,
) -> Iterator[TraceSummary]:
    """Summaries by start; what is gone is in them if the query asks."""
    if query.until is not None:
        until = Position(query.until, "")
        before = until if before is None else min(before, until)
    count = _ahead(query)
    streams = (
        _positions(plugin, term, before, query.since, count)
        for term in terms.terms
    )
    merged = heapq.merge(*streams, reverse=True)
    positions = (position for position, _ in itertools.groupby(merged))
    summaries = _summaries(plugin, positions, count, _started, before)
    return _with_gone(plugin, summaries) if query.incomplete else summaries


def _started(summary: TraceSummary) -> int:
    return summary.started


def _longest_first(
    plugin: StoragePlugin, query: TraceQuery, marker: TraceSummary | None
) -> Iterator[TraceSummary]:
    """Summaries by duration; what is gone is in them if the query asks."""
    count = _ahead(query)
    before = least = None
    if marker is not None:
        before = Position(*_by_duration(marker))
    if query.max_duration is not None:
        longest = Position(query.max_duration + 1, "")
        before = longest if before is None else min(before, longest)
    if query.min_duration is not None:
        least = duration_place(query.min_duration)
    positions = _positions(plugin, LONGEST, before, least, count)
    summaries = _summaries(plugin, positions, count, _indexed_duration, before)
    return _with_gone(plugin, summaries) if query.incomplete else summaries


def _indexed_duration(summary: TraceSummary) -> int:
    return duration_place(summary.duration)


def _ahead(query: TraceQuery) -> int:
    # Reading a little ahead costs less than asking twice.
    if query.limit is None:
        return LONGEST_STRETCH
    return min(query.limit + 1, LONGEST_STRETCH)


def _with_gone(
    plugin: StoragePlugin, summaries: Iterable[TraceSummary]
) -> Iterator[TraceSummary]:
    """The same, with what summaries do not know of."""
    rest = iter(summaries)
    while some := [*itertools.islice(rest, _GONE_AT_ONCE)]:
        base_ids = [summary.base_id for summary in some]
        gone = plugin.count_gone(base_ids, exactly=False)
        for summary in some:
            if summary.base_id in gone:
                yield dataclasses.replace(summary, gone=gone[summary.base_id])
            else:
                yield summary


def _positions(
    plugin: StoragePlugin,
    term: int,
    before: Position | None,
    since: int | None,
    count: int,
) -> Iterator[Position]:
    """What the index has of a term, the latest first.

    :param count: how many to read at first
    """
    while True:
        stretch = plugin.index(term, before, since, count)
        yield from stretch
        if len(stretch) < count:
            return
        before = stretch[-1]
        count = min(2 * count, LONGEST_STRETCH)


def _summaries(
    plugin: StoragePlugin,
    positions: Iterator[Position],
    count: int,
    place: Callable[[TraceSummary], int],
    before: Position | None,
) -> Iterator[TraceSummary]:
    """The traces that stand at these positions, each once, where it is right.

    :param count: how many to read at first
    :param place: where a trace stands for certain
    :param before: only those that stand before it
    """
    # Read where it does not stand any more, until that is reached.
    ahead: dict[str, TraceSummary] = {}
    done: set[str] = set()
    while stretch := [*itertools.islice(positions, count)]:
        unread = {position.base_id for position in stretch}
        unread -= ahead.keys() | done
        for partials in portions(plugin, unread):
            for base_id, pieces in partials.items():
                ahead[base_id] = summarize(base_id, pieces.values())
        # Some may have moved since the index was read, to where nobody comes
        # by again. And where it ends nothing is reached any more.
        is_last = len(stretch) < count
        reached = [
            stands
            for stands in (
                Position(place(summary), base_id)
                for base_id, summary in ahead.items()
            )
            if is_last or stands >= stretch[-1]
        ]
        for stands in sorted(reached, reverse=True):
            done.add(stands.base_id)
            summary = ahead.pop(stands.base_id)
            if before is None or stands < before:
                yield summary
        count = min(2 * count, LONGEST_STRETCH)
