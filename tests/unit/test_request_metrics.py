# SPDX-License-Identifier: Apache-2.0

"""What is counted of settled traces is what their reports say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import parser

from profiler_bridge import config
from profiler_bridge.daemon import endpoint, metrics
from profiler_bridge.daemon.request_metrics import RequestMetrics
from profiler_bridge.exceptions import ConfigurationError
from profiler_bridge.notification import (
    Notification,
    format_timestamp,
    parse_timestamp,
)
from profiler_bridge.report import otlp
from profiler_bridge.settled import Settled
from profiler_bridge.summary import PartialSummary
from profiler_bridge.testing import sample
from profiler_bridge.trace import Trace
from tests import recorded, servers
from tests.unit.test_metrics import in_a_worker

# A sample: its name, and its labels in their order.
Key = tuple[str, tuple[tuple[str, str], ...]]

LATENCY = [0.002 * 2**step for step in range(17)]
EDGE = [0.0125 * 2**step for step in range(14)]
KINDS = ["", "INTERNAL", "SERVER", "CLIENT"]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return metrics.prepare()


@pytest.fixture(scope="module")
def known() -> list[Trace]:
    """A thousand traces: short, long, wrong, in parts, and of a real cloud."""
    rng = sample.seeded(18)
    traces = [
        *recorded.traces(recorded.server_create()),
        *recorded.traces(recorded.keystone()),
    ]
    while len(traces) < 1000:
        payloads = sample.request(
            rng,
            calls=rng.randrange(4),
            service=rng.choice(["api", "registry"]),
            worker=rng.choice(["conductor", "worker", "api"]),
            project=rng.choice(["shop", "bank", "post"]),
            error=rng.choice(["", "", "DBDeadlock"]) or None,
            asked=rng.choice(sample.ASKED),
        )
        slower = 10 ** rng.uniform(-2, 4)
        for payload in payloads:
            since = parse_timestamp(payload["timestamp"]) - sample.STARTED
            payload["timestamp"] = format_timestamp(
                sample.STARTED + int(since * slower)
            )
        if rng.random() < 0.1:
            set_back = rng.choice(payloads)
            set_back["timestamp"] = format_timestamp(sample.STARTED)
        if rng.random() < 0.1:
            del payloads[rng.randrange(len(payloads))]
        traces.append(built(payloads))
    return traces


def built(payloads: Iterable[dict[str, Any]]) -> Trace:
    points = [Notification.from_payload(payload) for payload in payloads]
    return Trace.build(points[0].base_id, points)


def settled(trace: Trace, new: Set[str] | None = None) -> Settled:
    """A trace as a consumer gets it, all of it new unless told otherwise."""
    ends: list[Notification] = [*trace.notifications()]
    return Settled(
        trace,
        PartialSummary.of(ends).summary(trace.base_id),
        {span.trace_id for span in trace.spans} if new is None else new,
    )


def no_pause(seconds: float) -> None:
    raise AssertionError(f"pauses for {seconds} s")


def count(traces: Iterable[Settled], most: int = 1000) -> None:
    """In a process like the daemon's."""

    def work() -> None:
        metrics.name_process("settle")
        RequestMetrics(most).take([*traces], no_pause)

    in_a_worker(work)


def text() -> str:
    """What ``/metrics`` shows."""

    registry = prometheus_client.CollectorRegistry()
    with endpoint.Endpoint("127.0.0.1", 0) as server:
        registry.register(server)
        return prometheus_client.generate_latest(registry).decode()


def shown() -> dict[Key, float]:
    return {
        (metric.name, tuple(sorted(metric.labels.items()))): metric.value
        for family in parser.text_string_to_metric_families(text())
        for metric in family.samples
        if family.name.startswith("traces_")
    }


def key(name: str, **labels: str) -> Key:
    return name, tuple(sorted(labels.items()))


class Spans:
    """The spans of traces, as their export in OTLP has them."""

    def __init__(self, traces: Iterable[Trace]) -> None:
        self.counts: Counter[Key] = Counter()
        for trace in traces:
            self._add(json.loads("".join(otlp.render(trace))))
        # Where nothing has failed there is a 0.
        for name, labels in [*self.counts]:
            if name == "traces_service_graph_request_total":
                self.counts.setdefault(
                    ("traces_service_graph_request_failed_total", labels), 0
                )

    def _add(self, report: dict[str, Any]) -> None:
        spans = {}
        for group in report["resourceSpans"]:
            resource = attributes(group["resource"])
            for span in group["scopeSpans"][0]["spans"]:
                span["own"] = resource | attributes(span)
                spans[span["spanId"]] = span
        for span in spans.values():
            own = span["own"]
            if "profiler_bridge.unfinished" in own:
                continue
            parent = spans.get(span.get("parentSpanId"))
            service = own["service.name"]
            self._count(
                ("traces_spanmetrics_calls_total", ""),
                ("traces_spanmetrics_latency", LATENCY, duration(span)),
                service=service,
                span_name=span["name"],
                span_kind=f"SPAN_KIND_{KINDS[span['kind']]}",
                status_code="STATUS_CODE_ERROR"
                if failed(span)
                else "STATUS_CODE_UNSET",
            )
            # Without its start nothing but its name says what it is.
            if "db.query.text" in own or span["name"] == "db":
                self._edge(service, "database", "database", span, span)
            if "parentSpanId" not in span and span["kind"] == 2:
                self._edge("user", service, "virtual_node", None, span)
            if parent is None:
                continue
            if parent["own"]["service.name"] != service:
                self._edge(
                    parent["own"]["service.name"], service, "", parent, span
                )

    def _edge(
        self, client: str, server: str, connection: str, asked: Any, span: Any
    ) -> None:
        if asked is not None and asked["kind"] != 3:
            asked = None
        has_failed = failed(span) or (asked is not None and failed(asked))
        name = "traces_service_graph_request"
        self._count(
            (f"{name}_total", ""),
            (f"{name}_failed_total" if has_failed else "", ""),
            (f"{name}_server_seconds", EDGE, duration(span)),
            (f"{name}_client_seconds", EDGE, asked and duration(asked)),
            client=client,
            server=server,
            connection_type=connection,
        )

    def _count(self, *what: tuple[Any, ...], **labels: str) -> None:
        for name, *histogram in what:
            if histogram == [""]:
                self.counts[key(name, **labels)] += bool(name)
                continue
            bounds, microseconds = histogram
            observed = microseconds is not None
            self.counts[key(f"{name}_count", **labels)] += observed
            self.counts[key(f"{name}_sum", **labels)] += microseconds or 0
            for bound in [*bounds, float("inf")]:
                le = str(bound).replace("inf", "+Inf")
                is_in = observed and microseconds <= round(bound * 1e6, 3)
                self.counts[key(f"{name}_bucket", le=le, **labels)] += is_in

    def samples(self) -> dict[Key, float]:
        return {
            (name, labels): value / 1e6 if name.endswith("_sum") else value
            for (name, labels), value in self.counts.items()
            if name
        }


def attributes(owner: dict[str, Any]) -> dict[str, Any]:
    return {
        attribute["key"]: next(iter(attribute["value"].values()))
        for attribute in owner["attributes"]
    }


def duration(span: dict[str, Any]) -> int | None:
    """Microseconds; None where an end is missing."""
    if {"profiler_bridge.unfinished", "profiler_bridge.headless"} & {
        *span["own"]
    }:
        return None
    took = int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
    return took // 1000


def failed(span: dict[str, Any]) -> bool:
    return "status" in span


def test_a_thousand_traces_are_counted_as_a_loop_over_reports_does(
    known: list[Trace],
) -> None:
    """By two processes, one after the other, as when one has ended."""
    expected = Spans(known).samples()
    count(map(settled, known[:700]))
    count(map(settled, known[700:]))
    assert shown() == pytest.approx(expected)
    # There is something of each kind.
    totals: Counter[str] = Counter()
    for (name, labels), value in expected.items():
        totals[name] += int(value)
        for label, value_of_it in labels:
            totals[f"{label}={value_of_it}"] += int(value)
    for what in (
        "traces_service_graph_request_failed_total",
        "traces_service_graph_request_client_seconds_count",
        "connection_type=",
        "connection_type=database",
        "client=user",
        "status_code=STATUS_CODE_ERROR",
        "span_kind=SPAN_KIND_CLIENT",
        "span_kind=SPAN_KIND_INTERNAL",
        "span_kind=SPAN_KIND_SERVER",
    ):
        assert totals[what] > 10, what


def test_of_a_trace_that_goes_on_only_what_is_new_counts(
    known: list[Trace],
) -> None:
    some = known[1:40]
    for turn in range(3):
        count(
            settled(
                trace,
                {span.trace_id for span in trace.spans[turn::3]},
            )
            for trace in some
        )
    assert shown() == pytest.approx(Spans(some).samples())


class Deadly(frozenset[str]):
    """What is new of a trace; whoever looks is killed."""

    def __contains__(self, item: object) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.parametrize("is_counted", [False, True])
def test_a_crash_counts_one_batch_twice_at_most(
    is_counted: bool, known: list[Trace]
) -> None:
    before, during, after = known[4:30], known[30:50], known[50:70]

    def work() -> None:
        metrics.name_process("settle")
        own = RequestMetrics(1000)
        own.take([settled(trace) for trace in before], no_pause)
        batch = [settled(trace) for trace in during]
        if not is_counted:
            batch[12] = batch[12]._replace(new=Deadly())
        own.take(batch, no_pause)
        # Nobody notes it.
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AssertionError):
        in_a_worker(work)
    count(map(settled, during))
    count(map(settled, after))
    twice = during if is_counted else []
    expected = Spans([*before, *during, *twice, *after]).samples()
    assert shown() == pytest.approx(expected)


def series(of: dict[Key, float], name: str) -> set[tuple[str, ...]]:
    return {
        tuple(value for _, value in labels)
        for metric, labels in of
        if metric == name
    }


def total(of: dict[Key, float], name: str) -> float:
    return sum(value for (metric, _), value in of.items() if metric == name)


@pytest.mark.parametrize("name", ["calls", "edges"])
def test_the_number_of_series_is_bounded_for_good(
    name: str, known: list[Trace]
) -> None:
    """And nothing that there is one too many of is left out."""
    name = {
        "calls": "traces_spanmetrics_calls_total",
        "edges": "traces_service_graph_request_total",
    }[name]
    all_of_it = Spans(known[:60]).samples()
    assert len(series(all_of_it, name)) > 10
    count(map(settled, known[:30]), most=4)
    first = shown()
    count(map(settled, known[30:60]), most=4)
    second = shown()
    own = {labels for labels in series(first, name) if "other" not in labels}
    others = series(second, name) - own
    assert len(own) == 4
    assert others
    assert all(labels.count("other") == 2 for labels in others)
    assert len(others) <= 6
    assert total(second, name) == total(all_of_it, name)
    for labels in own:
        [(expected, value)] = [
            (all_of_it[key], value)
            for key, value in second.items()
            if key[0] == name and tuple(v for _, v in key[1]) == labels
        ]
        assert value == expected


HOSTILE = (
    'a"b\\c\nd',
    "\0\x1b[31m",
    "\ud800 lone",
    "x" * 100_000,
    "💥" * 1000,
    '} 1\ntraces_spanmetrics_calls_total{a="',
    "",
    " ",
    "-",
)


def test_whatever_names_are_sent_the_metrics_can_be_read() -> None:
    rng = sample.seeded(3)
    base_id = sample.new_id(rng)
    payloads = []
    parent = base_id
    for text_ in HOSTILE:
        trace_id = sample.new_id(rng)
        payloads += sample.span(
            *(base_id, trace_id, parent),
            name=text_ or "n",
            service=text_,
            project=text_[::-1],
            error=text_,
        )
        payloads += sample.span(
            *(base_id, sample.new_id(rng), trace_id),
            name="wsgi",
            info={"request": {"method": text_, "path": f"/{text_}"}},
            service=None,
            project=text_,
        )
        parent = trace_id
    count([settled(built(payloads))])
    samples = shown()
    assert total(samples, "traces_spanmetrics_calls_total") == 18
    assert total(samples, "traces_service_graph_request_total") > 10
    assert all(
        len(value) <= 200 and value.isprintable()
        for _, labels in samples
        for _, value in labels
    )
    done = subprocess.run(
        [servers.find("prometheus", "promtool"), "check", "metrics"],
        input=text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_takes_every_trace_and_has_a_name_that_stays(
    known: list[Trace],
) -> None:
    assert RequestMetrics.name == "metrics"
    assert RequestMetrics(1).wants(settled(known[0]).summary)


def test_without_a_port_there_are_no_metrics_of_requests(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bridge.conf"
    lines = [
        "[osprofiler]",
        f"connection_string = sqlite:///{tmp_path}/traces.sqlite",
        "[bridge]",
        "transport_url = fake://",
        "request_metrics = true",
    ]
    file.write_text("\n".join(lines))

    def load() -> None:
        config.load([f"--config-file={file}"])

    with pytest.raises(ConfigurationError) as raised:
        load()
    assert str(raised.value) == (
        "request_metrics in [bridge] needs metrics_port: what it counts is on"
        " /metrics"
    )
    file.write_text("\n".join([*lines, "metrics_port = 9750"]))
    load()
