# SPDX-License-Identifier: Apache-2.0

"""A trace as Zipkin's JSON, version 2, which Zipkin's UI opens.

https://github.com/openzipkin/zipkin-api/blob/master/zipkin2-api.yaml
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from profiler_bridge.late import late_spans
from profiler_bridge.report import spans
from profiler_bridge.report.spans import Identified
from profiler_bridge.trace import Trace


def render(trace: Trace) -> Iterator[str]:
    """Give the spans of :func:`exported`, each in a line."""
    yield "[\n"
    yield from spans.items(exported(trace))
    yield "\n]\n"


def exported(trace: Trace) -> Iterator[dict[str, Any]]:
    """The spans as Zipkin has them, earliest first.

    A span whose start or stop is missing has no duration, and a tag that says
    so; one without a start has the time of its stop.
    """
    trace_id = spans.trace_id(trace)
    late = late_spans(trace)
    for identified in spans.identified(trace):
        yield _span(trace_id, identified, late)


def _span(
    trace_id: str, identified: Identified, late: Set[str]
) -> dict[str, Any]:
    span = identified.span
    tags = {
        key: spans.text(value)
        for key, value in spans.attributes(span, late).items()
    }
    place = spans.place(span)
    if place.host:
        tags["host.name"] = spans.text(place.host)
    error = spans.error(span)
    if error is not None:
        tags["error"] = error
    service = place.service_name
    fields = {
        "traceId": trace_id,
        "id": identified.id,
        "parentId": identified.parent_id,
        "kind": spans.role(span, identified.parent),
        "name": spans.label(span).lower(),
        # To Zipkin zero is no time at all, and one microsecond the shortest
        # duration.
        "timestamp": max(span.started, 1),
        "duration": None if span.duration is None else max(span.duration, 1),
        "localEndpoint": {"serviceName": service.lower()} if service else None,
        "tags": tags,
    }
    return {key: value for key, value in fields.items() if value is not None}
