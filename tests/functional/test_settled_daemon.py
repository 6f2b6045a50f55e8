# SPDX-License-Identifier: Apache-2.0

"""The daemon: what settled traces set off, over restarts and kills."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import parser

from profiler_bridge.testing.sample import Payload, request, seeded
from tests import bus, otlp_server
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
        # They are counted before it is noted that they are.
        wait_for(
            lambda: running.total("settled_traces_total") == 6, "its metric"
        )
        assert running.total("settled_traces_lost_total") == 0
        assert running.terminate() == 0
    assert "Traceback" not in running.log


def with_section(running: Watched, section: str, text: str) -> None:
    with running.config_file.open("a") as file:
        file.write(f"[{section}]\n{text}\n")


def test_one_host_stores_and_another_forwards(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    names = ("storing", "forwarding")
    for name in names:
        (tmp_path / name).mkdir()
    storing, forwarding = (
        Watched(tmp_path / name, transport_url, sqlite_url, workers=workers)
        for name, workers in zip(names, (1, 0), strict=True)
    )
    with otlp_server.collector() as target:
        for running, here in ((storing, "false"), (forwarding, "true")):
            with_section(
                running, "settled", f"settle_after = 1\nhere = {here}"
            )
            with_section(running, "forward", f"endpoint = {target.url}")
        with storing, forwarding:
            storing.wait_until_ready()
            forwarding.wait_until_ready()
            assert settled(storing) == []
            payloads = traces(range(5))
            bus.publish(transport_url, map(bus.envelope, payloads))
            wait_for(lambda: len(target.spans()) == 5 * 7, "all spans")
            # What means other processes is refused; the others go on.
            text = forwarding.config_file.read_text()
            for changed, problem in (
                (text.replace("workers = 0", "workers = 1"), "workers in"),
                (text.replace("endpoint =", "#"), "endpoint in [forward]"),
                (text.replace("here = true", "here = false"), "here in"),
            ):
                forwarding.config_file.write_text(changed)
                forwarding.signal("HUP")
                wait_for(lambda: problem in forwarding.log, problem)  # noqa: B023
            forwarding.config_file.write_text(text)
            before = settled(forwarding)
            forwarding.signal("HUP")
            wait_for(
                lambda: settled(forwarding) not in ([], before), "new options"
            )
            more = traces(range(5, 8))
            bus.publish(transport_url, map(bus.envelope, more))
            wait_for(lambda: len(target.spans()) == 8 * 7, "the others")
            assert [storing.terminate(), forwarding.terminate()] == [0, 0]
    assert "Traceback" not in storing.log + forwarding.log
