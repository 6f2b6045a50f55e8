# SPDX-License-Identifier: Apache-2.0

"""A queue of a bus other than RabbitMQ, by oslo.messaging's own listener."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from profiler_bridge.bus import private
from profiler_bridge.bus.reader import Message

# Seconds.
_LAST_POLL = 0.05
_DRIVER_LOGS_EVERY = 60.0
# More than the driver has, but it fills in some before it logs them.
_TEMPLATES = 100


class _RateLimit(logging.Filter):
    """Lets a warning through once in so many seconds, for each template.

    While a bus of kombu's is away the driver logs each attempt to connect.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._next: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if record.created < self._next.get(record.msg, 0):
            return False
        if len(self._next) == _TEMPLATES:
            self._next.clear()
        self._next[record.msg] = record.created + self._seconds
        return True


def quieten_driver() -> None:
    """Limit how often the driver logs the same trouble."""
    logging.getLogger(private.DRIVER_LOGGER).addFilter(
        _RateLimit(_DRIVER_LOGS_EVERY)
    )


class PolledSource:
    """See :class:`profiler_bridge.bus.reader.Source`.

    :param transport: of oslo.messaging
    :param targets: what the queue is bound to
    :param pool: whose queue it is; None for the plain one
    :param receive: called with messages
    """

    connected = True
    delay = 1.0
    paused = False

    def __init__(
        self,
        transport: Any,
        targets: Sequence[Any],
        pool: str | None,
        receive: Callable[[Sequence[Message]], None],
    ) -> None:
        self._transport = transport
        self._targets = targets
        self._pool = pool
        self._receive = receive
        self._listener: Any = None

    def connect(self) -> None:
        if self._listener is None:
            self._listener = private.listen(
                self._transport, self._targets, self._pool
            )

    def read(self, seconds: float) -> None:
        for incoming in self._listener.poll(timeout=seconds, batch_size=1):
            value = incoming.message
            self._receive([Message(None, len(repr(value)), incoming, value)])

    def settle(
        self, acknowledged: Sequence[Message], given_back: Sequence[Message]
    ) -> None:
        for message in acknowledged:
            message.receipt.acknowledge()
        for message in given_back:
            message.receipt.requeue()

    def keep_alive(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def stop(self) -> None:
        pass  # it returns soon enough

    def close(self) -> None:
        if self._listener is None:
            return
        # With kombu it waits for the thread that polls, which is this one;
        # that passes the last verdicts on.
        stopping = threading.Thread(target=self._listener.stop, daemon=True)
        stopping.start()
        while stopping.is_alive():
            self._listener.poll(timeout=_LAST_POLL, batch_size=1)
        self._listener.cleanup()
