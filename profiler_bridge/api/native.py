# SPDX-License-Identifier: Apache-2.0

"""Lists and reports, as the report command gives them.

``/v1/traces``
  a list, as ``list -f json`` gives it
``/v1/traces/{base_id}``
  a report, as ``show -f json`` gives it
``/v1/traces/{base_id}/points``
  what a trace was notified of, each point as its service sent it

To the last ``bridge+http://`` owes that its reports are those of the storage,
however deep spans are nested.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

import flask

from profiler_bridge import exceptions
from profiler_bridge.api import etags
from profiler_bridge.api.app import storage
from profiler_bridge.arguments import FILTERS
from profiler_bridge.notification import Notification, format_timestamp, is_id
from profiler_bridge.query import DEFAULT_LIMIT, Sort, TraceQuery
from profiler_bridge.report.json import render
from profiler_bridge.storage.pages import Page
from profiler_bridge.summary import TraceSummary
from profiler_bridge.text import printable

#: Of an answer whose search was stopped: a line that says where.
STOPPED = "X-Profiler-Bridge-Stopped"
# How many characters are sent at once.
_CHUNK = 65536
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}


def blueprint() -> flask.Blueprint:
    """The views."""
    native = flask.Blueprint("native", __name__)
    native.add_url_rule("/v1/traces", view_func=_list)
    native.add_url_rule("/v1/traces/<base_id>", view_func=_show)
    native.add_url_rule("/v1/traces/<base_id>/points", view_func=_points)
    return native


def _list() -> flask.Response:
    query = _query(flask.request.args.items(multi=True))
    page = storage().page(query)
    response = _json(
        _array(json.dumps(_row(summary)) for summary in page.traces)
    )
    if page.stopped is not None:
        response.headers[STOPPED] = (
            f"stopped after {query.time_limit:g} s, at a trace that started"
            f" {format_timestamp(page.stopped.started)}; what comes after it"
            " was not looked at"
        )
    marker = _next_marker(query, page)
    if marker is not None:
        given = [
            (name, value)
            for name, value in flask.request.args.items(multi=True)
            if name != "marker"
        ]
        following = urlencode([*given, ("marker", marker)])
        response.headers["Link"] = f'<?{following}>; rel="next"'
    return response


def _next_marker(query: TraceQuery, page: Page) -> str | None:
    """After which trace to go on; None where there is nothing more."""
    if page.stopped is not None:
        # Of the longest first, what was not looked at can be anywhere.
        return page.stopped.base_id if query.sort is Sort.START else None
    if page.traces and len(page.traces) == query.limit:
        return page.traces[-1].base_id
    return None


def _show(base_id: str) -> flask.Response:
    if not is_id(base_id):
        raise exceptions.TraceNotFound(f"{printable(base_id)} is no base_id")
    if same := etags.unchanged(base_id):
        return same
    return _json(render(storage().trace(base_id)))


def _points(base_id: str) -> flask.Response:
    """All of a trace, in any order; an empty list for an unknown one."""
    notifications: list[Notification] = []
    if is_id(base_id):
        if same := etags.unchanged(base_id):
            return same
        notifications = storage().notifications(base_id)
    return _json(_array(one.text for one in notifications))


def _query(arguments: Iterable[tuple[str, str]]) -> TraceQuery:
    """The filters of ``list``, under the names of its options.

    :raises argparse.ArgumentTypeError: there is no such filter, or it cannot
        be used
    """
    options = flask.current_app.config["OPTIONS"]
    known = {option.name: option for option in FILTERS}
    given: dict[str, Any] = {}
    for name, text in arguments:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"{printable(name[:40])} is no filter; there are"
                f" {', '.join(known)}"
            )
        value = _value(name, known[name].read or _flag, text)
        field = known[name].field
        if field:
            given.setdefault(field, []).append(value)
        elif name.replace("-", "_") in given:
            raise argparse.ArgumentTypeError(f"{name} is there more than once")
        else:
            given[name.replace("-", "_")] = value
    query = TraceQuery(**given)
    if query.marker is not None and not is_id(query.marker):
        # To find what it begins all traces would be looked at.
        raise argparse.ArgumentTypeError("marker: write a whole base id")
    return dataclasses.replace(
        query,
        limit=min(query.limit or DEFAULT_LIMIT, options.max_limit),
        time_limit=min(
            options.time_limit
            if query.time_limit is None
            else query.time_limit,
            options.time_limit,
        ),
    )


def _value(name: str, read: Any, text: str) -> Any:
    try:
        return read(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from None
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{name}: {printable(text[:40])} cannot be used"
        ) from None


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise argparse.ArgumentTypeError("write true or false")
    return _FLAGS[text.lower()]


def _row(summary: TraceSummary) -> dict[str, Any]:
    """What ``list -f json`` says of a trace."""
    return {
        "Base ID": summary.base_id,
        "Started (UTC)": format_timestamp(summary.started),
        "Title": summary.title or "-",
        "Duration": summary.duration,
        "Answered": summary.answered,
        "After": summary.after,
        "Spans": summary.spans,
        "Errors": summary.errors,
        "Services": ", ".join(summary.services),
        "Complete": summary.complete,
    }


def _array(items: Iterable[str]) -> Iterator[str]:
    """JSON texts as an array, one a line."""
    separator = "[\n"
    for item in items:
        yield separator + item
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _json(texts: Iterable[str]) -> flask.Response:
    return flask.Response(_chunks(texts), content_type="application/json")


def _chunks(texts: Iterable[str]) -> Iterator[bytes]:
    """The texts, many at once."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()
