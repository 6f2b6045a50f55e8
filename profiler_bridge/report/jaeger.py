# SPDX-License-Identifier: Apache-2.0

"""A trace as Jaeger's own JSON, which its query API gave before OTLP.

``model/json`` and, for summaries, ``api_v3`` of
https://github.com/jaegertracing/jaeger-idl and
https://github.com/jaegertracing/jaeger
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from profiler_bridge.report import otlp, spans
from profiler_bridge.report.otlp import Exported, Value
from profiler_bridge.report.spans import Place
from profiler_bridge.roots import rank
from profiler_bridge.trace import Span, Trace

#: Of a span, by the number that OTLP has for it.
KINDS = {1: "internal", 2: "server", 3: "client"}


def render(trace: Trace) -> Iterator[str]:
    """Give the trace as one object, its spans earliest first.

    What has no end, or no start, is as :func:`otlp.exported` has it.
    """
    trace_id = spans.trace_id(trace)
    processes: dict[Place, str] = {}
    yield f'{{"traceID":"{trace_id}","spans":['
    yield from spans.items(
        (
            _span(span, processes.setdefault(place, f"p{len(processes) + 1}"))
            for place, span in otlp.placed(trace)
        ),
        ",",
    )
    # Only now it is known which there are.
    yield '],"processes":{'
    between = ""
    for place, name in processes.items():
        yield f'{between}"{name}":{spans.encode(_process(place))}'
        between = ","
    yield '},"warnings":null}'


def _span(span: Exported, process: str) -> dict[str, Any]:
    started = span.start // 1000
    tags = _tags(span.attributes)
    if span.kind != 1:
        tags += _tags({"span.kind": KINDS[span.kind]})
    logs = []
    if span.error is not None:
        tags += _tags({"error": True})
        fields = {"event": otlp.EXCEPTION, **span.error.attributes}
        logs.append(
            {"timestamp": span.error.at // 1000, "fields": _tags(fields)}
        )
    references = []
    if span.parent_id is not None:
        references.append(
            {
                "refType": "CHILD_OF",
                "traceID": span.trace_id,
                "spanID": span.parent_id,
            }
        )
    return {
        "traceID": span.trace_id,
        "spanID": span.id,
        "processID": process,
        "operationName": span.name,
        "startTime": started,
        "duration": span.end // 1000 - started,
        "flags": 1,
        "references": references,
        "tags": tags,
        "logs": logs,
        "warnings": None,
    }


def _process(place: Place) -> dict[str, Any]:
    attributes = otlp.resource_of(place)
    service = attributes.pop("service.name")
    return {"serviceName": service, "tags": _tags(attributes)}


def _tags(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [
        {"key": key, "type": _type(value), "value": value}
        for key, value in values.items()
    ]


def _type(value: Value) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int64" if isinstance(value, int) else "string"


def summary(trace: Trace) -> dict[str, Any]:
    """What Jaeger's list has of a trace, with its spans by service.

    :param trace: one that has spans
    """
    trace_id = spans.trace_id(trace)
    services: dict[str, dict[str, Any]] = {}
    for span in trace.spans:
        name = spans.service(span)
        counts = services.setdefault(
            name, {"name": name, "spanCount": 0, "errorSpanCount": 0}
        )
        counts["spanCount"] += 1
        counts["errorSpanCount"] += span.exception is not None
    root = _root(trace)
    return {
        "traceId": trace_id,
        # Jaeger's UI of early 2026 asks for it by this name.
        "traceID": trace_id,
        "rootServiceName": spans.service(root),
        "rootOperationName": spans.label(root),
        "minStartTimeUnixNano": str(otlp.nanoseconds(trace.started)),
        "maxEndTimeUnixNano": str(otlp.nanoseconds(trace.finished)),
        "spanCount": len(trace.spans),
        "errorSpanCount": sum(
            counts["errorSpanCount"] for counts in services.values()
        ),
        "orphanSpanCount": trace.verdict.orphans,
        "services": [*services.values()],
    }


def _root(trace: Trace) -> Span:
    """The root that names a trace; see :mod:`profiler_bridge.roots`."""
    started = [
        (rank(root.start), root.started, number)
        for number, root in enumerate(trace.roots)
        if root.start is not None and root.parent_id == trace.base_id
    ]
    return trace.roots[min(started)[2]] if started else trace.roots[0]
