# SPDX-License-Identifier: Apache-2.0


"""Reading a queue: what is held, and what the bus is told."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import pytest

from profiler_bridge import exceptions
from profiler_bridge.bus import polled, reader
from profiler_bridge.bus.reader import Message, Reader
from tests.daemon import wait_for


class Queue:
    """A source that hands over what is put into it."""

    connected = True
    delay = 0.0

    def __init__(self, receive: Callable[[Sequence[Message]], None]) -> None:
        self._receive = receive
        self.waiting: deque[Message | Exception] = deque()
        self.acknowledged: list[Message] = []
        self.given_back: list[Message] = []
        self.connects = 0
        self.refusal: Exception | None = None
        self.paused = False
        self.closed = False

    def connect(self) -> None:
        self.connects += 1
        if self.refusal is not None:
            raise self.refusal

    def read(self, seconds: float) -> None:
        try:
            item = self.waiting.popleft()
        except IndexError:
            time.sleep(0.001)
            return
        if isinstance(item, Exception):
            raise item
        self._receive([item])

    def settle(
        self, acknowledged: Sequence[Message], given_back: Sequence[Message]
    ) -> None:
        self.acknowledged += acknowledged
        self.given_back += given_back

    def keep_alive(self) -> None:
        pass

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Running:
    """A reader at work.

    :param size: messages of a full batch
    :param timeout: of a batch, in seconds
    """

    def __init__(self, size: int = 10, timeout: float = 0.02) -> None:
        self.queue: Queue

        def make(receive: Callable[[Sequence[Message]], None]) -> Queue:
            self.queue = Queue(receive)
            return self.queue

        self.reader = Reader(make, size, timeout)
        self.thread = threading.Thread(target=self.reader.run, daemon=True)
        self.thread.start()

    def put(self, *items: Message | Exception) -> None:
        self.queue.waiting.extend(items)

    def stop(self) -> None:
        self.reader.stop()
        self.reader.finish()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_AFTER_ERROR", "_IDLE"):
        monkeypatch.setattr(reader, name, 0.01)


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


def messages(count: int, size: int = 10) -> list[Message]:
    return [Message(b"x", size, number) for number in range(count)]


def test_batches_are_full_or_late(running: Running) -> None:
    sent = messages(25)
    running.put(*sent)
    batches = [running.reader.take(5) for _ in range(3)]
    assert [message for batch in batches for message in batch] == sent
    assert len(batches[0]) == 10
    assert running.reader.take(0.01) == []


def test_a_batch_is_full_by_its_bytes(running: Running) -> None:
    running.put(*messages(4, size=reader.BATCH_BYTES))
    for _ in range(4):
        [message] = running.reader.take(5)
        running.reader.acknowledge([message])


def test_no_more_is_read_than_may_be_held(running: Running) -> None:
    sent = messages(8, size=reader.HELD_BYTES // 4)
    running.put(*sent)
    taken = running.reader.take(5) + running.reader.take(5)
    wait_for(lambda: len(running.queue.waiting) == 4, "what may be held")
    time.sleep(0.05)
    assert len(running.queue.waiting) == 4
    running.reader.acknowledge(taken[:2])
    wait_for(lambda: len(running.queue.waiting) == 2, "two more")
    assert running.queue.acknowledged == taken[:2]
    # What is laid by is not counted: others go on.
    running.reader.lay_by(taken[2:])
    wait_for(lambda: not running.queue.waiting, "the rest")
    running.reader.acknowledge(taken[2:])
    wait_for(lambda: running.queue.acknowledged == taken, "verdicts")


def test_the_bus_pauses_while_hands_are_full(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_PAUSE_AFTER", 0.05)
    sent = messages(1, size=reader.HELD_BYTES)
    running.put(*sent)
    wait_for(lambda: running.queue.paused, "a pause")
    late = messages(2)
    running.put(*late)  # were under way
    wait_for(lambda: running.queue.given_back == late, "what goes back")
    running.reader.acknowledge(running.reader.take(5))
    wait_for(lambda: not running.queue.paused, "the end of the pause")


@pytest.mark.parametrize(
    "error", [MemoryError(), exceptions.BusUnavailable("gone"), KeyError(1)]
)
def test_what_was_read_before_an_error_is_there(
    error: Exception, running: Running
) -> None:
    first, second = messages(3), messages(3)
    running.put(*first, error, *second)
    wait_for(lambda: running.queue.connects == 2, "another connection")
    taken: list[Message] = []
    while len(taken) < 6:
        taken += running.reader.take(5)
    assert taken == first + second


def test_what_is_in_the_way_is_logged_once(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.queue.refusal = exceptions.BusUnavailable("no right")
    running.put(KeyError())
    wait_for(lambda: running.queue.connects > 5, "some tries")
    assert not running.reader.connected
    running.queue.refusal = None
    wait_for(lambda: running.reader.connected, "a connection")
    logged = [record.getMessage() for record in caplog.records]
    assert logged.count("Waiting to listen: no right") == 1


def test_what_was_read_is_taken_after_the_stop() -> None:
    running = Running(timeout=60)
    sent = messages(3)
    running.put(*sent)
    wait_for(lambda: not running.queue.waiting, "what was sent")
    running.reader.stop()
    assert not running.reader.ended
    assert running.reader.take(5) == sent
    assert running.reader.ended
    running.reader.acknowledge(sent)
    running.stop()
    assert running.queue.acknowledged == sent
    assert running.queue.closed


def test_what_the_driver_repeats_is_logged_now_and_then() -> None:
    limit = polled._RateLimit(60)

    def passes(text: str, created: float, level: int = logging.ERROR) -> bool:
        record = logging.LogRecord("x", level, "x", 1, text, None, None)
        record.created = created
        return limit.filter(record)

    assert [passes("away: %s", at) for at in (0, 1, 59, 60, 61)] == [
        *(True, False, False, True, False)
    ]
    assert passes("away: %s", 61, logging.DEBUG)
    assert all(passes(f"number {number}", 61) for number in range(1000))
