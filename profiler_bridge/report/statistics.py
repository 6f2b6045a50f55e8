# SPDX-License-Identifier: Apache-2.0

"""Where the time of one trace or of many went. Pure.

Traces are added one after the other, and nothing of them is kept but sums,
in memory that does not grow with them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from profiler_bridge.late import late_spans
from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.operation import kind, operation
from profiler_bridge.report.quantiles import Distribution
from profiler_bridge.report.statements import statement
from profiler_bridge.roots import Roots
from profiler_bridge.statement import shape
from profiler_bridge.trace import Span, Trace

_OTHERS = "(others)"
# How many groups there may be, and how many characters their keys may have.
# A recorded server create has 210 operations; what is beyond this was made up
# by somebody, or is the paths of an object store.
_MOST_GROUPS = 10_000
_MOST_TEXT = 2**24

Key = tuple[str, ...]
T = TypeVar("T")


class By(enum.StrEnum):
    """What spans are summed up by."""

    OPERATION = "operation"
    STATEMENT = "statement"
    SERVICE = "service"
    HOST = "host"
    KIND = "kind"
    ROOT = "root"


@dataclass(slots=True)
class Group:
    """The spans of one key, summed up; by root, the traces of one name.

    Times are in microseconds.

    :param count: how many there are
    :param errors: those that ended with an exception; by root, in which a
        span did
    :param durations: of those that have both ends; by root, until they were
        answered
    :param self_time: in which no child of theirs ran; by root, as durations
    :param times: of each trace that has such spans, their self time together;
        by root, as durations
    :param most: how many there are in the trace that has most of them
    :param base_id: that trace; by root, the one that took longest
    """

    count: int = 0
    errors: int = 0
    durations: Distribution = field(default_factory=Distribution)
    self_time: int = 0
    times: Distribution = field(default_factory=Distribution)
    most: int = 0
    base_id: str = ""

    @property
    def traces(self) -> int:
        """How many traces have such spans; by root, how many were answered."""
        return self.times.count

    def add_spans(self, base_id: str, spans: Collection[Span]) -> int:
        """Add all such spans that a trace has.

        :returns: their self time
        """
        # All in one place, because a call for each span takes time.
        errors = self_time = 0
        add_duration = self.durations.add
        for span in spans:
            start, stop = span.start, span.stop
            if stop is None:
                continue
            info = stop.payload.get("info")
            if info and "etype" in info and stop.exception is not None:
                errors += 1
            if start is not None:
                duration = stop.timestamp - start.timestamp
                add_duration(duration)
                # Most have no children.
                own = span.self_time if span.children else duration
                self_time += own or 0
        self.count += len(spans)
        self.errors += errors
        self.self_time += self_time
        self.times.add(self_time)
        if len(spans) > self.most:
            self.most, self.base_id = len(spans), base_id
        return self_time

    def add_trace(
        self, base_id: str, answered: int | None, is_failed: bool
    ) -> None:
        """Add a trace as a whole.

        :param answered: microseconds; None while it is not
        """
        self.count += 1
        self.errors += is_failed
        if answered is not None:
            if not self.durations.count or answered > self.durations.greatest:
                self.base_id = base_id
            self.durations.add(answered)
            self.times.add(answered)
            self.self_time += answered


@dataclass(slots=True)
class Sums(Generic[T]):
    """Of any number of traces: how many, when they started, and groups.

    :param by: what their spans are summed up by
    :param traces: how many
    :param earliest: the least start of a trace, microseconds since 1970;
        None without any
    :param latest: the greatest start of a trace, likewise
    :param groups: service and operation, service and root, or a single text
        lead to what has these
    """

    by: By = By.OPERATION
    traces: int = field(default=0, kw_only=True)
    earliest: int | None = field(default=None, kw_only=True)
    latest: int | None = field(default=None, kw_only=True)
    groups: dict[Key, T] = field(default_factory=dict, kw_only=True)
    _text: int = field(default=0, kw_only=True)

    def add(self, trace: Trace) -> None:
        self.traces += 1
        if not trace.spans:
            return
        if self.earliest is None or trace.started < self.earliest:
            self.earliest = trace.started
        if self.latest is None or trace.started > self.latest:
            self.latest = trace.started
        self._add(trace)

    def _add(self, trace: Trace) -> None:
        """Add a trace that has spans to the groups."""
        raise NotImplementedError

    def _new(self) -> T:
        """A group without anything in it."""
        raise NotImplementedError

    def _admit(self, key: Key) -> Key:
        """The key of the group to add to: :attr:`others` if all are there."""
        if key in self.groups:
            return key
        text = self._text + sum(map(len, key))
        if len(self.groups) < _MOST_GROUPS and text <= _MOST_TEXT:
            self._text = text
        else:
            key = self.others
        self.groups.setdefault(key, self._new())
        return key

    @property
    def others(self) -> Key:
        """The key of what there was no room for."""
        return self._key_of_none(_OTHERS)

    def _key_of_none(self, text: str) -> Key:
        """A key that is of no operation, service and so on."""
        is_of_service = self.by in (By.OPERATION, By.ROOT)
        return ("", text) if is_of_service else (text,)

    def __str__(self) -> str:
        """How many traces, and when they started: what the rest is of."""
        if self.earliest is None or self.latest is None:
            return _count(self.traces, "trace")
        first, last = map(_second, (self.earliest, self.latest))
        when = first
        if last != first:
            is_same_day = last[:10] == first[:10]
            when += f" to {last[11:] if is_same_day else last}"
        return f"{_count(self.traces, 'trace')}, {when} UTC"


@dataclass(slots=True)
class Statistics(Sums[Group]):
    """Of all spans of traces.

    :param without_late: leave out spans that are not of the trace's request;
        see :func:`~profiler_bridge.late.late_spans`
    :param late: how many spans were left out
    :param self_time: of all spans that were not, microseconds; by root, until
        the traces were answered
    """

    without_late: bool = False
    late: int = 0
    self_time: int = 0

    def _new(self) -> Group:
        return Group()

    def _add(self, trace: Trace) -> None:
        spans: Collection[Span] = trace.spans
        if self.without_late:
            late = late_spans(trace)
            if late:
                spans = [span for span in spans if span.trace_id not in late]
                self.late += len(late)
        if self.by is By.ROOT:
            self._add_root(trace, spans)
        else:
            self._add_spans(trace.base_id, spans)

    def _add_spans(self, base_id: str, spans: Iterable[Span]) -> None:
        sign_of, key_of = _SIGNS[self.by], KEYS[self.by]
        alike: dict[object, list[Span]] = {}
        for span in spans:
            sign = sign_of(span.start or span.first)
            known = alike.get(sign)
            if known is None:
                alike[sign] = [span]
            else:
                known.append(span)
        within: dict[Key, list[Span]] = {}
        for some in alike.values():
            key = key_of(some[0].first)
            if key is not None:
                within.setdefault(self._admit(key), []).extend(some)
        for key, all_of_it in within.items():
            self.self_time += self.groups[key].add_spans(base_id, all_of_it)

    def _add_root(self, trace: Trace, spans: Iterable[Span]) -> None:
        roots = Roots()
        services: dict[str, str | None] = {}
        unfinished = set()
        is_failed = False
        for span in spans:
            is_failed = is_failed or span.exception is not None
            if span.parent_id != trace.base_id:
                continue
            for end in (span.start, span.stop):
                if end is not None:
                    roots.add(end, span.trace_id)
            if span.start is not None:
                services.setdefault(
                    operation(span.start), span.start.qualified_service
                )
            if span.stop is None:
                unfinished.add(span.trace_id)
        name = roots.name or ""
        key = self._admit((services.get(name) or "", name))
        answered = roots.answered(unfinished)
        self.groups[key].add_trace(trace.base_id, answered, is_failed)
        self.self_time += answered or 0

    def __str__(self) -> str:
        # Without arguments super() knows the class before it had slots.
        text = Sums.__str__(self)
        if self.late:
            text += f", without {_count(self.late, 'late span')}"
        return text


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _second(timestamp: int) -> str:
    return format_timestamp(timestamp)[:19].replace("T", " ")


def _by_operation(first: Notification) -> Key:
    return first.qualified_service or "", operation(first)


def _by_statement(first: Notification) -> Key | None:
    text = statement(first)
    return (shape(text),) if text else None


#: What spans are summed up by, of a span's first notification; None for what
#: is in no group.
KEYS: dict[By, Callable[[Notification], Key | None]] = {
    By.OPERATION: _by_operation,
    By.STATEMENT: _by_statement,
    By.SERVICE: lambda first: (first.qualified_service or "",),
    By.HOST: lambda first: (first.host or "",),
    By.KIND: lambda first: (kind(first),),
}


def _operation_sign(first: Notification) -> object:
    """The statement, for most spans: it takes less time than what it does."""
    payload = first.payload
    info = payload.get("info")
    if info and "db" in info and not ("request" in info or "requests" in info):
        text = statement(first)
        # From a letter on it does something, so nothing else is looked at.
        if text and text[0].isalpha():
            return payload.get("project"), payload.get("service"), text
    return _by_operation(first)


# Of spans with the same sign the key is the same, and is made once.
_SIGNS: dict[By, Callable[[Notification], object]] = {
    By.OPERATION: _operation_sign,
    By.STATEMENT: statement,
    By.SERVICE: lambda first: (first.project, first.service),
    By.HOST: lambda first: first.host,
    By.KIND: kind,
}
