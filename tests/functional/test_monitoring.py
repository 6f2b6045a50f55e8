# SPDX-License-Identifier: Apache-2.0

"""Metrics that add up, and health that is right, whatever happens."""

from __future__ import annotations

import http.client
import socket
import subprocess
import uuid
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import parser

from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import pieces, stored


class Watched(Daemon):
    """A daemon with an endpoint."""

    def __init__(
        self, folder: Path, transport_url: str, url: str, /, **options: object
    ) -> None:
        self.port = servers.free_port()
        super().__init__(
            folder,
            {
                "DEFAULT": {"transport_url": transport_url},
                "osprofiler": {"connection_string": url},
                "bridge": {
                    "metrics_port": self.port,
                    "batch_timeout": 0.1,
                    **options,
                },
                "oslo_messaging_rabbit": {"kombu_reconnect_delay": 0.2},
            },
        )

    def get(self, path: str) -> tuple[int, str]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            link.close()

    def total(self, name: str) -> float:
        """A metric over all its labels."""
        return totals(self.get("/metrics")[1])[f"profiler_bridge_{name}"]

    def collectors(self) -> list[int]:
        """The processes that have the bus and the storage."""
        return [
            pid
            for pid in self.workers()
            if b"collector" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.get("/readyz") == (200, "ok\n"), "readiness")


def totals(text: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += int(sample.value)
    return sums


def check(text: str, folder: Path) -> None:
    """Have Prometheus' own tool look at metrics, where there is one."""
    try:
        promtool = servers.find("prometheus", "promtool")
    except servers.ServerMissing:
        return
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_metrics_add_up(
    redis_server: servers.Redis,
    transport_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """With poison, redelivery, an outage, a killed and a stopped worker."""
    base_ids = [str(uuid.uuid4()) for _ in range(10)]
    first, later = (
        [payload for base_id in some for payload in pieces(base_id, 10)]
        for some in (base_ids[:5], base_ids[5:])
    )
    poison = [{"name": str(number)} for number in range(10)]
    storage = get_storage(redis_url)
    running = Watched(tmp_path, transport_url, redis_url, workers=2)
    with running:
        running.wait_until_ready()
        bus.publish(transport_url, map(bus.envelope, first + poison))
        wait_for(
            lambda: running.total("notifications_stored_total") == 100,
            "the first hundred",
        )
        # As after a redelivery.
        bus.publish(transport_url, map(bus.envelope, first[:20]))
        wait_for(
            lambda: running.total("notifications_received_total") == 130,
            "verdicts",
        )

        redis_server.stop()
        bus.publish(transport_url, map(bus.envelope, later))
        wait_for(lambda: running.get("/readyz")[0] == 503, "an unready bridge")
        assert "redis://127.0.0.1" in running.get("/readyz")[1]
        assert "is waited for" in running.get("/readyz")[1]
        assert running.get("/healthz") == (200, "ok\n")
        running.signal("KILL", running.collectors()[0])
        wait_for(
            lambda: running.log.count("Listening") == 3,
            "the next worker",
        )
        running.signal("HUP")
        wait_for(
            lambda: running.total("notifications_requeued_total") > 0,
            "a batch given back",
        )
        redis_server.start()
        wait_for(
            lambda: (
                running.total("notifications_stored_total")
                + running.total("notifications_redelivered_total")
                == 220
            ),
            "all of them",
            seconds=60,
        )
        running.wait_until_ready()
        _, text = running.get("/metrics")
        assert running.terminate() == 0

    count = totals(text)
    received, new, redelivered, set_aside, requeued = (
        count[f"profiler_bridge_notifications_{verdict}_total"]
        for verdict in (
            "received",
            "stored",
            "redelivered",
            "set_aside",
            "requeued",
        )
    )
    assert received == new + redelivered + set_aside + requeued
    assert stored(storage, base_ids) == 200
    # What comes again in other company is another piece, and counts as new.
    assert (new + redelivered, set_aside) == (220, 10)
    assert new >= 200
    assert count["profiler_bridge_storage_retries_total"] > 0
    assert (
        count["profiler_bridge_batch_notifications_sum"]
        == received - requeued - set_aside
    )
    assert f'reason="missing-field",storage="{redis_url}"}} 10.0' in text
    check(text, tmp_path)


def test_ready_only_while_the_bus_is_there(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    name = transport_url.replace("guest:guest@", "")
    with Watched(tmp_path, transport_url, sqlite_url) as running:
        running.wait_until_ready()
        rabbitmq.kill()
        wait_for(lambda: running.get("/readyz")[0] == 503, "an unready bridge")
        status, problem = running.get("/readyz")
        assert status == 503
        assert f"0 of 1 workers are connected to {name}" in problem
        assert running.get("/healthz") == (200, "ok\n")
        rabbitmq.start()
        running.wait_until_ready()
        assert running.terminate() == 0


@pytest.mark.parametrize("how", ["TERM", "INT"])
def test_nothing_of_it_is_left(
    how: str,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Watched(tmp_path, transport_url, sqlite_url) as running:
        running.wait_until_ready()
        assert [*tmp_path.glob("profiler_bridge-metrics-*/*.db")]
        assert running.get("/")[0] == 404
        running.signal(how)
        assert running.process is not None
        assert running.process.wait(90) == 0
    assert [*tmp_path.glob("profiler_bridge-metrics-*")] == []


def test_a_port_in_use_is_said_at_the_start(
    sqlite_url: str, tmp_path: Path
) -> None:
    running = Watched(tmp_path, "fake://", sqlite_url)
    with socket.create_server(("127.0.0.1", running.port)), running:
        assert running.process is not None
        assert running.process.wait(90) == 1
    [line] = running.log.splitlines()
    assert "metrics_port: cannot listen on 127.0.0.1 port" in line
