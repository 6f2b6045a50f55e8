# SPDX-License-Identifier: Apache-2.0

"""Notifications paired into spans, and spans into a tree. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from profiler_bridge.notification import (
    STOP,
    Notification,
    parse_timestamp,
)


@dataclass(slots=True, eq=False)
class Span:
    """A start and its stop; one of them may be missing.

    :param start: None for a *headless* span
    :param stop: None for an *unfinished* span
    :param children: the spans it is the parent of, earliest first
    """

    start: Notification | None = None
    stop: Notification | None = None
    children: list[Span] = field(default_factory=list)

    @property
    def first(self) -> Notification:
        """The start, or the stop where the start is missing."""
        notification = self.start or self.stop
        assert notification is not None  # noqa: S101 - a span has at least one
        return notification

    @property
    def trace_id(self) -> str:
        return self.first.trace_id

    @property
    def parent_id(self) -> str:
        return self.first.parent_id

    @property
    def name(self) -> str:
        return self.first.name

    @property
    def started(self) -> int:
        """Microseconds since 1970; of the stop where the start is missing."""
        return self.first.timestamp

    @property
    def duration(self) -> int | None:
        """Microseconds; None where the start or the stop is missing."""
        if self.start is None or self.stop is None:
            return None
        return self.stop.timestamp - self.start.timestamp

    @property
    def exception(self) -> str | None:
        """The class of the exception that ended it, if one did."""
        return None if self.stop is None else self.stop.exception

    @property
    def self_time(self) -> int | None:
        """Microseconds in which none of its children ran.

        Children that overlap count once, and only while the span itself ran:
        what a cast started may go on for long. A child whose stop is missing
        counts for nothing. None where the span's own duration is not known.
        """
        if self.start is None or self.stop is None:
            return None
        covered = 0
        until = self.start.timestamp
        for child in self.children:
            if child.start is None or child.stop is None:
                continue
            begin = max(child.start.timestamp, until)
            end = min(child.stop.timestamp, self.stop.timestamp)
            if end > begin:
                covered += end - begin
                until = end
        return self.stop.timestamp - self.start.timestamp - covered


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is missing from a trace, or was wrong with it.

    :param unfinished: spans without a stop: still running, or crashed
    :param headless: spans without a start
    :param orphans: spans whose parent is not in the trace
    :param cycles: rings of parents that had to be cut open
    :param duplicates: further starts or stops of a span, left out
    :param skewed: spans that seem to start before their parent, or to stop
        before they start, because the clocks of two hosts disagree. Their
        times are shown as they are, and the trace may be complete.
    :param gone: notifications that were stored, and are not there any more
    """

    unfinished: int = 0
    headless: int = 0
    orphans: int = 0
    cycles: int = 0
    duplicates: int = 0
    skewed: int = 0
    gone: int = 0

    @property
    def complete(self) -> bool:
        """Whether every span has both ends and its place in the tree."""
        return not (
            self.unfinished
            or self.headless
            or self.orphans
            or self.cycles
            or self.gone
        )

    def __str__(self) -> str:
        counts = [
            f"{count} {name}"
            for name, count in (
                ("unfinished", self.unfinished),
                ("headless", self.headless),
                ("orphaned", self.orphans),
                ("in a cycle of parents", self.cycles),
                ("duplicate", self.duplicates),
                ("with clocks that disagree", self.skewed),
                ("notifications gone from the storage", self.gone),
            )
            if count
        ]
        if self.complete:
            counts.insert(0, "complete")
        return ", ".join(counts)


@dataclass(frozen=True, slots=True)
class Trace:
    """All that is known of one request.

    :param base_id: the trace's UUID
    :param roots: the tops of the forest, earliest first; one in a complete
        trace of one request, none in a trace without notifications
    :param spans: every span, earliest first
    :param verdict: what is missing
    :param started: its first notification, microseconds since 1970; 0
        without any
    :param finished: its last notification, likewise
    """

    base_id: str
    roots: tuple[Span, ...]
    spans: tuple[Span, ...]
    verdict: Verdict
    started: int
    finished: int

    @classmethod
    def build(
        cls,
        base_id: str,
        notifications: Iterable[Notification],
        gone: int = 0,
    ) -> Trace:
        """Pair and nest notifications of one trace, in any order.

        :param gone: how many more were stored, and are not there any more
        """
        paired, duplicates = _pair(notifications)
        roots, orphans = _nest(base_id, paired)
        cut = _cut_cycles(roots, paired)
        roots.sort(key=attrgetter("started"))
        spans = tuple(paired.values())
        times = [span.stop.timestamp for span in spans if span.stop]
        times += [span.started for span in spans[:1] + spans[-1:]]
        return cls(
            base_id,
            tuple(roots),
            spans,
            Verdict(
                unfinished=sum(span.stop is None for span in spans),
                headless=sum(span.start is None for span in spans),
                orphans=orphans,
                cycles=cut,
                duplicates=duplicates,
                skewed=sum(_is_skewed(span, paired) for span in spans),
                gone=gone,
            ),
            min(times, default=0),
            max(times, default=0),
        )

    def adjusted(self) -> Trace:
        """The trace as if its hosts' clocks had agreed.

        What another host did for a span cannot have begun before that span.
        Where it seems so, the other host's span is moved, and with it all
        that the host did inside: into the middle of the parent if it is short
        enough, else to the parent's start. Nothing is moved out of the years
        1 to 9999, which timestamps can express.
        """
        shifts: dict[str, int] = {}
        notifications = []
        parents = {
            child.trace_id: span
            for span in self.spans
            for child in span.children
        }
        for _, span in self.walk():
            shift = 0
            parent = parents.get(span.trace_id)
            if parent is not None:
                shift = _shift(span, parent, shifts[parent.trace_id])
            shifts[span.trace_id] = shift
            notifications += [
                dataclasses.replace(
                    end, timestamp=_in_range(end.timestamp + shift)
                )
                for end in (span.start, span.stop)
                if end is not None
            ]
        return Trace.build(self.base_id, notifications, self.verdict.gone)

    def notifications(self) -> Iterator[Notification]:
        """Every start and stop of every span, span by span."""
        for span in self.spans:
            if span.start is not None:
                yield span.start
            if span.stop is not None:
                yield span.stop

    def walk(self) -> Iterator[tuple[int, Span]]:
        """Every span with its depth (0 for a root), parents first."""
        stack = [(0, span) for span in reversed(self.roots)]
        while stack:
            depth, span = stack.pop()
            yield depth, span
            stack.extend((depth + 1, child) for child in span.children[::-1])


def _pair(
    notifications: Iterable[Notification],
) -> tuple[dict[str, Span], int]:
    """Pair starts and stops.

    Of several starts the first counts, of several stops the last. Equal
    notifications count as one.

    :returns: the spans by trace_id, earliest first; how many starts and stops
        were left out
    """
    spans: dict[str, Span] = {}
    rivals: dict[tuple[str, str], set[str]] = {}
    for notification in notifications:
        trace_id = notification.trace_id
        span = spans.get(trace_id)
        if span is None:
            span = spans[trace_id] = Span()
        is_stop = notification.phase == STOP
        known = span.stop if is_stop else span.start
        if known is not None:
            texts = rivals.setdefault(
                (trace_id, notification.phase), {known.text}
            )
            texts.add(notification.text)
            choose = max if is_stop else min
            notification = choose(known, notification, key=_moment)
        if is_stop:
            span.stop = notification
        else:
            span.start = notification
    # Sorted twice, because tuples as keys cost the garbage collector time.
    started = {trace_id: span.started for trace_id, span in spans.items()}
    ordered = sorted(spans)
    ordered.sort(key=started.__getitem__)
    return (
        {trace_id: spans[trace_id] for trace_id in ordered},
        sum(len(texts) - 1 for texts in rivals.values()),
    )


_moment = attrgetter("timestamp", "text")


def _shift(span: Span, parent: Span, parent_shift: int) -> int:
    """By how many microseconds a span has to be moved to fit its parent."""
    if span.first.host == parent.first.host:
        return parent_shift
    begins = parent.started + parent_shift
    if span.start is None or parent.start is None or span.started >= begins:
        return 0
    room = 0
    if parent.duration is not None and span.duration is not None:
        room = max(parent.duration - span.duration, 0) // 2
    return begins + room - span.started


_FIRST = parse_timestamp("0001-01-01T00:00:00.000000")
_LAST = parse_timestamp("9999-12-31T23:59:59.999999")


def _in_range(timestamp: int) -> int:
    return min(max(timestamp, _FIRST), _LAST)


def _is_skewed(span: Span, spans: dict[str, Span]) -> bool:
    start, stop = span.start, span.stop
    if start is None:
        return False
    if stop is not None and stop.timestamp < start.timestamp:
        return True
    parent = spans.get(start.parent_id)
    return (
        parent is not None
        and parent.start is not None
        and start.timestamp < parent.start.timestamp
    )


def _nest(base_id: str, spans: dict[str, Span]) -> tuple[list[Span], int]:
    """Give each span its children.

    :returns: the roots, and how many of them are orphans
    """
    roots = []
    orphans = 0
    for span in spans.values():
        parent = spans.get(span.parent_id)
        if parent is not None:
            parent.children.append(span)
            continue
        roots.append(span)
        orphans += span.parent_id != base_id
    return roots, orphans


def _cut_cycles(roots: list[Span], spans: dict[str, Span]) -> int:
    """Make a root of the earliest span of each ring of parents.

    :returns: how many rings there were
    """
    if _count(roots) == len(spans):
        return 0
    reached: set[str] = set()
    _reach(roots, reached)
    cut = 0
    for trace_id in spans:
        if trace_id in reached:
            continue
        # A span that is not below a root is on a ring, or below one.
        path = {trace_id}
        while (trace_id := spans[trace_id].parent_id) not in path:
            path.add(trace_id)
        ring = [spans[trace_id]]
        while (parent := spans[ring[-1].parent_id]) is not ring[0]:
            ring.append(parent)
        top = min(ring, key=attrgetter("started", "trace_id"))
        spans[top.parent_id].children.remove(top)
        roots.append(top)
        _reach([top], reached)
        cut += 1
    return cut


def _count(tops: list[Span]) -> int:
    """How many spans there are: these, and all below them."""
    count = 0
    while tops:
        count += len(tops)
        tops = [child for span in tops for child in span.children]
    return count


def _reach(tops: Iterable[Span], reached: set[str]) -> None:
    """Add the trace_id of these spans, and of all below them."""
    stack = list(tops)
    while stack:
        span = stack.pop()
        reached.add(span.trace_id)
        stack.extend(span.children)
