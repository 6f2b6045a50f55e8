# SPDX-License-Identifier: Apache-2.0

"""A process that sends its part of a load, as a profiled service does."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from oslo_config import cfg

from profiler_bridge.bus import private
from profiler_bridge.bus.transport import get_transport
from profiler_bridge.sender.notifier import TOPIC, BufferedNotifier
from profiler_bridge.simulation.load import Load, host

# A process looks this often, in seconds, for what is due: to wake up for each
# point would cost more than to send it.
_TICK = 0.005
# So many points are sent before the next look at the clock.
_MOST_AT_ONCE = 100
# After so many it is seen to that the broker has them.
_FLUSH_EVERY = 10_000
_SHORT = 0.5
# With so many that it has not, it is waited for: the notifier would drop the
# oldest soon.
_MOST_WAITING = 80_000
# Of one in so many messages the size is looked at where all are small. Of
# spans starts and stops alternate, so it is odd.
_SAMPLED = 37
# At the end the bus may take so many seconds for those.
_FLUSH = 10.0


class Driver(enum.StrEnum):
    """The ways to the bus that a service has."""

    MESSAGING = "messaging"
    BRIDGE = "bridge"


class Shared(Protocol):
    """What processes tell each other while they run."""

    def stopped(self) -> bool:
        """Whether all are to end."""

    def last(self) -> int:
        """How many requests there are to be after all."""

    def may_begin(self, process: int, request: int) -> bool:
        """Whether a process may go on to a request, or others are behind."""


@dataclass
class Sent:
    """What one process has sent.

    :param points: that the bus has
    :param lost: points that it did not take
    :param messages: in which they were
    :param size: bytes of the messages' bodies
    :param cpu: seconds that sending has taken, in all threads; making the
        points is not counted
    :param ended: when the bus had the last, by the monotonic clock
    :param failure: why points are lost; empty when none is
    """

    points: int = 0
    lost: int = 0
    messages: int = 0
    size: int = 0
    cpu: float = 0.0
    ended: float = 0.0
    failure: str = ""


def run(
    conf: cfg.ConfigOpts,
    driver: Driver,
    load: Load,
    process: int,
    began: tuple[float, int],
    shared: Shared,
) -> Sent:
    """Send all points of a process when they are due.

    :param process: which one of the load's, from 0
    :param began: when the first request comes: by the monotonic clock, and
        microseconds since 1970
    """
    sender = _SENDERS[driver](conf, host(process))
    sent = sender.sent
    batch: list[dict[str, Any]] = []
    started = time.process_time() - time.thread_time()
    sending = 0.0

    def send() -> None:
        nonlocal sending
        before = time.thread_time()
        for point in batch:
            sender.send(point)
        sending += time.thread_time() - before
        batch.clear()
        sender.wait(shared.stopped)

    for event in load.events(process, began[1], shared.last):
        ahead = began[0] + event.due - time.monotonic()
        if ahead > 0 or len(batch) >= _MOST_AT_ONCE:
            send()
        if ahead > 0:
            _sleep(max(ahead, _TICK), shared.stopped)
        if event.make is None:
            while not shared.may_begin(process, event.request):
                send()
                time.sleep(_TICK)
        else:
            late = max(0, round(-1e6 * ahead))
            batch.append(event.make(late))
        if shared.stopped():
            break
    send()
    sender.end()
    sent.cpu = sending + time.process_time() - time.thread_time() - started
    sent.ended = time.monotonic()
    return sent


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, 0.2))


class _Sender:
    """One of the ways to the bus.

    :param host: where it says that it runs
    """

    def __init__(self, conf: cfg.ConfigOpts, host: str) -> None:
        self.sent = Sent()
        self._conf = conf
        self._host = host

    def _transport(self) -> Any:
        transport = get_transport(self._conf)
        private.note_sent(transport, self._count)
        return transport

    def _count(self, message: dict[str, Any]) -> None:
        """Be told of a message that the bus has taken."""
        raise NotImplementedError

    def send(self, point: dict[str, Any]) -> None:
        raise NotImplementedError

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Let no more gather than is kept while the bus is busy."""

    def end(self) -> None:
        """Disconnect, when the bus has all of it or does not take it."""
        raise NotImplementedError


class _Messaging(_Sender):
    """As osprofiler's ``messaging://``: a message for each point, at once."""

    def __init__(self, conf: cfg.ConfigOpts, host: str) -> None:
        super().__init__(conf, host)
        self._sizes: list[int] = []
        self._bus = self._transport()
        self._notifier: Any = private.get_notifier(
            self._bus, host, TOPIC, self._note_failure
        )

    def _count(self, message: dict[str, Any]) -> None:
        self.sent.messages += 1
        self.sent.points += 1
        # To encode all of them again would cost what sending does.
        if self.sent.messages % _SAMPLED == 1:
            self._sizes.append(len(json.dumps(message, default=str)))

    def _note_failure(self, error: Exception) -> None:
        self.sent.lost += 1
        self.sent.failure = str(error) or type(error).__name__

    def send(self, point: dict[str, Any]) -> None:
        self._notifier.info({}, f"profiler.{point['service']}", point)

    def end(self) -> None:
        self._bus.cleanup()
        if self._sizes:
            mean = sum(self._sizes) / len(self._sizes)
            self.sent.size = round(mean * self.sent.messages)


class _Bridge(_Sender):
    """As ``bridge://``: many points in a message, from a thread."""

    def __init__(self, conf: cfg.ConfigOpts, host: str) -> None:
        super().__init__(conf, host)
        self._waiting = 0
        self._flush_at = _FLUSH_EVERY
        self._notifier = BufferedNotifier(self._transport, host, None, None)

    def _count(self, message: dict[str, Any]) -> None:
        self.sent.messages += 1
        self.sent.size += private.size_of(message)

    def send(self, point: dict[str, Any]) -> None:
        self._notifier.notify(point)
        self.sent.points += 1
        self._waiting += 1

    def wait(self, stopped: Callable[[], bool]) -> None:
        if self._waiting < self._flush_at:
            return
        while not self._notifier.flush(_SHORT):
            if self._waiting < _MOST_WAITING:
                self._flush_at = self._waiting + _FLUSH_EVERY
                return
            if stopped():
                return
        self._waiting = 0
        self._flush_at = _FLUSH_EVERY

    def end(self) -> None:
        if not self._notifier.stop(_FLUSH):
            self.sent.failure = "it did not confirm the last ones in time"
            self.sent.lost = max(1, self._notifier.waiting)
        elif self._notifier.dropped:
            self.sent.failure = "it was away for too long to keep them"
        self.sent.lost += self._notifier.dropped
        self.sent.points -= self.sent.lost


_SENDERS: dict[Driver, type[_Sender]] = {
    Driver.MESSAGING: _Messaging,
    Driver.BRIDGE: _Bridge,
}
