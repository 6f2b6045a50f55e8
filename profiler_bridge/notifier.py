# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The notifier: from a profiled program to the bus, in the background."""

from __future__ import annotations

import _thread
import atexit
import collections
import contextlib
import ctypes
import itertools
import math
import os
import random
import re
import signal
import socket
import threading
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from kombu.utils import json
from oslo_log import log as logging

with warnings.catch_warnings():
    # As in profiler_bridge.service: not our users' business.
    warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
    warnings.filterwarnings("ignore", "eventletutils")
    import oslo_messaging

from profiler_bridge.notification import FORMAT, VERSION

LOG = logging.getLogger(__name__)

TOPIC = "profiler"

# A message ends with the point that brings it to so many bytes.
MESSAGE_BYTES = 1_000_000
# RabbitMQ 4 refuses what is larger: it would be tried again for ever.
LARGEST_POINT = 15_000_000
# Between tries to send, in seconds: doubling from the first to the last.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
# A thread that waits looks around so often, in seconds.
POLL = 0.1
# A process that ends waits for the bus so many seconds.
EXIT_TIMEOUT = 2.0

Point = dict[str, Any]


class BufferedNotifier:
    """Sends osprofiler's points from a thread of its own, many in a message.

    ``osprofiler.notifier.set`` takes :meth:`notify`. Nothing connects or
    starts before the first point. A forked process starts afresh; what its
    parent had gathered is the parent's to send. A process that ends, by
    itself or by SIGTERM, sends first what has gathered.

    :param transport: makes a notification transport of oslo.messaging;
        called once in each process that has points to send
    :param publisher_id: who sends, usually the name of the host
    :param project: added to each point, as the next one; where they are None,
        points keep what they have
    :param service: what is profiled
    :param buffer_size: keep at most so many points while the bus is away,
        then drop the oldest; a point takes about 2 kB of memory
    :param batch_size: send at most so many points in one message, and send
        at once when so many are there
    :param max_age: send after so many seconds, however few are there
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
    ) -> None:
        self.transport = transport
        self.publisher_id = publisher_id
        self.buffer_size = buffer_size
        self.batch_size = batch_size
        self.max_age = max_age
        self._event_type = f"profiler.{service}"
        extra = {"project": project, "service": service}
        self._extra = {
            key: value for key, value in extra.items() if value is not None
        }
        self._senders: dict[int, _Sender] = {}
        _catch_sigterm()

    def notify(self, info: Point, context: object = None) -> None:
        """Take a point. Never waits for the bus, never raises.

        :param info: what osprofiler tells; not changed
        :param context: given by osprofiler; not sent
        """
        try:
            sender = self._senders.get(os.getpid()) or self._begin()
            try:
                point = {**info, **self._extra}
                if "info" in info:
                    point["info"] = _copy(info["info"])
            except Exception:  # noqa: BLE001 - such as nested too deep
                sender.refuse()
            else:
                sender.add(point)
        except Exception:  # noqa: BLE001, S110 - not the request's trouble
            pass

    def flush(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Send what is there, waiting at most so many seconds.

        :returns: whether the broker has all of it
        """
        sender = self._senders.get(os.getpid())
        return sender is None or sender.flush(timeout)

    def stop(self, timeout: float = EXIT_TIMEOUT) -> bool:
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

    def _begin(self) -> _Sender:
        """The first point of a process, or several threads' first at once.

        A parent's sender is kept, without its points: to let go of its
        connection would write to it.
        """
        process = os.getpid()
        for owner, sender in list(self._senders.items()):
            if owner != process:
                sender.points.clear()
        sender = _Sender(self, self._event_type)
        return self._senders.setdefault(process, sender)


class _Sender:
    """Buffer, thread and connection of one process."""

    def __init__(self, owner: BufferedNotifier, event_type: str) -> None:
        self._owner = owner
        self._event_type = event_type
        self._process = os.getpid()
        # No lock here is ever waited for, because a signal, a fork or a
        # thread beside eventlet's would find it taken for ever. Appending
        # to a deque and counting are atomic; the thread looks by itself.
        self.points: collections.deque[Point] = collections.deque()
        self._batch: list[Point] = []
        self._overflowed = itertools.count()
        self._refused = itertools.count()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._hurry = self._stopping = False
        self._emptied = -math.inf
        self._transport: Any = None
        self._notifier: Any = None
        self._failure: Exception | None = None
        self._said_overflowed = 0
        self._said_full = self._said_away = self._said_refused = False

    def add(self, point: Point) -> None:
        if len(self.points) >= self._owner.buffer_size:
            # Nothing is there if the thread has taken all meanwhile.
            with contextlib.suppress(IndexError):
                self.points.popleft()
                next(self._overflowed)
        self.points.append(point)
        if self._thread is None:
            self._start()

    def refuse(self) -> None:
        """Count a point that can never be sent."""
        next(self._refused)

    @property
    def dropped(self) -> int:
        return _value(self._overflowed) + _value(self._refused)

    def flush(self, timeout: float) -> bool:
        asked = time.monotonic()
        if self._thread is None:
            if not self.points and not self._batch:
                return True
            self._start()
        self._hurry = True
        while self._emptied < asked:
            if time.monotonic() > asked + timeout:
                return False
            time.sleep(POLL / 10)
        return True

    def stop(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        flushed = self.flush(timeout)
        self._stopping = self._thread is not None
        while self._thread is not None and time.monotonic() < end:
            time.sleep(POLL / 10)
        return flushed

    def _start(self) -> None:
        _catch_exit(self)
        if _is_green() and threading.get_native_id() != os.getpid():
            # In eventlet's tpool nobody would run it. The next point outside
            # starts it.
            return
        _watch_signals()
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it
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
        pause = FIRST_PAUSE
        self._wait(self._owner.max_age, self._owner.batch_size)
        while not self._stopping:
            if os.getpid() != self._process:
                return  # a child that has its parent's greenlets
            self._hurry = False
            begun = time.monotonic()
            if self._send_all():
                self._emptied = begun
                pause = FIRST_PAUSE
                self._wait(self._owner.max_age, self._owner.batch_size)
            else:
                self._wait(pause * random.uniform(0.5, 1))  # noqa: S311
                pause = min(pause * 2, LAST_PAUSE)
        with contextlib.suppress(Exception):  # or there is none yet
            self._transport.cleanup()
        self._transport = self._notifier = None
        self._stopping = False
        self._thread = None

    def _wait(self, seconds: float, points: float = math.inf) -> None:
        """Wait so long, or for so many points, or for somebody in a hurry."""
        end = time.monotonic() + seconds
        while not (
            self._hurry or self._stopping or len(self.points) >= points
        ):
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, POLL))

    def _send_all(self) -> bool:
        """Send until nothing is left; False when the bus does not take it."""
        while True:
            self._batch = self._batch or self._take()
            if not self._batch:
                self._say_trouble()
                self._say_over()
                return True
            self._failure = None
            try:
                self._send(self._batch)
            except Exception as error:  # noqa: BLE001 - all are tried again
                self._failure = error
            self._say_trouble()
            if self._failure is not None:
                return False
            self._batch = []

    def _take(self) -> list[Point]:
        """The points of the next message.

        Each is encoded by itself first, as RabbitMQ's driver will: to know
        its size, and because one that cannot be would spoil the message.
        """
        batch: list[Point] = []
        size = 0
        while len(batch) < self._owner.batch_size and size < MESSAGE_BYTES:
            try:
                point = self.points.popleft()
            except IndexError:
                break
            try:
                length = len(json.dumps(point))
            except Exception:  # noqa: BLE001 - any value's own
                length = LARGEST_POINT + 1
            if length > LARGEST_POINT:
                self.refuse()
            else:
                batch.append(point)
                size += length
        return batch

    def _send(self, batch: list[Point]) -> None:
        if self._notifier is None:
            self._notifier = self._connect()
        self._notifier.info(
            {}, self._event_type, {FORMAT: VERSION, "points": batch}
        )

    def _connect(self) -> Any:
        self._transport = self._owner.transport()
        send = self._transport._send_notification

        def send_and_note(*args: Any, **kwargs: Any) -> None:
            # oslo.messaging's notifier would log the failure, with all that
            # is in the message, and tell us nothing of it.
            try:
                send(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - for _send_all
                self._failure = error

        self._transport._send_notification = send_and_note
        return oslo_messaging.Notifier(
            self._transport,
            publisher_id=self._owner.publisher_id,
            driver="messaging",
            topics=[TOPIC],
            retry=0,
        )

    def _say_trouble(self) -> None:
        if self._failure is not None and not self._said_away:
            self._said_away = True
            LOG.warning(
                "The bus takes no profiling points. Trying again; up to %d"
                " are kept meanwhile: %s",
                self._owner.buffer_size,
                self._failure,
            )
        overflowed = _value(self._overflowed)
        if overflowed > self._said_overflowed and not self._said_full:
            self._said_full = True
            LOG.error("Profiling points are dropped, the oldest first")
        if _value(self._refused) and not self._said_refused:
            self._said_refused = True
            LOG.error("A profiling point that cannot be sent was dropped")

    def _say_over(self) -> None:
        if self._said_away:
            LOG.info("The bus takes profiling points again")
        if self._said_full:
            lost = _value(self._overflowed) - self._said_overflowed
            self._said_overflowed += lost
            LOG.error("%d profiling points were dropped", lost)
        self._said_away = self._said_full = False


def _value(counter: itertools.count[int]) -> int:
    """How often next() was called; nothing else tells without counting."""
    return int(repr(counter)[len("count(") : -1])


def _is_green() -> bool:
    """Whether eventlet has made threads of the library its own."""
    return not isinstance(_thread.start_new_thread, types.BuiltinFunctionType)


def _copy(value: Any) -> Any:
    """osprofiler's decorators use the same dictionaries for the next call."""
    if isinstance(value, dict):
        return {
            key: each if type(each) in _ATOMS else _copy(each)
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            each if type(each) in _ATOMS else _copy(each) for each in value
        ]
    return value


# Asked first, because most values are such: copying takes half the time.
_ATOMS = frozenset({str, int, float, bool, type(None)})
# Those that have sent, each with its process.
_senders: dict[_Sender, int] = {}


def _flush_all() -> bool:
    """Send what this process has gathered; wait for it, but not for long.

    :returns: whether the broker has all of it
    """
    end = time.monotonic() + EXIT_TIMEOUT
    flushed = [
        sender.flush(end - time.monotonic())
        for sender, process in list(_senders.items())
        if process == os.getpid()
    ]
    return all(flushed)


def _flush_at_exit() -> None:
    if not _flush_all():
        _say_unsent()


def _flush_quietly() -> None:
    """As above, but with nothing that could hold up who ends at once."""
    with contextlib.suppress(Exception):
        if not _flush_all():
            # A log can be a pipe that nobody reads, or locked for good.
            _thread.start_new_thread(_say_unsent, ())
            time.sleep(POLL)


def _say_unsent() -> None:
    LOG.error("Profiling points were not sent: the process ends")


def _catch_exit(sender: _Sender) -> None:
    """Send before the process ends by itself."""
    if not _senders:
        atexit.register(_flush_at_exit)
        exit_at_once = os._exit

        def flush_and_exit(status: int) -> NoReturn:
            _flush_quietly()
            exit_at_once(status)

        # The workers of oslo.service, cotyledon and multiprocessing end so,
        # in good order, and never come to atexit.
        os._exit = flush_and_exit
    _senders[sender] = os.getpid()


def _catch_sigterm() -> None:
    """Where SIGTERM would just end the process, send first."""
    # It is not the main thread, or there are no files to spare.
    with contextlib.suppress(ValueError, OSError):
        if signal.getsignal(
            signal.SIGTERM
        ) is signal.SIG_DFL and not _is_caught(signal.SIGTERM):
            signal.signal(signal.SIGTERM, _on_sigterm)
            _tell_of_signals()


def _is_caught(number: int) -> bool:
    """Whether a signal has a handler, even one not Python's, as in uwsgi."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


# Python runs a handler when its main thread comes to one of Python's own
# instructions again: never in a library that hangs, and too late when the
# signal came an instant before a system call that takes long. So let it
# write the numbers of signals to a socket, too, where a thread waits for them.
_signals: tuple[socket.socket, socket.socket] | None = None
_watched: socket.socket | None = None


def _tell_of_signals() -> None:
    """Have Python write to that socket, unless it does so for others."""
    global _signals
    ours = -1 if _signals is None else _signals[1].fileno()
    reader, writer = socket.socketpair()
    reader.settimeout(None)  # whatever the default is
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if before in (-1, ours):
        if _signals is None:
            # A child's signals would be told to its parent.
            os.register_at_fork(after_in_child=_tell_of_signals)
        _signals = reader, writer
    else:
        signal.set_wakeup_fd(before)


def _watch_signals() -> None:
    """Start the thread that waits, if this process has none yet."""
    global _watched
    if _signals is not None and _watched is not _signals[0]:
        _watched = _signals[0]
        with contextlib.suppress(RuntimeError):  # no more threads
            _thread.start_new_thread(_watch, (_watched,))


def _watch(reader: socket.socket) -> None:
    process = os.getpid()
    while signals := reader.recv(1):
        if os.getpid() != process:
            return  # a child that has its parent's greenlets
        if signal.SIGTERM in signals:
            time.sleep(POLL)
            if signal.getsignal(signal.SIGTERM) is _on_sigterm:
                _flush_and_end()


def _on_sigterm(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    # In a thread, because what is interrupted may have a lock that somebody
    # needs to send, and under eventlet may be its hub, which cannot wait.
    try:
        _thread.start_new_thread(_flush_and_end, ())
    except RuntimeError:  # no more threads, or too late for one
        os.kill(os.getpid(), number)
    if _is_green():
        with contextlib.suppress(Exception):  # it is the hub
            # Whatever else is interrupted may let nobody else run.
            time.sleep(EXIT_TIMEOUT + 1)


def _flush_and_end() -> None:
    _flush_quietly()
    # Python's own is for the main thread only.
    ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
    os.kill(os.getpid(), signal.SIGTERM)
