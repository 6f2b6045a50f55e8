# SPDX-License-Identifier: Apache-2.0

"""One of two buses is killed: the other goes on as if nothing were."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import kombu
import pytest
from prometheus_client import parser

from tests import bus, servers
from tests.chaos import table
from tests.chaos.scene import DURABLE, Broker, Scene, key, send_while, stored
from tests.daemon import wait_for
from tests.functional.test_bridge import pieces
from tests.functional.test_monitoring import Watched


class Sender:
    """Sends to a bus that may be away, and knows what that has taken."""

    def __init__(self, url: str) -> None:
        self.accepted: list[dict[str, Any]] = []
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._over.is_set():
            payloads = pieces(str(uuid.uuid4()), 10)
            try:
                bus.publish(self._url, map(bus.envelope, payloads), True)
            except (OSError, amqp.AMQPError, kombu.exceptions.KombuError):
                pass  # nobody knows what of it was taken
            else:
                self.accepted += payloads
            self._over.wait(0.05)


def batches_and_lag(running: Watched, bus_name: str) -> tuple[float, float]:
    """How many batches a bus has had, and the sum of their lags."""
    values = {"count": 0.0, "sum": 0.0}
    text = running.get("/metrics")[1]
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            what = sample.name.removeprefix("profiler_bridge_lag_seconds_")
            if what in values and sample.labels["bus"] == bus_name:
                values[what] += sample.value
    return values["count"], values["sum"]


def measure_lag(
    running: Watched,
    bus_name: str,
    other_bus: str,
    seconds: float,
    depth: Callable[[], int],
) -> table.LagRow:
    """Measure a bus while another is there, or is not.

    :param depth: how many messages wait
    """
    first = batches, lag = batches_and_lag(running, bus_name)
    worst, waiting = 0.0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        waiting = max(waiting, depth())
        last_batches, last_lag = batches, lag
        batches, lag = batches_and_lag(running, bus_name)
        if batches > last_batches:
            worst = max(worst, (lag - last_lag) / (batches - last_batches))
    count = batches - first[0]
    assert count, "nothing was stored"
    return table.LagRow(
        other_bus,
        int(count),
        f"{(lag - first[1]) / count:.3f} s",
        f"{worst:.3f} s",
        waiting,
    )


def test_a_bus_that_is_killed_does_not_touch_the_other(
    rabbitmq: servers.RabbitMQ,
    other_rabbitmq: servers.RabbitMQ,
    transport_url: str,
    other_url: str,
    sqlite_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    seconds = request.config.getoption("--chaos-seconds")
    name = transport_url.replace("guest:guest@", "")
    query = "?amqp_durable_queues=true"
    running = Watched(
        tmp_path,
        "rabbit://",
        sqlite_url,
        transport_url=[transport_url + query, other_url + query],
    )
    lags: list[table.LagRow] = []

    def measure(state: str) -> None:
        lags.append(
            measure_lag(running, name, state, seconds, scene.broker.depth)
        )

    def kill_the_other(_scene: Scene) -> None:
        measure("there")
        other_rabbitmq.kill()
        measure("killed")
        other_rabbitmq.start()
        measure("back")

    scene = Scene(
        Broker(
            transport_url,
            DURABLE,
            lambda: rabbitmq.queue_depth(bus.QUEUE, transport_url),
        ),
        running,
        lambda: None,
        lambda: None,
        random.Random(request.config.getoption("--chaos-seed")),
        seconds,
    )
    with running:
        running.wait_until_ready()
        with Sender(other_url) as sender:
            sent = send_while(scene, kill_the_other, 0)[0]
        accepted = Counter(map(key, sent + sender.accepted))
        base_ids = {payload["base_id"] for payload in sent + sender.accepted}
        wait_for(
            lambda: not accepted - Counter(stored(sqlite_url, base_ids)),
            f"{accepted.total()} notifications",
            seconds=90,
        )
        recovery = time.monotonic() - scene.over
        assert running.terminate() == 0
    counts = Counter(stored(sqlite_url, base_ids))
    row = table.Row(
        fault="one of two buses killed",
        storage="sqlite",
        sent=accepted.total(),
        stored=(counts & accepted).total(),
        set_aside=0,
        lost=(accepted - counts).total(),
        doubled=sum(count - 1 for count in counts.values()),
        recovery=f"{recovery:.1f} s",
    )
    request.config.stash[table.ROWS].append(row)
    request.config.stash[table.LAGS] += lags
    assert (row.lost, row.doubled) == (0, 0)
    assert scene.broker.depth() == 0
    assert other_rabbitmq.queue_depth(bus.QUEUE, other_url) == 0
