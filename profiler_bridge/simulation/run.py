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

# The queue is looked at this often, in seconds.
_LOOK = 2.0
# From when on processes are behind the rate, in seconds.
_BEHIND = 2.0
# Processes begin so many seconds after they were made.
_STARTING = 0.5
_FORKING = 0.1
# Seconds that processes have for the last points, and to end.
_GRACE = 15.0
# What a process has reached that has come to the end.
_ALL = 2**62


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
    :param behind: whether the rate was too high for this host, or the bus
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
        return self.stopped() or request <= min(self._reached) + self._ahead

    def has_ended(self, process: int) -> None:
        self._reached[process] = _ALL

    def end_now(self) -> None:
        """Have no more requests begin, but for those that have somewhere."""
        reached = max(self._reached)
        if reached < _ALL:
            # One may have looked at the last, and not told yet that it begins.
            self._last.value = min(self._last.value, reached + 2)


def run(
    conf: cfg.ConfigOpts,
    driver: Driver,
    load: Load,
    depth: Callable[[], int | None],
) -> Outcome:
    """Send it, which takes as long as its requests come and last.

    Where this host or the bus cannot keep up, it ends in time all the same,
    and then has fewer requests. SIGTERM and Ctrl-C end it at once.

    :param depth: how many messages wait; None if that is not known
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
    handler = signal.signal(signal.SIGTERM, lambda *_: shared.stop())
    interrupt = signal.signal(signal.SIGINT, lambda *_: shared.stop())
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
        return _watch(load, shared, began, children, depth)
    finally:
        shared.stop()
        for child in children.values():
            child.join(_GRACE)
            if child.is_alive():
                child.kill()
        signal.signal(signal.SIGTERM, handler)
        signal.signal(signal.SIGINT, interrupt)


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
) -> Outcome:
    """Wait for what all have sent."""
    results: list[Sent] = []
    waiting: list[int] = []
    arriving = load.requests / load.rate
    running = {*children}
    while running:
        for ready in wait([*running], _LOOK):
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
        if time.monotonic() > began[0] + arriving + _BEHIND:
            shared.end_now()
        now = depth()
        waiting += [] if now is None else [now]
    ended = max(result.ended for result in results)
    stopped = shared.stopped()
    seconds = ended - began[0]
    requests = min(load.requests, shared.last())
    expected = requests / load.rate + load.longest
    excess = max(0.0, seconds - expected)
    return Outcome(
        sent=_sum(results),
        began=began[1],
        ended=ended,
        seconds=seconds,
        requests=requests,
        rate=requests / max(arriving, requests / load.rate + excess),
        whole=not stopped,
        behind=not stopped
        and (requests < load.requests or excess > _BEHIND + expected / 20),
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
