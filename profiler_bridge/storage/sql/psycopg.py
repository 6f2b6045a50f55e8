# SPDX-License-Identifier: Apache-2.0

"""psycopg's connections, which by themselves wait without end."""

from __future__ import annotations

import select
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
import psycopg.waiting

from profiler_bridge.storage import deadline

T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose server may not be silent for long.

    That is what clients of other databases have as an option for reading.
    """

    #: Off for calls that have a bound as a whole, as this takes time.
    watches_silence = True

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if self.watches_silence:
            gen = self._watch(gen)
        return super().wait(gen, *args, **kwargs)

    def _watch(self, waits: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """Wait for what psycopg waits for, each time within the bound."""
        try:
            wanted = next(waits)
            while True:
                silence = deadline.within(
                    deadline.LONGEST_SILENCE,
                    lambda: deadline.shut_down(self.fileno()),
                )
                with silence:
                    # Ten times a second it looks for signals, and until 3.2.7
                    # at least it says then that something is ready.
                    while True:
                        ready = yield wanted
                        if _is_ready(self.fileno(), wanted):
                            break
                        wanted = waits.send(ready)
                if silence.passed:
                    self.close()
                    raise psycopg.OperationalError(
                        f"no answer within {deadline.LONGEST_SILENCE:g} s"
                    )
                wanted = waits.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def connect(*arguments: Any, **settings: Any) -> BoundedConnection:
    """Connect; a statement that stands for itself is committed by itself.

    What allows no transactions, as one of PgBouncer's modes, fails here, and
    not later.
    """
    connection = BoundedConnection.connect(*arguments, **settings)
    with connection.transaction():
        pass
    connection.autocommit = True
    return connection


def _is_ready(descriptor: int, wanted: int) -> bool:
    events = select.POLLIN if wanted & psycopg.waiting.WAIT_R else 0
    if wanted & psycopg.waiting.WAIT_W:
        events |= select.POLLOUT
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))
