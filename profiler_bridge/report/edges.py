# SPDX-License-Identifier: Apache-2.0

"""Who asked whom: the calls between services in a trace. Pure.

Names and rules are those of Grafana Tempo's service graph, see
https://grafana.com/docs/tempo/latest/metrics-from-traces/service_graphs/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from profiler_bridge.report import spans
from profiler_bridge.report.quantiles import Distribution
from profiler_bridge.trace import Span, Trace

#: What a call went through: from a service to another; to a database, which
#: sends no traces; from a client that sends none.
CALL = ""
DATABASE = "database"
VIRTUAL_NODE = "virtual_node"
#: What such a client is called.
USER = "user"


class Edge(NamedTuple):
    """From whom to whom.

    :param client: the service that asks; :data:`USER`
    :param server: the service that is asked; :data:`DATABASE`
    :param connection: :data:`CALL`, :data:`DATABASE` or :data:`VIRTUAL_NODE`
    """

    client: str
    server: str
    connection: str


class Call(NamedTuple):
    """One along an edge.

    :param server: microseconds that it took the one who was asked; None where
        that is not known. Below 0 where clocks disagree.
    :param client: those that it took the other, likewise
    :param has_failed: on either side
    """

    edge: Edge
    server: int | None
    client: int | None
    has_failed: bool


def parents(trace: Trace) -> Mapping[str, Span]:
    """The parent of each span that has one in the trace, by trace_id."""
    return {
        child.trace_id: span for span in trace.spans for child in span.children
    }


def calls_of(
    span: Span,
    role: str | None,
    parents: Mapping[str, Span],
    base_id: str,
) -> Iterator[Call]:
    """The calls that a span shows: none, one, or one at either side of it.

    Of what never ended neither duration nor outcome is known, so it is none.

    :param role: the span's, see :func:`profiler_bridge.report.spans.role`
    :param parents: see :func:`parents`
    :param base_id: the trace's
    """
    if span.stop is None:
        return
    service = spans.service(span)
    took = span.duration
    has_failed = span.exception is not None
    if role == "CLIENT" and spans.kind(span) == "db":
        yield Call(Edge(service, DATABASE, DATABASE), took, took, has_failed)
    parent = parents.get(span.trace_id)
    if parent is not None:
        client = spans.service(parent)
        if client == service:
            return
        asked = None
        # Otherwise its duration is not the call's.
        if spans.role(parent, parents.get(parent.trace_id)) == "CLIENT":
            asked = parent.duration
            has_failed = has_failed or parent.exception is not None
        yield Call(Edge(client, service, CALL), took, asked, has_failed)
    elif role == "SERVER" and span.parent_id == base_id:
        edge = Edge(USER, service, VIRTUAL_NODE)
        yield Call(edge, took, None, has_failed)


def calls(trace: Trace) -> Iterator[Call]:
    """All calls of a trace, by the start of the spans that show them."""
    known = parents(trace)
    for span in trace.spans:
        role = spans.role(span, known.get(span.trace_id))
        yield from calls_of(span, role, known, trace.base_id)


@dataclass(slots=True)
class Calls:
    """All along an edge.

    :param count: how many there are
    :param errors: how many of them failed, on either side
    :param took: how many microseconds each took the one who was asked, of
        those of which that is known; where clocks disagree, 0
    """

    count: int = 0
    errors: int = 0
    took: Distribution = field(default_factory=Distribution)

    def add(self, call: Call) -> None:
        self.count += 1
        self.errors += call.has_failed
        if call.server is not None:
            self.took.add(max(call.server, 0))


def add(graph: dict[Edge, Calls], trace: Trace) -> None:
    """Add a trace's calls to those of others."""
    for call in calls(trace):
        graph.setdefault(call.edge, Calls()).add(call)
