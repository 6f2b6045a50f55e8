# SPDX-License-Identifier: Apache-2.0

"""A trace as OTLP/JSON, which Jaeger's UI opens.

TracesData, and so ExportTraceServiceRequest, of
https://github.com/open-telemetry/opentelemetry-proto in the encoding of
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding; the whole on
one line, as files of it have it
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from profiler_bridge.late import late_spans
from profiler_bridge.report import spans
from profiler_bridge.report.spans import Identified, Place
from profiler_bridge.report.text import shortened
from profiler_bridge.trace import Trace

_KINDS = {None: 1, "SERVER": 2, "CLIENT": 3}
_ERROR = 2
# In a trace with more of them, spans name their place themselves, which takes
# less room.
_MOST_RESOURCES = 200
_NOWHERE = Place("", "", "")
# The event has the whole message.
_LONGEST_STATUS = 1000
# Unsigned by the format, but readers count in signed 64 bits: 1970 to 2262.
_MAX_NANOSECONDS = 2**63 - 1


def render(trace: Trace) -> Iterator[str]:
    """Give the spans, grouped by project, service and host.

    The format has neither unfinished nor headless spans, nor any that end
    before they start. They get the start or the end at which a timeline
    would draw them, and an attribute ``profiler_bridge.*`` that says so.
    """
    trace_id = spans.trace_id(trace)
    finished = trace.finished
    late = late_spans(trace)
    groups = _groups([*spans.identified(trace)])
    yield '{"resourceSpans":['
    between = ""
    for place, members in groups.items():
        resource = {"attributes": _attributes(_resource(place))}
        yield (
            f'{between}{{"resource":{spans.encode(resource)},"scopeSpans":'
            '[{"scope":{"name":"osprofiler"},"spans":['
        )
        yield from spans.items(
            (
                _span(trace_id, identified, finished, place, late)
                for identified in members
            ),
            ",",
        )
        yield "]}]}"
        between = ","
    yield "]}\n"


def _groups(members: list[Identified]) -> dict[Place, list[Identified]]:
    """Group spans by their resource.

    Where there are too many resources, these have no host, or nothing at all.
    What a resource lacks, its spans have as attributes.
    """
    groups: dict[Place, list[Identified]] = {}
    for kept in (Place._fields, ("project", "service"), ()):
        groups = {}
        for member in members:
            place = spans.place(member.span)
            known = {field: getattr(place, field) for field in kept}
            groups.setdefault(_NOWHERE._replace(**known), []).append(member)
        if len(groups) <= _MOST_RESOURCES:
            break
    return groups


def _resource(place: Place) -> dict[str, str]:
    named = {
        "service.name": place.service_name or "unknown_service",
        "service.namespace": spans.text(place.project),
        "host.name": spans.text(place.host),
    }
    return {key: value for key, value in named.items() if value}


def _span(
    trace_id: str,
    identified: Identified,
    finished: int,
    resource: Place,
    late: Set[str],
) -> dict[str, Any]:
    span = identified.span
    own = spans.place(span)
    attributes = spans.attributes(span, late)
    if own != resource:
        known = _resource(resource)
        for key, value in _resource(own).items():
            # The service's name has the namespace in it.
            if known.get(key) != value and key != "service.namespace":
                attributes[key] = value
    fields: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": identified.id,
        "parentSpanId": identified.parent_id,
        "name": spans.label(span),
        "kind": _KINDS[spans.role(span, identified.parent)],
        "startTimeUnixNano": _nanoseconds(span.started),
        "endTimeUnixNano": _nanoseconds(spans.ended(span, finished)),
        "attributes": _attributes(attributes),
    }
    if identified.parent_id is None:
        del fields["parentSpanId"]
    if span.exception is not None and span.stop is not None:
        message = spans.error_message(span)
        exception = {
            "exception.type": spans.error_type(span),
            "exception.message": message,
        }
        fields["events"] = [
            {
                "timeUnixNano": _nanoseconds(span.stop.timestamp),
                "name": "exception",
                "attributes": _attributes(exception),
            }
        ]
        fields["status"] = {
            "code": _ERROR,
            "message": shortened(message, _LONGEST_STATUS),
        }
    return fields


def _nanoseconds(microseconds: int) -> str:
    return str(min(max(microseconds * 1000, 0), _MAX_NANOSECONDS))


def _attributes(
    values: Mapping[str, str | int | bool],
) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": _value(value)} for key, value in values.items()
    ]


def _value(value: str | int | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}
