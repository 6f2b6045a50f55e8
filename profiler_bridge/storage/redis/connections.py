# SPDX-License-Identifier: Apache-2.0

"""Connections of redis-py that can be interrupted, and pools of them.

Of redis-py its connections are used, with what they know of TLS, passwords and
errors; its pools and pipelines take several times as long as a server does.
Every private name of it stands here; a test holds them against the release
that is installed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    TryAgainError,
)
from redis.retry import Retry

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline
from profiler_bridge.storage.redis import protocol
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.redis.url import TLS

#: Seconds to wait for a large reply, or for replicas.
PATIENCE = 5.0
# A connection that was idle for so long is looked at before it is used, in
# seconds.
_MAY_BE_CLOSED = 1.0
#: Options of every connection, which the URL must not change.
CLIENT: Mapping[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    # A password can be any text.
    "encoding_errors": "surrogatepass",
    # The collector tries again, with better pauses.
    "retry": Retry(NoBackoff(), 0),
}

# What a cluster's nodes answer; redis-py 5 has it in its cluster client alone.
_OF_CLUSTERS: Mapping[str, Callable[[str], redis.RedisError]] = {
    "ASK": AskError,
    "CLUSTERDOWN": ClusterDownError,
    "CROSSSLOT": ClusterCrossSlotError,
    "MOVED": MovedError,
    "TRYAGAIN": TryAgainError,
}


class _Interruptible:
    """A connection that tells its socket's descriptor, to shut it down.

    :meth:`_connect` is redis-py's, and private, as are ``_sock`` and
    ``_parser``; connecting with TLS goes through it ahead of the handshake.

    :param descriptors: those of all sockets that are open now
    :param find: called ahead of connecting; host and port
    """

    def __init__(
        self,
        *,
        descriptors: set[int],
        find: Callable[[], tuple[str, int]] | None = None,
        **options: Any,
    ) -> None:
        self._descriptors = descriptors
        self._find = find
        self._descriptor = -1
        super().__init__(**options)

    def _connect(self) -> socket.socket:
        if self._find:
            self.host, self.port = self._find()
        opened: socket.socket = super()._connect()  # type: ignore[misc]
        self._descriptor = opened.fileno()
        self._descriptors.add(self._descriptor)
        return opened

    def disconnect(self, *args: Any, **options: Any) -> None:
        # First, for the number is the next socket's then.
        self._descriptors.discard(self._descriptor)
        self._descriptor = -1
        super().disconnect(*args, **options)  # type: ignore[misc]

    def receive(self) -> bytes:
        """Wait for one or more bytes."""
        try:
            data: bytes = self._sock.recv(65536)  # type: ignore[attr-defined]
        except TimeoutError:
            raise redis.TimeoutError("Timeout reading from socket") from None
        except OSError as error:
            raise redis.ConnectionError(
                f"Error while reading from socket: {error}"
            ) from error
        if not data:
            raise redis.ConnectionError("Connection closed by server.")
        return data

    def make_error(self, text: str) -> Exception:
        """An error reply, as redis-py knows it."""
        kind, _, rest = text.partition(" ")
        if kind in _OF_CLUSTERS:
            return _OF_CLUSTERS[kind](rest)
        parser = self._parser  # type: ignore[attr-defined]
        error: Exception = parser.parse_error(text)
        if isinstance(error, redis.ConnectionError):
            raise error
        return error


class _Connection(_Interruptible, redis.Connection):
    pass


class _TLSConnection(redis.SSLConnection, _Connection):
    pass


class _UnixConnection(_Interruptible, redis.UnixDomainSocketConnection):
    pass


def interrupt(descriptors: Iterable[int]) -> None:
    """Shut down sockets, so that whoever waits for them goes on."""
    for descriptor in [*descriptors]:
        with contextlib.suppress(OSError):
            deadline.shut_down(descriptor)


class Pool:
    """Connections to one place, each made when it is needed.

    Threads may share one.

    :param options: of each connection
    :param timeout: seconds, each time something is sent or awaited
    :raises ConfigurationError: the options do not go together
    """

    def __init__(self, options: Mapping[str, Any], timeout: float) -> None:
        self.timeout = timeout
        self._kind: Callable[..., Any] = _Connection
        if "path" in options:
            self._kind = _UnixConnection
        elif options.get("ssl"):
            self._kind = _TLSConnection
        self._options = {
            "socket_connect_timeout": min(timeout, PATIENCE),
            **{
                name: value
                for name, value in options.items()
                if not name.startswith(("sentinel_", "ssl"))
            },
            "socket_timeout": timeout,
        }
        if options.get("ssl"):
            self._options |= {
                name: options[name] for name in TLS if name in options
            }
        # With when each was used last.
        self._idle: list[tuple[float, Any]] = []
        self._process = os.getpid()
        try:
            self._kind(**self._options)  # not connected
        except (TypeError, redis.RedisError):
            raise exceptions.ConfigurationError(
                "options in the connection string do not go together"
            ) from None

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip.

        :returns: the replies, which may be errors
        """
        with self.connection() as connection:
            return exchange(connection, commands)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection for :func:`exchange`, of nobody else meanwhile."""
        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.disconnect()
            raise
        self._idle.append((time.monotonic(), connection))

    def _take(self) -> Any:
        if self._process != os.getpid():
            # These are the parent's.
            self.forget()
            self._process = os.getpid()
        try:
            used, connection = self._idle.pop()
        except IndexError:
            connection = self._kind(**self._options)
        else:
            if time.monotonic() - used > _MAY_BE_CLOSED and _is_closed(
                connection
            ):
                connection.disconnect()
        connection.connect()
        return connection

    def forget(self) -> None:
        """Close what is not in use."""
        while self._idle:
            with contextlib.suppress(IndexError):  # taken meanwhile
                self._idle.pop()[1].disconnect()


def _is_closed(connection: Any) -> bool:
    try:
        # There is nothing to read, unless it is the end.
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True


def exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Run commands in one round trip; among the replies are errors."""
    send(connection, commands)
    return receive(connection, commands)


def send(connection: Any, commands: Sequence[Command]) -> None:
    """Have commands run, whose replies are to be received."""
    connection.send_packed_command([protocol.encoded(commands)])


def receive(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """The replies to commands that were sent; among them are errors."""
    replies = protocol.read(
        connection.receive, connection.make_error, len(commands)
    )
    for at, (name, *_) in enumerate(commands):
        if name in _DECODERS and not isinstance(replies[at], Exception):
            replies[at] = _DECODERS[name](replies[at])
    return replies


# What redis-py makes of replies that are lists, or long texts.
_callbacks = redis.Redis(protocol=2).response_callbacks
_DECODERS: Mapping[str | bytes, Callable[[Any], Any]] = {
    **{
        name: _callbacks[name] for name in ("HGETALL", "INFO", "SCAN", "ZSCAN")
    },
    "SENTINEL": _callbacks["SENTINEL MASTERS"],
}
