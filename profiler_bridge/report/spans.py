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
"""What the formats for other tools share: ids, kinds, attributes, lanes."""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from profiler_bridge.report.text import printable
from profiler_bridge.trace import Span, Trace

# A reader that knows JavaScript's numbers alone gets all digits of these.
_MAX_INTEGER = 2**53

_KIND_BY_SECTION = {"request": "wsgi", "requests": "http", "db": "db"}
_KIND_BY_NAME = {
    "wsgi": "wsgi",
    "rpc": "rpc",
    "db": "db",
    "http": "http",
    "https": "http",
}

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/
_CONVENTIONS = {
    ("request", "method"): "http.request.method",
    ("request", "path"): "url.path",
    ("request", "query"): "url.query",
    ("request", "scheme"): "url.scheme",
    ("requests", "method"): "http.request.method",
    ("requests", "path"): "url.path",
    ("requests", "query"): "url.query",
    ("requests", "scheme"): "url.scheme",
    ("requests", "hostname"): "server.address",
    ("requests", "port"): "server.port",
    ("requests", "status_code"): "http.response.status_code",
    ("db", "statement"): "db.query.text",
    ("function", "name"): "code.function.name",
}

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(value: object) -> str:
    """JSON in ASCII, for what is nested no deeper than a format itself."""
    return _encode(value)


def items(values: Iterable[object], separator: str = ",\n") -> Iterator[str]:
    """The items of a JSON array, without its brackets."""
    between = ""
    for value in values:
        yield between + _encode(value)
        between = separator


def text(value: object) -> str:
    """Any value of a payload as text that every reader takes.

    What is not text becomes JSON, NaN included. Half a surrogate pair, which
    UTF-8 cannot hold, becomes its escape.
    """
    if not isinstance(value, str):
        try:
            value = json.dumps(value)
        except RecursionError:
            value = "(nested too deeply)"
    return value.encode("utf-8", "backslashreplace").decode()


class Place(NamedTuple):
    """Where a span ran; what is not known is empty."""

    project: str
    service: str
    host: str

    def __str__(self) -> str:
        where = ":".join(filter(None, (self.project, self.service)))
        found = f"{where}@{self.host}" if self.host else where
        return printable(found or "unknown")

    @property
    def service_name(self) -> str:
        """One name for both, as osprofiler's otlp:// and jaeger:// say it."""
        return "-".join(filter(None, (self.project, self.service)))


def place(span: Span) -> Place:
    first = span.first
    return Place(
        text(first.project or ""),
        text(first.service or ""),
        text(first.host or ""),
    )


def kind(span: Span) -> str:
    """What a span did: ``wsgi``, ``rpc``, ``db``, ``http`` or ``other``.

    ``http`` is a request that the service sent, ``wsgi`` one it answered.
    """
    infos = [each.info for each in (span.start, span.stop) if each]
    for section, found in _KIND_BY_SECTION.items():
        if any(isinstance(info.get(section), dict) for info in infos):
            return found
    # "db" is osprofiler's own example; services say "neutron.db" as well.
    return _KIND_BY_NAME.get(span.name.rpartition(".")[2], "other")


def role(span: Span, parent: Span | None) -> str | None:
    """Whether a span is the ``SERVER`` or the ``CLIENT`` of a call, or none.

    Both ends of an RPC have the same name in osprofiler. The end that answers
    is the one whose parent ran elsewhere; the end that asks, the one whose
    child did.
    """
    what = kind(span)
    if what == "wsgi":
        return "SERVER"
    if what in ("db", "http"):
        return "CLIENT"
    if what == "rpc":
        here = place(span)
        if parent is not None and place(parent) != here:
            return "SERVER"
        if any(place(child) != here for child in span.children):
            return "CLIENT"
    return None


def label(span: Span) -> str:
    """The operation and what it did, for a person."""
    return printable(f"{span.name} {span.first.describe()}".strip())


def error(span: Span) -> str | None:
    """The exception that ended a span, with its message if it had one."""
    if span.exception is None:
        return None
    message = error_message(span)
    return text(span.exception) + (f": {message}" if message else "")


def error_message(span: Span) -> str:
    message = None if span.stop is None else span.stop.info.get("message")
    return "" if message is None else text(message)


def ended(span: Span, finished: int) -> int:
    """When a span ends in a format that must know, in microseconds.

    :param finished: the trace's last notification, where an unfinished span
        ends. No span ends before it started, even if clocks say so.
    """
    stop = finished if span.stop is None else span.stop.timestamp
    return max(stop, span.started)


def attributes(span: Span) -> dict[str, str | int | bool]:
    """All that osprofiler tells of a span, under OpenTelemetry's names.

    What has no name there begins with ``osprofiler.``; what is missing from
    the span, or wrong with it, with ``profiler_bridge.``.
    """
    found: dict[str, str | int | bool] = {}
    for each in (span.start, span.stop):
        for section, fields in ({} if each is None else each.info).items():
            if section in ("host", "etype", "message"):
                continue
            if not isinstance(fields, dict):
                found[text(f"osprofiler.{section}")] = _value(fields)
                continue
            for key, value in fields.items():
                if (section, key) == ("db", "params"):
                    found.update(_parameters(value))
                elif value is not None and value != "":
                    name = _CONVENTIONS.get(
                        (section, key), f"osprofiler.{section}.{key}"
                    )
                    found[text(name)] = _value(value)
    found["osprofiler.trace_id"] = span.trace_id
    found["osprofiler.parent_id"] = span.parent_id
    if span.exception is not None:
        found["error.type"] = text(span.exception)
    if span.stop is None:
        found["profiler_bridge.unfinished"] = True
    if span.start is None:
        found["profiler_bridge.headless"] = True
    if span.duration is not None and span.duration < 0:
        found["profiler_bridge.duration_us"] = span.duration
    return found


def _value(value: object) -> str | int | bool:
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return value
    return text(value)


def _parameters(params: Any) -> dict[str, str]:
    """Those of one statement each by its name; those of many in one piece."""
    named = params if isinstance(params, dict) else None
    if isinstance(params, list | tuple):
        named = dict(enumerate(params))
    if named is None or any(
        isinstance(value, dict | list | tuple) for value in named.values()
    ):
        return {"osprofiler.db.params": text(params)}
    return {
        text(f"db.query.parameter.{key}"): text(value)
        for key, value in named.items()
    }


def trace_id(trace: Trace) -> str:
    """The base_id as 32 hexadecimal digits, of which not all may be zero."""
    return f"{int(trace.base_id.replace('-', ''), 16) or 1:032x}"


class Identified(NamedTuple):
    """A span with 64 bits, as 16 hexadecimal digits, for each of its UUIDs.

    :param parent: None for a root and for an orphan
    :param parent_id: None for a root; an orphan names the parent that it
        would have, so that a reader sees that one is missing
    """

    span: Span
    parent: Span | None
    id: str
    parent_id: str | None


def identified(trace: Trace) -> Iterator[Identified]:
    """Every span, earliest first, with short ids that are unique in it.

    An id is the last 64 bits of the UUID, as osprofiler's own otlp:// and
    jaeger:// drivers take them: what they sent and what is exported here is
    the same span. Should two be equal, the later one is hashed until it is
    free.
    """
    parents = {
        child.trace_id: span for span in trace.spans for child in span.children
    }
    known = dict.fromkeys(span.trace_id for span in trace.spans)
    missing = dict.fromkeys(
        span.parent_id
        for span in trace.spans
        if span.parent_id not in known and span.parent_id != trace.base_id
    )
    ids = _short_ids([*known, *missing])
    for span in trace.spans:
        parent = parents.get(span.trace_id)
        has_parent = parent is not None or span.parent_id in missing
        yield Identified(
            span,
            parent,
            ids[span.trace_id],
            ids[span.parent_id] if has_parent else None,
        )


def _short_ids(uuids: Iterable[str]) -> Mapping[str, str]:
    taken: dict[str, str] = {}
    for uuid in uuids:
        short = uuid.replace("-", "")[-16:].lower()
        while short in taken or short == "0" * 16:
            hashed = blake2b(f"{short} {uuid}".encode(), digest_size=8)
            short = hashed.hexdigest()
        taken[short] = uuid
    return {uuid: short for short, uuid in taken.items()}


class Bar(NamedTuple):
    """A span in its lane, from one microsecond to another.

    :param depth: the number of bars of the lane that it lies on
    """

    span: Span
    start: int
    end: int
    depth: int


@dataclass(slots=True)
class _Lane:
    bars: list[Bar] = field(default_factory=list)
    open: list[Bar] = field(default_factory=list)

    def has_room(self, parent: Span, start: int, end: int) -> bool:
        """Whether a child lies within its parent, on nothing but that."""
        while (
            self.open
            and self.open[-1].span is not parent
            and self.open[-1].end <= start
        ):
            self.open.pop()
        return (
            bool(self.open)
            and self.open[-1].span is parent
            and self.open[-1].end >= end
        )

    def add(self, span: Span, start: int, end: int) -> None:
        bar = Bar(span, start, end, len(self.open))
        self.bars.append(bar)
        self.open.append(bar)


@dataclass(slots=True)
class _Lanes:
    """The lanes of one place; the numbers of those free, and of the others
    with the time until when they are not."""

    lanes: list[_Lane] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    busy: list[tuple[int, int]] = field(default_factory=list)

    def take(self, start: int, end: int) -> _Lane:
        """The first lane in which nothing runs any more."""
        while self.busy and self.busy[0][0] <= start:
            heapq.heappush(self.free, heapq.heappop(self.busy)[1])
        if self.free:
            number = heapq.heappop(self.free)
            self.lanes[number].open.clear()
        else:
            number = len(self.lanes)
            self.lanes.append(_Lane())
        heapq.heappush(self.busy, (end, number))
        return self.lanes[number]


def lanes(
    trace: Trace, levels: int = sys.maxsize
) -> dict[Place, list[list[Bar]]]:
    """Lay spans out where bars may nest, but not overlap, place by place.

    A span lies on its parent if that ran in the same place and lasted as
    long; else it begins a lane of its own, or one that has become free. So
    what lies on a bar is always its child, and siblings at the same time,
    children that outlive their parent, and those that clocks put before it,
    lie side by side. Bars of a lane are in the order in which they begin.

    :param levels: how many bars may lie on one another
    """
    finished = trace.finished
    parents = {
        child.trace_id: span for span in trace.spans for child in span.children
    }
    found: dict[Place, _Lanes] = {}
    lane_of: dict[str, _Lane] = {}
    # Stable: of those that begin together, parents come first.
    for _, span in sorted(trace.walk(), key=lambda item: item[1].started):
        here = place(span)
        start, end = span.started, ended(span, finished)
        parent = parents.get(span.trace_id)
        lane = lane_of.get(span.parent_id)
        if (
            parent is None
            or lane is None
            or place(parent) != here
            or not lane.has_room(parent, start, end)
            or len(lane.open) >= levels
        ):
            lane = found.setdefault(here, _Lanes()).take(start, end)
        lane.add(span, start, end)
        lane_of[span.trace_id] = lane
    return {
        here: [lane.bars for lane in taken.lanes]
        for here, taken in found.items()
    }
