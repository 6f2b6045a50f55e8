# SPDX-License-Identifier: Apache-2.0

"""What Jaeger's and Zipkin's clients are answered, over real storages.

The schemas are what clients decode answers into:

* Go's structs in ``pkg/tsdb/jaeger/types`` and ``pkg/tsdb/zipkin`` of
  https://github.com/grafana/grafana, where a wrong type is an error
* ``packages/jaeger-ui/src/api/v3/schemas.ts`` of
  https://github.com/jaegertracing/jaeger-ui
* https://github.com/openzipkin/zipkin-api/blob/master/zipkin2-api.yaml
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import flask
import jsonschema
import pytest
from flask.testing import FlaskClient
from oslo_config import cfg

from profiler_bridge import storage as storages
from profiler_bridge.api import jaeger, options, parameters, search, zipkin
from profiler_bridge.api.app import make_app
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import spans
from profiler_bridge.report.jaeger import KINDS
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing import sample
from profiler_bridge.trace import Trace
from tests.report_cases import BASE, CASES, load, uuid

TEXT = {"type": "string"}
INTEGER = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
TRACE_ID = {"type": "string", "pattern": "^(?!0+$)[0-9a-f]{32}$"}
SPAN_ID = {"type": "string", "pattern": "^(?!0+$)[0-9a-f]{16}$"}
NANOSECONDS = {"type": "string", "pattern": "^[0-9]{1,19}$"}


def many(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def record(**fields: dict[str, Any]) -> dict[str, Any]:
    """All of these, and nothing else but what ends with ``_``."""
    properties = {name.rstrip("_"): value for name, value in fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in fields if not name.endswith("_")],
        "additionalProperties": False,
    }


def one_of(*choices: Any) -> dict[str, Any]:
    return {"enum": [*choices]}


TAG = {
    "oneOf": [
        record(key=TEXT, type=one_of("string"), value=TEXT),
        record(key=TEXT, type=one_of("int64"), value=INTEGER),
        record(key=TEXT, type=one_of("bool"), value={"type": "boolean"}),
    ]
}
ERRORS = {
    "anyOf": [
        {"type": "null"},
        many(record(code=COUNT, msg=TEXT, traceID_=TEXT), minItems=1),
    ]
}
JAEGER_TRACE = record(
    traceID=TRACE_ID,
    processes={
        "type": "object",
        "additionalProperties": record(
            serviceName={"type": "string", "minLength": 1}, tags=many(TAG)
        ),
        "minProperties": 1,
    },
    warnings={"type": "null"},
    # Grafana reads the first one of each.
    spans=many(
        record(
            traceID=TRACE_ID,
            spanID=SPAN_ID,
            processID=TEXT,
            operationName={"type": "string", "minLength": 1},
            startTime=COUNT,
            duration=COUNT,
            flags=one_of(1),
            references=many(
                record(
                    refType=one_of("CHILD_OF"),
                    traceID=TRACE_ID,
                    spanID=SPAN_ID,
                ),
                maxItems=1,
            ),
            tags=many(TAG),
            logs=many(record(timestamp=COUNT, fields=many(TAG))),
            warnings={"type": "null"},
        ),
        minItems=1,
    ),
)


def structured(items: dict[str, Any]) -> dict[str, Any]:
    return record(
        data=many(items),
        total=COUNT,
        limit=one_of(0),
        offset=one_of(0),
        errors=ERRORS,
    )


# Of values Grafana decodes text alone without fail, whatever it is.
ATTRIBUTES = many(record(key=TEXT, value=record(stringValue=TEXT)))
OTLP_SPAN = record(
    traceId=TRACE_ID,
    spanId=SPAN_ID,
    parentSpanId_=SPAN_ID,
    name=TEXT,
    kind=one_of(1, 2, 3),
    startTimeUnixNano=NANOSECONDS,
    endTimeUnixNano=NANOSECONDS,
    attributes=ATTRIBUTES,
    events_=many(
        record(timeUnixNano=NANOSECONDS, name=TEXT, attributes=ATTRIBUTES)
    ),
    status_=record(code=one_of(2), message=TEXT),
)
SUMMARY = record(
    traceId=TRACE_ID,
    traceID=TRACE_ID,
    rootServiceName=TEXT,
    rootOperationName=TEXT,
    minStartTimeUnixNano=NANOSECONDS,
    maxEndTimeUnixNano=NANOSECONDS,
    spanCount={**COUNT, "minimum": 1},
    errorSpanCount=COUNT,
    orphanSpanCount=COUNT,
    services=many(
        record(name=TEXT, spanCount=COUNT, errorSpanCount=COUNT), minItems=1
    ),
)
ZIPKIN_SPAN = record(
    traceId=TRACE_ID,
    id=SPAN_ID,
    parentId_=SPAN_ID,
    kind_=one_of("SERVER", "CLIENT"),
    name=TEXT,
    timestamp={**COUNT, "minimum": 1},
    duration_={**COUNT, "minimum": 1},
    localEndpoint_=record(serviceName={"type": "string", "minLength": 1}),
    tags={"type": "object", "additionalProperties": TEXT},
)
ZIPKIN_TRACE = many(ZIPKIN_SPAN, minItems=1)
LINK: dict[str, Any] = {"parent": TEXT, "child": TEXT, "callCount": COUNT}
V3_OPERATION = record(
    name=TEXT, spanKind=one_of("internal", "server", "client")
)

#: What the clients ask for, and what they make of the answer. A service, an
#: operation and a trace are put into it.
ASKED: list[tuple[str, dict[str, Any]]] = [
    # Grafana, the first version
    ("/api/services", structured(TEXT)),
    ("/api/services/{service}/operations", structured(TEXT)),
    (
        "/api/traces?service={service}&operation={operation}&limit=20"
        "&start=0&end=4102444800000000",
        structured(JAEGER_TRACE),
    ),
    (
        "/api/traces?service={service}&tags=%7B%22error%22%3A%22true%22%7D"
        "&minDuration=1.2ms&maxDuration=1h&start=1767268000000000"
        "&end=1767269000000000",
        structured(JAEGER_TRACE),
    ),
    ("/api/traces/{trace}", structured(JAEGER_TRACE)),
    ("/api/traces/{trace}?start=1&end=2", structured(JAEGER_TRACE)),
    (
        "/api/dependencies?endTs=4102444800000&lookback=4102444800000",
        structured(record(**LINK)),
    ),
    # Grafana, the third version, and Jaeger's UI
    ("/api/v3/services", record(services=many(TEXT))),
    (
        "/api/v3/operations?service={service}",
        record(operations=many(V3_OPERATION)),
    ),
    (
        "/api/v3/traces/{trace}?start_time=2026-01-01T00:00:00.123456789"
        "+01:00&end_time=2026-02-01T00:00:00Z",
        record(
            result=record(
                resourceSpans=many(
                    record(
                        resource=record(attributes=ATTRIBUTES),
                        scopeSpans=many(
                            record(
                                scope=record(name=TEXT),
                                spans=many(OTLP_SPAN, minItems=1),
                            )
                        ),
                    )
                )
            )
        ),
    ),
    (
        "/api/v3/trace-summaries?query.serviceName={service}"
        "&query.operationName={operation}&query.searchDepth=20"
        "&query.startTimeMin=1970-01-01T00:00:00.000Z"
        "&query.startTimeMax=2100-01-01T00:00:00.000Z",
        record(summaries=many(SUMMARY)),
    ),
    (
        "/api/v3/trace-summaries?query.service_name={service}"
        "&query.span_name={operation}&query.num_traces=20"
        "&query.duration_min=1ms&query.duration_max=1h"
        "&query.attributes=%7B%22error%22%3A%22true%22%7D",
        record(summaries=many(SUMMARY)),
    ),
    ("/api/v3/trace-summaries", record(summaries=many(SUMMARY))),
    # Jaeger's UI up to 2.20
    (
        "/api/traces?end=4102444800000000&limit=20&lookback=1h&maxDuration"
        "&minDuration&service={service}&start=1",
        structured(JAEGER_TRACE),
    ),
    ("/api/traces?traceID={trace}&traceID=1f", structured(JAEGER_TRACE)),
    (
        "/api/operations?service={service}&spanKind=server",
        structured(V3_OPERATION),
    ),
    (
        "/api/traces?end=1799999999000000&limit=20&lookback=custom"
        "&service={service}&start=1",
        structured(JAEGER_TRACE),
    ),
    # Zipkin's
    ("/api/v2/services", many(TEXT)),
    ("/api/v2/spans?serviceName={service}", many(TEXT)),
    ("/api/v2/remoteServices?serviceName={service}", many(TEXT)),
    (
        "/api/v2/traces?serviceName={service}&spanName={operation}"
        "&endTs=4102444800000&lookback=4102444800000",
        many(ZIPKIN_TRACE),
    ),
    (
        "/zipkin/api/v2/traces?annotationQuery=error%20and%20osprofiler.name"
        "&minDuration=1&maxDuration=99999999&endTs=4102444800000"
        "&lookback=4102444800000&limit=100",
        many(ZIPKIN_TRACE),
    ),
    (
        "/zipkin/api/v2/traces?serviceName={service}&spanName={operation}"
        "&annotationQuery=http.request.method%3DPOST&endTs=1796000000000"
        "&lookback=1796000000000&limit=10",
        many(ZIPKIN_TRACE),
    ),
    ("/api/v2/trace/{trace}", ZIPKIN_TRACE),
    ("/api/v2/traceMany?traceIds={trace},1f", many(ZIPKIN_TRACE)),
    (
        "/api/v2/dependencies?endTs=4102444800000&lookback=4102444800000",
        many(record(**LINK, errorCount=COUNT)),
    ),
    ("/api/v2/autocompleteKeys", one_of(["project", "host"])),
    ("/api/v2/autocompleteValues?key=host", many(TEXT)),
    ("/api/v2/autocompleteValues?key=project", many(TEXT)),
    (
        "/zipkin/config.json",
        record(
            environment=TEXT,
            queryLimit=COUNT,
            defaultLookback=COUNT,
            searchEnabled=one_of(True),
            dependency=record(
                enabled=one_of(True),
                lowErrorRate={"type": "number"},
                highErrorRate={"type": "number"},
            ),
        ),
    ),
]


def make_client(
    storage: Storage, max_limit: int = 1500, time_limit: float = 60
) -> FlaskClient:
    app = flask.Flask("query")
    app.url_map.merge_slashes = False
    app.config["STORAGE"] = storage
    app.config["OPTIONS"] = SimpleNamespace(
        max_limit=max_limit, time_limit=time_limit
    )
    app.register_blueprint(jaeger.blueprint())
    app.register_blueprint(zipkin.blueprint())
    return app.test_client()


def get(client: FlaskClient, path: str, **args: Any) -> Any:
    if args:
        path += "?" + urlencode(args)
    response = client.get(path)
    assert response.status_code == 200, (path, response.text[:500])
    assert response.mimetype == "application/json"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(response.text, parse_constant=refuse)


def as_stored(number: int, trace: Trace) -> list[Notification]:
    """A case's notifications under a base_id of its own."""
    if trace is CASES["nil"]:
        return [*trace.notifications()]
    own = uuid(BASE + number)
    return [
        Notification.from_payload(
            {
                key: own if value == trace.base_id else value
                for key, value in json.loads(notification.text).items()
            }
        )
        for notification in trace.notifications()
    ]


def read_only(folder: Path, notifications: list[Notification]) -> Storage:
    storage = storages.get_storage(f"sqlite:///{folder / 'traces.sqlite'}")
    storage.prepare()
    storage.write(notifications)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something is written")

    for name in ("insert", "delete", "prepare", "delete_names"):
        setattr(storage.plugin, name, refuse)
    return storage


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A storage with all cases that there are for reports."""
    stored = [
        notification
        for number, trace in enumerate(CASES.values())
        for notification in as_stored(number, trace)
    ]
    storage = read_only(tmp_path_factory.mktemp("all"), stored)
    yield storage
    storage.close()


REQUESTS = [
    sample.request(
        sample.seeded(number),
        sample.STARTED + number * sample.SECOND,
        calls=1 + number % 3,
        service=("api", "images")[number % 2],
        error="DBDeadlock" if number == 3 else None,
        asked=(("POST", "/v1/servers"), ("GET", "/v1/servers"))[number % 2],
    )
    for number in range(8)
]
IDS = [payloads[0]["base_id"].replace("-", "") for payloads in REQUESTS]


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A storage with eight requests, a second apart."""
    stored = [payload for payloads in REQUESTS for payload in payloads]
    storage = read_only(
        tmp_path_factory.mktemp("requests"), sample.notifications(stored)
    )
    yield storage
    storage.close()


def test_clients_can_decode_every_answer(everything: Storage) -> None:
    """Empty results, single spans, hostile texts, what never ended."""
    client = make_client(everything)
    services = get(client, "/api/services")["data"]
    trace_ids = [
        spans.trace_id(Trace(summary.base_id, (), (), *[None] * 3))  # type: ignore[arg-type]
        for summary in everything.list_traces(TraceQuery(limit=None))
    ]
    assert len(trace_ids) == len(CASES) - 1  # all but the one of nothing
    seen = 0
    for path, schema in ASKED:
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        for service in [*services, "nobody"]:
            operations = ["nothing"]
            if "{operation}" in path:
                operations += get(
                    client, f"/api/services/{quote(service, '')}/operations"
                )["data"]
            for operation in operations:
                asked = path.format(
                    service=quote(service, safe=""),
                    operation=quote(operation, safe=""),
                    trace="{trace}",
                )
                ids = trace_ids if "{trace}" in asked else [""]
                for trace_id in ids:
                    answer = get(client, asked.format(trace=trace_id))
                    validator.validate(answer)
                    seen += 1
            if "{service}" not in path:
                break
    assert seen > 100


def test_clients_can_decode_the_answers_of_an_empty_storage(
    tmp_path: Path,
) -> None:
    client = make_client(read_only(tmp_path, []))
    for path, schema in ASKED:
        if "{trace}" not in path:
            answer = get(client, path.format(service="a-b", operation="c"))
            jsonschema.validate(answer, schema)
    for path in ("/api/traces/", "/api/v3/traces/", "/api/v2/trace/"):
        assert client.get(path + "1f").status_code == 404
    # By the id as it was given the UI knows which is missing.
    [missing] = get(client, "/api/traces?traceID=1f")["errors"]
    assert (missing["code"], missing["traceID"]) == (404, "1f")
    storage: Storage = client.application.config["STORAGE"]
    storage.close()


def matching(client: FlaskClient, **args: Any) -> list[int]:
    """Which of the requests the first version's search gives."""
    if "tags" in args:
        args["tags"] = json.dumps(args["tags"])
    answer = get(client, "/api/traces", **args)
    assert answer["errors"] is None
    return [IDS.index(trace["traceID"]) for trace in answer["data"]]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, [7, 6, 5, 4, 3, 2, 1, 0]),
        ({"limit": 3}, [7, 6, 5]),
        ({"service": "shop-images"}, [7, 5, 3, 1]),
        ({"service": "shop-images", "limit": 2}, [7, 5]),
        ({"service": "images"}, []),
        ({"service": "shop:images"}, []),
        ({"service": "!shop-images"}, []),
        ({"operation": "POST /v1/servers"}, [6, 4, 2, 0]),
        ({"operation": "POST *"}, []),
        ({"operation": "POST /v1/servers", "limit": 1}, [6]),
        # Of one and the same span.
        (
            {"service": "shop-conductor", "operation": "POST /v1/servers"},
            [],
        ),
        ({"tags": {"error": "true"}}, [3]),
        ({"tags": {"error": "DBDeadlock: it broke"}}, [3]),
        ({"service": "shop-conductor", "tags": {"error": "true"}}, [3]),
        ({"service": "shop-images", "tags": {"error": "true"}}, []),
        (
            {"service": "shop-images", "tags": {"error": "false"}},
            [7, 5, 3, 1],
        ),
        ({"tags": {"http.request.method": "GET"}}, [7, 5, 3, 1]),
        ({"tags": {"http.request.method": "PUT"}}, []),
        ({"tags": {"project": "shop"}}, [7, 6, 5, 4, 3, 2, 1, 0]),
        ({"tags": {"project": "bank"}}, []),
        ({"tags": {"host": "node-2"}, "limit": 2}, [7, 6]),
        (
            {"tags": {"host": "node-2", "span.kind": "client"}, "limit": 1},
            [7],
        ),
        ({"tags": {"host": "node-2", "http.request.method": "GET"}}, []),
        ({"tag": "http.request.method:GET", "limit": 1}, [7]),
        ({"minDuration": "25ms"}, [5, 2]),
        ({"minDuration": "0.01801s", "maxDuration": "24.9ms"}, []),
        ({"maxDuration": "12ms"}, [6, 3, 0]),
        ({"start": sample.STARTED + 6 * sample.SECOND}, [7, 6]),
        ({"end": sample.STARTED + 1 * sample.SECOND}, [1, 0]),
        ({"traceID": IDS[2]}, [2]),
    ],
)
def test_search(
    requests: Storage, args: dict[str, Any], expected: list[int]
) -> None:
    assert matching(make_client(requests), **args) == expected


def test_all_searches_find_the_same(requests: Storage) -> None:
    client = make_client(requests)
    summaries = get(
        client,
        "/api/v3/trace-summaries",
        **{
            "query.serviceName": "shop-images",
            "query.operationName": "GET /v1/servers",
            "query.attributes": '{"project": "shop"}',
            "query.durationMax": "24ms",
            "query.searchDepth": "2",
        },
    )["summaries"]
    lists = get(
        client,
        "/api/v2/traces",
        serviceName="shop-images",
        spanName="get /v1/servers",
        annotationQuery="project=shop and http.request.method",
        maxDuration=24_000,
        limit=2,
        endTs=sample.STARTED // 1000 + 60_000,
    )
    assert [summary["traceId"] for summary in summaries] == [IDS[7], IDS[3]]
    assert [trace[0]["traceId"] for trace in lists] == [IDS[7], IDS[3]]


def test_summaries_count_spans_by_service(requests: Storage) -> None:
    summaries = get(
        make_client(requests),
        "/api/v3/trace-summaries",
        **{"query.attributes": '{"error": "true"}'},
    )["summaries"]
    started = (sample.STARTED + 3 * sample.SECOND) * 1000
    assert summaries == [
        {
            "traceId": IDS[3],
            "traceID": IDS[3],
            "rootServiceName": "shop-images",
            "rootOperationName": "GET /v1/servers",
            "minStartTimeUnixNano": str(started),
            "maxEndTimeUnixNano": str(started + 11_000_000),
            "spanCount": 4,
            "errorSpanCount": 1,
            "orphanSpanCount": 0,
            "services": [
                {"name": "shop-images", "spanCount": 1, "errorSpanCount": 0},
                {
                    "name": "shop-conductor",
                    "spanCount": 3,
                    "errorSpanCount": 1,
                },
            ],
        }
    ]


def test_answers_are_what_show_exports(requests: Storage) -> None:
    client = make_client(requests)
    trace = requests.trace(REQUESTS[3][0]["base_id"])
    zipkins = get(client, f"/api/v2/trace/{IDS[3]}")
    assert zipkins == load("zipkin", trace)

    exported = load("otlp", trace)
    for attributes in (
        span["attributes"]
        for resource in exported["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ):
        for attribute in attributes:
            [(kind, value)] = attribute["value"].items()
            if kind != "stringValue":
                attribute["value"] = {"stringValue": spans.text(value)}
    third = get(client, f"/api/v3/traces/{IDS[3]}")
    assert third == {"result": exported}

    [first] = get(client, f"/api/traces/{IDS[3]}")["data"]
    of_otlp = {
        span["spanId"]: span
        for resource in exported["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }
    assert len(first["spans"]) == len(of_otlp)
    for span in first["spans"]:
        other = of_otlp[span["spanID"]]
        assert span["operationName"] == other["name"]
        assert str(span["startTime"] * 1000) == other["startTimeUnixNano"]
        tags = {tag["key"]: spans.text(tag["value"]) for tag in span["tags"]}
        error = tags.pop("error", None)
        assert error == ("true" if "status" in other else None)
        assert len(span["logs"]) == (error is not None)
        assert tags.pop("span.kind", "internal") == (KINDS[other["kind"]])
        assert tags == {
            attribute["key"]: attribute["value"]["stringValue"]
            for attribute in other["attributes"]
        }
        parents = [reference["spanID"] for reference in span["references"]]
        assert parents == [*filter(None, [other.get("parentSpanId")])]


@pytest.mark.parametrize("path", ["/api/traces", "/api/v3/traces"])
def test_ids_of_traces(requests: Storage, path: str) -> None:
    client = make_client(requests)
    dashed = REQUESTS[0][0]["base_id"]
    whole = get(client, f"{path}/{IDS[0]}")
    for text in (dashed, dashed.upper(), IDS[0].upper()):
        assert get(client, f"{path}/{text}") == whole
    for text, status in (("0", 404), ("x", 400), ("1" * 33, 400)):
        response = client.get(f"{path}/{text}")
        assert response.status_code == status
        assert response.mimetype == "application/json"


@pytest.mark.parametrize(
    "path", ["/api/traces/", "/api/v3/traces/", "/api/v2/trace/"]
)
def test_what_has_not_changed_is_not_sent_again(
    requests: Storage, path: str
) -> None:
    client = make_client(requests)
    tag = client.get(path + IDS[0]).headers["ETag"]
    again = client.get(path + IDS[0], headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get(path + IDS[1]).headers["ETag"] != tag


def test_the_application_answers_so(requests: Storage) -> None:
    conf = cfg.ConfigOpts()
    conf([], project="profiler_bridge", default_config_files=[])
    client = make_app(conf, requests).test_client()
    assert len(get(client, "/api/traces?limit=2")["data"]) == 2
    # A name with all that may end a part of a path.
    path = "/api/services/a%2F%2Fb%0D%0A%3F/operations"
    assert get(client, path)["data"] == []
    assert get(client, "/zipkin/api/v2/services")
    for path in ("/api/traces/1f", "/api/v2/trace/1f"):
        assert client.get(path).status_code == 404


def test_ids_as_they_were_sent(tmp_path: Path) -> None:
    """Without dashes, in upper case, and with zeros before."""
    base_id = "00000000-0000-4000-8000-00000000AB01"
    traces = [
        sample.span(trace_id, uuid(1), trace_id)
        for trace_id in (base_id, "5" * 32, "A" * 32)
    ]
    stored = [payload for payloads in traces for payload in payloads]
    client = make_client(read_only(tmp_path, sample.notifications(stored)))
    for text in ("4000800000000000ab01", base_id.lower(), "5" * 32, "a" * 32):
        assert len(get(client, f"/api/v2/trace/{text}")) == 1
    storage: Storage = client.application.config["STORAGE"]
    storage.close()


@pytest.mark.parametrize(
    "path",
    [
        "/api/traces?limit=0",
        "/api/traces?limit=many",
        "/api/traces?start=-1",
        "/api/traces?tags=nothing",
        "/api/traces?tags=[]",
        "/api/traces?tags={%22a%22:{}}",
        "/api/traces?minDuration=5",
        "/api/traces?minDuration=5%20s",
        "/api/v3/trace-summaries?query.startTimeMin=yesterday",
        "/api/v2/traces?minDuration=1ms",
        "/api/v2/traceMany",
    ],
)
def test_what_has_no_meaning_is_refused(requests: Storage, path: str) -> None:
    response = make_client(requests).get(path)
    assert response.status_code == 400
    assert len(response.text) < 500


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("", None),
        (None, None),
        ("0s", 0),
        ("1.2s", 1_200_000),
        (".5ms", 500),
        ("1h2m3.5s", 3_723_500_000),
        ("100us", 100),
        ("100µs", 100),
        ("1500ns", 1),
        ("999999999999999999h", 2**62),
    ],
)
def test_durations_as_go_writes_them(
    text: str | None, microseconds: int | None
) -> None:
    assert parameters.duration(text) == microseconds


def test_metrics_are_not_there(requests: Storage) -> None:
    for path in ("latencies?service=a&quantile=0.95", "calls", "errors"):
        answer = make_client(requests).get(f"/api/metrics/{path}")
        assert answer.status_code == 501
        assert answer.json is not None
        assert answer.json["errors"][0]["code"] == 501


def test_services_and_operations(requests: Storage) -> None:
    client = make_client(requests)
    services = ["shop-api", "shop-conductor", "shop-images"]
    assert get(client, "/api/services")["data"] == services
    assert get(client, "/api/v3/services")["services"] == services
    assert get(client, "/api/v2/services") == services
    operations = ["SELECT servers", "UPDATE servers", "build"]
    path = "/api/services/shop-conductor/operations"
    assert get(client, path)["data"] == operations
    assert get(client, "/api/v3/operations?service=shop-conductor") == {
        "operations": [
            {"name": "SELECT servers", "spanKind": "client"},
            {"name": "UPDATE servers", "spanKind": "client"},
            {"name": "build", "spanKind": "server"},
        ]
    }
    assert get(client, "/api/v2/spans?serviceName=SHOP-conductor") == sorted(
        map(str.lower, operations)
    )
    assert get(client, "/api/v2/autocompleteValues?key=host") == [
        "node-1",
        "node-2",
    ]


def test_dependencies(requests: Storage) -> None:
    client = make_client(requests)
    end = sample.STARTED // 1000 + 7_000
    assert get(client, f"/api/dependencies?endTs={end}")["data"] == [
        {"parent": "shop-api", "child": "shop-conductor", "callCount": 7},
        {"parent": "shop-images", "child": "shop-conductor", "callCount": 8},
    ]
    path = f"/api/v2/dependencies?endTs={end}&lookback=2000"
    assert get(client, path) == [
        {
            "parent": "shop-api",
            "child": "shop-conductor",
            "callCount": 1,
            "errorCount": 0,
        },
        {
            "parent": "shop-images",
            "child": "shop-conductor",
            "callCount": 5,
            "errorCount": 0,
        },
    ]


def test_dependencies_say_of_how_many_traces_they_are(
    requests: Storage,
) -> None:
    end = sample.STARTED // 1000 + 60_000
    for path in ("/api/dependencies", "/api/v2/dependencies"):
        asked = f"{path}?endTs={end}"
        response = make_client(requests, max_limit=8).get(asked)
        assert search.PARTIAL not in response.headers
        response = make_client(requests, max_limit=3).get(asked)
        assert "newest 3 traces" in response.headers[search.PARTIAL]
        response = make_client(requests, time_limit=0).get(asked)
        assert search.PARTIAL in response.headers


def test_no_answer_has_more_traces_than_are_allowed(
    requests: Storage,
) -> None:
    client = make_client(requests, max_limit=2)
    assert matching(client, limit=1000) == [7, 6]
    assert (
        len(
            get(
                client,
                "/api/v2/traces?limit=9&endTs=1999999999999&"
                "lookback=1999999999999",
            )
        )
        == 2
    )
    summaries = get(client, "/api/v3/trace-summaries?query.searchDepth=9")
    assert len(summaries["summaries"]) == 2


def test_a_search_ends_and_says_so(requests: Storage) -> None:
    client = make_client(requests, time_limit=0)
    tags = quote('{"http.request.method": "PUT"}')
    answer = get(client, f"/api/traces?tags={tags}")
    assert answer["data"] == []
    assert answer["errors"] == [{"code": 206, "msg": search.STOPPED}]
    path = f"/api/v3/trace-summaries?query.attributes={tags}"
    answer = get(client, path)
    assert answer == {"summaries": [], "warnings": [search.STOPPED]}
    path = "/api/v2/traces?annotationQuery=a&lookback=1999999999999"
    response = client.get(path)
    assert response.json == []
    assert response.headers[search.PARTIAL] == search.STOPPED
    response = make_client(requests).get(path)
    assert search.PARTIAL not in response.headers


def test_traces_are_read_one_after_the_other(
    requests: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, one is in memory."""
    monkeypatch.setattr(search, "_BLOCK", 1)
    read = []
    original = requests.plugin.notifications

    def notifications(base_id: str) -> list[Notification]:
        read.append(base_id)
        return original(base_id)

    monkeypatch.setattr(requests.plugin, "notifications", notifications)
    response = make_client(requests).get("/api/traces", buffered=False)
    for chunk in response.iter_encoded():
        if chunk.startswith(b'{"traceID"'):
            break
    assert len(read) == 1
    rest = b"".join(response.iter_encoded())
    assert len(read) == len(REQUESTS)
    assert rest.endswith(b'"errors":null}')


def test_a_trace_that_goes_meanwhile_is_left_out(
    requests: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = requests.plugin.notifications
    gone = REQUESTS[6][0]["base_id"]
    monkeypatch.setattr(
        requests.plugin,
        "notifications",
        lambda base_id: [] if base_id == gone else original(base_id),
    )
    client = make_client(requests)
    assert matching(client, limit=3) == [7, 5, 4]
    assert get(client, f"/api/v2/traceMany?traceIds={IDS[6]},{IDS[5]}") == [
        get(client, f"/api/v2/trace/{IDS[5]}")
    ]


def test_a_client_is_told_of_a_storage_that_is_away(
    requests: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of an answer has been sent, where that is possible."""

    def refuse(*_: object) -> None:
        raise RuntimeError("away")

    monkeypatch.setattr(requests.plugin, "notifications", refuse)
    client = make_client(requests)
    for path, _ in ASKED:
        if "traces" in path and "{service}" not in path:
            asked = path.format(trace=IDS[0])
            assert client.get(asked).status_code == 500, path


def test_services_that_are_called_alike_are_one(tmp_path: Path) -> None:
    names = [("a-b", "c"), ("a", "b-c"), (None, "a-b-c"), ("!a", "b")]
    traces = [
        sample.one_span(seed=number, project=project, service=service)
        for number, (project, service) in enumerate([*names, ("A-B", "C")])
    ]
    stored = [payload for payloads in traces for payload in payloads]
    client = make_client(read_only(tmp_path, sample.notifications(stored)))
    assert get(client, "/api/services")["data"] == ["!a-b", "A-B-C", "a-b-c"]
    for service, count in (("a-b-c", 3), ("!a-b", 1), ("A-B-C", 1)):
        answer = get(client, "/api/traces", service=service)
        assert len(answer["data"]) == count
    lists = get(
        client, "/api/v2/traces?serviceName=A-b-C&lookback=99999999999"
    )
    assert len(lists) == 4
    storage: Storage = client.application.config["STORAGE"]
    storage.close()


def test_every_path_is_in_the_guide(requests: Storage) -> None:
    guide = Path(__file__).parents[2] / "doc/source/admin/grafana.rst"
    text = guide.read_text()
    rules = make_client(requests).application.url_map.iter_rules()
    for rule in rules:
        path = re.sub(
            "<(?:anything:)?(?:trace_)?([a-z]+)>", r"{\1}", rule.rule
        )
        if not path.startswith(("/static/", "/zipkin/", "/api/metrics/")):
            assert f"``{path}``" in text


def test_grafana_is_told_where_the_service_is(requests: Storage) -> None:
    file = Path(__file__).parents[2] / "etc/grafana-datasources.yaml"
    [port] = (opt.default for opt in options.OPTS if opt.name == "port")
    sources = re.findall(
        r"\n    type: (\w+)\n    access: proxy\n    url: (\S+)\n",
        file.read_text(),
    )
    client = make_client(requests)
    # What each asks for in "Save & test".
    paths = {"jaeger": "/api/services", "zipkin": "/api/v2/services"}
    assert [kind for kind, _ in sources] == [*paths]
    for kind, url in sources:
        assert url == f"http://127.0.0.1:{port}"
        assert client.get(paths[kind]).status_code == 200
