# SPDX-License-Identifier: Apache-2.0

"""The daemon: what settled traces set off, over restarts and kills."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import parser

from profiler_bridge.testing.sample import Payload, request, seeded
from tests import bus
from tests.daemon import wait_for
from tests.functional.test_monitoring import Watched


def traces(seeds: range) -> list[Payload]:
    now = time.time_ns() // 1000
    return [
        payload for seed in seeds for payload in request(seeded(seed), now)
    ]


def calls(running: Watched) -> Counter[str]:
    """How often each operation ran, as /metrics has it."""
    counts: Counter[str] = Counter()
    text = running.get("/metrics")[1]
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "traces_spanmetrics_calls_total":
                counts[sample.labels["span_name"]] += int(sample.value)
    return counts


def expected(payloads: Sequence[Payload]) -> dict[str, int]:
    whole = len({payload["base_id"] for payload in payloads})
    # Each trace is one request, with two calls and two queries of each.
    return {
        "POST /v1/servers": whole,
        "build": 2 * whole,
        "SELECT servers": 2 * whole,
        "UPDATE servers": 2 * whole,
    }


def settled(running: Watched) -> list[int]:
    return [
        pid
        for pid in running.workers()
        if b"settled" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_requests_are_counted_once(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    running = Watched(
        tmp_path,
        transport_url,
        sqlite_url,
        request_metrics=True,
    )
    with running.config_file.open("a") as file:
        file.write("[settled]\nsettle_after = 1\nsettle_at_most = 30\n")
    with running:
        running.wait_until_ready()
        first = traces(range(20))
        bus.publish(transport_url, map(bus.envelope, first))
        wait_for(lambda: calls(running) == expected(first), "the first")
        # One that is killed between two batches has counted all of these.
        (process,) = settled(running)
        running.signal("KILL", process)
        wait_for(lambda: settled(running) not in ([], [process]), "the next")
        second = traces(range(20, 30))
        bus.publish(transport_url, map(bus.envelope, second))
        wait_for(
            lambda: calls(running) == expected(first + second),
            "the second",
            60,
        )
        assert running.terminate() == 0
    # A daemon that starts anew counts what is new.
    third = traces(range(30, 36))
    bus.publish(transport_url, map(bus.envelope, third))
    with running:
        running.wait_until_ready()
        wait_for(lambda: calls(running) == expected(third), "the third")
        assert running.total("settled_traces_total") == 6
        assert running.total("settled_traces_lost_total") == 0
        assert running.terminate() == 0
    assert "Traceback" not in running.log
