# SPDX-License-Identifier: Apache-2.0

"""Whether the workers' loops go on, seen by another process.

Before it waits or works a loop reports in how many seconds, at most, it will
report again. A worker that is stopped, or works on one thing for minutes, or
never starts, does not, and this timeout passes. For a bus or a storage that
is away a loop waits in steps, with a report before each, for as long as it
takes.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator

#: Seconds within which a worker that is started reports for the first time.
START = 60.0

# So many workers of a route are watched; further ones are not.
_WORKERS = 1024
# A worker has two loops: one reads, the other stores.
READ, STORE = range(2)
_LOOPS = 2


class Liveness:
    """Memory that all processes share which are forked after it is made.

    Times are of the monotonic clock, which is one for all processes.

    :param routes: how many there are
    """

    def __init__(self, routes: int) -> None:
        # For each loop the time until which it has to report again.
        self._until = memoryview(
            mmap.mmap(-1, routes * _WORKERS * _LOOPS * 8)
        ).cast("d")

    def loop(
        self, route: int, worker: int, loop: int
    ) -> Callable[[float], None]:
        """How a loop reports.

        :param route: its number, as of all functions here
        :param worker: its number among the route's
        :param loop: :data:`READ` or :data:`STORE`
        :returns: to be called with the seconds within which the loop calls it
            again
        """
        until = self._until
        if worker >= _WORKERS:
            return lambda seconds: None
        place = _place(route, worker) + loop

        def expect(seconds: float) -> None:
            until[place] = time.monotonic() + seconds

        return expect

    def await_start(self, route: int, workers: int) -> None:
        """Expect a report of workers that have never given one."""
        for worker in range(min(workers, _WORKERS)):
            if not self._until[_place(route, worker)]:
                self._shorten(route, worker)

    def await_restart(self, route: int, worker: int) -> None:
        """Expect a report of what takes the place of a worker that has ended.

        If that one had not reported yet, its timeout is not prolonged.
        """
        if worker < _WORKERS:
            self._shorten(route, worker)

    def _shorten(self, route: int, worker: int) -> None:
        latest = time.monotonic() + START
        place = _place(route, worker)
        for at in range(place, place + _LOOPS):
            self._until[at] = min(self._until[at] or latest, latest)

    def late(self, route: int, workers: int) -> Iterator[tuple[int, float]]:
        """The workers whose timeout has passed; none when all is well.

        :param workers: how many there should be
        :returns: a worker's number, and how many seconds ago it passed
        """
        now = time.monotonic()
        for worker in range(min(workers, _WORKERS)):
            place = _place(route, worker)
            until = min(self._until[place : place + _LOOPS])
            if until < now:
                yield worker, now - until


def _place(route: int, worker: int) -> int:
    return (route * _WORKERS + worker) * _LOOPS
