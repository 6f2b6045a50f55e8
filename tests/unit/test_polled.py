# SPDX-License-Identifier: Apache-2.0


"""Buses that oslo.messaging's own listener reads."""

from __future__ import annotations

import threading
import uuid
from functools import partial

import oslo_messaging
import pytest

from profiler_bridge.bus.polled import PolledSource
from profiler_bridge.bus.reader import Message, Reader
from tests.daemon import wait_for
from tests.unit.test_link import make_transport


@pytest.mark.parametrize("url", ["fake://", "kombu+memory://"])
def test_verdicts_of_a_bus_within_the_process(url: str) -> None:
    topic = f"profiler-{uuid.uuid4().hex}"
    transport = make_transport(url)
    target = oslo_messaging.Target(topic=topic)
    reader = Reader(partial(PolledSource, transport, [target], None), 10, 0.05)
    reading = threading.Thread(target=reader.run, daemon=True)
    reading.start()
    wait_for(lambda: reader.connected, "a connection")
    notifier = oslo_messaging.Notifier(
        transport, "host", driver="messaging", topics=[topic]
    )
    for number in range(5):
        notifier.info({}, "event", {"number": number})
    taken: list[Message] = []

    def take(count: int) -> list[object]:
        taken.clear()

        def taken_all() -> bool:
            taken.extend(reader.take(0.1))
            return len(taken) >= count

        wait_for(taken_all, "messages")
        return [message.decode()["payload"]["number"] for message in taken]  # type: ignore[index]

    assert take(5) == [0, 1, 2, 3, 4]
    reader.acknowledge(taken[1:])
    reader.give_back(taken[:1])
    assert take(1) == [0]
    # What has its verdict when reading has ended has it, too.
    reader.stop()
    reader.acknowledge(taken)
    reader.finish()
    reading.join(10)
    assert not reading.is_alive()
    transport.cleanup()
