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
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple

from profiler_bridge.forward.endpoint import Endpoint
from profiler_bridge.timed import Timed, connect, described

#: No more of an answer is read.
MOST_READ = 65536


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


class Client:
    """Sends to one endpoint, one request after the other.

    It connects when it sends, in whichever process that is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._timed: Timed | None = None

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
            raise Unreachable(described(error)) from None

    def close(self) -> None:
        if self._timed is not None:
            self._timed.end()
            self._timed = None

    def _connected(self, until: float) -> Timed:
        endpoint = self._endpoint
        self._timed = connect(
            endpoint.host, endpoint.port, endpoint.tls, until
        )
        return self._timed

    def _post(
        self,
        timed: Timed,
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
                text = answer.read(MOST_READ)
                is_whole = refused is None and answer.isclosed()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                text,
            )
        finally:
            if not is_whole or timed.is_over:
                self.close()
