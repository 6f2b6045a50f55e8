# SPDX-License-Identifier: Apache-2.0

"""Zipkin's API for reading: for Grafana's data source, and for Lens, its UI.

https://github.com/openzipkin/zipkin-api/blob/master/zipkin2-api.yaml

Names of services and spans are in lower case, as Zipkin has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import flask

from profiler_bridge import exceptions
from profiler_bridge.api import parameters, search
from profiler_bridge.api.app import storage
from profiler_bridge.api.search import Matches, Search
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import spans, zipkin
from profiler_bridge.report.edges import CALL
from profiler_bridge.storage.traces import Storage

_DEFAULT_LIMIT = 10
_DAY = 24 * 3600 * 1000
# By whose values Lens completes what is typed.
_KEYS = ("project", "host")
# In so many of the newest traces hosts are looked for.
_HOSTS_FROM = 100


def blueprint() -> flask.Blueprint:
    """Everything below ``/api/v2``; with ``/zipkin`` before it, as well."""
    routes = flask.Blueprint("zipkin", __name__)
    for rule, view in (
        ("/config.json", _config),
        ("/api/v2/services", _services),
        ("/api/v2/spans", _spans),
        ("/api/v2/remoteServices", _remote_services),
        ("/api/v2/traces", _traces),
        ("/api/v2/trace/<trace_id>", _trace),
        ("/api/v2/traceMany", _trace_many),
        ("/api/v2/dependencies", _dependencies),
        ("/api/v2/autocompleteKeys", _keys),
        ("/api/v2/autocompleteValues", _values),
    ):
        routes.add_url_rule(rule, view_func=view)
        # Where Zipkin's own server has its UI, which asks for it there.
        routes.add_url_rule(f"/zipkin{rule}", view_func=view)
    routes.register_error_handler(argparse.ArgumentTypeError, _bad)
    routes.register_error_handler(exceptions.TraceNotFound, _not_found)
    return routes


def _bad(error: Exception) -> flask.Response:
    return _failure(400, str(error))


def _not_found(error: Exception) -> flask.Response:
    return _failure(404, str(error))


def _failure(code: int, message: str) -> flask.Response:
    return flask.Response(spans.text(message), code, mimetype="text/plain")


def _config() -> dict[str, Any]:
    """What Lens asks for first."""
    return {
        "environment": "",
        "queryLimit": _DEFAULT_LIMIT,
        "defaultLookback": 15 * 60 * 1000,
        "searchEnabled": True,
        "dependency": {
            "enabled": True,
            "lowErrorRate": 0.5,
            "highErrorRate": 0.75,
        },
    }


def _options() -> Any:
    return flask.current_app.config["OPTIONS"]


def _services() -> flask.Response:
    return flask.jsonify([*search.services(storage(), str.lower)])


def _spans() -> flask.Response:
    known = search.operations(
        storage(),
        flask.request.args.get("serviceName", "").lower(),
        _options().time_limit,
        str.lower,
    )
    return flask.jsonify(sorted({name for name, _ in known}))


def _remote_services() -> flask.Response:
    """None: spans say who asked by their parents, not by remote endpoints."""
    return flask.jsonify([])


def _traces() -> flask.Response:
    args = flask.request.args
    if args.get("remoteServiceName"):
        return flask.jsonify([])
    query = parameters.range_query("endTs", "lookback", _DAY, _options())
    matches = Matches(
        storage(),
        Search(
            TraceQuery(
                since=query.since,
                until=query.until,
                min_duration=parameters.number("minDuration"),
                max_duration=parameters.number("maxDuration"),
                limit=parameters.limit(
                    "limit", _DEFAULT_LIMIT, _options().max_limit
                ),
                time_limit=_options().time_limit,
            ),
            args.get("serviceName", "").lower() or None,
            args.get("spanName", "").lower() or None,
            _annotations(args.get("annotationQuery", "")),
            str.lower,
        ),
    )
    response = search.streamed(_lists(matches))
    # In the answer there is no place for it. Of one that is too long to be
    # made by now it cannot be known.
    if matches.stopped:
        response.headers[search.PARTIAL] = search.STOPPED
    return response


def _annotations(text: str) -> dict[str, str | None]:
    """Of ``error and http.request.method=GET`` the tags."""
    asked: dict[str, str | None] = {}
    for part in filter(None, map(str.strip, text.split(" and "))):
        key, equals, value = part.partition("=")
        asked[key] = value if equals else None
    return asked


def _lists(matches: Matches) -> Iterator[str]:
    yield "["
    between = ""
    for trace in matches:
        yield f"{between}["
        yield from spans.items(zipkin.exported(trace), ",")
        yield "]"
        between = ","
    yield "]"


def _trace(trace_id: str) -> flask.Response:
    return search.answer(trace_id, zipkin.render)


def _trace_many() -> flask.Response:
    ids = flask.request.args.get("traceIds", "").split(",")
    ids = [*dict.fromkeys(filter(None, map(str.strip, ids)))]
    if not ids or len(ids) > _options().max_limit:
        raise argparse.ArgumentTypeError(
            f"traceIds must name 1 to {_options().max_limit} traces"
        )
    return search.streamed(_many(storage(), ids))


def _many(storage: Storage, ids: list[str]) -> Iterator[str]:
    """Those of the traces that are there."""
    yield "["
    between = ""
    for trace_id in ids:
        try:
            trace = search.get(storage, trace_id)
        except exceptions.TraceNotFound:
            continue
        yield f"{between}["
        yield from spans.items(zipkin.exported(trace), ",")
        yield "]"
        between = ","
    yield "]"


def _dependencies() -> flask.Response:
    query = parameters.range_query("endTs", "lookback", _DAY, _options())
    graph, left_out = search.graph(storage(), query)
    links: dict[tuple[str, str], dict[str, Any]] = {}
    for edge, calls in sorted(graph.items()):
        if edge.connection != CALL:
            continue
        ends = edge.client.lower(), edge.server.lower()
        link = links.setdefault(
            ends,
            {
                "parent": ends[0],
                "child": ends[1],
                "callCount": 0,
                "errorCount": 0,
            },
        )
        link["callCount"] += calls.count
        link["errorCount"] += calls.errors
    response = flask.jsonify([*links.values()])
    if left_out is not None:
        response.headers[search.PARTIAL] = left_out
    return response


def _keys() -> flask.Response:
    return flask.jsonify(_KEYS)


def _values() -> flask.Response:
    key = flask.request.args.get("key", "")
    known: set[str] = set()
    if key == "project":
        for qualified in storage().services():
            project, colon, _ = qualified.partition(":")
            if colon:
                known.add(project)
    elif key == "host":
        query = TraceQuery(limit=_HOSTS_FROM, time_limit=_options().time_limit)
        for summary in storage().list_traces(query):
            known.update(summary.hosts)
    return flask.jsonify(sorted(map(spans.text, known)))
