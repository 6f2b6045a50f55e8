# SPDX-License-Identifier: Apache-2.0

"""The notifier: from a profiled program to the bus, in the background."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from profiler_bridge.bus import private
from profiler_bridge.notification import FORMAT, VERSION
from profiler_bridge.retry import pauses
from profiler_bridge.sender import threads_are_greenlets
from profiler_bridge.sender.points import Point, encode

LOG = logging.getLogger(__name__)

TOPIC = "profiler"

# A message is full with the point that brings it to about so many bytes. A
# point that is larger by itself has a message of its own.
MESSAGE_BYTES = 1_000_000
# RabbitMQ 4 refuses what is larger: it would be tried again for ever.
LARGEST_POINT = 15_000_000
# Seconds; with less the thread would do nothing but check.
_LEAST_AGE = 0.01
# A thread that waits checks what it waits for every so many seconds.
_POLL = 0.1
# Seconds for the bus to take what has gathered.
FLUSH_TIMEOUT = 2.0


class BufferedNotifier:
    """Sends osprofiler's points from a thread of its own, many in a message.

    ``osprofiler.notifier.set`` takes :meth:`notify`. Nothing connects or
    starts before the first point. A forked process starts afresh; what its
    parent had gathered is the parent's to send. What has gathered when the
    process ends is lost, unless it calls :meth:`flush` first, or has it called
    by :func:`profiler_bridge.sender.ending.call_at_end`.

    :param transport: makes a notification transport of oslo.messaging;
        called once in each process that has points to send
    :param publisher_id: who sends, usually the name of the host
    :param project: added to each point, as the next one; where they are None,
        points keep what they have
    :param service: what is profiled
    :param buffer_size: keep at most so many points while the bus is away,
        then drop the oldest; a point takes as much memory as its JSON
    :param batch_size: send at most so many points in one message, and send
        at once when so many are there
    :param max_age: send after so many seconds, however few are there
    :param on_start: called when the thread is started, so in each process
        that has points to send; such as
        :func:`profiler_bridge.sender.ending.watch_signals`
    :raises ValueError: a number is too small
    """

    def __init__(
        self,
        transport: Callable[[], Any],
        publisher_id: str | None,
        project: str | None,
        service: str | None,
        *,
        buffer_size: int = 100_000,
        batch_size: int = 500,
        max_age: float = 0.5,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        for name, number, least in (
            ("buffer_size", buffer_size, 1),
            ("batch_size", batch_size, 1),
            ("max_age", max_age, _LEAST_AGE),
        ):
            if not number >= least:
                raise ValueError(f"{name} is {number}, it is {least} or more")
        self.transport = transport
        self.publisher_id = publisher_id
        self.buffer_size = buffer_size
        self.batch_size = batch_size
        self.max_age = max_age
        self.on_start = on_start
        self._event_type = f"profiler.{service}"
        extra = {"project": project, "service": service}
        self._extra = {
            key: value for key, value in extra.items() if value is not None
        }
        self._senders: dict[int, _Sender] = {}  # by process

    def notify(self, info: Point, context: object = None) -> None:
        """Take a point. Never waits for the bus, never raises.

        :param info: what osprofiler tells; not changed
        :param context: given by osprofiler; not sent
        """
        try:
            sender = self._senders.get(os.getpid()) or self._make_sender()
            try:
                text = encode({**info, **self._extra})
            except Exception:  # noqa: BLE001 - any value's own
                sender.count_refused()
                return
            if len(text) > LARGEST_POINT:
                sender.count_refused()
            else:
                sender.add(text)
        except Exception:  # noqa: BLE001, S110 - not the request's trouble
            pass

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Send what is there, waiting at most so many seconds.

        :returns: whether the broker has all of it
        """
        sender = self._senders.get(os.getpid())
        return sender is None or sender.flush(timeout)

    def stop(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Flush and disconnect. The next point would start anew.

        :returns: whether the broker has all that was there
        """
        sender = self._senders.get(os.getpid())
        return sender is None or sender.stop(timeout)

    @property
    def dropped(self) -> int:
        """How many points this process lost: no room, or not sendable."""
        sender = self._senders.get(os.getpid())
        return 0 if sender is None else sender.dropped

    @property
    def waiting(self) -> int:
        """How many points of this process the broker has not confirmed."""
        sender = self._senders.get(os.getpid())
        return 0 if sender is None else sender.waiting

    def _make_sender(self) -> _Sender:
        """One for this process; several threads may do so at once."""
        this_process = os.getpid()
        for process, sender in list(self._senders.items()):
            if process != this_process and sender.abandon():
                self._senders.pop(process, None)
        sender = _Sender(self, self._event_type)
        return self._senders.setdefault(this_process, sender)


class _Sender:
    """Buffer, thread and connection of one process."""

    def __init__(self, owner: BufferedNotifier, event_type: str) -> None:
        self._owner = owner
        self._event_type = event_type
        self._process = os.getpid()
        # Nothing here ever waits for a lock: a signal handler, a fork or a
        # native thread beside eventlet's would find it taken for ever.
        # Appending to a deque and counting are atomic; the thread polls.
        self.points: collections.deque[str] = collections.deque()  # JSON
        self._batch: list[str] = []
        self._overflowed = itertools.count()
        self._refused = itertools.count()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._flush_now = self._stopping = False
        self._all_sent_at = -math.inf
        self._transport: Any = None
        self._notifier: Any = None
        self._take_json: Callable[[str], Any] = str
        self._failure: Exception | None = None
        self._logged_overflowed = 0
        self._logged_full = self._logged_away = self._logged_refused = False

    def add(self, point: str) -> None:
        if len(self.points) >= self._owner.buffer_size:
            # It is empty if the thread has taken all meanwhile.
            with contextlib.suppress(IndexError):
                self.points.popleft()
                next(self._overflowed)
        self.points.append(point)
        if self._thread is None:
            self._start()

    def count_refused(self) -> None:
        """Count a point that can never be sent."""
        next(self._refused)

    @property
    def dropped(self) -> int:
        return _value(self._overflowed) + _value(self._refused)

    @property
    def waiting(self) -> int:
        return len(self._batch) + len(self.points)

    def flush(self, timeout: float) -> bool:
        asked = time.monotonic()
        if self._thread is None:
            if not self.points and not self._batch:
                return True
            self._start()
        self._flush_now = True
        while self._all_sent_at < asked:
            if time.monotonic() > asked + timeout:
                return False
            time.sleep(_POLL / 10)
        return True

    def stop(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        flushed = self.flush(timeout)
        self._stopping = self._thread is not None
        while self._thread is not None and time.monotonic() < end:
            time.sleep(_POLL / 10)
        return flushed

    def abandon(self) -> bool:
        """Let go of what belongs to a parent process.

        :returns: False when this has to be kept, because to close its
            connection would write to the parent's
        """
        self.points.clear()
        return self._transport is None or private.abandon(self._transport)

    def _start(self) -> None:
        if (
            threads_are_greenlets()
            and threading.get_native_id() != os.getpid()
        ):
            # In eventlet's tpool no hub would run the greenlet. The next
            # point from outside of it starts one.
            return
        self._owner.on_start()
        if not self._starting.acquire(blocking=False):
            return  # another thread is starting it
        try:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="profiler-bridge", daemon=True
                )
                self._thread.start()
        except RuntimeError:
            self._thread = None  # too many threads: the next point tries
        finally:
            self._starting.release()

    def _run(self) -> None:
        retries = pauses()
        self._wait(self._owner.max_age, self._owner.batch_size)
        while not self._stopping:
            if os.getpid() != self._process:
                return  # a child that has its parent's greenlets
            self._flush_now = False
            began = time.monotonic()
            if self._send_all():
                self._all_sent_at = began
                retries = pauses()
                self._wait(self._owner.max_age, self._owner.batch_size)
            else:
                self._wait(next(retries))
        with contextlib.suppress(Exception):  # or there is none yet
            self._transport.cleanup()
        self._transport = self._notifier = None
        self._stopping = False
        self._thread = None

    def _wait(self, seconds: float, points: float = math.inf) -> None:
        """Wait so long, or for so many points, a flush or a stop."""
        end = time.monotonic() + seconds
        while not (
            self._flush_now or self._stopping or len(self.points) >= points
        ):
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, _POLL))

    def _send_all(self) -> bool:
        """Send what is there; False when the bus does not take it.

        What comes meanwhile has its own time to fill a message.
        """
        waiting = self.waiting
        while waiting > 0:
            self._batch = self._batch or self._take()
            if not self._batch:
                break  # the rest cannot be sent, or was dropped
            self._failure = None
            try:
                self._send(self._batch)
            except Exception as error:  # noqa: BLE001 - all are tried again
                self._failure = error
            self._log_trouble()
            if self._failure is not None:
                return False
            waiting -= len(self._batch)
            self._batch = []
        self._log_trouble()
        self._log_recovery()
        return True

    def _take(self) -> list[str]:
        """The points of the next message."""
        batch: list[str] = []
        size = 0
        while len(batch) < self._owner.batch_size and size < MESSAGE_BYTES:
            try:
                point = self.points.popleft()
            except IndexError:
                break
            if len(point) > MESSAGE_BYTES and batch:
                self.points.appendleft(point)
                break
            batch.append(point)
            size += len(point)
        return batch

    def _send(self, batch: list[str]) -> None:
        if self._notifier is None:
            self._transport = self._owner.transport()
            self._take_json = private.take_json(self._transport)
            self._notifier = private.get_notifier(
                self._transport,
                self._owner.publisher_id,
                TOPIC,
                self._note_failure,
            )
        points = self._take_json(f"[{', '.join(batch)}]")
        self._notifier.info(
            {}, self._event_type, {FORMAT: VERSION, "points": points}
        )

    def _note_failure(self, error: Exception) -> None:
        self._failure = error

    def _log_trouble(self) -> None:
        if self._failure is not None and not self._logged_away:
            self._logged_away = True
            LOG.warning(
                "The bus takes no profiling points. Trying again; up to %d"
                " are kept meanwhile: %s",
                self._owner.buffer_size,
                self._failure,
            )
        overflowed = _value(self._overflowed)
        if overflowed > self._logged_overflowed and not self._logged_full:
            self._logged_full = True
            LOG.error("Profiling points are dropped, the oldest first")
        if _value(self._refused) and not self._logged_refused:
            self._logged_refused = True
            LOG.error("A profiling point that cannot be sent was dropped")

    def _log_recovery(self) -> None:
        if self._logged_away:
            LOG.info("The bus takes profiling points again")
        if self._logged_full:
            lost = _value(self._overflowed) - self._logged_overflowed
            self._logged_overflowed += lost
            LOG.error("%d profiling points were dropped", lost)
        self._logged_away = self._logged_full = False


def _value(counter: itertools.count[int]) -> int:
    """How often next() was called; nothing else tells without counting."""
    return int(repr(counter)[len("count(") : -1])
