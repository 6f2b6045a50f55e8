# SPDX-License-Identifier: Apache-2.0

"""The calls between services, as a trace shows them."""

from __future__ import annotations

from profiler_bridge.report import edges
from profiler_bridge.report.edges import CALL, DATABASE, Calls, Edge
from profiler_bridge.testing import sample
from profiler_bridge.trace import Trace
from tests.report_cases import cases


def built(payloads: list[sample.Payload]) -> Trace:
    return Trace.build(payloads[0]["base_id"], sample.notifications(payloads))


def graph(*traces: Trace) -> dict[Edge, Calls]:
    known: dict[Edge, Calls] = {}
    for trace in traces:
        edges.add(known, trace)
    return known


def test_calls_by_edge() -> None:
    known = graph(
        built(sample.request(sample.seeded(1), calls=3)),
        built(sample.request(sample.seeded(2), calls=2, error="Gone")),
    )
    assert {
        edge: (calls.count, calls.errors, calls.took.percentile(50))
        for edge, calls in known.items()
    } == {
        Edge(edges.USER, "shop-api", edges.VIRTUAL_NODE): (2, 0, 18_000),
        Edge("shop-api", "shop-conductor", CALL): (5, 0, 6_000),
        Edge("shop-conductor", DATABASE, DATABASE): (10, 1, 1_000),
    }


def test_what_never_ended_is_no_call() -> None:
    payloads = sample.request(sample.seeded(1), calls=1)
    trace = built(
        [payload for payload in payloads if payload["name"] != "rpc-stop"]
    )
    assert Edge("shop-api", "shop-conductor", CALL) not in graph(trace)


@cases
def test_any_trace(trace: Trace) -> None:
    for edge, calls in graph(trace).items():
        assert edge.client != edge.server
        assert 0 <= calls.errors <= calls.count
        assert calls.took.count <= calls.count
        assert calls.took.least >= 0
