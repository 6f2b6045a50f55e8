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
"""A trace as OTLP/JSON, which Jaeger's UI opens.

TracesData, and so ExportTraceServiceRequest, of
https://github.com/open-telemetry/opentelemetry-proto in the encoding of
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding; the whole on
one line, as files of it have it
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from profiler_bridge.report import spans
from profiler_bridge.report.spans import Identified, Place
from profiler_bridge.trace import Trace

_KINDS = {None: 1, "SERVER": 2, "CLIENT": 3}
_ERROR = 2
# Unsigned by the format, but readers count in signed 64 bits: 1970 to 2262.
_MAX_NANOSECONDS = 2**63 - 1


def render(trace: Trace) -> Iterator[str]:
    """Give the spans, those of a project, service and host together.

    The format has neither unfinished nor headless spans, nor any that end
    before they start. They get the end or the start that a picture would
    show, and an attribute ``profiler_bridge.*`` that says so.
    """
    trace_id = spans.trace_id(trace)
    finished = trace.finished
    groups: dict[Place, list[Identified]] = {}
    for each in spans.identified(trace):
        groups.setdefault(spans.place(each.span), []).append(each)
    yield '{"resourceSpans":['
    between = ""
    for place, members in groups.items():
        resource = {"attributes": _attributes(_resource(place))}
        yield (
            f'{between}{{"resource":{spans.encode(resource)},"scopeSpans":'
            '[{"scope":{"name":"osprofiler"},"spans":['
        )
        yield from spans.items(
            (_span(trace_id, each, finished) for each in members), ","
        )
        yield "]}]}"
        between = ","
    yield "]}\n"


def _resource(place: Place) -> dict[str, str]:
    named = {
        "service.name": place.service_name or "unknown_service",
        "service.namespace": place.project,
        "host.name": place.host,
    }
    return {key: value for key, value in named.items() if value}


def _span(trace_id: str, each: Identified, finished: int) -> dict[str, Any]:
    span = each.span
    found: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": each.id,
        "parentSpanId": each.parent_id,
        "name": spans.text(span.name),
        "kind": _KINDS[spans.role(span, each.parent)],
        "startTimeUnixNano": _nanoseconds(span.started),
        "endTimeUnixNano": _nanoseconds(spans.ended(span, finished)),
        "attributes": _attributes(spans.attributes(span)),
    }
    if each.parent_id is None:
        del found["parentSpanId"]
    if span.exception is not None and span.stop is not None:
        message = spans.error_message(span)
        exception = {
            "exception.type": spans.text(span.exception),
            "exception.message": message,
        }
        found["events"] = [
            {
                "timeUnixNano": _nanoseconds(span.stop.timestamp),
                "name": "exception",
                "attributes": _attributes(exception),
            }
        ]
        found["status"] = {"code": _ERROR, "message": message}
    return found


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
