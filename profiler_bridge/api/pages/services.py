# SPDX-License-Identifier: Apache-2.0

"""Who calls whom: the calls between services in traces."""

from __future__ import annotations

from typing import Any

import flask
from werkzeug.wrappers import Response

from profiler_bridge.api.pages import layers, markup
from profiler_bridge.api.pages.filters import (
    Filters,
    Offered,
    Reading,
    is_empty,
    plain_url,
)
from profiler_bridge.api.pages.listing import LIMITS
from profiler_bridge.query import Sort
from profiler_bridge.report import edges
from profiler_bridge.report.spans import service
from profiler_bridge.report.statistics import By, Statistics
from profiler_bridge.trace import Trace

#: How many edges are drawn, and how many are in the table: those with the
#: most calls. Names are made up by who may publish.
MOST_DRAWN = 80
MOST_ROWS = 1000
# Of so many different ones the rest is not counted.
_MOST = 10_000


def services() -> Response:
    """The graph of the traces that the URL's filters choose."""
    if url := plain_url():
        return flask.redirect(url)
    filters = Filters.of(flask.request.args)
    values: dict[str, Any] = {
        "filters": filters,
        "offered": Offered.now(),
        "limits": LIMITS,
        "extra": {},
        "hosts": (),
    }
    if filters.query is None:
        return markup.page("invalid.html", 400, here="services", **values)
    reading = Reading(filters.query)
    # It knows how many there are, and since when.
    statistics = Statistics(By.KIND)
    graph: dict[edges.Edge, edges.Calls] = {}
    names: dict[str, str] = {}
    for trace in reading:
        statistics.add(trace)
        if len(graph) < _MOST:
            edges.add(graph, trace)
            _learn(names, trace)
    rows = [
        (
            names.get(edge.client, edge.client),
            names.get(edge.server, edge.server),
            calls,
        )
        for edge, calls in graph.items()
    ]
    rows.sort(key=lambda row: (-row[2].count, row[:2]))
    between = {
        (client, server): calls
        for client, server, calls in rows[:MOST_DRAWN]
        if client != server
    }
    return markup.page(
        "services.html",
        **values,
        query=filters.query,
        reading=reading,
        statistics=statistics,
        rows=rows[:MOST_ROWS],
        drawn=len(between),
        count=len(rows),
        drawing=layers.draw(between),
        between=between,
        most=max((calls.count for calls in between.values()), default=1),
        width=layers.WIDTH,
        services={*names.values()},
        is_longest=filters.query.sort is Sort.DURATION,
        is_empty=not statistics.traces and is_empty(),
    )


def _learn(names: dict[str, str], trace: Trace) -> None:
    """Add what filters call the services that edges name.

    :param names: the qualified service by the one of an edge
    """
    for span in trace.spans:
        qualified = span.first.qualified_service
        if qualified is not None:
            names.setdefault(service(span), qualified)
