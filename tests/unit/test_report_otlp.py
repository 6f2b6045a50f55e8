# SPDX-License-Identifier: Apache-2.0

"""The report for OTLP, held to the project's own protobuf classes.

Ids are hexadecimal in OTLP's JSON and base64 in protobuf's
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

from __future__ import annotations

import base64
import re
import sys
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OTLPSpan
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from profiler_bridge.report import spans
from profiler_bridge.trace import Trace
from tests.report_cases import (
    BASE,
    CASES,
    HOSTILE,
    NOON,
    cases,
    load,
    nested,
    render,
    uuid,
)


def otlp(trace: Trace) -> TracesData:
    assert render("otlp", trace).count("\n") == 1
    document = load("otlp", trace)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for fields in scope["spans"]:
                for field, digits in (
                    ("traceId", 32),
                    ("spanId", 16),
                    ("parentSpanId", 16),
                ):
                    if field in fields:
                        assert re.fullmatch("[0-9a-f]+", fields[field])
                        assert len(fields[field]) == digits
                        binary = bytes.fromhex(fields[field])
                        fields[field] = base64.b64encode(binary).decode()
    data: TracesData = json_format.ParseDict(document, TracesData())
    return data


def otlp_spans(trace: Trace) -> dict[str, OTLPSpan]:
    return by_trace_id(otlp(trace))


def by_trace_id(data: TracesData) -> dict[str, OTLPSpan]:
    return {
        str(attributes(span)["osprofiler.trace_id"]): span
        for resource in data.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def attributes(holder: Any) -> dict[str, object]:
    values: dict[str, object] = {}
    for attribute in holder.attributes:
        assert attribute.key not in values
        kind = attribute.value.WhichOneof("value")
        values[attribute.key] = getattr(attribute.value, kind)
    return values


def check_otlp(trace: Trace) -> None:
    data = otlp(trace)
    by_id = by_trace_id(data)
    assert by_id.keys() == {span.trace_id for span in trace.spans}
    assert len({exported.span_id for exported in by_id.values()}) == len(by_id)
    for exported in by_id.values():
        assert len(exported.trace_id) == 16
        assert any(exported.trace_id)
        assert len(exported.span_id) == 8
        assert any(exported.span_id)
        assert exported.span_id != exported.parent_span_id
        assert (
            exported.start_time_unix_nano
            <= exported.end_time_unix_nano
            < 2**63
        )
    for parent in trace.spans:
        for child in parent.children:
            assert (
                by_id[child.trace_id].parent_span_id
                == by_id[parent.trace_id].span_id
            )
    for resource in data.resource_spans:
        assert attributes(resource.resource)["service.name"]


@cases
def test_otlp(trace: Trace) -> None:
    check_otlp(trace)


def test_otlp_span() -> None:
    exported = otlp_spans(CASES["simple"])
    wsgi, db, http = (exported[uuid(number)] for number in (1, 2, 3))
    assert wsgi.trace_id.hex() == f"{BASE:032x}"
    assert wsgi.span_id.hex() == "0000000000000001"
    assert wsgi.parent_span_id == b""
    assert (wsgi.name, wsgi.kind) == (
        "GET /servers",
        OTLPSpan.SPAN_KIND_SERVER,
    )
    assert wsgi.start_time_unix_nano == NOON * 1000
    assert wsgi.end_time_unix_nano == (NOON + 1000) * 1000
    assert attributes(wsgi) == {
        "http.request.method": "GET",
        "url.path": "/servers",
        "url.query": "limit=1",
        "url.scheme": "http",
        "osprofiler.name": "wsgi",
        "osprofiler.trace_id": uuid(1),
        "osprofiler.parent_id": uuid(BASE),
    }
    assert db.kind == OTLPSpan.SPAN_KIND_CLIENT
    assert attributes(db) == {
        "db.query.text": "SELECT ?",
        "db.query.parameter.0": "7",
        "db.query.parameter.1": "null",
        "db.query.parameter.2": "x",
        "osprofiler.name": "db",
        "osprofiler.trace_id": uuid(2),
        "osprofiler.parent_id": uuid(1),
    }
    assert http.kind == OTLPSpan.SPAN_KIND_CLIENT
    assert attributes(http)["server.address"] == "keystone"
    assert attributes(http)["server.port"] == 5000
    assert attributes(http)["http.response.status_code"] == 200


def test_otlp_resources() -> None:
    (nova, compute) = otlp(CASES["rpc"]).resource_spans
    assert attributes(nova.resource) == {
        "service.name": "nova-api",
        "service.namespace": "nova",
        "host.name": "one",
    }
    assert attributes(compute.resource)["service.name"] == "nova-compute"
    assert attributes(compute.resource)["host.name"] == "two"
    (unknown,) = otlp(CASES["empty info"]).resource_spans
    assert attributes(unknown.resource) == {"service.name": "unknown_service"}


def test_otlp_kind_of_rpc() -> None:
    exported = otlp_spans(CASES["rpc"])
    assert [exported[uuid(number)].kind for number in (2, 3, 4)] == [
        OTLPSpan.SPAN_KIND_CLIENT,
        OTLPSpan.SPAN_KIND_SERVER,
        OTLPSpan.SPAN_KIND_INTERNAL,
    ]


def test_otlp_error() -> None:
    exported = otlp_spans(CASES["error"])
    failed = exported[uuid(1)]
    assert failed.status.code == 2
    assert failed.status.message == "no such flavor"
    (event,) = failed.events
    assert event.name == "exception"
    assert event.time_unix_nano == failed.end_time_unix_nano
    assert attributes(event) == {
        "exception.type": "ValueError",
        "exception.message": "no such flavor",
    }
    assert attributes(failed)["error.type"] == "ValueError"
    assert attributes(exported[uuid(2)].events[0])["exception.type"] == "5"
    assert not otlp_spans(CASES["simple"])[uuid(1)].HasField("status")


def test_otlp_says_what_is_missing() -> None:
    exported = otlp_spans(CASES["unfinished"])
    root = exported[uuid(1)]
    assert attributes(root)["profiler_bridge.unfinished"] is True
    assert root.end_time_unix_nano == (NOON + 20) * 1000
    assert "profiler_bridge.unfinished" not in attributes(exported[uuid(2)])
    headless = otlp_spans(CASES["headless"])[uuid(1)]
    assert attributes(headless)["profiler_bridge.headless"] is True
    assert (
        headless.start_time_unix_nano
        == headless.end_time_unix_nano
        == (NOON + 10) * 1000
    )
    late = otlp_spans(CASES["late"])
    assert "profiler_bridge.late" not in attributes(late[uuid(2)])
    for number in (3, 4):
        assert attributes(late[uuid(number)])["profiler_bridge.late"] is True
    skewed = otlp_spans(CASES["skew"])[uuid(1)]
    assert attributes(skewed)["profiler_bridge.duration_us"] == -5
    # Nothing that a service sends can claim it.
    forged = attributes(otlp_spans(CASES["hostile"])[uuid(1)])
    assert "profiler_bridge.unfinished" not in forged


def test_orphans_name_the_parent_that_is_missing() -> None:
    exported = otlp_spans(CASES["forest"])
    assert exported[uuid(1)].parent_span_id == b""
    assert exported[uuid(2)].parent_span_id == b""
    assert exported[uuid(3)].parent_span_id.hex() == f"{99:016x}"


def test_rings_of_parents_are_cut() -> None:
    exported = otlp_spans(CASES["cycle"])
    roots = {key for key, span in exported.items() if not span.parent_span_id}
    assert roots == {root.trace_id for root in CASES["cycle"].roots}


def test_hostile_values_stay_readable() -> None:
    values = attributes(otlp_spans(CASES["hostile"])[uuid(1)])
    seen = HOSTILE.replace("\ud800", r"\ud800").replace("\udc00", r"\udc00")
    assert values["url.path"] == seen
    assert values[f"osprofiler.{seen}"] == seen
    assert values[f"db.query.parameter.{seen}"] == "NaN"
    assert values["db.query.parameter.big"] == str(10**30)
    assert values["osprofiler.requests"] == "[NaN, Infinity]"
    many = attributes(otlp_spans(CASES["hostile"])[uuid(2)])
    assert many["osprofiler.db.params"] == "[[1, 2], [3, 4]]"


def test_values_too_deep_for_json() -> None:
    # Deeper than a notification may be when it is read; how much of the
    # stack is left when it is written nobody knows.
    deep = nested(sys.getrecursionlimit() * 100)
    assert spans.text(deep) == "(nested too deeply)"
