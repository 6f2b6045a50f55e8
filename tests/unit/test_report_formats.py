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
"""The formats for other tools, each held to what its readers expect."""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any
from uuid import UUID

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OTLPSpan
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report import FORMATS, spans
from profiler_bridge.report.text import printable
from profiler_bridge.trace import Trace

BASE = 0xB0000000_0000_4000_8000_000000000000
NOON = 1_767_268_800_000_000  # 2026-01-01, in microseconds since 1970

HOSTILE = (
    'quote " backslash \\ \\N \\" end\\ <b>bold</b> </script> &lt; &#34;'
    " \r\n\t\0\x1b[31m \u2028 \u202e \ud800 \udc00 \U0001f600 %s {x} ${y}"
)
# Any character, half a surrogate pair among them.
words = st.text(st.characters(exclude_categories=()), max_size=8)


def uuid(number: int) -> str:
    return str(UUID(int=number))


def span(
    number: int,
    parent: int | None = None,
    start: int | None = 0,
    stop: int | None = 10,
    name: str = "work",
    info: dict[str, Any] | None = None,
    stop_info: dict[str, Any] | None = None,
    base: int = BASE,
    **fields: Any,
) -> list[dict[str, Any]]:
    """The payloads of a span; a time of None is a notification missing."""
    payload = {
        "base_id": uuid(base),
        "trace_id": uuid(number),
        "parent_id": uuid(base if parent is None else parent),
        "project": "nova",
        "service": "api",
        **fields,
    }
    return [
        payload
        | {
            "name": f"{name}-{phase}",
            "timestamp": format_timestamp(NOON + time),
            "info": more if more is not None else {"host": "one"},
        }
        for phase, time, more in (
            ("start", start, info),
            ("stop", stop, stop_info),
        )
        if time is not None
    ]


def build(*payloads: list[dict[str, Any]]) -> Trace:
    flat = [each for pair in payloads for each in pair]
    base_id = flat[0]["base_id"] if flat else uuid(BASE)
    return Trace.build(base_id, map(Notification.from_payload, flat))


def on(service: str, host: str) -> dict[str, Any]:
    return {
        "service": service,
        "info": {"host": host},
        "stop_info": {"host": host},
    }


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


CASES = {
    "nothing": build(),
    "simple": build(
        span(
            1,
            name="wsgi",
            stop=1000,
            info={
                "host": "one",
                "request": {
                    "method": "GET",
                    "path": "/servers",
                    "query": "limit=1",
                    "scheme": "http",
                },
            },
        ),
        span(
            2,
            1,
            start=100,
            stop=300,
            name="db",
            info={
                "host": "one",
                "db": {"statement": "SELECT ?", "params": [7, None, "x"]},
            },
        ),
        span(
            3,
            1,
            start=300,
            stop=900,
            name="http",
            info={
                "host": "one",
                "requests": {
                    "method": "GET",
                    "scheme": "http",
                    "hostname": "keystone",
                    "port": 5000,
                    "path": "/v3",
                    "query": "",
                },
            },
            stop_info={"host": "one", "requests": {"status_code": 200}},
        ),
    ),
    "rpc": build(
        span(1, name="wsgi", stop=1000),
        span(2, 1, start=10, stop=900, name="rpc"),
        span(3, 2, start=20, stop=800, name="rpc", **on("compute", "two")),
        span(4, 3, start=30, stop=700, name="rpc", **on("compute", "two")),
    ),
    "siblings at once": build(
        span(1, stop=100),
        span(2, 1, start=10, stop=50),
        span(3, 1, start=20, stop=60),
        span(4, 1, start=55, stop=70),
        span(5, 1, start=55, stop=55),
    ),
    "outlives": build(span(1, stop=10), span(2, 1, start=5, stop=50)),
    "unfinished": build(
        span(1, stop=None), span(2, 1, start=5, stop=20), span(3, 1, 20, None)
    ),
    "headless": build(span(1, start=None), span(2, 1, start=2, stop=8)),
    "forest": build(span(1), span(2, stop=20), span(3, 99, start=5)),
    "cycle": build(span(1, 2), span(2, 1), span(3, 3), span(4, 1)),
    "error": build(
        span(
            1,
            stop_info={
                "host": "one",
                "etype": "ValueError",
                "message": "no such flavor",
            },
        ),
        span(2, 1, stop_info={"etype": 5}),
    ),
    "skew": build(
        span(1, start=10, stop=5), span(2, 1, start=-20, stop=3, service="b")
    ),
    "empty info": build(
        span(1, info={}, stop_info={}, service=None, project=None)
    ),
    "hostile": build(
        span(
            1,
            name=HOSTILE,
            project=HOSTILE,
            service=HOSTILE,
            info={
                "host": HOSTILE,
                "request": {"method": HOSTILE, "path": HOSTILE, HOSTILE: 1},
                "requests": [float("nan"), float("inf")],
                "db": {
                    "statement": HOSTILE * 100,
                    "params": {HOSTILE: float("nan"), "big": 10**30},
                },
                "profiler_bridge.unfinished": True,
                "deep": nested(240),
                HOSTILE: HOSTILE,
            },
            stop_info={"etype": HOSTILE, "message": {HOSTILE: 1}},
        ),
        span(2, 1, info={"db": {"params": [[1, 2], [3, 4]]}}),
        span(3, 1, info={"function": 1, "db": None, "requests": "x"}),
    ),
    "same last 64 bits": build(
        span(1), span(2**64 + 1, 1), span(2**65 + 1, 2**64 + 1), span(2**64)
    ),
    "nil": build(span(0, base=0), span(1, 0, base=0)),
    "out of range": build(
        span(1, start=-NOON - 10**15, stop=2 * 10**17), span(2, 1, start=5)
    ),
}


def cases(check: Callable[[Trace], object]) -> Any:
    return pytest.mark.parametrize("trace", CASES.values(), ids=CASES.keys())(
        check
    )


def render(format_: str, trace: Trace) -> str:
    text = "".join(FORMATS[format_](trace))
    # The others are JSON, and safe in any encoding.
    assert text.isascii() or (format_ == "dot" and text.encode())
    assert text.endswith("\n")
    return text


def load(format_: str, trace: Trace) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(render(format_, trace), parse_constant=refuse)


# OTLP: the project's own protobuf classes. Ids are hexadecimal in OTLP's JSON
# and base64 in protobuf's
# (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).


def otlp(trace: Trace) -> TracesData:
    assert render("otlp", trace).count("\n") == 1
    document = load("otlp", trace)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for each in scope["spans"]:
                for field, digits in (
                    ("traceId", 32),
                    ("spanId", 16),
                    ("parentSpanId", 16),
                ):
                    if field in each:
                        assert re.fullmatch("[0-9a-f]+", each[field])
                        assert len(each[field]) == digits
                        binary = bytes.fromhex(each[field])
                        each[field] = base64.b64encode(binary).decode()
    found: TracesData = json_format.ParseDict(document, TracesData())
    return found


def otlp_spans(trace: Trace) -> dict[str, OTLPSpan]:
    return by_trace_id(otlp(trace))


def by_trace_id(data: TracesData) -> dict[str, OTLPSpan]:
    return {
        str(attributes(each)["osprofiler.trace_id"]): each
        for resource in data.resource_spans
        for scope in resource.scope_spans
        for each in scope.spans
    }


def attributes(holder: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for each in holder.attributes:
        assert each.key not in found
        kind = each.value.WhichOneof("value")
        found[each.key] = getattr(each.value, kind)
    return found


def check_otlp(trace: Trace) -> None:
    data = otlp(trace)
    found = by_trace_id(data)
    assert found.keys() == {each.trace_id for each in trace.spans}
    assert len({each.span_id for each in found.values()}) == len(found)
    for each in found.values():
        assert len(each.trace_id) == 16
        assert any(each.trace_id)
        assert len(each.span_id) == 8
        assert any(each.span_id)
        assert each.span_id != each.parent_span_id
        assert each.start_time_unix_nano <= each.end_time_unix_nano < 2**63
    for parent in trace.spans:
        for child in parent.children:
            assert (
                found[child.trace_id].parent_span_id
                == found[parent.trace_id].span_id
            )
    for resource in data.resource_spans:
        assert attributes(resource.resource)["service.name"]


@cases
def test_otlp(trace: Trace) -> None:
    check_otlp(trace)


def test_otlp_span() -> None:
    found = otlp_spans(CASES["simple"])
    wsgi, db, http = (found[uuid(number)] for number in (1, 2, 3))
    assert wsgi.trace_id.hex() == f"{BASE:032x}"
    assert wsgi.span_id.hex() == "0000000000000001"
    assert wsgi.parent_span_id == b""
    assert (wsgi.name, wsgi.kind) == ("wsgi", OTLPSpan.SPAN_KIND_SERVER)
    assert wsgi.start_time_unix_nano == NOON * 1000
    assert wsgi.end_time_unix_nano == (NOON + 1000) * 1000
    assert attributes(wsgi) == {
        "http.request.method": "GET",
        "url.path": "/servers",
        "url.query": "limit=1",
        "url.scheme": "http",
        "osprofiler.trace_id": uuid(1),
        "osprofiler.parent_id": uuid(BASE),
    }
    assert db.kind == OTLPSpan.SPAN_KIND_CLIENT
    assert attributes(db) == {
        "db.query.text": "SELECT ?",
        "db.query.parameter.0": "7",
        "db.query.parameter.1": "null",
        "db.query.parameter.2": "x",
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
    found = otlp_spans(CASES["rpc"])
    assert [found[uuid(number)].kind for number in (2, 3, 4)] == [
        OTLPSpan.SPAN_KIND_CLIENT,
        OTLPSpan.SPAN_KIND_SERVER,
        OTLPSpan.SPAN_KIND_INTERNAL,
    ]


def test_otlp_error() -> None:
    found = otlp_spans(CASES["error"])
    failed = found[uuid(1)]
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
    assert attributes(found[uuid(2)].events[0])["exception.type"] == "5"
    assert not otlp_spans(CASES["simple"])[uuid(1)].HasField("status")


def test_otlp_says_what_is_missing() -> None:
    found = otlp_spans(CASES["unfinished"])
    root = found[uuid(1)]
    assert attributes(root)["profiler_bridge.unfinished"] is True
    assert root.end_time_unix_nano == (NOON + 20) * 1000
    assert "profiler_bridge.unfinished" not in attributes(found[uuid(2)])
    headless = otlp_spans(CASES["headless"])[uuid(1)]
    assert attributes(headless)["profiler_bridge.headless"] is True
    assert (
        headless.start_time_unix_nano
        == headless.end_time_unix_nano
        == (NOON + 10) * 1000
    )
    skewed = otlp_spans(CASES["skew"])[uuid(1)]
    assert attributes(skewed)["profiler_bridge.duration_us"] == -5
    # Nothing that a service sends can claim it.
    forged = attributes(otlp_spans(CASES["hostile"])[uuid(1)])
    assert "profiler_bridge.unfinished" not in forged


def test_orphans_name_the_parent_that_is_missing() -> None:
    found = otlp_spans(CASES["forest"])
    assert found[uuid(1)].parent_span_id == b""
    assert found[uuid(2)].parent_span_id == b""
    assert found[uuid(3)].parent_span_id.hex() == f"{99:016x}"


def test_rings_of_parents_are_cut() -> None:
    found = otlp_spans(CASES["cycle"])
    roots = {key for key, each in found.items() if not each.parent_span_id}
    assert roots == {each.trace_id for each in CASES["cycle"].roots}


def test_hostile_values_stay_readable() -> None:
    found = attributes(otlp_spans(CASES["hostile"])[uuid(1)])
    seen = HOSTILE.replace("\ud800", r"\ud800").replace("\udc00", r"\udc00")
    assert found["url.path"] == seen
    assert found[f"osprofiler.{seen}"] == seen
    assert found[f"db.query.parameter.{seen}"] == "NaN"
    assert found["db.query.parameter.big"] == str(10**30)
    assert found["osprofiler.requests"] == "[NaN, Infinity]"
    many = attributes(otlp_spans(CASES["hostile"])[uuid(2)])
    assert many["osprofiler.db.params"] == "[[1, 2], [3, 4]]"


def test_values_too_deep_for_json() -> None:
    # Deeper than a notification may be when it is read; how much of the
    # stack is left when it is written nobody knows.
    deep = nested(sys.getrecursionlimit() * 100)
    assert spans.text(deep) == "(nested too deeply)"


# Zipkin: the rules of zipkin2-api.yaml
# (https://github.com/openzipkin/zipkin-api/blob/master/zipkin2-api.yaml).

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
        each["tags"]["osprofiler.trace_id"]: each
        for each in load("zipkin", trace)
    }


def check_zipkin(trace: Trace) -> None:
    found = zipkin(trace)
    assert found.keys() == {each.trace_id for each in trace.spans}
    assert len({each["id"] for each in found.values()}) == len(found)
    assert len({each["traceId"] for each in found.values()}) <= 1
    for each in found.values():
        for key, value in each.items():
            assert type(value) is ZIPKIN_TYPES[key]
        assert re.fullmatch("[0-9a-f]{32}", each["traceId"])
        for key in {"id", "parentId"} & each.keys():
            assert re.fullmatch("[0-9a-f]{16}", each[key])
            # Zipkin refuses a span without any bit of these.
            assert each[key].strip("0")
        assert each["id"] != each.get("parentId")
        assert each.get("kind", "SERVER") in ("SERVER", "CLIENT")
        assert each["timestamp"] >= 1
        assert each.get("duration", 1) >= 1
        assert each["name"] == each["name"].lower()
        endpoint = each.get("localEndpoint", {"serviceName": "x"})
        assert endpoint.keys() == {"serviceName"}
        assert endpoint["serviceName"] == endpoint["serviceName"].lower() != ""
        for value in each["tags"].values():
            assert type(value) is str


@cases
def test_zipkin(trace: Trace) -> None:
    check_zipkin(trace)


def test_zipkin_span() -> None:
    found = zipkin(CASES["simple"])
    assert found[uuid(1)] == {
        "traceId": f"{BASE:032x}",
        "id": "0000000000000001",
        "kind": "SERVER",
        "name": "wsgi",
        "timestamp": NOON,
        "duration": 1000,
        "localEndpoint": {"serviceName": "nova-api"},
        "tags": {
            "http.request.method": "GET",
            "url.path": "/servers",
            "url.query": "limit=1",
            "url.scheme": "http",
            "osprofiler.trace_id": uuid(1),
            "osprofiler.parent_id": uuid(BASE),
            "host.name": "one",
        },
    }
    assert found[uuid(2)]["parentId"] == "0000000000000001"
    assert found[uuid(3)]["tags"]["http.response.status_code"] == "200"


def test_zipkin_says_what_is_missing() -> None:
    unfinished = zipkin(CASES["unfinished"])[uuid(1)]
    assert "duration" not in unfinished
    assert unfinished["tags"]["profiler_bridge.unfinished"] == "true"
    headless = zipkin(CASES["headless"])[uuid(1)]
    assert "duration" not in headless
    assert headless["timestamp"] == NOON + 10
    assert headless["tags"]["profiler_bridge.headless"] == "true"
    skewed = zipkin(CASES["skew"])[uuid(1)]
    assert skewed["duration"] == 1
    assert skewed["tags"]["profiler_bridge.duration_us"] == "-5"


def test_zipkin_error() -> None:
    found = zipkin(CASES["error"])
    assert found[uuid(1)]["tags"]["error"] == "ValueError: no such flavor"
    assert found[uuid(2)]["tags"]["error"] == "5"
    assert "error" not in zipkin(CASES["simple"])[uuid(1)]["tags"]


# Chrome: the rules of the Trace Event Format for complete, begin and metadata
# events, and that of Perfetto: events of a thread nest or are apart
# (https://perfetto.dev/docs/faq).


def chrome(trace: Trace) -> list[dict[str, Any]]:
    document = load("chrome", trace)
    assert document["displayTimeUnit"] == "ms"
    assert document["otherData"]["base_id"] == trace.base_id
    found: list[dict[str, Any]] = document["traceEvents"]
    return found


def check_chrome(trace: Trace) -> None:
    lanes: dict[int, list[tuple[int, int]]] = {}
    names = {}
    seen = []
    for each in chrome(trace):
        assert type(each["name"]) is str
        assert type(each["pid"]) is type(each["tid"]) is int
        if each["ph"] == "M":
            assert each["name"] in ("process_name", "thread_name")
            assert (each["name"], each["tid"]) not in names
            names[each["name"], each["tid"]] = each["args"]["name"]
            continue
        # Named before it is used, and a thread in one process only.
        assert names["process_name", each["pid"]]
        assert names["thread_name", each["tid"]]
        assert each["ts"] >= 0
        lane = lanes.setdefault(each["tid"], [])
        if each["ph"] == "B":
            assert "dur" not in each
            lane.append((each["ts"], trace.finished - trace.started))
        else:
            assert each["ph"] == "X"
            assert each["dur"] >= 0
            lane.append((each["ts"], each["ts"] + each["dur"]))
        seen.append(each["args"]["osprofiler.trace_id"])
    assert sorted(seen) == sorted(each.trace_id for each in trace.spans)
    for lane in lanes.values():
        assert nest(lane)


def nest(lane: list[tuple[int, int]]) -> bool:
    """Whether intervals begin in order, and each ends before those open."""
    open_: list[int] = []
    for (start, end), (following, _) in pairwise([*lane, (sys.maxsize, 0)]):
        while open_ and open_[-1] <= start and open_[-1] < end:
            open_.pop()
        if (open_ and end > open_[-1]) or following < start:
            return False
        open_.append(end)
    return True


@cases
def test_chrome(trace: Trace) -> None:
    check_chrome(trace)


def test_chrome_events() -> None:
    process, thread, root, *_ = chrome(CASES["simple"])
    assert (process["name"], process["args"]) == (
        "process_name",
        {"name": "nova:api@one"},
    )
    assert (thread["name"], thread["args"]) == (
        "thread_name",
        {"name": "lane 1"},
    )
    assert root["name"] == "wsgi GET /servers"
    assert (root["cat"], root["ph"]) == ("wsgi", "X")
    assert (root["ts"], root["dur"]) == (0, 1000)
    assert root["args"]["url.path"] == "/servers"


def test_chrome_says_what_is_missing() -> None:
    root = chrome(CASES["unfinished"])[2]
    assert root["ph"] == "B"
    assert root["args"]["profiler_bridge.unfinished"] is True
    headless = chrome(CASES["headless"])[3]
    assert (headless["ph"], headless["ts"], headless["dur"]) == ("X", 8, 0)
    verdict = load("chrome", CASES["unfinished"])["otherData"]["verdict"]
    assert verdict == "2 unfinished"


def test_chrome_error() -> None:
    failed = chrome(CASES["error"])[2]
    assert failed["args"]["error"] == "ValueError: no such flavor"
    assert failed["cname"] == "terrible"


# speedscope: the rules of its schema
# (https://www.speedscope.app/file-format-schema.json), and those its importer
# adds: what is closed was opened last, and time does not go back.


def check_speedscope(trace: Trace) -> None:
    document = load("speedscope", trace)
    assert (
        document["$schema"]
        == "https://www.speedscope.app/file-format-schema.json"
    )
    frames = document["shared"]["frames"]
    for frame in frames:
        assert frame.keys() == {"name", "file"}
        assert all(type(value) is str for value in frame.values())
    opened = 0
    for profile in document["profiles"]:
        assert profile.keys() == {
            "type",
            "name",
            "unit",
            "startValue",
            "endValue",
            "events",
        }
        assert profile["type"] == "evented"
        assert type(profile["name"]) is str
        assert profile["unit"] == "microseconds"
        now = profile["startValue"]
        stack = []
        for each in profile["events"]:
            assert each.keys() == {"type", "frame", "at"}
            assert 0 <= each["frame"] < len(frames)
            assert now <= each["at"] <= profile["endValue"]
            now = each["at"]
            if each["type"] == "O":
                stack.append(each["frame"])
                opened += 1
            else:
                assert each["type"] == "C"
                assert stack.pop() == each["frame"]
        assert stack == []
    assert opened == len(trace.spans)


@cases
def test_speedscope(trace: Trace) -> None:
    check_speedscope(trace)


def test_speedscope_events() -> None:
    document = load("speedscope", CASES["simple"])
    assert [frame["name"] for frame in document["shared"]["frames"]] == [
        "wsgi GET /servers",
        "db SELECT ?",
        "http GET keystone/v3",
    ]
    (profile,) = document["profiles"]
    assert profile["name"] == "nova:api@one lane 1"
    assert [
        (each["type"], each["frame"], each["at"]) for each in profile["events"]
    ] == [
        ("O", 0, 0),
        ("O", 1, 100),
        ("C", 1, 300),
        ("O", 2, 300),
        ("C", 2, 900),
        ("C", 0, 1000),
    ]


def test_speedscope_says_what_is_missing_and_wrong() -> None:
    def names(case: str) -> set[str]:
        frames = load("speedscope", CASES[case])["shared"]["frames"]
        return {frame["name"] for frame in frames}

    assert names("unfinished") == {"work (unfinished)", "work"}
    assert names("headless") == {"work (no start)", "work"}
    assert names("error") == {"work ! ValueError: no such flavor", "work ! 5"}


# DOT: what stands in quotes is one string of the language, and gives the text
# back (https://graphviz.org/doc/info/lang.html).

QUOTED = r'"((?:[^"\\\n]|\\["\\n])*)"'
DOT_LINES = re.compile(
    rf"digraph {QUOTED} {{"
    rf"|  graph \[label={QUOTED}, labelloc=t\]"
    r"|  node \[shape=box\]"
    rf"|  (?P<node>n\d+) \[label={QUOTED}(, style=dashed)?(, color=red)?\]"
    r"|  (?P<parent>n\d+) -> (?P<child>n\d+)"
    r"|}"
)


def check_dot(trace: Trace) -> None:
    nodes, children = set(), set()
    for line in render("dot", trace).splitlines():
        found = DOT_LINES.fullmatch(line)
        assert found, line
        if found["node"]:
            assert found["node"] not in nodes
            nodes.add(found["node"])
        if found["child"]:
            assert {found["parent"], found["child"]} <= nodes
            assert found["child"] not in children
            children.add(found["child"])
    assert len(nodes) == len(trace.spans)
    assert len(children) == len(nodes) - len(trace.roots)


def labels(trace: Trace) -> list[str]:
    """The labels of the nodes, as Graphviz shows them."""
    found = re.findall(rf"n\d+ \[label={QUOTED}", render("dot", trace))
    return [
        html.unescape(
            re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), label)
        )
        for label in found
    ]


@cases
def test_dot(trace: Trace) -> None:
    check_dot(trace)


def test_dot_labels() -> None:
    assert labels(CASES["simple"]) == [
        "api:wsgi - 1.000 ms\nGET /servers",
        "api:db - 0.200 ms\nSELECT ?",
        "api:http - 0.600 ms\nGET keystone/v3",
    ]
    assert labels(CASES["unfinished"])[0] == "api:work - unfinished"
    assert labels(CASES["headless"])[0] == "api:work - no start"
    assert labels(CASES["error"])[0].endswith("\n! ValueError: no such flavor")


@given(words)
def test_dot_labels_show_what_was_sent(word: str) -> None:
    (found,) = labels(build(span(1, name=f"x{word}")))
    assert found == f"api:x{printable(word)} - 0.010 ms"


def test_dot_colours() -> None:
    assert render("dot", CASES["unfinished"]).count("style=dashed") == 2
    assert render("dot", CASES["headless"]).count("style=dashed") == 1
    assert render("dot", CASES["error"]).count("color=red") == 2
    assert not re.search("dashed|red", render("dot", CASES["simple"]))


# All of them, over whatever there may be.


@pytest.mark.parametrize(
    ("name", "info", "expected"),
    [
        ("wsgi", {}, "wsgi"),
        ("anything", {"request": {}}, "wsgi"),
        ("anything", {"requests": {}}, "http"),
        ("https", {}, "http"),
        ("neutron.db", {}, "db"),
        ("anything", {"db": {}}, "db"),
        ("rpc", {"function": {"name": "f"}}, "rpc"),
        ("driver", {"function": {"name": "f"}}, "other"),
        ("driver", {"db": "not an object"}, "other"),
    ],
)
def test_kind(name: str, info: dict[str, Any], expected: str) -> None:
    (found,) = build(span(1, name=name, info=info)).spans
    assert spans.kind(found) == expected
    # The stop alone tells as much, where it tells anything.
    (found,) = build(span(1, None, None, name=name, stop_info=info)).spans
    assert spans.kind(found) == expected


CHECKS = [check_otlp, check_zipkin, check_chrome, check_speedscope, check_dot]

# No time is asserted, neither here.
unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
moments = st.integers(0, 12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
    ),
    max_leaves=5,
)
infos = st.dictionaries(
    st.sampled_from(["db", "request", "requests", "function", "etype"])
    | words,
    values
    | st.dictionaries(
        st.sampled_from(["params", "statement", "method", "name"]) | words,
        values,
    ),
    max_size=3,
)


@st.composite
def traces(draw: st.DrawFn, info: bool = False) -> Trace:
    """Spans anywhere below and beside each other, in two places."""
    payloads = []
    for number in range(draw(st.integers(1, 3 if info else 12))):
        start, stop = draw(
            st.tuples(moments, moments)
            | st.tuples(moments, st.none())
            | st.tuples(st.none(), moments)
        )
        payloads.append(
            span(
                number + 1,
                draw(st.none() | st.integers(1, 13)),
                start,
                stop,
                name="x" + draw(words) if info else "work",
                info=draw(infos) if info else None,
                stop_info=draw(infos) if info else None,
                service=draw(st.sampled_from("ab")),
            )
        )
    return build(*payloads)


@unhurried
@given(traces())
def test_lanes(trace: Trace) -> None:
    laid = spans.lanes(trace)
    bars = [bar for lanes in laid.values() for lane in lanes for bar in lane]
    assert len(bars) == len(trace.spans) == len({id(b.span) for b in bars})
    for place, lanes in laid.items():
        for lane in lanes:
            open_: list[spans.Bar] = []
            for bar in lane:
                assert spans.place(bar.span) == place
                del open_[bar.depth :]
                assert len(open_) == bar.depth
                if open_:
                    assert bar.span in open_[-1].span.children
                open_.append(bar)
            for one, other in combinations(lane, 2):
                assert (
                    one.end <= other.start
                    or one.start <= other.start <= other.end <= one.end
                )


@unhurried
@given(traces())
def test_every_format_of_any_trace(trace: Trace) -> None:
    for check in CHECKS:
        check(trace)


@unhurried
@given(traces(info=True))
def test_every_format_of_any_payload(trace: Trace) -> None:
    for check in CHECKS:
        check(trace)


def test_a_child_lies_on_its_parent_where_it_can() -> None:
    def depths(case: str) -> list[list[int]]:
        (lanes,) = spans.lanes(CASES[case]).values()
        return [[bar.depth for bar in lane] for lane in lanes]

    assert depths("simple") == [[0, 1, 1]]
    assert depths("outlives") == [[0], [0]]
    assert depths("unfinished") == [[0, 1, 1]]
    assert depths("siblings at once") == [[0, 1, 1], [0], [0]]


@pytest.fixture(scope="module")
def deep() -> Trace:
    return build(
        *(
            span(number, number - 1 or None, number, 20_001 - number)
            for number in range(1, 10_001)
        )
    )


@pytest.fixture(scope="module")
def large() -> Trace:
    """100,000 notifications: a root, and most of what is below it at once."""
    return build(
        span(1, stop=200_000),
        *(
            span(number, 1, number, 100_000 + number)
            for number in range(2, 25_001)
        ),
        *(
            span(number, number - 25_000 + 1, number, number + 10)
            for number in range(25_001, 50_001)
        ),
    )


@pytest.mark.parametrize("check", CHECKS)
def test_ten_thousand_deep(
    check: Callable[[Trace], None], deep: Trace
) -> None:
    check(deep)


def test_chrome_levels(deep: Trace) -> None:
    """Perfetto drops what is nested deeper than 512 in a thread."""
    lanes = [each for each in chrome(deep) if each["name"] == "thread_name"]
    assert len(lanes) == -(-10_000 // 512)


@pytest.mark.parametrize("format_", ["chrome", "otlp", "speedscope", "zipkin"])
def test_large(format_: str, large: Trace) -> None:
    assert load(format_, large)


def test_large_dot(large: Trace) -> None:
    check_dot(large)
