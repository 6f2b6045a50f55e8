# SPDX-License-Identifier: Apache-2.0

"""Two bridges with two workers each drain one queue together."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import pieces

# Messages that are set aside tell which daemon had them. RabbitMQ deals out
# in turn to four workers. Every 25th message, one after so many good ones, is
# dealt to each of them; every 26th would be to two, perhaps of one daemon.
POISON = 24


def messages(payloads: list[dict[str, Any]]) -> Iterator[object]:
    for number, payload in enumerate(payloads, 1):
        yield bus.envelope(payload)
        if number % POISON == 0:
            yield bus.envelope({"name": str(uuid.uuid4())})


def key(payload: Mapping[str, Any]) -> tuple[str, str]:
    return payload["trace_id"], payload["name"]


def test_two_daemons_share_one_queue(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    mariadb_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    count = request.config.getoption("--scale-notifications")
    traces = {str(uuid.uuid4()) for _ in range(count // 100)}
    payloads = [
        payload for base_id in traces for payload in pieces(base_id, 50)
    ]
    daemons = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        daemons.append(
            Daemon(
                tmp_path / name,
                {
                    "DEFAULT": {"transport_url": transport_url},
                    "osprofiler": {"connection_string": mariadb_url},
                    "bridge": {"workers": 2},
                },
            )
        )
    storage = get_storage(mariadb_url)
    storage.prepare()

    def stored() -> Counter[tuple[str, str]]:
        return Counter(
            key(notification.payload)
            for base_id in traces
            for notification in storage.notifications(base_id)
        )

    first, second = daemons
    with first, second:
        wait_for(
            lambda: all(
                bridge.log.count("Listening") == 2 for bridge in daemons
            ),
            "four workers",
        )
        bus.publish(transport_url, messages(payloads))
        for what in (
            lambda: not rabbitmq.queue_depth(bus.QUEUE, transport_url),
            lambda: stored().total() >= len(payloads),
        ):
            wait_for(what, "all of them stored", seconds=60 + count / 500)
        assert first.terminate() == 0
        assert second.terminate() == 0
    # Nothing came back from a worker that ended.
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0
    assert stored() == Counter(map(key, payloads))
    shares = [
        len(list(SetAside(str(bridge.set_aside), 2**30).messages()))
        for bridge in daemons
    ]
    assert sum(shares) == len(payloads) // POISON
    assert all(shares), shares
