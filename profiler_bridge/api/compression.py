# SPDX-License-Identifier: Apache-2.0

"""Answers in gzip, for clients that take it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.datastructures import Headers
from werkzeug.http import parse_accept_header

_TYPES = ("text/", "application/json", "application/javascript", "image/svg")
# Smaller ones fit into one packet as they are.
_LEAST = 1000
# Of nine: three quarters of what the last saves, at a third of its time.
_LEVEL = 4
# What zlib calls a gzip stream.
_GZIP = 16 + zlib.MAX_WBITS


class Compression:
    """A WSGI application whose answers are compressed, part by part.

    No more than a part is held.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        accepted = parse_accept_header(environ.get("HTTP_ACCEPT_ENCODING"))
        # Without the header a client has not asked for it.
        wanted = accepted["gzip"] > 0 and environ["REQUEST_METHOD"] != "HEAD"
        compresses = False

        def start(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: Any = None,
            /,
        ) -> Any:
            nonlocal compresses
            compresses = False
            own = Headers(headers)
            if _is_compressible(status, own):
                # A cache must not give either to who wants the other.
                own.add("Vary", "Accept-Encoding")
                if wanted:
                    compresses = True
                    own["Content-Encoding"] = "gzip"
                    del own["Content-Length"]
                    tag = own.get("ETag", "W/")
                    if not tag.startswith("W/"):
                        own["ETag"] = f"W/{tag}"
            return start_response(status, list(own), exc_info)

        body = self._app(environ, start)
        # Flask and WebOb have said it by now, as all do that are no generator.
        return _Compressed(body) if compresses else body


def _is_compressible(status: str, headers: Headers) -> bool:
    return (
        status.startswith("200")
        and headers.get("Content-Type", "").startswith(_TYPES)
        and "Content-Encoding" not in headers
        and int(headers.get("Content-Length", _LEAST)) >= _LEAST
    )


class _Compressed:
    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        for part in self._body:
            if compressed := stream.compress(part):
                yield compressed
        yield stream.flush()

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
