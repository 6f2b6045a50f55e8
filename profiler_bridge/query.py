# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What is asked of many traces, and what is answered. Pure.

A trace arrives in pieces: several batches, several workers, any order, some
pieces twice. So the summary of a trace is kept as *partial summaries*, one
for each piece, and put together when it is read. Merging is a union of sets,
a minimum and a maximum: it does not matter in which order pieces came, how
they were cut, or how often they were written.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from profiler_bridge.notification import START, STOP, Notification

# Terms of the index: every trace, those with an error, those of a service.
ALL_TRACES = "all"
WITH_ERRORS = "error"

DEFAULT_LIMIT = 20


def service_term(service: str) -> str:
    """The index term of the traces that a service took part in."""
    return f"service:{service}"


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One row about a trace.

    :param base_id: the trace's UUID
    :param started: its first notification, microseconds since 1970
    :param finished: its last notification, microseconds since 1970
    :param root: what its earliest root did; None while no root started
    :param spans: how many there are
    :param unfinished: how many of them have no stop
    :param headless: how many have no start
    :param missing_parents: how many parents are named that are not in it
    :param errors: how many ended with an exception
    """

    base_id: str
    started: int
    finished: int
    root: str | None
    spans: int
    unfinished: int
    headless: int
    missing_parents: int
    errors: int
    projects: tuple[str, ...]
    services: tuple[str, ...]
    hosts: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def duration(self) -> int:
        """Microseconds from the first notification to the last."""
        return self.finished - self.started

    @property
    def complete(self) -> bool:
        """Whether every span has both ends, and its parent."""
        return not (self.unfinished or self.headless or self.missing_parents)


class Sort(enum.StrEnum):
    """What comes first in a list."""

    START = "start"
    DURATION = "duration"


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """Which traces, and how many of them.

    :param since: started at or after, microseconds since 1970
    :param until: started before, microseconds since 1970
    :param service: a service took part
    :param project: a project took part
    :param host: a host took part
    :param name: an operation of that name is in it
    :param error: a span ended with an exception
    :param incomplete: something is missing
    :param min_duration: lasted at least so many microseconds
    :param max_duration: lasted at most so many microseconds
    :param sort: the newest first, or the longest first
    :param limit: at most so many
    :param marker: only those that come after this base_id
    """

    since: int | None = None
    until: int | None = None
    service: str | None = None
    project: str | None = None
    host: str | None = None
    name: str | None = None
    error: bool = False
    incomplete: bool = False
    min_duration: int | None = None
    max_duration: int | None = None
    sort: Sort = Sort.START
    limit: int = DEFAULT_LIMIT
    marker: str | None = None

    @property
    def term(self) -> str:
        """The index term that leads to the fewest traces to look at."""
        if self.error:
            return WITH_ERRORS
        if self.service is not None:
            return service_term(self.service)
        return ALL_TRACES

    def matches(self, summary: TraceSummary) -> bool:
        """Whether a trace is asked for; limit and marker are not looked at."""
        return (
            (self.since is None or summary.started >= self.since)
            and (self.until is None or summary.started < self.until)
            and (self.service is None or self.service in summary.services)
            and (self.project is None or self.project in summary.projects)
            and (self.host is None or self.host in summary.hosts)
            and (self.name is None or self.name in summary.names)
            and not (self.error and not summary.errors)
            and not (self.incomplete and summary.complete)
            and (
                self.min_duration is None
                or summary.duration >= self.min_duration
            )
            and (
                self.max_duration is None
                or summary.duration <= self.max_duration
            )
        )


@dataclass(slots=True)
class PartialSummary:
    """What one piece of a trace says for its summary.

    Spans are sets of shortened ids (see :func:`_short`).
    """

    started: int
    finished: int
    starts: set[str]
    stops: set[str]
    parents: set[str]
    errors: set[str]
    projects: set[str]
    services: set[str]
    hosts: set[str]
    names: set[str]
    root: tuple[int, str] | None = None

    @classmethod
    def of(cls, notifications: Iterable[Notification]) -> Self:
        """Sum up one or more notifications of one trace."""
        pieces = iter(notifications)
        first = next(pieces)
        partial = cls(
            *(first.timestamp, first.timestamp),
            *(set(), set(), set(), set()),
            *(set(), set(), set(), set()),
        )
        partial._add(first)
        for each in pieces:
            partial._add(each)
        return partial

    def _add(self, each: Notification) -> None:
        if each.timestamp < self.started:
            self.started = each.timestamp
        elif each.timestamp > self.finished:
            self.finished = each.timestamp
        span = _short(each.trace_id)
        is_root = each.parent_id == each.base_id
        if not is_root:
            self.parents.add(_short(each.parent_id))
        if each.phase == STOP:
            self.stops.add(span)
            if each.exception is not None:
                self.errors.add(span)
        else:
            self.starts.add(span)
            if is_root:
                root = (each.timestamp, (each.describe() or each.name)[:200])
                self.root = min(self.root or root, root)
        self.names.add(each.name)
        for values, value in (
            (self.projects, each.project),
            (self.services, each.service),
            (self.hosts, each.host),
        ):
            if value is not None:
                values.add(value)

    def merge(self, other: PartialSummary) -> None:
        """Take in another piece of the same trace."""
        self.started = min(self.started, other.started)
        self.finished = max(self.finished, other.finished)
        for field in _SETS:
            getattr(self, field).update(getattr(other, field))
        if other.root is not None:
            self.root = min(self.root or other.root, other.root)

    def ends(self) -> Iterator[tuple[str, str]]:
        """What this piece has, as :func:`end` names it."""
        for span in self.starts:
            yield span, START
        for span in self.stops:
            yield span, STOP

    def count_beside(self, others: Iterable[PartialSummary]) -> int:
        """How many starts and stops this piece has that no other has."""
        starts, stops = self.starts, self.stops
        for each in others:
            starts = starts - each.starts
            stops = stops - each.stops
        return len(starts) + len(stops)

    def summary(self, base_id: str) -> TraceSummary:
        """Count what is known of the trace."""
        spans = self.starts | self.stops
        return TraceSummary(
            base_id=base_id,
            started=self.started,
            finished=self.finished,
            root=self.root[1] if self.root else None,
            spans=len(spans),
            unfinished=len(self.starts - self.stops),
            headless=len(self.stops - self.starts),
            missing_parents=len(self.parents - spans),
            errors=len(self.errors),
            projects=tuple(sorted(self.projects)),
            services=tuple(sorted(self.services)),
            hosts=tuple(sorted(self.hosts)),
            names=tuple(sorted(self.names)),
        )

    def to_text(self) -> str:
        """Encode as JSON in ASCII, the same text for the same piece."""
        # Most spans start and stop in one piece: name those once.
        both = self.starts & self.stops
        fields: dict[str, Any] = {
            "started": self.started,
            "finished": self.finished,
            "spans": _pack(both),
            "starts": _pack(self.starts - both),
            "stops": _pack(self.stops - both),
            "parents": _pack(self.parents),
            "errors": _pack(self.errors),
            "root": self.root,
        }
        for field in _NAMES:
            fields[field] = sorted(getattr(self, field))
        return json.dumps(
            {key: value for key, value in fields.items() if value},
            separators=(",", ":"),
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Decode what :meth:`to_text` gave."""
        fields: Mapping[str, Any] = json.loads(text)
        both = _unpack(fields.get("spans", ""))
        root = fields.get("root")
        return cls(
            started=fields.get("started", 0),
            finished=fields.get("finished", 0),
            starts=both | _unpack(fields.get("starts", "")),
            stops=both | _unpack(fields.get("stops", "")),
            parents=_unpack(fields.get("parents", "")),
            errors=_unpack(fields.get("errors", "")),
            projects=set(fields.get("projects", ())),
            services=set(fields.get("services", ())),
            hosts=set(fields.get("hosts", ())),
            names=set(fields.get("names", ())),
            root=(root[0], root[1]) if root else None,
        )


_NAMES = ("projects", "services", "hosts", "names")
_SETS = ("starts", "stops", "parents", "errors", *_NAMES)
_SHORT = 16


def end(notification: Notification) -> tuple[str, str]:
    """Which end of which span a notification is."""
    return _short(notification.trace_id), notification.phase


def _short(uuid: str) -> str:
    """64 of a UUID's bits: the ones that differ in every UUID version."""
    return uuid[:8] + uuid[-8:]


def _pack(spans: set[str]) -> str:
    return "".join(sorted(spans))


def _unpack(text: str) -> set[str]:
    return {text[at : at + _SHORT] for at in range(0, len(text), _SHORT)}


def index_terms(partials: Iterable[PartialSummary]) -> set[str]:
    """The index terms under which a trace of these pieces is found."""
    terms = {ALL_TRACES}
    for each in partials:
        if each.errors:
            terms.add(WITH_ERRORS)
        terms.update(map(service_term, each.services))
    return terms


def summarize(
    base_id: str, partials: Iterable[PartialSummary]
) -> TraceSummary:
    """Merge one or more partial summaries of a trace."""
    whole, *others = partials
    if others:
        sets: dict[str, Any] = {
            field: set(getattr(whole, field)) for field in _SETS
        }
        whole = dataclasses.replace(whole, **sets)
    for each in others:
        whole.merge(each)
    return whole.summary(base_id)
