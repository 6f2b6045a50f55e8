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
"""A trace as Zipkin's JSON, version 2, which Zipkin's UI opens.

https://github.com/openzipkin/zipkin-api/blob/master/zipkin2-api.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiler_bridge.report import spans
from profiler_bridge.report.spans import Identified
from profiler_bridge.trace import Trace


def render(trace: Trace) -> Iterator[str]:
    """Give a span a line, earliest first.

    A span whose start or stop is missing has no duration, and a tag that says
    so; one without a start has the time of its stop.
    """
    trace_id = spans.trace_id(trace)
    yield "[\n"
    yield from spans.items(
        _span(trace_id, each) for each in spans.identified(trace)
    )
    yield "\n]\n"


def _span(trace_id: str, each: Identified) -> dict[str, Any]:
    span = each.span
    tags = {
        key: spans.text(value) for key, value in spans.attributes(span).items()
    }
    host = spans.place(span).host
    if host:
        tags["host.name"] = host
    error = spans.error(span)
    if error is not None:
        tags["error"] = error
    service = spans.place(span).service_name
    found = {
        "traceId": trace_id,
        "id": each.id,
        "parentId": each.parent_id,
        "kind": spans.role(span, each.parent),
        "name": spans.text(span.name).lower(),
        # Zero would be no time at all, and nothing takes less than one.
        "timestamp": max(span.started, 1),
        "duration": None if span.duration is None else max(span.duration, 1),
        "localEndpoint": {"serviceName": service.lower()} if service else None,
        "tags": tags,
    }
    return {key: value for key, value in found.items() if value is not None}
