# SPDX-License-Identifier: Apache-2.0

"""The service's own pages, for a browser; they need no script but one.

What comes from a trace is text: :mod:`markup` escapes whatever a template
puts in, and the pages' policy lets a browser load and run what the service
itself serves, and nothing else.
"""

from __future__ import annotations

import flask

from profiler_bridge import exceptions
from profiler_bridge.api import errors
from profiler_bridge.api.pages import (
    comparing,
    listing,
    markup,
    operations,
    services,
    showing,
)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
#: Of every page but a trace's own, which has its style and script in it.
POLICY = f"{_POLICY}; frame-ancestors 'none'"
#: Of what is a part of such a page.
FRAME_POLICY = f"{_POLICY}; frame-ancestors 'self'"


def blueprint() -> flask.Blueprint:
    """The pages, at the root of the application."""
    pages = flask.Blueprint(
        "pages", __name__, static_folder="static", static_url_path="/pages"
    )
    pages.add_url_rule("/", view_func=listing.start)
    pages.add_url_rule("/open", view_func=listing.open_trace)
    pages.add_url_rule("/traces", view_func=listing.traces)
    pages.add_url_rule("/scatter", view_func=listing.scatter)
    pages.add_url_rule("/traces/<base_id>", view_func=showing.trace)
    pages.add_url_rule("/traces/<base_id>/tree", view_func=showing.tree)
    pages.add_url_rule(
        "/traces/<base_id>/download/<name>", view_func=showing.download
    )
    pages.add_url_rule("/operations", view_func=operations.operations)
    pages.add_url_rule("/compare", view_func=comparing.compare)
    pages.add_url_rule("/services", view_func=services.services)
    pages.register_error_handler(exceptions.TraceNotFound, _not_found)
    pages.register_error_handler(exceptions.StorageError, _storage_away)
    pages.after_request(_secure)
    return pages


def _not_found(error: Exception) -> flask.Response:
    return markup.page("not_found.html", 404, message=str(error))


def _storage_away(error: Exception) -> flask.Response:
    status, _ = errors.describe(error)
    answer = markup.page("storage_away.html", status, is_away=status == 503)
    # It may be back soon, and then the page is what was asked for.
    answer.headers["Refresh"] = answer.headers["Retry-After"] = "10"
    return answer


def _secure(answer: flask.Response) -> flask.Response:
    headers = answer.headers
    is_part = flask.request.endpoint == "pages.scatter"
    headers.setdefault(
        "Content-Security-Policy", FRAME_POLICY if is_part else POLICY
    )
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    return answer
