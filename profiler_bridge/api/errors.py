# SPDX-License-Identifier: Apache-2.0

"""What went wrong -> one line, with a status of HTTP.

A client is told what it can do something about. What is wrong with the storage
or with the bridge stands in the log, once.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

import flask
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_accept_header

from profiler_bridge import exceptions
from profiler_bridge.text import printable

LOG = logging.getLogger(__name__)

# Seconds after which a client may well try again.
_RETRY_AFTER = 5
# Of a message; it may quote what a client asked for.
_LONGEST = 500


def describe(error: Exception) -> tuple[int, str]:
    """The status of an error, and a line for whoever asked.

    What is not the client's doing is logged; with a traceback if nobody has
    foreseen it. Raise ``argparse.ArgumentTypeError``, or have
    ``flask.abort(400, "...")`` do so, where a parameter cannot be used.
    """
    if isinstance(error, HTTPException):
        status = error.code or 500
        # Its own words go on for a paragraph.
        own = error.description or ""
        if own == type(error).description or not own:
            own = HTTPStatus(status).phrase.lower()
        return status, _line(own)
    if isinstance(error, exceptions.TraceNotFound):
        return 404, _line(str(error))
    if isinstance(error, argparse.ArgumentTypeError):
        return 400, _line(str(error))
    if isinstance(error, exceptions.StorageUnavailable):
        LOG.warning("Not answered: %s", _line(str(error)), exc_info=False)
        return 503, "the storage does not answer now"
    if isinstance(error, exceptions.BridgeError):
        LOG.error("Not answered: %s", _line(str(error)), exc_info=False)
        return (
            500,
            "the storage cannot be read: the log says why",
        )
    LOG.error("Not answered", exc_info=error)
    return 500, "this failed: the log says why"


def register(app: flask.Flask) -> None:
    """Have errors of all views answered so; blueprints may do otherwise."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> flask.Response | HTTPException:
        # A redirect is one of its exceptions, too.
        if isinstance(error, HTTPException) and (error.code or 500) < 400:
            return error
        status, message = describe(error)
        kind, body = _body(flask.request.environ, status, message)
        response = flask.Response(body, status, content_type=kind)
        for name, value in _headers(status):
            response.headers[name] = value
        if isinstance(error, HTTPException) and status == 405:
            allowed = getattr(error, "valid_methods", None)
            response.headers["Allow"] = ", ".join(sorted(allowed or ()))
        return response


def reply(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: int,
    message: str,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    """Answer with an error, where there is no view."""
    kind, body = _body(environ, status, message)
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            *_headers(status),
            *headers,
        ],
    )
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def not_found(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """A WSGI application without anything."""
    return reply(environ, start_response, 404, "not found")


def _headers(status: int) -> list[tuple[str, str]]:
    if status == 503:
        return [("Retry-After", str(_RETRY_AFTER))]
    return []


def _body(
    environ: WSGIEnvironment, status: int, message: str
) -> tuple[str, bytes]:
    """An error's content type and body: JSON, unless a browser asks."""
    accepted = parse_accept_header(environ.get("HTTP_ACCEPT", ""), MIMEAccept)
    best = accepted.best_match(["application/json", "text/plain", "text/html"])
    if best in ("text/plain", "text/html"):
        return "text/plain; charset=utf-8", f"{message}\n".encode()
    error = {"error": {"code": status, "message": message}}
    return "application/json", f"{json.dumps(error)}\n".encode()


def _line(text: str) -> str:
    # A lone surrogate cannot be encoded.
    line = printable(text.encode(errors="backslashreplace").decode())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
