# SPDX-License-Identifier: Apache-2.0

"""A load, sent by processes of its own, and what was seen of it."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.simulation import service
from profiler_bridge.simulation.load import Load
from profiler_bridge.simulation.service import Driver, Sent

# Whether to go on is looked at this often, in seconds, and the queue.
_TICK = 0.5
_LOOK = 2.0
# From when on processes are behind the rate: seconds, and a part of the time.
_BEHIND = 2.0
_BEHIND_PART = 0.05
# Processes begin so many seconds after they were made.
_STARTING = 0.5
_FORKING = 0.1
# Seconds that processes have for the last points, and to end.
_GRACE = 15.0


@dataclass(frozen=True)
class Outcome:
    """What all processes together have sent.

    :param began: when the first request came, microseconds since 1970
    :param ended: when the bus had the last point, by the monotonic clock
    :param seconds: how long that took in all
    :param requests: how many have come; of the last ones parts may be missing
        if it was stopped
    :param rate: of these each second
    :param whole: whether each request was sent to its end
    :param behind: whether the rate was too high for this host, or the bus: it
        took 2 s and 5 % longer than it should have, or not all requests came
    :param most_waiting: messages that stood in the queue; None: not known
    :param waiting: messages that did so at the end; None: not known
    """

    sent: Sent
    began: int
    ended: float
    seconds: float
    requests: int
    rate: float
    whole: bool
    behind: bool
    most_waiting: int | None
    waiting: int | None


class _Shared:
    """Numbers that all processes see."""

    def __init__(self, context: Any, load: Load) -> None:
        self._parent = os.getpid()
        self._stop = context.Value("b", 0, lock=False)
        self._last = context.Value("q", load.requests, lock=False)
        self._reached = context.Array("q", load.processes, lock=False)
        self._ended = context.Array("b", load.processes, lock=False)
        # So many requests one process may be ahead of the others.
        self._ahead = math.ceil(2 * load.rate) + 1

    def stopped(self) -> bool:
        # One whose parent was killed would go on by itself.
        return bool(self._stop.value) or os.getpid() != self._parent != (
            os.getppid()
        )

    def stop(self) -> None:
        self._stop.value = 1

    def last(self) -> int:
        return int(self._last.value)

    def may_begin(self, process: int, request: int) -> bool:
        self._reached[process] = request
        others = [
            reached
            for reached, ended in zip(self._reached, self._ended, strict=True)
            if not ended
        ]
        return self.stopped() or request <= min(others) + self._ahead

    def has_ended(self, process: int) -> None:
        self._ended[process] = 1

    @property
    def begun(self) -> int:
        """How many requests have begun somewhere."""
        return int(max(self._reached)) + 1

    def end_now(self) -> None:
        """Have no more requests begin, but for those that have somewhere."""
        if not any(self._ended):
            # One may have looked at the last, and not told yet that it begins.
            self._last.value = min(self._last.value, self.begun + 1)


def run(
    conf: cfg.ConfigOpts,
    driver: Driver,
    load: Load,
    depth: Callable[[], int | None],
    stopped: Callable[[], bool],
) -> Outcome:
    """Send it, which takes as long as its requests come and last.

    Where this host or the bus cannot keep up, it ends in time all the same,
    and then has fewer requests. With a bus that does not answer it ends after
    twice that time, and a little.

    :param depth: how many messages wait; None if that is not known
    :param stopped: whether to end at once
    :raises BusUnavailable: a process has failed
    """
    context = multiprocessing.get_context("fork")
    shared = _Shared(context, load)
    ahead = _STARTING + load.processes * _FORKING
    began = (
        time.monotonic() + ahead,
        time.time_ns() // 1000 + round(ahead * 1e6),
    )
    children: dict[Connection, Any] = {}
    try:
        for process in range(load.processes):
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(
                target=_serve,
                args=(conf, driver, load, process, began, shared, theirs),
            )
            child.start()
            theirs.close()
            children[ours] = child
        return _watch(load, shared, began, children, depth, stopped)
    finally:
        shared.stop()
        end = time.monotonic() + _GRACE
        for child in children.values():
            child.join(max(0.0, end - time.monotonic()))
            if child.is_alive():
                child.kill()


def _serve(
    conf: cfg.ConfigOpts,
    driver: Driver,
    load: Load,
    process: int,
    began: tuple[float, int],
    shared: _Shared,
    result: Connection,
) -> None:
    """What a child does. The parent ends it, also where a terminal would."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        result.send(service.run(conf, driver, load, process, began, shared))
    except Exception as error:  # noqa: BLE001 - the parent tells it
        result.send(f"{type(error).__name__}: {error}")
    finally:
        shared.has_ended(process)


def _watch(
    load: Load,
    shared: _Shared,
    began: tuple[float, int],
    children: dict[Connection, Any],
    depth: Callable[[], int | None],
    stopped: Callable[[], bool],
) -> Outcome:
    """Wait for what all have sent."""
    results: list[Sent] = []
    waiting: list[int] = []
    arriving = load.requests / load.rate
    running = {*children}
    looked = 0.0
    ends = began[0] + 2 * (arriving + load.longest) + _GRACE
    killed = math.inf
    while running:
        for ready in wait([*running], _TICK):
            ready = cast(Connection, ready)
            running.remove(ready)
            try:
                result = ready.recv()
            except EOFError:
                result = "it was killed"
            if isinstance(result, str):
                raise exceptions.BusUnavailable(
                    f"a process that sends has ended: {result}"
                )
            results.append(result)
        if not shared.stopped() and (stopped() or time.monotonic() > ends):
            shared.stop()
            killed = time.monotonic() + _GRACE
        if time.monotonic() > killed:
            raise exceptions.BusUnavailable(
                "the bus does not answer: processes that send to it were"
                " killed, and what they had sent is not known"
            )
        if time.monotonic() > began[0] + arriving + _BEHIND:
            shared.end_now()
        if time.monotonic() > looked + _LOOK or not running:
            now = depth()
            waiting += [] if now is None else [now]
            looked = time.monotonic()
    ended = max(result.ended for result in results)
    seconds = max(ended - began[0], _TICK)
    whole = not shared.stopped()
    requests = min(load.requests, shared.last())
    if not whole:
        requests = min(requests, shared.begun)
    expected = arriving + load.longest
    excess = max(0.0, seconds - expected)
    tolerated = _BEHIND + expected * _BEHIND_PART
    return Outcome(
        sent=_sum(results),
        began=began[1],
        ended=ended,
        seconds=seconds,
        requests=requests,
        rate=requests / min(seconds, arriving + excess),
        whole=whole,
        behind=whole and (requests < load.requests or excess > tolerated),
        most_waiting=max(waiting, default=None),
        waiting=waiting[-1] if waiting else None,
    )


def _sum(results: Sequence[Sent]) -> Sent:
    total = Sent()
    for result in results:
        total.points += result.points
        total.lost += result.lost
        total.messages += result.messages
        total.size += result.size
        total.cpu += result.cpu
        total.failure = total.failure or result.failure
    return total
