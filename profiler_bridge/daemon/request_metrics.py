# SPDX-License-Identifier: Apache-2.0

"""How often each operation ran, how long it took, and who asked whom.

Names, labels and what they mean are those of the metrics generator of Grafana
Tempo, so that panels and data sources made for it show OpenStack's requests:

* https://grafana.com/docs/tempo/latest/metrics-from-traces/span-metrics/span-metrics-metrics-generator/
* https://grafana.com/docs/tempo/latest/metrics-from-traces/service_graphs/
* ``modules/generator/processor/spanmetrics`` and ``servicegraphs`` of
  https://github.com/grafana/tempo: a latency below 0 counts as 0; an edge has
  failed where either side did; ``connection_type`` is empty for a call,
  ``database``, or ``virtual_node`` for a client that is not traced, ``user``.

From a service and a ``span_name`` Grafana's data source for Tempo searches
traces by the resource attribute ``service.name`` and the span's name
(``makeTempoLink`` in ``public/app/plugins/datasource/tempo/datasource.ts`` of
https://github.com/grafana/grafana). So both are here what they are in
``report.otlp``.

There are no exemplars: prometheus_client drops them where processes share
what they count
(https://prometheus.github.io/client_python/multiprocess/).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import prometheus_client

from profiler_bridge.daemon import metrics
from profiler_bridge.operation import LONGEST
from profiler_bridge.report import edges, spans
from profiler_bridge.report.edges import Call, Edge
from profiler_bridge.settled import Consumer, Settled
from profiler_bridge.summary import TraceSummary
from profiler_bridge.text import printable

LOG = logging.getLogger(__name__)

#: The labels of an operation, and of an edge of the service graph.
BY_OPERATION = ("service", "span_name", "span_kind", "status_code")
BY_EDGE = ("client", "server", "connection_type")
#: What stands for all that would be one too many.
OTHER = "other"

# Tempo's, and three more: it takes minutes to build a server or a volume.
_LATENCY_BUCKETS = tuple(0.002 * 2**step for step in range(17))
# Tempo's begin at 0.1 and end at 12.8.
_EDGE_BUCKETS = tuple(0.0125 * 2**step for step in range(14))

CALLS = prometheus_client.Counter(
    "traces_spanmetrics_calls",
    "Spans that have ended.",
    BY_OPERATION,
    registry=None,
)
LATENCY = prometheus_client.Histogram(
    "traces_spanmetrics_latency",
    "How many seconds spans took, of those with both ends.",
    BY_OPERATION,
    buckets=_LATENCY_BUCKETS,
    registry=None,
)
REQUESTS = prometheus_client.Counter(
    "traces_service_graph_request",
    "Requests from one service to another.",
    BY_EDGE,
    registry=None,
)
FAILED = prometheus_client.Counter(
    "traces_service_graph_request_failed",
    "Those of them that failed on either side.",
    BY_EDGE,
    registry=None,
)
SERVER_SECONDS = prometheus_client.Histogram(
    "traces_service_graph_request_server_seconds",
    "How many seconds requests took the service that was asked.",
    BY_EDGE,
    buckets=_EDGE_BUCKETS,
    registry=None,
)
CLIENT_SECONDS = prometheus_client.Histogram(
    "traces_service_graph_request_client_seconds",
    "How many seconds requests took the service that asked, as far as it has"
    " a span for the call itself.",
    BY_EDGE,
    buckets=_EDGE_BUCKETS,
    registry=None,
)

_KINDS: Mapping[str | None, str] = {
    None: "SPAN_KIND_INTERNAL",
    "SERVER": "SPAN_KIND_SERVER",
    "CLIENT": "SPAN_KIND_CLIENT",
}
_STATUS = {False: "STATUS_CODE_UNSET", True: "STATUS_CODE_ERROR"}
_Labels = tuple[str, ...]
_T = TypeVar("_T")


class RequestMetrics(Consumer):
    """Counts spans, for the daemon's ``/metrics``.

    To be made in the process that counts, after it has its name
    (:func:`profiler_bridge.daemon.metrics.name_process`); it goes on with
    what the process of that name counted before. :meth:`take` never pauses: a
    process that ends between two calls has counted each trace once.

    :param most: so many operations, and so many edges, have series of their
        own; the others are counted as :data:`OTHER`
    """

    name = "metrics"

    def __init__(self, most: int) -> None:
        known = {
            family.name: [sample.labels for sample in family.samples]
            for family in metrics.read("counter")
        }
        self._operations = _Series(
            _Operation.of, BY_OPERATION, most, known.get(_name(CALLS), ())
        )
        self._edges = _Series(
            _Edge.of, BY_EDGE, most, known.get(_name(REQUESTS), ())
        )

    def wants(self, summary: TraceSummary) -> bool:
        return True

    def take(
        self, traces: Sequence[Settled], wait: Callable[[float], None]
    ) -> None:
        counted = _Counted({}, {})
        for settled in traces:
            counted.add(settled)
        for labels, calls in counted.operations.items():
            self._operations.get(labels).add(calls)
        for labels, requests in counted.edges.items():
            self._edges.get(labels).add(requests)


class _Counted(NamedTuple):
    """What there is to count of some traces.

    Each metric is changed once for all of them: that halves the cost, and
    leaves little time for a crash to come between.

    :param operations: by labels, the microseconds that each span took
    :param edges: by labels
    """

    operations: dict[_Labels, list[int | None]]
    edges: dict[_Labels, list[Call]]

    def add(self, settled: Settled) -> None:
        trace = settled.trace
        parents = edges.parents(trace)
        for span in trace.spans:
            # Of what never ended neither duration nor outcome is known.
            if span.stop is None or span.trace_id not in settled.new:
                continue
            role = spans.role(span, parents.get(span.trace_id))
            labels = (
                _bounded(spans.service(span)),
                spans.label(span),
                _KINDS[role],
                _STATUS[span.exception is not None],
            )
            self.operations.setdefault(labels, []).append(span.duration)
            for call in edges.calls_of(span, role, parents, trace.base_id):
                self.edges.setdefault(_labels(call.edge), []).append(call)


class _Operation(NamedTuple):
    calls: prometheus_client.Counter
    latency: prometheus_client.Histogram

    @classmethod
    def of(cls, labels: _Labels) -> _Operation:
        return cls(CALLS.labels(*labels), LATENCY.labels(*labels))

    def add(self, calls: Sequence[int | None]) -> None:
        self.calls.inc(len(calls))
        _observe(self.latency, calls)


class _Edge(NamedTuple):
    requests: prometheus_client.Counter
    failed: prometheus_client.Counter
    server: prometheus_client.Histogram
    client: prometheus_client.Histogram

    @classmethod
    def of(cls, labels: _Labels) -> _Edge:
        return cls(
            REQUESTS.labels(*labels),
            FAILED.labels(*labels),
            SERVER_SECONDS.labels(*labels),
            CLIENT_SECONDS.labels(*labels),
        )

    def add(self, requests: Sequence[Call]) -> None:
        self.requests.inc(len(requests))
        self.failed.inc(sum(request.has_failed for request in requests))
        _observe(self.server, [request.server for request in requests])
        _observe(self.client, [request.client for request in requests])


def _observe(
    histogram: prometheus_client.Histogram, took: Iterable[int | None]
) -> None:
    known = [
        max(duration, 0) / 1_000_000
        for duration in took
        if duration is not None
    ]
    if known:
        metrics.observe(histogram, known)


class _Series(Generic[_T]):
    """What is counted, by its labels.

    :param make: gives what counts, of labels
    :param names: of the labels
    :param most: beyond so many, the first two of new labels are
        :data:`OTHER`; of the rest there are few
    :param known: labels that there are already
    """

    def __init__(
        self,
        make: Callable[[_Labels], _T],
        names: Sequence[str],
        most: int,
        known: Iterable[Mapping[str, str]],
    ) -> None:
        self._make = make
        self._names = names
        self._most = most
        self._is_full = False
        self._made: dict[_Labels, _T] = {}
        for labels in known:
            values = tuple(labels[name] for name in names)
            self._made[values] = make(values)

    def get(self, labels: _Labels) -> _T:
        """What counts these labels, or those that stand for them."""
        made = self._made.get(labels)
        if made is None and len(self._made) >= self._most:
            if not self._is_full:
                self._is_full = True
                LOG.warning(
                    "Metrics of requests by %s have %d series; what is new"
                    " is counted as %r: see request_metrics_series in"
                    " [bridge]",
                    ", ".join(self._names),
                    self._most,
                    OTHER,
                )
            labels = (OTHER, OTHER, *labels[2:])
            made = self._made.get(labels)
        if made is None:
            made = self._made[labels] = self._make(labels)
        return made


def _name(counter: prometheus_client.Counter) -> str:
    # A metric gives its name only when it describes itself.
    [description] = counter.describe()
    return description.name


@lru_cache(1024)
def _bounded(service: str) -> str:
    """A service's name on one line and of bounded length."""
    return printable(service[: LONGEST + 1])[:LONGEST]


@lru_cache(1024)
def _labels(edge: Edge) -> _Labels:
    return _bounded(edge.client), _bounded(edge.server), edge.connection
