# SPDX-License-Identifier: Apache-2.0


"""What a channel of RabbitMQ is told: verdicts, and how much to send."""

from __future__ import annotations

from typing import Any

import pytest

from profiler_bridge.bus import reader
from profiler_bridge.bus.consumer import Consumer
from profiler_bridge.bus.reader import Message


class Channel:
    """What a consumer does on a channel."""

    def __init__(self) -> None:
        self.openings = 1
        self.calls: list[tuple[Any, ...]] = []
        self._tags = 0

    def basic_qos(self, size: int, count: int, everywhere: bool) -> None:
        assert (size, everywhere) == (0, False)
        self.calls.append(("qos", count))

    def basic_consume(self, queue: str, arguments: dict[str, Any]) -> str:
        self._tags += 1
        self.calls.append(("consume", queue))
        return str(self._tags)

    def basic_cancel(self, tag: str, nowait: bool) -> None:
        assert nowait
        self.calls.append(("cancel", tag))

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.calls.append(("ack", tag, multiple))

    def basic_reject(self, tag: int, requeue: bool) -> None:
        self.calls.append(("reject", tag, requeue))


class Consuming:
    """A consumer on a channel."""

    def __init__(self, limit: int = 1000, queues: tuple[str, ...] = ("q",)):
        self.consumer = Consumer(queues, limit, {})
        self.channel = Channel()
        self.start(self.channel)

    def start(self, channel: Channel) -> list[tuple[Any, ...]]:
        """Consume on it; what it is told then."""
        self.channel = channel
        self.consumer.start(channel)
        return self.calls()

    def calls(self) -> list[tuple[Any, ...]]:
        """What the channel was told since the last time."""
        calls = [*self.channel.calls]
        self.channel.calls.clear()
        return calls

    def deliver(self, *tags: int, size: int = 1) -> list[Message]:
        for tag in tags:
            self.consumer.deliver(tag, b"x" * size)
        return self.consumer.collect()

    def settle(
        self, acknowledged: list[Message], given_back: list[Message]
    ) -> list[tuple[Any, ...]]:
        self.consumer.settle(acknowledged, given_back)
        return self.calls()

    def raise_prefetch(self) -> list[int]:
        """What it becomes, if it changes."""
        self.consumer.raise_prefetch()
        return [count for name, count in self.calls() if name == "qos"]


def test_one_acknowledgement_for_a_batch() -> None:
    bus = Consuming()
    assert bus.settle(bus.deliver(1, 2, 3), []) == [("ack", 3, True)]


def test_no_acknowledgement_passes_what_has_no_verdict() -> None:
    bus = Consuming()
    one, two, three, four, five = bus.deliver(1, 2, 3, 4, 5)
    assert bus.settle([one, two, four], []) == [
        ("ack", 2, True),
        ("ack", 4, False),
    ]
    assert bus.settle([three], []) == [("ack", 3, True)]
    assert bus.settle([], [five]) == [("reject", 5, True)]


def test_a_verdict_is_told_once() -> None:
    bus = Consuming()
    [message] = bus.deliver(1)
    assert bus.settle([message], [message]) == [("reject", 1, True)]
    assert bus.settle([message], []) == []


def test_a_channel_that_was_opened_again_has_other_tags() -> None:
    """py-amqp opens a channel again by itself, after the broker closed it."""
    bus = Consuming()
    old = bus.deliver(1, 2, 3)
    bus.channel.openings += 1
    assert bus.consumer.reopened
    assert bus.settle(old, old) == []
    # The prefetch and the consumer are of one opening, too.
    assert bus.start(bus.channel) == [("qos", 16), ("consume", "q")]
    assert not bus.consumer.reopened
    new = bus.deliver(1, 2, 3)
    assert bus.settle(old, old) == []
    assert bus.settle(new[:2], []) == [("ack", 2, True)]


def test_another_channel_has_other_tags() -> None:
    bus = Consuming()
    old, first = bus.deliver(1, 2), bus.channel
    bus.start(Channel())
    new = bus.deliver(1, 2)
    assert bus.settle([*old, new[0]], []) == [("ack", 1, True)]
    assert first.calls == []


def test_before_there_is_a_channel() -> None:
    consumer = Consumer(["q"], 10, {})
    consumer.deliver(1, b"x")
    consumer.settle(consumer.collect(), [])


def test_consumers_are_cancelled_and_come_back() -> None:
    bus = Consuming(queues=("q", "r"))
    assert not bus.consumer.cancelled
    bus.consumer.cancel()
    assert bus.consumer.cancelled
    assert bus.calls() == [("cancel", "1"), ("cancel", "2")]
    bus.deliver(*range(16))
    assert bus.raise_prefetch() == []
    bus.consumer.consume()
    assert not bus.consumer.cancelled
    assert bus.calls() == [("qos", 16), ("consume", "q"), ("consume", "r")]


def test_small_messages_raise_the_prefetch_to_its_limit() -> None:
    bus = Consuming(limit=1000)
    prefetches: list[int] = []
    for _ in range(10):
        before = prefetches[-1] if prefetches else 16
        bus.deliver(*range(before - 1))
        assert bus.raise_prefetch() == []
        bus.deliver(before)
        prefetches += bus.raise_prefetch()
    assert prefetches == [64, 256, 1000]


def test_a_queue_has_a_consumer_at_any_time() -> None:
    """Or one that deletes itself would go."""
    bus = Consuming()
    bus.deliver(*range(16))
    bus.consumer.raise_prefetch()
    assert bus.calls() == [("qos", 64), ("consume", "q"), ("cancel", "1")]


@pytest.mark.parametrize(
    ("size", "prefetch"),
    [
        (1, [64]),
        (reader.HELD_BYTES // 50, [50]),
        (reader.HELD_BYTES // 31, []),
        (reader.HELD_BYTES, []),
        (0, [64]),
    ],
)
def test_what_is_sent_at_once_has_the_size_of_what_is_held(
    size: int, prefetch: list[int]
) -> None:
    bus = Consuming()
    bus.deliver(*range(16), size=size)
    assert bus.raise_prefetch() == prefetch


@pytest.mark.parametrize("limit", [0, 1, 16])
def test_a_limit_below_the_first_prefetch(limit: int) -> None:
    bus = Consuming(limit)
    assert bus.start(Channel()) == [("qos", limit), ("consume", "q")]
    for _ in range(3):
        bus.deliver(*range(20))
        assert bus.raise_prefetch() == []


def test_the_last_step_may_be_small() -> None:
    bus = Consuming(limit=17)
    bus.deliver(*range(16))
    assert bus.raise_prefetch() == [17]
