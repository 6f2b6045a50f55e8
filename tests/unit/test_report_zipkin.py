# SPDX-License-Identifier: Apache-2.0

"""The report for Zipkin, held to the rules of its API.

https://github.com/openzipkin/zipkin-api/blob/master/zipkin2-api.yaml
"""

from __future__ import annotations

import re
from typing import Any

from profiler_bridge.trace import Trace
from tests.report_cases import (
    BASE,
    CASES,
    NOON,
    cases,
    load,
    uuid,
)

ZIPKIN_TYPES: dict[str, type] = {
    "traceId": str,
    "id": str,
    "parentId": str,
    "kind": str,
    "name": str,
    "timestamp": int,
    "duration": int,
    "localEndpoint": dict,
    "tags": dict,
}


def zipkin(trace: Trace) -> dict[str, dict[str, Any]]:
    return {
        span["tags"]["osprofiler.trace_id"]: span
        for span in load("zipkin", trace)
    }


def check_zipkin(trace: Trace) -> None:
    by_id = zipkin(trace)
    assert by_id.keys() == {span.trace_id for span in trace.spans}
    assert len({exported["id"] for exported in by_id.values()}) == len(by_id)
    assert len({exported["traceId"] for exported in by_id.values()}) <= 1
    for exported in by_id.values():
        for key, value in exported.items():
            assert type(value) is ZIPKIN_TYPES[key]
        assert re.fullmatch("[0-9a-f]{32}", exported["traceId"])
        for key in {"id", "parentId"} & exported.keys():
            assert re.fullmatch("[0-9a-f]{16}", exported[key])
            # Zipkin refuses a span without any bit of these.
            assert exported[key].strip("0")
        assert exported["id"] != exported.get("parentId")
        assert exported.get("kind", "SERVER") in ("SERVER", "CLIENT")
        assert exported["timestamp"] >= 1
        assert exported.get("duration", 1) >= 1
        assert exported["name"] == exported["name"].lower()
        endpoint = exported.get("localEndpoint", {"serviceName": "x"})
        assert endpoint.keys() == {"serviceName"}
        assert endpoint["serviceName"] == endpoint["serviceName"].lower() != ""
        for value in exported["tags"].values():
            assert type(value) is str


@cases
def test_zipkin(trace: Trace) -> None:
    check_zipkin(trace)


def test_zipkin_span() -> None:
    exported = zipkin(CASES["simple"])
    assert exported[uuid(1)] == {
        "traceId": f"{BASE:032x}",
        "id": "0000000000000001",
        "kind": "SERVER",
        "name": "get /servers",
        "timestamp": NOON,
        "duration": 1000,
        "localEndpoint": {"serviceName": "nova-api"},
        "tags": {
            "http.request.method": "GET",
            "url.path": "/servers",
            "url.query": "limit=1",
            "url.scheme": "http",
            "osprofiler.name": "wsgi",
            "osprofiler.trace_id": uuid(1),
            "osprofiler.parent_id": uuid(BASE),
            "host.name": "one",
        },
    }
    assert exported[uuid(2)]["parentId"] == "0000000000000001"
    assert exported[uuid(3)]["tags"]["http.response.status_code"] == "200"


def test_zipkin_says_what_is_missing() -> None:
    unfinished = zipkin(CASES["unfinished"])[uuid(1)]
    assert "duration" not in unfinished
    assert unfinished["tags"]["profiler_bridge.unfinished"] == "true"
    headless = zipkin(CASES["headless"])[uuid(1)]
    assert "duration" not in headless
    assert headless["timestamp"] == NOON + 10
    assert headless["tags"]["profiler_bridge.headless"] == "true"
    late = zipkin(CASES["late"])
    assert {
        number
        for number in range(1, 5)
        if "profiler_bridge.late" in late[uuid(number)]["tags"]
    } == {3, 4}
    skewed = zipkin(CASES["skew"])[uuid(1)]
    assert skewed["duration"] == 1
    assert skewed["tags"]["profiler_bridge.duration_us"] == "-5"


def test_zipkin_error() -> None:
    exported = zipkin(CASES["error"])
    assert exported[uuid(1)]["tags"]["error"] == "ValueError: no such flavor"
    assert exported[uuid(2)]["tags"]["error"] == "5"
    assert "error" not in zipkin(CASES["simple"])[uuid(1)]["tags"]
