# SPDX-License-Identifier: Apache-2.0

"""How a Redis server is asked, and what goes wrong on the way.

After any error all connections are forgotten, and the next try connects anew:
behind an address that moves may be another server by now, while an open
connection stays with the old one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import MovedError, NoPermissionError

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline
from profiler_bridge.storage.redis import errors
from profiler_bridge.storage.redis.connections import (
    CLIENT,
    PATIENCE,
    Pool,
    exchange,
    interrupt,
)
from profiler_bridge.storage.redis.keys import Keys
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.redis.url import Target

# A client's timeout is for each time it sends or waits, in seconds. That of
# sentinels is short: so is what is asked for at once, and there is a patient
# pool for what is large, or must wait for replicas.
TRIP_COMMANDS = 1000
_TRIP_BYTES = 256 * 1024
_READ_KEYS = 100
_SCANNED_KEYS = "1000"
# So long it is believed how many replicas there are, in seconds.
_REPLICAS_KNOWN = 10.0
# Whose keys others may have put something else in, without harm to the rest.
_READ = frozenset({"HGETALL", "HKEYS", "HVALS", "LRANGE"})


class RedisClient:
    """A server of data at an address.

    ``str()`` of it is the connection string without secrets.

    :cvar keys: how keys are named

    :param target: where that is
    :param wait_replicas: how many must confirm what is written; None for one
        where there is one
    :param timeout: seconds, where the URL gives none
    :param descriptors: of the sockets of all clients that are interrupted
        with this one
    :raises ConfigurationError: options of the URL do not go together
    """

    keys = Keys()

    def __init__(
        self,
        target: Target,
        wait_replicas: int | None,
        timeout: float = PATIENCE,
        descriptors: set[int] | None = None,
    ) -> None:
        self._target = target
        self._wait_replicas = wait_replicas
        self._replicas = 0
        self._replicas_until = 0.0
        #: So long it is believed, on the monotonic clock.
        self.evicts_nothing_until = 0.0
        self._descriptors = set() if descriptors is None else descriptors
        options = {
            "db": 0,
            **target.options,
            "descriptors": self._descriptors,
            **CLIENT,
            **self._where(),
        }
        timeout = options.pop("socket_timeout", timeout)
        # A report goes on as long as there comes something.
        timeout = min(timeout, deadline.LONGEST_SILENCE)
        self._timeout = timeout
        self._pool = Pool(options, timeout)
        self._patient_pool = self._pool
        if timeout < PATIENCE:
            self._patient_pool = Pool(options, PATIENCE)

    def _where(self) -> Mapping[str, Any]:
        if self._target.path is not None:
            return {"path": self._target.path}
        host, port = self._target.addresses[0]
        return {"host": host, "port": port}

    def __str__(self) -> str:
        return self._target.name

    def run(
        self,
        commands: Iterable[Command],
        *,
        confirmed: bool = False,
        bounded: bool = True,
    ) -> list[Any]:
        """Run commands in their order, in as many round trips as it takes.

        :param confirmed: whether replicas must confirm what was written
        :param bounded: whether each trip must be over some time, whatever
            the server sends meanwhile
        :returns: the replies; an empty one of a key that holds another type
        :raises StorageError: the client's errors
        """
        replicas = self.replicas_to_wait_for() if confirmed else 0
        replies: list[Any] = []
        longest = deadline.LONGEST_CALL if bounded else math.inf
        for trip, size in trips(commands):
            with self._errors(longest):
                replies += self._trip(trip, size, replicas)
        return replies

    def run_in_turn(
        self, stages: Iterable[Iterable[Command]], *, confirmed: bool = False
    ) -> list[Any]:
        """Run all of the commands, those of each stage after those before it.

        As :meth:`run`, where only commands that are about the same keys are
        in their order, if there are several servers.
        """
        return self.run(
            itertools.chain.from_iterable(stages), confirmed=confirmed
        )

    def _trip(
        self, trip: Sequence[Command], size: int, replicas: int
    ) -> list[Any]:
        """The replies to commands that are sent at once.

        :param size: bytes
        :param replicas: how many must confirm what is written
        """
        pool = self.pool(size, replicas)
        replies = pool.run([*trip, *waiting(pool, replicas)])
        counts = replies[len(trip) :]
        answers = checked(trip, replies[: len(trip)])
        self.check_confirmed(counts, replicas)
        return answers

    def pool(self, size: int, replicas: int) -> Pool:
        """Connections that are patient enough.

        :param size: of what is sent, in bytes
        :param replicas: how many must confirm what is written
        """
        if replicas or size > _TRIP_BYTES:
            return self._patient_pool
        return self._pool

    def check_confirmed(self, counts: Iterable[Any], replicas: int) -> None:
        """Look at the replies to :func:`waiting`.

        :raises StorageUnavailable: too few replicas have what was written
        """
        for count in counts:
            if isinstance(count, Exception):
                raise count
            if count < replicas:
                self._replicas_until = 0.0
                raise exceptions.StorageUnavailable(
                    f"{self}: fewer than {replicas} replica(s) confirmed the"
                    " write: see wait_replicas"
                )

    @contextlib.contextmanager
    def watching(
        self, keys: Sequence[str]
    ) -> Iterator[Callable[[Iterable[Command]], bool]]:
        """Watch one or more keys.

        :returns: what runs commands in one transaction, unless somebody has
            changed a key since; and says whether they were run
        :raises StorageError: the client's errors
        """
        with (
            self._errors(deadline.LONGEST_CALL),
            self._patient_pool.connection() as connection,
        ):
            # Begun before anything that is part of it is sent: without the
            # right to begin it, that would be run as well.
            begun = exchange(connection, [("WATCH", *keys), ("MULTI",)])
            _raise_first(begun)

            def run(commands: Iterable[Command]) -> bool:
                replies = exchange(connection, [*commands, ("EXEC",)])
                _raise_first(replies)
                _raise_first(replies[-1] or ())
                return replies[-1] is not None

            yield run

    def refused(self, commands: Iterable[Command]) -> list[Command]:
        """Those commands that the user has no right to.

        Commands are run: they should change nothing, and may be ones that
        the server finds to have a wrong number of arguments, for this it
        does when it has looked at rights.
        """
        commands = [*commands]
        with self._errors(deadline.LONGEST_CALL):
            answers = self._pool.run(commands)
            for answer in answers:
                if (
                    isinstance(answer, Exception)
                    # Another server's key; a server looks at rights first.
                    and not isinstance(answer, NoPermissionError | MovedError)
                    and not str(answer).startswith("wrong number of arguments")
                ):
                    raise answer
        return [
            command
            for command, answer in zip(commands, answers, strict=True)
            if isinstance(answer, NoPermissionError)
        ]

    def strings(self, keys: Sequence[str]) -> list[bytes]:
        """What is under keys, as far as it is there; may take long."""
        values: list[bytes] = []
        for at in range(0, len(keys), _READ_KEYS):
            command = ("MGET", *keys[at : at + _READ_KEYS])
            (answers,) = self.run([command], bounded=False)
            values += [value for value in answers if value is not None]
        return values

    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        """The names of the keys that match, some at a time.

        :returns: some come more than once
        """
        cursor = 0
        while True:
            command = ("SCAN", str(cursor), "MATCH", pattern)
            ((cursor, keys),) = self.run([(*command, "COUNT", _SCANNED_KEYS)])
            if keys:
                yield keys
            if not cursor:
                return

    def replicas_to_wait_for(self) -> int:
        """How many must confirm what is written."""
        if self._wait_replicas is not None:
            return self._wait_replicas
        if time.monotonic() >= self._replicas_until:
            self._replicas = min(1, self._count_replicas())
            self._replicas_until = time.monotonic() + _REPLICAS_KNOWN
        return self._replicas

    def _count_replicas(self) -> int:
        (info,) = self.run([("INFO", "replication")])
        replicas = (
            value for value in info.values() if isinstance(value, dict)
        )
        return sum(replica.get("state") == "online" for replica in replicas)

    def servers(self) -> Sequence[RedisClient]:
        """Those that each key is at one of."""
        return [self]

    def close(self) -> None:
        """Let go of connections; the next call makes new ones."""
        self.forget()

    def forget(self) -> None:
        """Close the connections that are not in use."""
        for pool in (self._pool, self._patient_pool):
            pool.forget()

    def interrupt(self) -> None:
        """Shut down all connections, whoever waits for them."""
        interrupt(self._descriptors)

    @contextlib.contextmanager
    def _errors(self, longest: float) -> Iterator[None]:
        """Make the client's errors ours, and forget its connections then.

        :param longest: seconds that what is inside may take
        """
        call = deadline.within(longest, self.interrupt)
        try:
            with call:
                yield
        except (redis.RedisError, exceptions.StorageError) as error:
            self.forget()
            if call.passed:
                raise exceptions.StorageUnavailable(
                    f"{self}: not done within {longest:g} s"
                ) from error
            if isinstance(error, exceptions.StorageError):
                raise
            raise errors.translated(error, str(self), self._target) from error


def waiting(pool: Pool, replicas: int) -> list[Command]:
    """What replicas confirm all before with, in the same connection."""
    # To answer before the client gives up.
    wait = round(pool.timeout * 500)
    return [("WAIT", str(replicas), str(wait))] if replicas else []


def checked(trip: Sequence[Command], answers: list[Any]) -> list[Any]:
    """The replies to commands, empty ones for keys of another type.

    :raises RedisError: one of them is another error
    """
    for at, answer in enumerate(answers):
        if isinstance(answer, Exception):
            if not (errors.is_foreign(answer) and trip[at][0] in _READ):
                raise answer
            answers[at] = []
    return answers


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def trips(commands: Iterable[Command]) -> Iterator[tuple[list[Command], int]]:
    """Commands to be sent at once, and their size in bytes.

    :returns: what is too large has only one command
    """
    trip: list[Command] = []
    size = 0
    for command in commands:
        more = sum(map(len, command))
        if trip and (len(trip) == TRIP_COMMANDS or size + more > _TRIP_BYTES):
            yield trip, size
            trip, size = [], 0
        trip.append(command)
        size += more
    if trip:
        yield trip, size
