# SPDX-License-Identifier: Apache-2.0

"""A connection to RabbitMQ, by the public names of py-amqp.

With the options of oslo.messaging's driver, as
:mod:`profiler_bridge.bus.rabbit_options` tells.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import oslo_messaging
from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.bus import frames, private, rabbit_options

LOG = logging.getLogger(__name__)

# Seconds, as in kombu: for a host to accept a connection, and for each of its
# answers until the connection is open.
_CONNECT_WITHIN = 5.0
# Seconds for the broker to agree to the end of a connection.
_CLOSE_WITHIN = 3.0
_PORT = 5672

#: What a link raises when the broker or the network fails.
ERRORS: tuple[type[Exception], ...] = (amqp.AMQPError, OSError)


class _Channel(amqp.Channel):  # type: ignore[misc]
    #: How often it was opened: py-amqp opens it again when the broker has
    #: closed it. With each opening delivery tags begin anew.
    openings = 0

    def open(self) -> Any:
        self.openings += 1
        return super().open()


class _Connection(amqp.Connection):  # type: ignore[misc]
    Channel = _Channel

    def Transport(  # noqa: N802 - it is py-amqp's name
        self,
        host: str,
        connect_timeout: float,
        ssl: Any = False,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        **options: Any,
    ) -> Any:
        return (frames.BufferedTLS if ssl else frames.BufferedTCP)(
            host,
            connect_timeout=connect_timeout,
            ssl=ssl,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            **options,
        )


class Link:
    """A connection to one host.

    :param transport: of oslo.messaging
    :param host: of its URL
    :param deliver: see :func:`profiler_bridge.bus.frames.make_frame_handler`
    :raises Exception: one of :data:`ERRORS`
    :ivar host: name and port, such as ``controller:5672``
    """

    def __init__(
        self,
        transport: Any,
        host: Any,
        deliver: Callable[[int, bytes], None] = lambda tag, body: None,
    ) -> None:
        options = transport.conf.oslo_messaging_rabbit
        bus = private.transport_url(transport)
        hostname, port = _place(host)
        self.host = f"{hostname}:{port}"
        self.user = host.username or "guest"
        self.virtual_host = bus.virtual_host or "/"
        # Seconds, after which a silent peer is taken for dead.
        heartbeat = options.heartbeat_timeout_threshold
        self._connection = _Connection(
            self.host,
            userid=self.user,
            password=host.password or "guest",
            login_method=options.rabbit_login_method,
            virtual_host=self.virtual_host,
            ssl=rabbit_options.tls(options, hostname),
            heartbeat=heartbeat,
            connect_timeout=_CONNECT_WITHIN,
            # By such names operators know the programs of oslo.messaging.
            client_properties={
                "connection_name": f"{Path(sys.argv[0]).name}"
                f":{os.getpid()}:{uuid.uuid4()}"
            },
            on_blocked=_log_blocked,
            on_unblocked=_log_unblocked,
            socket_settings={socket.TCP_USER_TIMEOUT: heartbeat * 1000},
            frame_handler=frames.make_frame_handler(deliver),
        )
        try:
            self._connection.connect()
        except BaseException:
            self._connection.collect()
            raise
        # After collect() the connection's own names of these connect again.
        self._transport = self._connection.transport
        self._handle = self._connection.on_inbound_frame
        # For whatever has no timeout of its own.
        self._transport.sock.settimeout(heartbeat or None)
        self._beat_every = self._connection.heartbeat / options.heartbeat_rate
        self._heard_at = self._beat_at = time.monotonic()

    @property
    def version(self) -> str:
        """The broker's release, such as ``3.10.8``; may be empty."""
        return str(self._connection.server_properties.get("version", ""))

    @property
    def connected(self) -> bool:
        return bool(self._transport.connected)

    def channel(self) -> Any:
        """Open a channel of py-amqp.

        :returns: it has ``openings``, a number that grows when the broker
            has closed it, and py-amqp has opened it again
        """
        return self._connection.channel()

    def refusal(
        self, request: Callable[[Any], object]
    ) -> amqp.ChannelError | None:
        """Why the broker refuses a request; None when it does not.

        :param request: is given a channel of its own: to refuse is to close it
        """
        channel = self.channel()
        try:
            request(channel)
        except amqp.ChannelError as error:
            if channel.openings == 1:
                raise  # it is about another channel
            return error
        finally:
            channel.close()
        return None

    def read(self, seconds: float) -> None:
        """Handle what comes, or return after so many seconds.

        Once something has come, what came with it is handled too.

        :raises Exception: one of :data:`ERRORS`
        """
        try:
            with self._transport.having_timeout(seconds):
                frame = self._transport.read_frame()
        except TimeoutError:
            self._check_silence()
        else:
            self._heard_at = time.monotonic()
            while frame is not None:
                self._handle(frame)
                frame = self._transport.next_frame()
        self.beat()

    def beat(self) -> None:
        """Tell the broker, when it is time to, that this side is alive."""
        now = time.monotonic()
        if self._beat_every and now >= self._beat_at + self._beat_every:
            self._beat_at = now
            self._connection.send_heartbeat()

    def _check_silence(self) -> None:
        # AMQP takes a peer for dead after two heartbeats that did not come.
        longest = 2 * self._connection.heartbeat
        if longest and time.monotonic() > self._heard_at + longest:
            raise ConnectionResetError(
                f"RabbitMQ at {self.host} is silent for {longest} seconds"
            )

    def drop(self) -> None:
        """End the connection without waiting for the broker."""
        self._limit_waiting()
        self._connection.collect()

    def close(self) -> None:
        """End the connection; messages without a verdict go back."""
        self._limit_waiting()
        with contextlib.suppress(*ERRORS):
            self._connection.close()
        self._connection.collect()

    def _limit_waiting(self) -> None:
        if self._transport.sock is not None:
            with contextlib.suppress(OSError):
                self._transport.sock.settimeout(_CLOSE_WITHIN)


def _log_blocked(reason: str) -> None:
    LOG.error("The broker has blocked the connection: %s", reason)


def _log_unblocked() -> None:
    LOG.info("The broker has unblocked the connection")


class Hosts:
    """The hosts of a transport's URL, to connect to one of them.

    In an order of their own in each process, so that processes spread over
    them.

    :param transport: of oslo.messaging
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        options = transport.conf.oslo_messaging_rabbit
        self._shuffles = options.kombu_failover_strategy == "shuffle"
        hosts = [*private.transport_url(transport).hosts]
        self._hosts = deque(
            hosts or [oslo_messaging.TransportHost("localhost")]
        )
        random.shuffle(self._hosts)
        self._stopped = False

    def connect(
        self, deliver: Callable[[int, bytes], None] = lambda tag, body: None
    ) -> Link:
        """Try each host once, beginning after the one of the last time.

        :param deliver: see :class:`Link`
        :raises BusUnavailable: no host answers, or lets us in
        """
        if self._shuffles:
            random.shuffle(self._hosts)
        problems = []
        for _ in range(len(self._hosts)):
            if self._stopped:
                break
            host = self._hosts[0]
            self._hosts.rotate(-1)
            try:
                return Link(self._transport, host, deliver)
            except ERRORS as error:
                problems.append(f"{':'.join(_place(host))}: {words(error)}")
        raise exceptions.BusUnavailable(
            f"RabbitMQ does not answer, or refuses: {'; '.join(problems)}"
        )

    def stop(self) -> None:
        """End :meth:`connect` after the host that it tries now."""
        self._stopped = True


def _place(host: Any) -> tuple[str, str]:
    return host.hostname or "localhost", str(host.port or _PORT)


def words(error: Exception) -> str:
    """What the broker says in an error, in one line."""
    text = getattr(error, "reply_text", None) or str(error)
    return ascii(str(text) or type(error).__name__)[1:-1]
