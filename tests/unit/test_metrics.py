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

"""What processes count together, and what is made of it."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profiler_bridge import endpoint, metrics
from profiler_bridge.exceptions import Reason
from profiler_bridge.metrics import Metrics
from tests import servers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return metrics.prepare()


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    port = servers.free_port()
    with endpoint.Endpoint("127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve, args=[{"redis": 1}])
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
    found = {"profiler_bridge_build_info", "profiler_bridge_workers"}
    for each in vars(metrics).values():
        if hasattr(each, "describe"):
            for family in each.describe():
                found |= {
                    "counter": {f"{family.name}_total"},
                    "gauge": {family.name},
                    "histogram": {
                        f"{family.name}_{part}"
                        for part in ("bucket", "sum", "count")
                    },
                }[family.type]
    return found


def test_a_worker_goes_on_where_the_one_before_ended(
    folder: Path, served: str
) -> None:
    def work() -> None:
        own = Metrics("redis", "0-0")
        own.verdict(5, 3, Counter({Reason.BAD_ID: 1}), 0.1, None)

    in_a_worker(work)
    in_a_worker(work)
    _, text = get(f"{served}/metrics")
    assert 'notifications_received_total{storage="redis"} 10.0' in text
    assert 'notifications_redelivered_total{storage="redis"} 2.0' in text
    assert 'reason="bad-id",storage="redis"} 2.0' in text
    assert len([*folder.iterdir()]) == len({*folder.iterdir()}) == 4


def test_what_a_dead_worker_was_goes(folder: Path, served: str) -> None:
    def work() -> None:
        own = Metrics("redis", "0-0")
        own.alive(connected=True, writing=0)
        own.retried()

    in_a_worker(work)
    assert get(f"{served}/readyz") == (503, "redis: is waited for\n")
    metrics.forget_process("0-0")
    assert get(f"{served}/readyz") == (
        503,
        "redis: 0 of 1 workers are connected to the bus\n",
    )
    assert "storage_retries_total" in get(f"{served}/metrics")[1]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (endpoint.STUCK - 1, (200, "ok\n")),
        (endpoint.STUCK + 1, (503, "redis: a write has been going on for")),
    ],
)
def test_a_worker_that_hangs_is_not_healthy(
    seconds: float, expected: tuple[int, str], served: str
) -> None:
    in_a_worker(
        lambda: Metrics("redis", "0-0").alive(connected=True, writing=seconds)
    )
    status, text = get(f"{served}/healthz")
    assert (status, text.startswith(expected[1])) == (expected[0], True)


def test_every_metric_is_documented() -> None:
    page = (ROOT / "doc/source/admin/monitoring.rst").read_text()
    stems = {re.sub("_(bucket|sum|count)$", "", each) for each in names()}
    assert [each for each in stems if f"``{each}``" not in page] == []
    assert {*re.findall(r"``(profiler_bridge_\w+)``", page)} == stems


@pytest.mark.parametrize(
    "file", ["prometheus-alerts.yaml", "grafana-dashboard.json"]
)
def test_alerts_and_dashboard_name_what_there_is(file: str) -> None:
    used = {
        *re.findall(
            r"\bprofiler_bridge_\w+", (ROOT / "etc" / file).read_text()
        )
    }
    assert used
    assert used <= names()


def test_prometheus_takes_the_alerts() -> None:
    promtool = servers.find("prometheus", "promtool")
    rules = ROOT / "etc" / "prometheus-alerts.yaml"
    done = subprocess.run(
        [promtool, "check", "rules", str(rules)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
