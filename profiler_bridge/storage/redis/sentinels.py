# SPDX-License-Identifier: Apache-2.0

"""How the Redis server is reached that sentinels name as the master."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.storage.redis.cluster import ClusterClient
from profiler_bridge.storage.redis.connections import (
    CLIENT,
    PATIENCE,
    Pool,
)
from profiler_bridge.storage.redis.errors import advice, line
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.redis.url import TLS, Target

# So often the sentinels are asked whether the master is still the one that
# is connected, in seconds. One that did not answer is left alone for longer.
_ASK_EVERY = 10.0
_SILENT_FOR = 60.0


class _Sentinel:
    """One of them.

    :param options: of a connection to it
    """

    def __init__(self, options: Mapping[str, Any], timeout: float) -> None:
        self.name = f"{options['host']}:{options['port']}"
        self.options = options
        self.pool = Pool(options, timeout)
        #: Until when it need not be asked.
        self.silent_until = 0.0


class SentinelClient(RedisClient):
    """The server that sentinels name as the master, whichever that is.

    :param target: where the sentinels are
    :param username: of the sentinels, where the URL gives none
    :param password: as well
    """

    def __init__(
        self,
        target: Target,
        wait_replicas: int | None,
        timeout: float,
        username: str | None,
        password: str | None,
    ) -> None:
        self._master: tuple[str, int] | None = None
        self._ask_at = 0.0
        super().__init__(target, wait_replicas, timeout)
        given = target.options
        options = {
            "username": given.get("sentinel_username", username),
            "password": given.get("sentinel_password", password),
            "ssl": given.get("sentinel_ssl", False),
            "descriptors": self._descriptors,
            **CLIENT,
            **{name: given[name] for name in TLS if name in given},
        }
        self._sentinels = [
            _Sentinel(
                {**options, "host": host, "port": port},
                min(self._timeout, PATIENCE),
            )
            for host, port in target.addresses
        ]

    def _where(self) -> Mapping[str, Any]:
        return {"find": self._find}

    def run(
        self,
        commands: Iterable[Command],
        *,
        confirmed: bool = False,
        bounded: bool = True,
    ) -> list[Any]:
        self._follow()
        return super().run(commands, confirmed=confirmed, bounded=bounded)

    def _count_replicas(self) -> int:
        # How many the sentinels ever saw, down or not.
        with deadline.within(deadline.LONGEST_CALL, self.interrupt):
            states = self._states()
        return max(int(state["num-slaves"]) for state in states)

    def close(self) -> None:
        super().close()
        for sentinel in self._sentinels:
            sentinel.pool.forget()

    def _follow(self) -> None:
        """Leave the master when the sentinels name another.

        What is connected may be cut off from all others, and not know it.
        """
        if self._master is None or time.monotonic() < self._ask_at:
            return
        connected = self._master
        with (
            # What works goes on.
            contextlib.suppress(exceptions.StorageError),
            deadline.within(deadline.LONGEST_CALL, self.interrupt),
        ):
            if self._find() != connected:
                self.forget()

    def _find(self) -> tuple[str, int]:
        """Ask for the master; called each time a connection is made.

        :returns: host and port
        """
        self._ask_at = time.monotonic() + _ASK_EVERY
        states = self._states()
        # Who was cut off from the others still names an older one.
        epoch = max(int(state["config-epoch"]) for state in states)
        for state in states:
            if int(state["config-epoch"]) == epoch and not (
                state["is_sdown"] or state["is_odown"]
            ):
                self._master = state["ip"], state["port"]
                return self._master
        raise exceptions.StorageUnavailable(
            f"{self}: its sentinels say that the master of"
            f" {self._target.service} is down"
        )

    def _states(self) -> Sequence[Mapping[str, Any]]:
        """What each sentinel that knows the service says of its master.

        :returns: at least one
        """
        states: list[Mapping[str, Any]] = []
        silent = []
        refusals = []
        now = time.monotonic()
        service = str(self._target.service)
        for sentinel in sorted(self._sentinels, key=lambda s: s.silent_until):
            if states and sentinel.silent_until > now:
                break
            where = sentinel.name
            try:
                (masters,) = sentinel.pool.run([("SENTINEL", "MASTERS")])
                if isinstance(masters, redis.RedisError):
                    raise masters
            except redis.RedisError as error:
                to_do = _advice(error, sentinel.options)
                if to_do or not isinstance(
                    error, redis.ConnectionError | redis.TimeoutError
                ):
                    refusals.append(f"sentinel {where}: {line(error)}{to_do}")
                else:
                    sentinel.silent_until = time.monotonic() + _SILENT_FOR
                    what = line(error)
                    silent.append(
                        what if where in what else f"{where}: {what}"
                    )
            else:
                sentinel.silent_until = 0.0
                if service in masters:
                    states.append(masters[service])
                else:
                    refusals.append(
                        f"sentinel {where} knows no {service}, it knows"
                        f" {', '.join(masters)}: check sentinel_service_name"
                    )
        if states:
            return states
        if refusals:
            raise exceptions.StorageMisconfigured(f"{self}: {refusals[0]}")
        raise exceptions.StorageUnavailable(
            f"{self}: no sentinel answers: {'; '.join(silent)}"
        )


def _advice(error: redis.RedisError, options: Mapping[str, Any]) -> str:
    """To go on with after an error, where it does not pass by itself."""
    if isinstance(error, redis.AuthenticationError):
        return ": check sentinel_username and sentinel_password"
    if isinstance(error, NoPermissionError):
        return ": its user needs the right to SENTINEL MASTERS"
    if str(error).startswith("unknown command"):
        return ": this is no sentinel: for a server alone write redis://"
    to_do = advice(error, options)
    return f": {to_do}" if to_do else ""


def connect(
    url: str,
    *,
    wait_replicas: int | None,
    sentinel_service_name: str,
    socket_timeout: float,
    sentinel_username: str | None,
    sentinel_password: str | None,
) -> RedisClient:
    """The client for a connection string; connects with the first call.

    :param socket_timeout: seconds, of sentinels and the master they name
    :raises ConfigurationError: the connection string cannot be used
    """
    target = Target.of(url, sentinel_service_name)
    if target.is_cluster:
        return ClusterClient(target, wait_replicas)
    if target.service is None:
        return RedisClient(target, wait_replicas)
    return SentinelClient(
        target,
        wait_replicas,
        socket_timeout,
        sentinel_username,
        sentinel_password,
    )
