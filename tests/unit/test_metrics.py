# SPDX-License-Identifier: Apache-2.0

"""What processes count together, and what is made of it."""

from __future__ import annotations

import json
import multiprocessing
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import prometheus_client
import pytest

from profiler_bridge.daemon import endpoint, metrics, request_metrics
from profiler_bridge.daemon.liveness import READ, START, STORE, Liveness
from profiler_bridge.daemon.metrics import ForwardMetrics, Metrics
from profiler_bridge.exceptions import Reason
from profiler_bridge.forward.outcomes import Drop, Outcome
from profiler_bridge.forward.target import Report
from tests import servers

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "etc/prometheus-alerts.yaml"
# Of a metric.
NAME = r"(?:profiler_bridge|traces)_\w+"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return metrics.prepare()


@pytest.fixture
def liveness() -> Liveness:
    shared = Liveness(1)
    shared.await_start(0, 1)
    return shared


@pytest.fixture
def served(folder: Path, liveness: Liveness) -> Iterator[str]:
    port = servers.free_port()
    with endpoint.Endpoint("127.0.0.1", port) as server:
        thread = threading.Thread(
            target=server.serve,
            args=[[("rabbit", "redis")], 1, liveness, "/aside"],
        )
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()
        thread.join()


def in_a_worker(work: Callable[[], None]) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def names() -> set[str]:
    """Of all metrics, as they are queried."""
    names = {"profiler_bridge_build_info", "profiler_bridge_workers"}
    for metric in [
        *vars(metrics).values(),
        *vars(request_metrics).values(),
    ]:
        if hasattr(metric, "describe"):
            for family in metric.describe():
                names |= {
                    "counter": {f"{family.name}_total"},
                    "gauge": {family.name},
                    "histogram": {
                        f"{family.name}_{part}"
                        for part in ("bucket", "sum", "count")
                    },
                }[family.type]
    return names


def test_a_worker_goes_on_where_the_one_before_ended(
    folder: Path, served: str
) -> None:
    def work() -> None:
        own = Metrics("rabbit", "redis", "0-0")
        own.count_stored(4, 3, 0.1, 0)
        own.count_set_aside(Counter({Reason.BAD_ID: 1}))

    in_a_worker(work)
    in_a_worker(work)
    _, text = get(f"{served}/metrics")
    assert (
        'notifications_received_total{bus="rabbit",storage="redis"} 10.0'
        in text
    )
    assert (
        'notifications_redelivered_total{bus="rabbit",storage="redis"} 2.0'
        in text
    )
    assert 'reason="bad-id",storage="redis"} 2.0' in text
    assert len([*folder.iterdir()]) == len({*folder.iterdir()}) == 4


def test_many_amounts_are_observed_as_one_by_one_they_are(
    folder: Path,
) -> None:
    amounts = [0.0, 1.0, 1.5, 4.0, 5.0, 1.0, 0.25]

    def work() -> None:
        metrics.name_process("some")
        together, alone = (
            prometheus_client.Histogram(
                "seconds", "", ["by"], buckets=[1, 2, 4], registry=None
            ).labels(by)
            for by in ("together", "alone")
        )
        metrics.observe(together, amounts)
        for amount in amounts:
            alone.observe(amount)

    in_a_worker(work)
    [family] = metrics.read("histogram")
    together, alone = (
        {
            (sample.name, sample.labels.get("le")): sample.value
            for sample in family.samples
            if sample.labels["by"] == by
        }
        for by in ("together", "alone")
    )
    assert together == alone
    assert together["seconds_bucket", "2.0"] == 5
    assert [*metrics.read("counter")] == []


def test_what_a_dead_worker_was_goes(folder: Path, served: str) -> None:
    def work() -> None:
        own = Metrics("rabbit", "redis", "0-0")
        own.report_state(connected=True, writing=0)
        own.count_retry()

    in_a_worker(work)
    assert get(f"{served}/readyz") == (
        503,
        "redis: the storage is waited for\n",
    )
    metrics.forget_process("0-0")
    assert get(f"{served}/readyz") == (
        503,
        "redis: 0 of 1 workers are connected to rabbit\n",
    )
    assert "storage_retries_total" in get(f"{served}/metrics")[1]


def test_what_is_sent_to_others_is_counted(folder: Path, served: str) -> None:
    def work() -> None:
        report: Report = ForwardMetrics("tempo", "forward")
        report.report_waiting(True)
        for outcome in Outcome:
            report.count_request(outcome)
        report.count_sent(7)
        report.count_rejected(2)
        report.count_dropped(Drop.TOO_LARGE, 3)
        report.report_waiting(False)

    for _ in range(2):
        in_a_worker(work)
    _, text = get(f"{served}/metrics")
    for line in (
        'spans_sent_total{target="tempo"} 14.0',
        'spans_rejected_total{target="tempo"} 4.0',
        'spans_dropped_total{reason="too-large",target="tempo"} 6.0',
        'requests_total{outcome="partial",target="tempo"} 2.0',
        'failures_total{target="tempo"} 4.0',
        'waiting{target="tempo"} 0.0',
    ):
        assert f"profiler_bridge_forward_{line}\n" in text


def test_what_waits_for_the_set_aside_file_is_named(served: str) -> None:
    """And no storage is blamed for it."""

    def work() -> None:
        own = Metrics("rabbit", "redis", "0-0")
        own.report_state(connected=True, writing=0)
        own.report_set_aside_waiting(3)

    in_a_worker(work)
    assert get(f"{served}/readyz") == (
        503,
        "redis: the set-aside file /aside is waited for\n",
    )


def test_a_worker_that_is_late_is_not_healthy(
    served: str, liveness: Liveness
) -> None:
    in_a_worker(lambda: liveness.loop(0, 0, READ)(60))
    in_a_worker(lambda: liveness.loop(0, 0, STORE)(60))
    assert get(f"{served}/healthz") == (200, "ok\n")
    in_a_worker(lambda: liveness.loop(0, 0, STORE)(-7))
    status, text = get(f"{served}/healthz")
    assert status == 503
    assert text.startswith("redis: worker 0 for rabbit is stuck")
    # Of a worker that there should not be nothing is expected.
    in_a_worker(lambda: liveness.loop(0, 0, STORE)(60))
    in_a_worker(lambda: liveness.loop(0, 1, STORE)(-7))
    assert get(f"{served}/healthz") == (200, "ok\n")


def test_workers_that_never_come_up_are_not_healthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    shared = Liveness(2)
    shared.await_start(1, 2)
    assert [*shared.late(1, 2)] == []
    shared.loop(1, 0, READ)(600)
    shared.loop(1, 0, STORE)(600)
    for _ in range(10):
        clock[0] += START / 5
        shared.await_restart(1, 1)
    assert [worker for worker, _ in shared.late(1, 2)] == [1]
    # One that was at work is given time to start again.
    shared.await_restart(1, 0)
    clock[0] += START - 1
    assert [worker for worker, _ in shared.late(1, 2)] == [1]
    clock[0] += 2
    assert [worker for worker, _ in shared.late(1, 2)] == [0, 1]


def test_every_metric_is_documented() -> None:
    page = (ROOT / "doc/source/admin/monitoring.rst").read_text()
    stems = {re.sub("_(bucket|sum|count)$", "", name) for name in names()}
    assert [stem for stem in stems if f"``{stem}``" not in page] == []
    assert {*re.findall(rf"``({NAME})``", page)} == stems


@pytest.mark.parametrize(
    "file",
    [
        "prometheus-alerts.yaml",
        "grafana-dashboard.json",
        "grafana-requests.json",
    ],
)
def test_alerts_and_dashboard_name_what_there_is(file: str) -> None:
    used = {*re.findall(rf"\b{NAME}", (ROOT / "etc" / file).read_text())}
    assert used
    assert used <= names()


def promtool(*args: str) -> str:
    """What it complains about; nothing when it succeeds."""
    done = subprocess.run(
        [servers.find("prometheus", "promtool"), *args],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr or (done.stdout if done.returncode else "")


def test_prometheus_takes_the_alerts() -> None:
    assert promtool("check", "rules", str(ALERTS)) == ""


@pytest.mark.parametrize(
    "file", ["grafana-dashboard.json", "grafana-requests.json"]
)
def test_prometheus_takes_what_the_dashboards_ask(
    file: str, tmp_path: Path
) -> None:
    dashboard = json.loads((ROOT / "etc" / file).read_text())
    rules = [
        {
            "record": "asked",
            # As Grafana does.
            "expr": re.sub(r"\$__(\w+)", "5m", target["expr"]),
            "labels": {"panel": f"{panel['title']} {target['refId']}"},
        }
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    assert promtool("check", "rules", str(path)) == ""


def operation(name: str, buckets: dict[str, str]) -> list[dict[str, str]]:
    """The series of an operation.

    :param buckets: by their bounds, their values at every fifth minute
    """
    labels = (
        f'service="nova-api",span_kind="SPAN_KIND_SERVER",span_name="{name}"'
    )
    parts = {
        f'bucket{{{labels},le="{bound}"}}': values
        for bound, values in buckets.items()
    }
    parts[f"count{{{labels}}}"] = buckets["+Inf"]
    return [
        {"series": f"traces_spanmetrics_latency_{part}", "values": values}
        for part, values in parts.items()
    ]


def of_operation(name: str) -> str:
    """The labels of an alert on an operation."""
    return f'service="nova-api",severity="warning",span_name="{name}"'


def firing(
    series: list[dict[str, str]], alerts: dict[str, str], folder: Path
) -> str:
    """What Prometheus says against it that these alerts fire, and no other.

    :param series: 27 hours of them, with something every 5 minutes
    :param alerts: by their names, their other labels
    """
    build = {"series": "profiler_bridge_build_info", "values": "1x330"}
    expected = [
        {
            "labels": f'ALERTS{{alertname="{alert}",alertstate="firing",'
            f"{labels}}}",
            "value": 1,
        }
        for alert, labels in alerts.items()
    ]
    test = {
        "interval": "5m",
        "input_series": [build, *series],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": "27h",
                "exp_samples": expected,
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(
        json.dumps(
            {
                "rule_files": [str(ALERTS)],
                "evaluation_interval": "5m",
                "tests": [test],
            }
        )
    )
    return promtool("test", "rules", str(path))


def test_settled_traces_that_wait_or_are_lost_fire_alerts(
    tmp_path: Path,
) -> None:
    seen = "profiler_bridge_settled_seen_timestamp_seconds"
    lost = "profiler_bridge_settled_traces_lost_total"
    series = [
        # 27 hours are 324 times five minutes.
        {
            "series": f'{seen}{{consumer="tempo"}}',
            "values": "0+300x320 96000x10",
        },
        {
            "series": f'{seen}{{consumer="keep"}}',
            "values": "0x320 96300+300x10",
        },
        {"series": f'{lost}{{consumer="tempo"}}', "values": "0x323 5x10"},
        {"series": f'{lost}{{consumer="keep"}}', "values": "5x330"},
    ]
    consumer = 'consumer="tempo"'
    alerts = {
        "ProfilerBridgeSettledLagging": f'{consumer},severity="warning"',
        "ProfilerBridgeSettledLost": f'{consumer},severity="critical"',
    }
    assert firing(series, alerts, tmp_path) == ""


def test_a_storage_that_fails_now_and_then_fires_alerts(
    tmp_path: Path,
) -> None:
    """A try every fifth minute, and a batch given back at the end."""
    retries = "profiler_bridge_storage_retries_total"
    requeued = "profiler_bridge_notifications_requeued_total"
    series = [
        {"series": f'{retries}{{storage="sick"}}', "values": "0+3x330"},
        {"series": f'{retries}{{storage="well"}}', "values": "0x310 4x20"},
    ]
    series += [
        {
            "series": f'{requeued}{{bus="rabbit",storage="{storage}"}}',
            "values": values,
        }
        for storage, values in (("sick", "0x323 90x10"), ("well", "7x330"))
    ]
    labels = 'severity="warning",storage="sick"'
    alerts = {
        "ProfilerBridgeStorageFailing": labels,
        "ProfilerBridgeRequeued": f'bus="rabbit",{labels}',
    }
    assert firing(series, alerts, tmp_path) == ""


def test_an_operation_that_became_slower_fires_an_alert(
    tmp_path: Path,
) -> None:
    """Ten calls each five minutes took 0.5 s for 25 hours, and now take 2."""
    none, before, always = "0x330", "0+10x300 3000x30", "0+10x330"
    slower = {
        **{"0.256": none, "0.512": before, "1.024": before},
        **{"2.048": always, "+Inf": always},
    }
    # From one bucket into the next, which may be by little.
    hardly = {**slower, "1.024": always}
    seldom = {
        bound: values.replace("10x", "1x").replace("3000x", "300x")
        for bound, values in slower.items()
    }
    series = [
        *operation("POST /servers", slower),
        *operation("GET /servers", hardly),
        *operation("DELETE /servers/{id}", seldom),
    ]
    alerts = {"ProfilerBridgeOperationSlower": of_operation("POST /servers")}
    assert firing(series, alerts, tmp_path) == ""


def calls(name: str, fine: int, failed: int) -> list[dict[str, str]]:
    return [
        {
            "series": "traces_spanmetrics_calls_total{service="
            f'"nova-api",span_kind="SPAN_KIND_SERVER",span_name="{name}",'
            f'status_code="STATUS_CODE_{status}"}}',
            "values": f"0+{count}x330",
        }
        for status, count in (("UNSET", fine), ("ERROR", failed))
    ]


def test_an_operation_that_fails_fires_an_alert(tmp_path: Path) -> None:
    """When of more than a few calls more than 5 % do."""
    series = [
        *calls("POST /servers", 94, 6),
        *calls("GET /servers", 96, 4),
        *calls("DELETE /servers/{id}", 1, 1),
    ]
    alerts = {"ProfilerBridgeOperationFailing": of_operation("POST /servers")}
    assert firing(series, alerts, tmp_path) == ""
