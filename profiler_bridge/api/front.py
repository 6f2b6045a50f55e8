# SPDX-License-Identifier: Apache-2.0

"""What is done with every answer: headers, a line of the log, a count.

It holds an answer back until there is a first part of its body. What fails
until then is answered with an error; what fails later ends the connection,
so that nobody takes a part for the whole.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from oslo_utils import strutils

from profiler_bridge.api import errors
from profiler_bridge.text import printable

LOG = logging.getLogger(__name__)

#: In the environment of a request: the pattern of its path.
ROUTE = "profiler_bridge.route"
#: And who asks, where that is known.
USER = "profiler_bridge.user"

# Of a path with its query, in the log.
_LONGEST = 300
# Set where an answer has no such header of its own.
_HEADERS = {
    # Nothing may be loaded or run, and no other page may show it.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for again each time, which an ETag makes cheap; and never kept by
    # a proxy for others.
    "Cache-Control": "private, no-cache",
}


class Counted(Protocol):
    """What counts answers."""

    def count(self, route: str, status: int, seconds: float) -> None: ...


class Front:
    """A WSGI application, with all this around it.

    :param app: the application
    :param counted: is told of each answer, when it has been given
    """

    def __init__(
        self, app: WSGIApplication, counted: Counted | None = None
    ) -> None:
        self._app = app
        self._counted = counted

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        began = time.monotonic()
        answer = _Answer()
        body: Iterable[bytes] = ()
        try:
            body = self._app(environ, answer.start)
            parts = iter(body)
            # Of an empty body there is none.
            first = next((part for part in parts if part), b"")
        except Exception as error:  # noqa: BLE001 - it is answered
            _close(body)
            status, message = errors.describe(error)
            body = errors.reply(environ, answer.start, status, message)
            parts, first = iter(body), b""
        there = {name.lower() for name, _ in answer.headers}
        start_response(
            answer.status,
            [
                *answer.headers,
                *(
                    header
                    for header in _HEADERS.items()
                    if header[0].lower() not in there
                ),
            ],
        )

        def done(size: int) -> None:
            _close(body)
            seconds = time.monotonic() - began
            code = int(answer.status[:3])
            LOG.info("%s", _line(environ, code, size, seconds))
            if self._counted:
                self._counted.count(environ.get(ROUTE, ""), code, seconds)

        return _Body(first, parts, done)


class _Answer:
    """What an application has said that its answer will be."""

    status = "500 Internal Server Error"
    headers: list[tuple[str, str]] = []  # noqa: RUF012 - never changed

    def start(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
        /,
    ) -> Any:
        self.status = status
        self.headers = headers
        return _write


class _Body:
    """The parts of a body, and what is done after the last."""

    def __init__(
        self, first: bytes, others: Iterator[bytes], done: Any
    ) -> None:
        self._first = first
        self._others = others
        self._done = done
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._size += len(self._first)
            yield self._first
            for part in self._others:
                self._size += len(part)
                yield part
        except Exception as error:  # noqa: BLE001 - it is logged
            errors.describe(error)
            # Servers end the connection then, and add nothing to the log.
            raise ConnectionAbortedError(
                errno.ECONNABORTED, "the answer cannot be completed"
            ) from None

    def close(self) -> None:
        done, self._done = self._done, None
        if done:
            done(self._size)


def _write(data: bytes) -> object:
    raise NotImplementedError("give an iterable")


def _close(body: object) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _line(
    environ: WSGIEnvironment, status: int, size: int, seconds: float
) -> str:
    """A line of the log: who asked for what, and what came of it."""
    path = quote(
        environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
        encoding="latin-1",
    )
    # Who writes a password where none belongs does not find it in a log.
    query = strutils.mask_password(environ.get("QUERY_STRING", ""))
    what = f"{path}?{query}" if query else path
    if len(what) > _LONGEST:
        what = f"{what[:_LONGEST]}..."
    method = environ.get("REQUEST_METHOD", "")
    who = environ.get("REMOTE_ADDR") or "-"
    user = environ.get(USER) or "-"
    return printable(
        f'{who[:60]} {user[:60]} "{method[:20]} {what}" {status}'
        f" {size} {seconds:.3f}"
    )
