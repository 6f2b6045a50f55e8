# SPDX-License-Identifier: Apache-2.0

"""Kafka takes no message back: the bridge says so, and goes on if told to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest
from osprofiler import profiler

from profiler_bridge.storage import get_storage
from tests import bus
from tests.daemon import Daemon, wait_for


@pytest.fixture
def broker() -> Iterator[str]:
    """A broker inside librdkafka, on the loopback address."""
    producer = confluent_kafka.Producer({"test.mock.num.brokers": 1})
    # Asking for the topic makes it, before somebody subscribes to it.
    topics = producer.list_topics("profiler.info", timeout=10)
    [known] = topics.brokers.values()
    yield f"{known.host}:{known.port}"
    producer.flush(1)


def daemon(folder: Path, broker: str, url: str, **bridge: object) -> Daemon:
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": f"kafka://{broker}/"},
            "osprofiler": {"connection_string": url},
            "bridge": bridge,
        },
    )


def test_kafka_needs_to_be_asked_for(
    broker: str, sqlite_url: str, tmp_path: Path
) -> None:
    with daemon(tmp_path, broker, sqlite_url) as running:
        assert running.process is not None
        assert running.process.wait(90) == 1
    [line] = running.log.splitlines()
    assert "set at_most_once = true in [bridge]" in line


def test_what_kafka_delivers_is_stored(
    broker: str, sqlite_url: str, tmp_path: Path
) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    with daemon(tmp_path, broker, sqlite_url, at_most_once=True) as running:
        sent: list[str] = []

        def one_is_stored() -> bool:
            # What is sent before the consumer has its partitions is not
            # delivered to it: send until something is.
            sent.append(profiler.init("SECRET_KEY").get_base_id())
            with profiler.Trace("wsgi"), profiler.Trace("db"):
                pass
            profiler.clean()
            time.sleep(0.2)
            return any(
                len(storage.notifications(base_id)) == 4 for base_id in sent
            )

        with bus.osprofiler_to(f"kafka://{broker}/"):
            wait_for(one_is_stored, "a whole trace")
        assert "at most once" in running.log
        assert running.terminate() == 0
