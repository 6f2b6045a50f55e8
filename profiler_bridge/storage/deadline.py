# SPDX-License-Identifier: Apache-2.0

"""A bound for every call to a storage, kept in the client.

A server that is stopped, or that a dead proxy stands before, answers nothing
while its kernel acknowledges everything: neither the server's own time limits
nor TCP's end the wait. What does is to shut down this side's socket.

A call is one exchange that either succeeds or fails as a whole: a transaction
of a database, a pipeline of Redis. There are two bounds, and a storage knows
by the method which is meant:

- everything is over after :data:`LONGEST_CALL`: writes, the index, partial
  summaries, ``prepare``, ``check``, ``delete``. That is all the daemon does;
- ``notifications`` and ``left_by_osprofiler``, which only commands call, may
  take as long as they like to read a large trace, but not
  :data:`LONGEST_SILENCE` without a byte. Clients have options for that, such
  as redis-py's ``socket_timeout``.

To connect, or to find out whether a pooled connection still lives, must be
over after :data:`LONGEST_GREETING`. These two in a row leave time for the
call itself.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

LOG = logging.getLogger(__name__)

#: Seconds.
LONGEST_CALL = 30.0
LONGEST_SILENCE = 30.0
LONGEST_GREETING = 10.0


class within:  # noqa: N801 - reads as what it does: with within(30, ...)
    """A block of code that is interrupted when it takes too long.

    It costs about two microseconds. Blocks may be nested, and run in any
    number of threads.

    :param seconds: how long it may take
    :param interrupt: called once, in another thread, when it takes longer;
        never after the block has ended. It must not wait for anything:
        :func:`shut_down` the socket that the block waits for, so that its
        ``recv`` returns or raises. OSError is ignored.
    """

    __slots__ = ("_end", "_interrupt", "_seconds", "passed")

    def __init__(
        self, seconds: float, interrupt: Callable[[], object]
    ) -> None:
        self._seconds = seconds
        self._interrupt = interrupt
        #: Whether it was interrupted: why the block failed, if it did.
        self.passed = False

    def __enter__(self) -> Self:
        self._end = time.monotonic() + self._seconds
        _watchdog.watch(self, self._end)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _watchdog.forget(self)

    def _pass(self) -> None:
        self.passed = True
        try:
            with contextlib.suppress(OSError):
                self._interrupt()
        except Exception:
            LOG.exception("A call that takes too long cannot be interrupted")


def shut_down(descriptor: int) -> None:
    """End a socket's connection, whoever waits for it in whatever library.

    :param descriptor: its file descriptor, which stays open
    :raises OSError: it is no connected socket
    """
    # Another descriptor of the same connection, for us to close.
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """One thread for all calls of a process, started with the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._ends: dict[within, float] = {}
        self._thread: threading.Thread | None = None
        # When the thread looks next. Most calls end long after that, and so
        # need not wake it.
        self._looks = math.inf

    def watch(self, call: within, end: float) -> None:
        with self._changed:
            self._ends[call] = end
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="deadlines", daemon=True
                )
                self._thread.start()
            elif end < self._looks:
                self._changed.notify()

    def forget(self, call: within) -> None:
        # Also waits for an interruption that is under way.
        with self._changed:
            self._ends.pop(call, None)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for call in [c for c, end in self._ends.items() if end <= now]:
                    del self._ends[call]
                    call._pass()
                self._looks = min(self._ends.values(), default=math.inf)
                self._changed.wait(
                    None if self._looks == math.inf else self._looks - now
                )


_watchdog = _Watchdog()


def _after_fork() -> None:
    # Neither the thread nor the calls of others are in this process.
    global _watchdog
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_after_fork)
