# SPDX-License-Identifier: Apache-2.0

"""What the formats for other tools share: ids, kinds, attributes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from profiler_bridge import operation
from profiler_bridge.notification import Notification
from profiler_bridge.report.text import shortened
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

# A reader whose numbers are JavaScript's gets all digits up to here.
_MAX_INTEGER = 2**53

#: A service's name where neither it nor its project is known.
UNKNOWN_SERVICE = "unknown_service"

_LONGEST_CLASS = 255
_MOST_DESCRIBED = 4000

# OTLP is the longest of the formats. What it has around an attribute's key and
# value, and about what it has of a span beside attributes; in bytes.
_AROUND_ATTRIBUTE = len('{"key":"","value":{"stringValue":""}},')
_BESIDE_ATTRIBUTES = 400
_NUMBER = 8
_NAMES_KEPT = 10_000
_LONGEST_NAME_KEPT = 100

_CONTAINERS = (dict, list, tuple)
_Value = str | int | bool

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/
# By the section of an info, and the key in it.
_CONVENTIONS: Mapping[str, Mapping[str, str]] = {
    "request": {
        "method": "http.request.method",
        "path": "url.path",
        "query": "url.query",
        "scheme": "url.scheme",
    },
    "requests": {
        "method": "http.request.method",
        "path": "url.path",
        "query": "url.query",
        "scheme": "url.scheme",
        "hostname": "server.address",
        "port": "server.port",
        "status_code": "http.response.status_code",
    },
    "db": {"statement": "db.query.text"},
    "function": {"name": "code.function.name"},
}
_NONE: Mapping[str, str] = {}

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_encode_any = json.JSONEncoder(separators=(",", ":")).encode


def encode(value: object) -> str:
    """JSON in ASCII of a value that is not nested deeper than a format is."""
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
        # Of what there is most, the json module would say the same slowly.
        if value is None:
            return "null"
        if type(value) is int:
            return str(value)
        try:
            value = json.dumps(value)
        except RecursionError:
            value = "(nested too deeply)"
    if value.isascii():
        return value  # most are
    return value.encode("utf-8", "backslashreplace").decode()


class Place(NamedTuple):
    """Where a span ran, as its notifications say; empty what is not known.

    The texts are made printable only when they are shown, because a span's
    place is compared with that of each of its children.
    """

    project: str
    service: str
    host: str

    def __str__(self) -> str:
        where = ":".join(filter(None, (self.project, self.service)))
        if self.host:
            where = f"{where}@{self.host}"
        return printable(where or "unknown")

    @property
    def service_name(self) -> str:
        """Both in one, as osprofiler's otlp:// and jaeger:// have it."""
        return _service_name(self.project, self.service)

    @property
    def known_service(self) -> str:
        """The same, with OpenTelemetry's word for none."""
        return _known_service(self.project, self.service)


# A trace has many spans, and few services.
@lru_cache(1024)
def _service_name(project: str, service: str) -> str:
    return text("-".join(filter(None, (project, service))))


@lru_cache(1024)
def _known_service(project: str, service: str) -> str:
    return _service_name(project, service) or UNKNOWN_SERVICE


def service(span: Span) -> str:
    """The service that a span ran in; see :attr:`Place.known_service`."""
    first = span.first
    return _known_service(first.project or "", first.service or "")


def place(span: Span) -> Place:
    first = span.first
    return Place(first.project or "", first.service or "", first.host or "")


def kind(span: Span) -> str:
    """How a span is measured; see :func:`profiler_bridge.operation.kind`."""
    return operation.kind(span.first)


def role(span: Span, parent: Span | None) -> str | None:
    """Whether a span is the ``SERVER`` or the ``CLIENT`` of a call, or none.

    Both ends of an RPC have the same name in osprofiler. The one that answers
    is known by a parent that ran elsewhere, the one that asks by a child that
    did.
    """
    span_kind = kind(span)
    if span_kind == "wsgi":
        return "SERVER"
    if span_kind in ("db", "http"):
        return "CLIENT"
    if span_kind == "rpc":
        here = place(span)
        if parent is not None and place(parent) != here:
            return "SERVER"
        if any(place(child) != here for child in span.children):
            return "CLIENT"
    return None


def label(span: Span) -> str:
    """What a span did, for a person and to sum by."""
    return operation.operation(span.first)


def detail(span: Span) -> str:
    """What the operation leaves out: a condition, a path's ids, a module.

    :returns: on one line, and not made printable; empty where the operation
        says it all
    """
    # Cut before it is searched, which takes time in proportion to it.
    described = span.first.describe()[:_MOST_DESCRIBED]
    did = label(span)
    if described == did:
        return ""
    return _beside_tables(did, described) if kind(span) == "db" else described


# With which word it goes on behind the tables.
_BEHIND_TABLES = {"UPDATE": " SET ", "INSERT": " VALUES "}


def _beside_tables(did: str, sql: str) -> str:
    """Of SQL what stands behind its verb and its tables."""
    verb = did.partition(" ")[0]
    begin = sql.find(_BEHIND_TABLES.get(verb, " WHERE "))
    if begin < 0 and sql.startswith(f"{did} "):
        begin = len(did)
    if begin >= 0:
        return f"…{sql[begin:]}"
    # What is selected is long, and says less than from where.
    return "" if verb == "SELECT" and verb != did else sql


def error(span: Span) -> str | None:
    """The exception that ended a span, with its message if it had one."""
    if span.exception is None:
        return None
    message = error_message(span)
    return error_type(span) + (f": {message}" if message else "")


def error_type(span: Span) -> str:
    """The class of the exception that ended a span; empty for none.

    Names of classes are short. A longer text is cut, because formats repeat
    it; :func:`attributes` has all of it.
    """
    return shortened(text(span.exception or ""), _LONGEST_CLASS)


def error_message(span: Span) -> str:
    message = None if span.stop is None else span.stop.info.get("message")
    return "" if message is None else text(message)


def ended(span: Span, finished: int) -> int:
    """When a span ends in a format that must know; in microseconds.

    :param finished: the trace's last notification, where an unfinished span
        ends
    :returns: never before its start, even if clocks disagree
    """
    stop = finished if span.stop is None else span.stop.timestamp
    return max(stop, span.started)


def attributes(
    span: Span, late: Set[str], did: str | None = None
) -> dict[str, _Value]:
    """All that osprofiler says of a span, under OpenTelemetry's names.

    What OpenTelemetry has no name for begins with ``osprofiler.``; what is
    missing from the span, or wrong with it, with ``profiler_bridge.``. Where
    that would be more than twice as long as the notifications, as with 10,000
    short parameters, ``osprofiler.start`` and ``osprofiler.stop`` have the
    infos as JSON instead.

    :param late: the spans that are, by trace_id
    :param did: the span's :func:`label`, where it is known already
    """
    start, stop = span.start, span.stop
    ends = [end for end in (start, stop) if end is not None]
    first = ends[0]
    exception = span.exception
    values: dict[str, _Value] = {}
    room = 2 * sum([len(end.text) for end in ends]) - _BESIDE_ATTRIBUTES
    room -= _around["osprofiler.name"] + len(first.name)
    for name, value in _named(ends):
        values[name] = value
        room -= _around[name] + (
            len(value) if isinstance(value, str) else _NUMBER
        )
        if room < 0:
            values = {
                f"osprofiler.{end.phase}": text(_encode_any(end.info))
                for end in ends
            }
            break
    if first.name != (label(span) if did is None else did):
        values["osprofiler.name"] = text(first.name)
    values["osprofiler.trace_id"] = first.trace_id
    values["osprofiler.parent_id"] = first.parent_id
    if exception is not None:
        values["error.type"] = text(exception)
    if stop is None:
        values["profiler_bridge.unfinished"] = True
    if start is None:
        values["profiler_bridge.headless"] = True
    if first.trace_id in late:
        values["profiler_bridge.late"] = True
    duration = span.duration
    if duration is not None and duration < 0:
        values["profiler_bridge.duration_us"] = duration
    return values


def _named(ends: Iterable[Notification]) -> Iterator[tuple[str, _Value]]:
    """The values of infos with their attributes' names; later ones count."""
    for end in ends:
        for section, fields in end.info.items():
            if section in ("host", "etype", "message"):
                continue
            if not isinstance(fields, dict):
                yield text(f"osprofiler.{section}"), _value(fields)
                continue
            conventions = _CONVENTIONS.get(section, _NONE)
            for key, value in fields.items():
                if key == "params" and section == "db":
                    yield from _parameters(value)
                elif value is not None and value != "":
                    name = conventions.get(key)
                    if name is None:
                        name = text(f"osprofiler.{section}.{key}")
                    yield name, _value(value)


class _Around(dict[str, int]):
    """About how many bytes an attribute's value has around it in OTLP."""

    def __missing__(self, name: str) -> int:
        # A character beyond ASCII is up to 12 bytes of JSON, a control 6.
        longest = 1 if name.isascii() and name.isprintable() else 12
        size = len(name) * longest + _AROUND_ATTRIBUTE
        # They are few and short, unless somebody makes up others.
        if len(name) <= _LONGEST_NAME_KEPT:
            if len(self) >= _NAMES_KEPT:
                self.clear()
            self[name] = size
        return size


_around = _Around()


def _value(value: object) -> _Value:
    if isinstance(value, str):
        return value if value.isascii() else text(value)
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return value
    return text(value)


def _parameters(params: Any) -> Iterator[tuple[str, str]]:
    """A statement's parameters one by one, or all executions' in one piece."""
    named = params if isinstance(params, dict) else None
    if isinstance(params, list | tuple):
        named = dict(enumerate(params))
    if named is None or any(
        isinstance(value, _CONTAINERS) for value in named.values()
    ):
        yield "osprofiler.db.params", text(params)
        return
    for key, value in named.items():
        yield text(f"db.query.parameter.{key}"), text(value)


def trace_id(trace: Trace) -> str:
    """The base_id as 32 hexadecimal digits, of which not all may be zero."""
    return f"{int(trace.base_id.replace('-', ''), 16) or 1:032x}"


class Identified(NamedTuple):
    """A span with ids of 64 bits, as 16 hexadecimal digits.

    :param parent: None for a root and for an orphan
    :param parent_id: None for a root. An orphan has the id of the parent that
        is not there, so that a reader sees that one is missing.
    """

    span: Span
    parent: Span | None
    id: str
    parent_id: str | None


def identified(trace: Trace) -> Iterator[Identified]:
    """Every span, earliest first, with short ids that are unique in it.

    An id is the last 64 bits of the UUID, as in osprofiler's own drivers
    otlp:// and jaeger://: what these sent and what is exported here is the
    same span. Should two be equal, the later one is hashed until it is
    unique.
    """
    parents = {
        child.trace_id: span for span in trace.spans for child in span.children
    }
    firsts = [span.first for span in trace.spans]
    known = {first.trace_id: None for first in firsts}
    missing = {
        first.parent_id: None
        for first in firsts
        if first.parent_id not in known and first.parent_id != trace.base_id
    }
    ids = _short_ids([*known, *missing])
    for span, first in zip(trace.spans, firsts, strict=True):
        parent = parents.get(first.trace_id)
        has_parent = parent is not None or first.parent_id in missing
        yield Identified(
            span,
            parent,
            ids[first.trace_id],
            ids[first.parent_id] if has_parent else None,
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
