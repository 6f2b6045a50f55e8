# SPDX-License-Identifier: Apache-2.0

"""A trace as OTLP/JSON, which Jaeger's UI opens.

TracesData, and so ExportTraceServiceRequest, of
https://github.com/open-telemetry/opentelemetry-proto in the encoding of
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding; the whole on
one line, as files of it have it
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from profiler_bridge.late import late_spans
from profiler_bridge.report import spans
from profiler_bridge.report.spans import Identified, Place
from profiler_bridge.report.text import shortened
from profiler_bridge.trace import Trace

_KINDS = {None: 1, "SERVER": 2, "CLIENT": 3}
# In a trace with more of them, spans name their place themselves, which takes
# less room.
_MOST_RESOURCES = 200
_NOWHERE = Place("", "", "")
# The event has the whole message.
_LONGEST_STATUS = 1000
# Unsigned by the format, but readers count in signed 64 bits: 1970 to 2262.
_MAX_NANOSECONDS = 2**63 - 1

#: Of the instrumentation scope, which all spans have.
SCOPE = "osprofiler"
#: What the event of an error is called, and its status.
EXCEPTION = "exception"
ERROR = 2

Value = str | int | bool


class Error(NamedTuple):
    """What ended a span.

    :param at: nanoseconds since 1970
    :param type: the exception's class; empty where it is not known
    """

    at: int
    type: str
    message: str

    @property
    def attributes(self) -> Mapping[str, Value]:
        """Those of the event."""
        return {
            "exception.type": self.type,
            "exception.message": self.message,
        }

    @property
    def status(self) -> str:
        """The message of the span's status."""
        return shortened(self.message, _LONGEST_STATUS)


class Exported(NamedTuple):
    """A span as OTLP has it, in whichever encoding.

    :param trace_id: 32 hexadecimal digits
    :param id: 16 hexadecimal digits
    :param parent_id: 16 hexadecimal digits; None for a root
    :param kind: the number of its SpanKind
    :param start: nanoseconds since 1970
    :param end: nanoseconds since 1970
    """

    trace_id: str
    id: str
    parent_id: str | None
    name: str
    kind: int
    start: int
    end: int
    attributes: Mapping[str, Value]
    error: Error | None


class Group(NamedTuple):
    """Spans of one resource.

    :param resource: the resource's attributes
    :param spans: to be read once
    """

    resource: Mapping[str, str]
    spans: Iterator[Exported]


def exported(trace: Trace, only: Set[str] | None = None) -> Iterator[Group]:
    """The spans, grouped by project, service and host.

    The format has neither unfinished nor headless spans, nor any that end
    before they start. They get the start or the end at which a timeline
    would draw them, and an attribute ``profiler_bridge.*`` that says so.

    :param only: by their trace_ids, those that are wanted; None for all.
        They are the same whichever these are.
    """
    trace_id = spans.trace_id(trace)
    finished = trace.finished
    late = late_spans(trace)
    for place, members in _groups([*spans.identified(trace)]).items():
        if only is not None:
            members = [
                (one, own) for one, own in members if one.span.trace_id in only
            ]
        if members:
            yield Group(
                resource_of(place),
                (
                    _exported(trace_id, member, finished, own, place, late)
                    for member, own in members
                ),
            )


def placed(trace: Trace) -> Iterator[tuple[Place, Exported]]:
    """The spans, earliest first, each with where it ran."""
    trace_id = spans.trace_id(trace)
    late = late_spans(trace)
    for identified in spans.identified(trace):
        place = spans.place(identified.span)
        yield (
            place,
            _exported(
                trace_id, identified, trace.finished, place, place, late
            ),
        )


def render(trace: Trace) -> Iterator[str]:
    """Give the spans of :func:`exported`."""
    yield '{"resourceSpans":'
    yield from resource_spans(trace)
    yield "}\n"


def resource_spans(trace: Trace, as_text: bool = False) -> Iterator[str]:
    """JSON of the list of :func:`exported`.

    :param as_text: for readers that know values of attributes as text only
    """
    yield "["
    between = ""
    for group in exported(trace):
        yield f"{between}{opening(group.resource)}"
        yield from spans.items(
            (fields(span, as_text) for span in group.spans), ","
        )
        yield CLOSING
        between = ","
    yield "]"


def opening(resource: Mapping[str, str]) -> str:
    """JSON of what stands before the spans of a resource."""
    attributes = {"attributes": _attributes(resource)}
    return (
        f'{{"resource":{spans.encode(attributes)},"scopeSpans":'
        f'[{{"scope":{{"name":"{SCOPE}"}},"spans":['
    )


#: JSON of what stands behind them.
CLOSING = "]}]}"


def fields(span: Exported, as_text: bool = False) -> dict[str, Any]:
    """A span as OTLP's JSON has it.

    :param as_text: values of attributes are text, whatever they are
    """
    values: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes, as_text),
    }
    if span.parent_id is None:
        del values["parentSpanId"]
    if span.error is not None:
        values["events"] = [
            {
                "timeUnixNano": str(span.error.at),
                "name": EXCEPTION,
                "attributes": _attributes(span.error.attributes),
            }
        ]
        values["status"] = {"code": ERROR, "message": span.error.status}
    return values


def _groups(
    members: Sequence[Identified],
) -> dict[Place, list[tuple[Identified, Place]]]:
    """Group spans, each with its own place, by their resource.

    Where there are too many resources, these have no host, or nothing at all.
    What a resource lacks, its spans have as attributes.
    """
    places = [spans.place(member.span) for member in members]
    resources: dict[Place, Place] = {}
    for kept in (Place._fields, ("project", "service"), ()):
        resources = {
            place: _NOWHERE._replace(
                **{field: getattr(place, field) for field in kept}
            )
            for place in dict.fromkeys(places)
        }
        if len({*resources.values()}) <= _MOST_RESOURCES:
            break
    groups: dict[Place, list[tuple[Identified, Place]]] = {}
    for member, place in zip(members, places, strict=True):
        groups.setdefault(resources[place], []).append((member, place))
    return groups


def resource_of(place: Place) -> dict[str, str]:
    """Its attributes: always a ``service.name``, others where known."""
    named = {
        "service.name": place.known_service,
        "service.namespace": spans.text(place.project),
        "host.name": spans.text(place.host),
    }
    return {key: value for key, value in named.items() if value}


def _exported(
    trace_id: str,
    identified: Identified,
    finished: int,
    own: Place,
    resource: Place,
    late: Set[str],
) -> Exported:
    span = identified.span
    did = spans.label(span)
    attributes = spans.attributes(span, late, did)
    if own != resource:
        known = resource_of(resource)
        for key, value in resource_of(own).items():
            # The service's name has the namespace in it.
            if known.get(key) != value and key != "service.namespace":
                attributes[key] = value
    error = None
    if span.stop is not None and span.exception is not None:
        error = Error(
            nanoseconds(span.stop.timestamp),
            spans.error_type(span),
            spans.error_message(span),
        )
    return Exported(
        trace_id,
        identified.id,
        identified.parent_id,
        did,
        _KINDS[spans.role(span, identified.parent)],
        nanoseconds(span.started),
        nanoseconds(spans.ended(span, finished)),
        attributes,
        error,
    )


def nanoseconds(microseconds: int) -> int:
    """Within what the format can say: since 1970, until 2262."""
    nanoseconds = microseconds * 1000
    if 0 <= nanoseconds <= _MAX_NANOSECONDS:
        return nanoseconds
    return min(max(nanoseconds, 0), _MAX_NANOSECONDS)


def _attributes(
    values: Mapping[str, Value], as_text: bool = False
) -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "value": _value(spans.text(value) if as_text else value),
        }
        for key, value in values.items()
    ]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}
