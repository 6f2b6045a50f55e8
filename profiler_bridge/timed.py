# SPDX-License-Identifier: Apache-2.0

"""Connections for http.client with one time for all that is done on them."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import Any

_CHUNK = 65536


class Timed:
    """A socket as http.client uses it, with one time for all that is done.

    The standard library bounds the time of each call, of which a server that
    sends a byte now and then has as many as it likes.

    :ivar until: the end of that time, by time.monotonic()
    :ivar is_over: nothing is sent any more. http.client says so while there
        is an answer to be read.
    """

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._socket = connection
        self.until = until
        self.is_over = False

    def bounded(self) -> socket.socket:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        return self._socket

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.bounded().send(rest[:_CHUNK]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        self.is_over = True

    def end(self) -> None:
        self._socket.close()


class _Reader(io.RawIOBase):
    def __init__(self, timed: Timed) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.bounded().recv_into(buffer)


def connect(
    host: str, port: int, tls: ssl.SSLContext | None, until: float
) -> Timed:
    """Connect, with TLS if there is a context for it.

    :param until: by time.monotonic()
    :raises OSError: it cannot be reached in time, or its certificate is wrong
    """
    plain = socket.create_connection(
        (host, port), max(0.001, until - time.monotonic())
    )
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            plain.settimeout(max(0.001, until - time.monotonic()))
            plain = tls.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    return Timed(plain, until)


def described(error: Exception) -> str:
    """What went wrong with a request, in a few words for a user."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closes the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return "what it answers is not HTTP"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error)
