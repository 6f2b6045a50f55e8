# SPDX-License-Identifier: Apache-2.0

"""Jaeger's query API: for Grafana's data source, and for Jaeger's own UI.

https://www.jaegertracing.io/docs/2.0/apis/ and
https://github.com/jaegertracing/jaeger-idl/blob/main/swagger/api_v3/query_service.swagger.json

Of the first version, without a number, Grafana needs the search; of the third
Jaeger's UI needs ``trace-summaries``. Parameters of the third are taken in
both of its spellings, and under the names of its earlier releases.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import flask
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from profiler_bridge import exceptions
from profiler_bridge.api import parameters, search
from profiler_bridge.api.app import storage
from profiler_bridge.api.search import Matches, Search
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import jaeger, otlp, spans
from profiler_bridge.report.edges import CALL
from profiler_bridge.storage.traces import Storage
from profiler_bridge.trace import Trace

_DEFAULT_LIMIT = 20
_WEEK = 7 * 24 * 3600 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# By what they are called elsewhere here.
_V3_NAMES = {
    "service": ("service_name", "serviceName"),
    "operation": (
        *("operation_name", "operationName", "span_name", "spanName"),
    ),
    "start": ("start_time_min", "startTimeMin"),
    "end": ("start_time_max", "startTimeMax"),
    "minDuration": ("duration_min", "durationMin"),
    "maxDuration": ("duration_max", "durationMax"),
    "limit": ("search_depth", "searchDepth", "num_traces", "numTraces"),
    "tags": ("attributes",),
}


def blueprint() -> flask.Blueprint:
    """Everything below ``/api`` that is Jaeger's, and ``/api/v3``."""
    routes = flask.Blueprint("jaeger", __name__)
    routes.record(_know_anything)
    for rule, view in (
        ("/api/services", _services),
        ("/api/services/<anything:service>/operations", _operations_of),
        ("/api/operations", _operations),
        ("/api/traces", _traces),
        ("/api/traces/<trace_id>", _trace),
        ("/api/dependencies", _dependencies),
        ("/api/metrics/<path:name>", _metrics),
        ("/api/v3/services", _v3_services),
        ("/api/v3/operations", _v3_operations),
        ("/api/v3/trace-summaries", _v3_summaries),
        ("/api/v3/traces/<trace_id>", _v3_trace),
    ):
        routes.add_url_rule(rule, view_func=view)
    routes.register_error_handler(argparse.ArgumentTypeError, _bad)
    routes.register_error_handler(exceptions.TraceNotFound, _not_found)
    return routes


class _Anything(BaseConverter):
    """Of a path, what may have slashes and ends of lines in it."""

    regex = "(?s:.+?)"
    part_isolating = False


def _know_anything(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["anything"] = _Anything


def _bad(error: Exception) -> tuple[dict[str, Any], int]:
    return _failure(400, str(error))


def _not_found(error: Exception) -> tuple[dict[str, Any], int]:
    return _failure(404, str(error))


def _failure(code: int, message: str) -> tuple[dict[str, Any], int]:
    message = spans.text(message)
    if flask.request.path.startswith("/api/v3/"):
        return {"error": {"httpCode": code, "message": message}}, code
    errors = [{"code": code, "msg": message}]
    return {**_structured([]), "data": None, "errors": errors}, code


def _structured(data: list[Any]) -> dict[str, Any]:
    return {
        "data": data,
        "total": len(data),
        "limit": 0,
        "offset": 0,
        "errors": None,
    }


def _services() -> dict[str, Any]:
    return _structured([*search.services(storage())])


def _operations_of(service: str) -> dict[str, Any]:
    known = _known_operations(service)
    return _structured(sorted({name for name, _ in known}))


def _operations() -> dict[str, Any]:
    service = flask.request.args.get("service", "")
    wanted = flask.request.args.get("spanKind")
    return _structured(
        [
            {"name": name, "spanKind": kind}
            for name, kind in _known_operations(service)
            if not wanted or wanted == kind
        ]
    )


def _known_operations(service: str) -> list[tuple[str, str]]:
    return search.operations(storage(), service, _options().time_limit)


def _options() -> Any:
    return flask.current_app.config["OPTIONS"]


def _traces() -> flask.Response:
    args = flask.request.args
    ids = args.getlist("traceID")
    if ids:
        if len(ids) > _options().max_limit:
            raise argparse.ArgumentTypeError("these are too many traces")
        return search.streamed(_by_ids(storage(), ids))
    asked = parameters.tags(args.get("tags"))
    for tag in args.getlist("tag"):
        key, colon, value = tag.partition(":")
        if not colon:
            raise argparse.ArgumentTypeError("a tag is given as key:value")
        asked[key] = value
    end = parameters.number("end")
    matches = Matches(
        storage(),
        Search(
            TraceQuery(
                since=parameters.number("start"),
                until=None if end is None else end + 1,
                min_duration=parameters.duration(args.get("minDuration")),
                max_duration=parameters.duration(args.get("maxDuration")),
                limit=_limit("limit"),
                time_limit=_options().time_limit,
            ),
            args.get("service") or None,
            args.get("operation") or None,
            asked,
        ),
    )
    return search.streamed(_answer(matches))


def _limit(name: str) -> int:
    return parameters.limit(name, _DEFAULT_LIMIT, _options().max_limit)


def _answer(matches: Matches) -> Iterator[str]:
    yield '{"data":['
    count = 0
    for trace in matches:
        yield "," if count else ""
        yield from jaeger.render(trace)
        count += 1
    # Grafana and Jaeger's UI show what there is, whatever stands here.
    errors = None
    if matches.stopped:
        errors = [{"code": 206, "msg": search.STOPPED}]
    yield _rest(count, errors)


def _rest(total: int, errors: list[dict[str, Any]] | None) -> str:
    """What stands behind the traces."""
    rest = {"total": total, "limit": 0, "offset": 0, "errors": errors}
    return f"],{spans.encode(rest)[1:]}"


def _by_ids(storage: Storage, ids: list[str]) -> Iterator[str]:
    """Traces by their ids, and which are not there."""
    errors: list[dict[str, Any]] = []
    count = 0
    yield '{"data":['
    for trace_id in ids:
        try:
            trace = search.get(storage, trace_id)
        except exceptions.TraceNotFound as error:
            missing = {"code": 404, "msg": str(error), "traceID": trace_id}
            errors.append(missing)
            continue
        yield "," if count else ""
        yield from jaeger.render(trace)
        count += 1
    yield _rest(count, errors or None)


def _trace(trace_id: str) -> flask.Response:
    return search.answer(trace_id, _whole)


def _whole(trace: Trace) -> Iterator[str]:
    yield '{"data":['
    yield from jaeger.render(trace)
    yield _rest(1, None)


def _dependencies() -> flask.Response:
    query = parameters.range_query("endTs", "lookback", _WEEK, _options())
    graph, left_out = search.graph(storage(), query)
    response = flask.jsonify(
        _structured(
            [
                {
                    "parent": edge.client,
                    "child": edge.server,
                    "callCount": calls.count,
                }
                for edge, calls in sorted(graph.items())
                if edge.connection == CALL
            ]
        )
    )
    if left_out is not None:
        # Grafana shows nothing but the errors where there are any.
        response.headers[search.PARTIAL] = left_out
    return response


def _metrics(name: str) -> tuple[dict[str, Any], int]:
    return _failure(501, "metrics are Prometheus's, not this service's")


def _v3_services() -> dict[str, Any]:
    return {"services": [*search.services(storage())]}


def _v3_operations() -> dict[str, Any]:
    service = flask.request.args.get("service", "")
    return {
        "operations": [
            {"name": name, "spanKind": kind}
            for name, kind in _known_operations(service)
        ]
    }


def _v3_trace(trace_id: str) -> flask.Response:
    return search.answer(trace_id, _result)


def _result(trace: Trace) -> Iterator[str]:
    yield '{"result":{"resourceSpans":'
    # Grafana refuses a whole trace for one value that is not text.
    yield from otlp.resource_spans(trace, as_text=True)
    yield "}}"


def _v3_summaries() -> flask.Response:
    end = _moment("end")
    matches = Matches(
        storage(),
        Search(
            TraceQuery(
                since=_moment("start"),
                until=None if end is None else end + 1,
                min_duration=parameters.duration(_v3("minDuration")),
                max_duration=parameters.duration(_v3("maxDuration")),
                limit=_limit(_v3_name("limit")),
                time_limit=_options().time_limit,
            ),
            _v3("service") or None,
            _v3("operation") or None,
            parameters.tags(_v3("tags")),
        ),
    )
    return search.streamed(_summaries(matches))


def _summaries(matches: Matches) -> Iterator[str]:
    yield '{"summaries":['
    yield from spans.items(map(jaeger.summary, matches), ",")
    yield "]"
    if matches.stopped:
        yield f',"warnings":[{spans.encode(search.STOPPED)}]'
    yield "}"


def _v3(name: str) -> str | None:
    return flask.request.args.get(_v3_name(name))


def _v3_name(name: str) -> str:
    """By which of its names a parameter is given."""
    names = [f"query.{spelling}" for spelling in _V3_NAMES[name]]
    given = (name for name in names if name in flask.request.args)
    return next(given, names[0])


def _moment(name: str) -> int | None:
    """Microseconds since 1970 of a parameter as RFC 3339 has it."""
    text = _v3(name)
    if not text:
        return None
    try:
        # A plus that was not escaped arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{_v3_name(name)} must be a moment as RFC 3339 has it"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
