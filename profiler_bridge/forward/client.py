# SPDX-License-Identifier: Apache-2.0

"""POST over a connection that is kept, each within a time.

The standard library's http.client: requests, with which OpenTelemetry's
exporter sends, takes several times the CPU for a request, goes through the
proxies of environment variables, follows redirects, and bounds neither a
request's time nor its answer's size.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from profiler_bridge.forward.endpoint import Endpoint

#: No more of an answer is read.
MOST_READ = 65536
_CHUNK = 65536


class Unreachable(Exception):
    """There is no answer; the same request may succeed later."""


class Answer(NamedTuple):
    """What a server said.

    :param headers: their names in lower case
    :param body: its beginning, :data:`MOST_READ` bytes at most
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Timed:
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
    def __init__(self, timed: _Timed) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.bounded().recv_into(buffer)


class Client:
    """Sends to one endpoint, one request after the other.

    It connects when it sends, in whichever process that is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._timed: _Timed | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request and read what is said to it.

        :raises Unreachable: there is no answer, or none that is HTTP
        """
        until = time.monotonic() + self._endpoint.timeout
        try:
            if self._timed is not None:
                # The server may have closed it since the last request.
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    return self._post(self._timed, until, body, headers)
                self.close()
            return self._post(self._connected(until), until, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_described(error)) from None

    def close(self) -> None:
        if self._timed is not None:
            self._timed.end()
            self._timed = None

    def _connected(self, until: float) -> _Timed:
        endpoint = self._endpoint
        plain = socket.create_connection(
            (endpoint.host, endpoint.port), endpoint.timeout
        )
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if endpoint.tls is not None:
                plain.settimeout(max(0.001, until - time.monotonic()))
                plain = endpoint.tls.wrap_socket(
                    plain, server_hostname=endpoint.host
                )
        except BaseException:
            plain.close()
            raise
        self._timed = _Timed(plain, until)
        return self._timed

    def _post(
        self,
        timed: _Timed,
        until: float,
        body: bytes,
        headers: Mapping[str, str],
    ) -> Answer:
        timed.until = until
        # Of http.client's own sockets none is made.
        connection = http.client.HTTPConnection(
            self._endpoint.host, self._endpoint.port
        )
        connection.auto_open = 0
        connection.sock = timed
        is_whole = False
        try:
            refused: OSError | None = None
            try:
                connection.request("POST", self._endpoint.path, body, headers)
            except ConnectionError as error:
                # Whoever finds a request too large may answer, and close.
                refused = error
            try:
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException):
                if refused is not None:
                    raise refused from None
                raise
            with answer:
                said = answer.read(MOST_READ)
                is_whole = refused is None and answer.isclosed()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                said,
            )
        finally:
            if not is_whole or timed.is_over:
                self.close()


def _described(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closes the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return "what it answers is not HTTP"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error)
