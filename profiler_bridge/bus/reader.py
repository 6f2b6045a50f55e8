# SPDX-License-Identifier: Apache-2.0

"""Messages off the bus: read by one thread, stored by another.

Whoever has read a message has to give a verdict on it: acknowledged, or given
back to the queue. A message without a verdict is never acknowledged, neither
by an exception nor by the acknowledgement of a later one.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from oslo_config import cfg
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.body import decode_body

LOG = logging.getLogger(__name__)

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.IntOpt(
        "batch_size",
        default=500,
        min=1,
        max=65535,
        help="How many messages are stored at once, at most.",
    ),
    cfg.FloatOpt(
        "batch_timeout",
        default=0.5,
        min=0.01,
        max=60,
        help="After this many seconds what has arrived is stored, even if it"
        " is less than batch_size.",
    ),
]

#: A worker reads no further while the bodies of the messages that it holds
#: have so many bytes; as Python objects they take several times that.
HELD_BYTES = 4 << 20
#: A batch is full when its bodies have so many bytes: half of what is held, so
#: that one half is stored while the other is read.
BATCH_BYTES = HELD_BYTES // 2
# Seconds without reading after which the bus is paused. RabbitMQ (3.10) closes
# a connection to which it could not write for 30.
_PAUSE_AFTER = 15.0
# Seconds to wait for the bus while there is nothing else to do, and while
# verdicts are expected.
_IDLE = 0.5
_BUSY = 0.02
#: Seconds within which the thread that reads calls ``expect`` again, whatever
#: the bus does. An attempt to connect has bounds of its own, for each host.
TURN = 120.0
# Seconds between log lines of the same error.
_LOG_AGAIN_AFTER = 60.0
# Seconds after an error at least.
_AFTER_ERROR = 0.1


class Message:
    """A message that the bridge has read.

    :param body: as it came off the bus; None where the bus hands over objects
    :param size: of the body, in bytes
    :param receipt: by which its source knows it
    :param value: its content, where the bus hands over objects
    """

    __slots__ = ("_value", "body", "held", "receipt", "size")

    def __init__(
        self, body: bytes | None, size: int, receipt: Any, value: object = None
    ) -> None:
        self.body = body
        self.size = size
        self.receipt = receipt
        #: Whether it counts as one that the reader holds.
        self.held = False
        self._value = value

    def decode(self) -> object:
        """Its content, as decoded from JSON.

        :raises InvalidNotification: it is no JSON
        """
        return self._value if self.body is None else decode_body(self.body)


class Source(Protocol):
    """A queue of some bus. One thread calls all of it but :meth:`stop`.

    :ivar delay: seconds to wait, after an error, before :meth:`connect`
    """

    delay: float

    def connect(self) -> None:
        """Connect, for the first time or after an error.

        :raises BusUnavailable: it may succeed later
        """

    def read(self, seconds: float) -> None:
        """Hand over what comes, or return after so many seconds.

        :raises BusUnavailable: it has to connect again
        """

    def settle(
        self, acknowledged: Sequence[Message], given_back: Sequence[Message]
    ) -> None:
        """Tell the bus the verdicts, but for an earlier connection's messages.

        These the bus delivers again.
        """

    def keep_alive(self) -> None:
        """Tell the bus, without reading, that this side is alive."""

    def pause(self) -> None:
        """Have the bus send no more, if it can."""

    @property
    def paused(self) -> bool:
        """Whether it sends no more; what was on its way is given back."""

    def resume(self) -> None:
        """Undo :meth:`pause`."""

    @property
    def connected(self) -> bool:
        """Whether messages can come; True for a bus that does not tell."""

    def stop(self) -> None:
        """End :meth:`read` now; called by another thread."""

    def close(self) -> None:
        """Disconnect; messages without a verdict go back to the queue."""


class Reader:
    """Takes messages off a queue, a batch at a time.

    It bounds the bytes that it holds: a prefetch counts messages, and one of
    them can be as large as a thousand others; and buses other than RabbitMQ
    know of no prefetch. Whatever is above the bound stays at the broker.

    :param make_source: makes the source; is given the function that the
        source has to call with messages
    :param batch_size: messages of a full batch
    :param batch_timeout: seconds after which a batch is taken as it is
    :param expect: called by the thread that reads, with the seconds within
        which it will call again
    """

    def __init__(
        self,
        make_source: Callable[[Callable[[Sequence[Message]], None]], Source],
        batch_size: int,
        batch_timeout: float,
        expect: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        self._source = make_source(self._receive)
        self._batch_size = batch_size
        self._batch_timeout = batch_timeout
        self._expect = expect
        self._changed = threading.Condition()
        self._arrived: deque[Message] = deque()
        self._arrived_bytes = 0
        self._first_arrived = 0.0
        # Messages without a verdict, but for those that are laid by.
        self._held = 0
        self._held_bytes = 0
        self._acknowledged: list[Message] = []
        self._given_back: list[Message] = []
        self._last_read = 0.0
        self._connected = False
        # What the log has already of why it is not.
        self._logged_problem = ""
        self._logged_error = ""
        self._log_again_at = 0.0
        self._stopping = threading.Event()
        self._finished = threading.Event()

    # Called by the thread that reads

    def run(self) -> None:
        """Read until :meth:`stop`, pass verdicts on until :meth:`finish`."""
        while not self._stopping.is_set():
            failure: Exception | None = None
            try:
                if not self._connected:
                    self._connect()
                else:
                    self._expect(TURN)
                    self._read_once()
            except Exception as error:  # noqa: BLE001 - reading goes on
                failure = error
            if failure is not None:
                self._connected = False
                if not self._stopping.is_set():
                    self._log_failure(failure)
                    self._await_delay()
        # Messages whose verdict cannot be passed on come again, and are then
        # recognized as stored.
        with contextlib.closing(self._source), contextlib.suppress(Exception):
            while not self._finished.wait(_BUSY):
                self._expect(TURN)
                self._pass_verdicts_on()
            self._pass_verdicts_on()

    def _await_delay(self) -> None:
        self._stopping.wait(max(self._source.delay, _AFTER_ERROR))

    def _log_failure(self, error: Exception) -> None:
        """Log why the bus cannot be read; the same reason not every time."""
        now = time.monotonic()
        if repr(error) != self._logged_error or now > self._log_again_at:
            self._logged_error = repr(error)
            self._log_again_at = now + _LOG_AGAIN_AFTER
            LOG.warning(
                "The bus cannot be read; connecting anew: %s",
                str(error) or type(error).__name__,
                exc_info=not isinstance(error, exceptions.BusUnavailable),
            )

    def _connect(self) -> None:
        """Try to connect, and log once why it does not succeed."""
        # A library may try for as long as the bus is away.
        self._expect(math.inf)
        problem = ""
        try:
            self._source.connect()
        except exceptions.BusUnavailable as error:
            problem = str(error)
        if problem:
            if problem != self._logged_problem and not self._stopping.is_set():
                self._logged_problem = problem
                LOG.error("Waiting to listen: %s", problem)
            self._await_delay()
            return
        self._connected = True
        self._logged_problem = ""
        self._last_read = time.monotonic()
        LOG.info("Listening")

    def _read_once(self) -> None:
        self._pass_verdicts_on()
        with self._changed:
            busy = self._held > 0
            has_room = self._held_bytes < HELD_BYTES
        if has_room:
            if self._source.paused:
                self._source.resume()
            self._source.read(_BUSY if busy else _IDLE)
            self._last_read = time.monotonic()
        elif self._source.paused:
            # Messages that were on their way, and what the broker itself says.
            self._source.read(_BUSY)
        else:
            if time.monotonic() - self._last_read > _PAUSE_AFTER:
                self._source.pause()
                if self._source.paused:
                    LOG.info(
                        "Taking no messages until those in hand are stored"
                    )
                self._last_read = time.monotonic()
            self._source.keep_alive()
            with self._changed:
                if not (self._acknowledged or self._given_back):
                    self._changed.wait(_IDLE)

    def _receive(self, messages: Sequence[Message]) -> None:
        with self._changed:
            if self._source.paused:
                self._given_back += messages
                return
            begins = not self._arrived
            if begins:
                self._first_arrived = time.monotonic()
            size = 0
            for message in messages:
                message.held = True
                size += message.size
            self._arrived += messages
            self._arrived_bytes += size
            self._held += len(messages)
            self._held_bytes += size
            if begins or self._is_full():
                self._changed.notify_all()

    def _pass_verdicts_on(self) -> None:
        with self._changed:
            acknowledged, self._acknowledged = self._acknowledged, []
            given_back, self._given_back = self._given_back, []
        if acknowledged or given_back:
            self._source.settle(acknowledged, given_back)

    # Called by the thread that stores

    def take(self, seconds: float) -> list[Message]:
        """Wait for a batch, at most so many seconds.

        :returns: empty when they have passed, or when :attr:`ended`
        """
        end = time.monotonic() + seconds
        with self._changed:
            while True:
                now = time.monotonic()
                until = end
                if self._arrived:
                    until = self._first_arrived + self._batch_timeout
                    if (
                        now >= until
                        or self._is_full()
                        or self._stopping.is_set()
                    ):
                        return self._next_batch()
                elif now >= end or self._stopping.is_set():
                    return []
                self._changed.wait(max(0.0, until - now))

    def _is_full(self) -> bool:
        return (
            len(self._arrived) >= self._batch_size
            or self._arrived_bytes >= BATCH_BYTES
        )

    def _next_batch(self) -> list[Message]:
        batch: list[Message] = []
        size = 0
        while (
            self._arrived
            and len(batch) < self._batch_size
            and size < BATCH_BYTES
        ):
            batch.append(self._arrived.popleft())
            size += batch[-1].size
        self._arrived_bytes -= size
        # Roughly, for the messages that are left.
        self._first_arrived = time.monotonic()
        return batch

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Give the verdict on messages that are stored, or set aside."""
        with self._changed:
            self._acknowledged += messages
            self._release(messages)

    def give_back(self, messages: Sequence[Message]) -> None:
        """Give the verdict on messages that are to go back to the queue."""
        with self._changed:
            self._given_back += messages
            self._release(messages)

    def lay_by(self, messages: Iterable[Message]) -> None:
        """Hold these messages no longer: their verdict comes later."""
        with self._changed:
            self._release(messages)

    def _release(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.held:
                message.held = False
                self._held -= 1
                self._held_bytes -= message.size
        self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether it was stopped, and everything that was read was taken."""
        return self._stopping.is_set() and not self._arrived

    def finish(self) -> None:
        """Say that no verdicts follow."""
        self._finished.set()

    # Called by any thread

    def stop(self) -> None:
        """Read no more. What has been read can still be taken."""
        self._stopping.set()
        self._source.stop()
        with self._changed:
            self._changed.notify_all()

    @property
    def connected(self) -> bool:
        """Whether messages can come."""
        return self._connected and self._source.connected
