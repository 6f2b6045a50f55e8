# SPDX-License-Identifier: Apache-2.0

"""What the topics share: sizes, folders, servers, and turns."""

from __future__ import annotations

import contextlib
import gc
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests import servers

K = TypeVar("K")

#: The databases that the bridge writes to, and those that speak SQL.
DATABASES = ("SQLite", "Redis", "MariaDB", "PostgreSQL")
SQL = ("SQLite", "MariaDB", "PostgreSQL")


class Bench:
    """A run of benchmarks.

    :param quick: small sizes and few turns, to see that everything works
    """

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        self._stack = contextlib.ExitStack()
        self._folders = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def turns(self, full: int) -> range:
        """How often every side is measured."""
        return range(2 if self.quick else full)

    def wanted(self, limit: float) -> float | None:
        """A limit; none in a quick run, whose figures mean nothing."""
        return None if self.quick else limit

    def milliseconds(
        self, turns: int, calls: Mapping[K, Callable[[], object]]
    ) -> dict[K, list[float]]:
        """How long calls take, each in turn; the first turn is a rehearsal.

        Without garbage collection, as timeit does it: what that costs
        depends on what everything else has left behind.
        """
        taken: dict[K, list[float]] = {key: [] for key in calls}
        for turn in range(-1, self.turns(turns).stop):
            for key, call in calls.items():
                gc.collect()
                gc.disable()
                try:
                    began = time.perf_counter()
                    call()
                    ended = time.perf_counter()
                finally:
                    gc.enable()
                if turn >= 0:
                    taken[key].append((ended - began) * 1e3)
        return taken

    # Each is started when it is needed for the first time.

    @cached_property
    def rabbitmq(self) -> servers.RabbitMQ:
        return self._stack.enter_context(servers.RabbitMQ())

    @cached_property
    def mariadb(self) -> servers.MariaDB:
        return self._stack.enter_context(servers.MariaDB())

    @cached_property
    def postgresql(self) -> servers.PostgreSQL:
        return self._stack.enter_context(servers.PostgreSQL())

    @cached_property
    def redis(self) -> servers.Redis:
        return self._stack.enter_context(servers.Redis())

    @cached_property
    def _folder(self) -> Path:
        temporary = tempfile.TemporaryDirectory(prefix="benchmarks-")
        return Path(self._stack.enter_context(temporary))

    def folder(self) -> Path:
        """A new folder, which goes at the end of the run."""
        path = self._folder / str(next(self._folders))
        path.mkdir()
        return path

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """The URL of an empty database, which goes afterwards."""
        if name == "SQLite":
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                yield f"sqlite:///{folder}/traces.sqlite"
        elif name == "Redis":
            self.redis.execute("FLUSHALL")
            yield self.redis.url
            self.redis.execute("FLUSHALL")
        else:
            # The naive bridge makes indexes, and needs more rights for it.
            server, url = (
                (self.mariadb, self.mariadb.database("ALL"))
                if name == "MariaDB"
                else (self.postgresql, self.postgresql.database())
            )
            yield url
            database = url.rpartition("/")[2].partition("?")[0]
            server.execute(f"DROP DATABASE {database}")
