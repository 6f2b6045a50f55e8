# SPDX-License-Identifier: Apache-2.0

"""Whatever ends the processes, a target gets every span, as it is shown."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.report.formats import FORMATS
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import Payload, request, seeded
from tests import bus, otlp_server
from tests.daemon import Daemon, wait_for
from tests.otlp_server import Reply, partial, spans_of

# Until a lease has run out whose process was killed, and a trace has settled.
_LONGEST = 150


def daemons(
    folder: Path, bus_url: str, storage_url: str, target_url: str
) -> list[Daemon]:
    running = []
    for name in ("one", "another"):
        (folder / name).mkdir()
        running.append(
            Daemon(
                folder / name,
                {
                    "DEFAULT": {"transport_url": bus_url},
                    "osprofiler": {"connection_string": storage_url},
                    "bridge": {"workers": 2},
                    "settled": {"settle_after": 2, "settle_at_most": 60},
                    "forward": {"endpoint": target_url},
                },
            )
        )
    return running


def kill_one(bridges: list[Daemon], rng: random.Random) -> None:
    bridge = rng.choice(bridges)
    if processes := bridge.workers():
        bridge.signal("KILL", rng.choice(processes))


def test_every_span_arrives(
    transport_url: str,
    mariadb_url: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """200 concurrent traces with --chaos-seconds 20, 30 with 3."""
    seconds = pytestconfig.getoption("--chaos-seconds")
    rng = random.Random(pytestconfig.getoption("--chaos-seed"))
    storage = get_storage(mariadb_url)
    storage.prepare()
    now = time.time_ns() // 1000
    traces = [request(seeded(seed), now) for seed in range(int(10 * seconds))]
    parts: list[Payload] = [payload for trace in traces for payload in trace]
    rng.shuffle(parts)
    with otlp_server.collector() as target:
        target.stop()  # it is away
        bridges = daemons(tmp_path, transport_url, mariadb_url, target.url)
        with bridges[0], bridges[1]:
            wait_for(
                lambda: all(
                    bridge.log.count("Listening") == 2 for bridge in bridges
                ),
                "four workers",
            )
            begun = time.monotonic()
            rounds = int(seconds)
            for number in range(rounds):
                some = parts[number::rounds]
                bus.publish(transport_url, map(bus.envelope, some))
                kill_one(bridges, rng)
                time.sleep(max(0, begun + 2 * number + 2 - time.monotonic()))
            target.acts += [Reply(429, b"", {"Retry-After": "1"})] * 3
            target.acts += [partial(0, "a label is too long")] * 2
            target.start()
            for _ in range(rounds):
                time.sleep(2)
                kill_one(bridges, rng)
            expected = {
                payload["trace_id"].replace("-", "")[-16:] for payload in parts
            }

            def taken() -> Counter[str]:
                return Counter(
                    span_id.hex()
                    for request in [*target.taken]
                    for span_id in spans_of(request.content)
                )

            wait_for(lambda: taken().keys() == expected, "all spans", _LONGEST)
            for bridge in bridges:
                assert bridge.terminate() == 0
        counts = taken()
        shown: dict[bytes, Any] = {}
        for trace in traces:
            text = FORMATS["otlp"](storage.trace(trace[0]["base_id"]))
            shown |= spans_of(otlp_server.from_json("".join(text)))
        sent: dict[bytes, Any] = {}
        for answered in target.taken:
            sent |= spans_of(answered.content)
        assert sent == shown
    twice = sum(count - 1 for count in counts.values())
    print(f"{len(counts)} spans, {twice} of them twice")
    # Only what was killed between sending a batch and noting it.
    assert twice <= len(counts) / 4
    storage.close()
