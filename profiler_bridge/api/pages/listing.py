# SPDX-License-Identifier: Apache-2.0

"""The list of traces."""

from __future__ import annotations

import dataclasses
from typing import Any

import flask
from werkzeug.wrappers import Response

from profiler_bridge import exceptions
from profiler_bridge.api import errors
from profiler_bridge.api.app import storage
from profiler_bridge.api.pages import markup
from profiler_bridge.api.pages.filters import (
    DEFAULT_LIMIT,
    Filters,
    Offered,
    is_empty,
    most_traces,
    plain_url,
    time_limit,
)
from profiler_bridge.api.pages.scatter import MOST, Scatter
from profiler_bridge.notification import is_id
from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage.pages import Page
from profiler_bridge.summary import TraceSummary
from profiler_bridge.text import printable

#: How many traces may be asked for at once, and every how many seconds.
LIMITS = (20, DEFAULT_LIMIT, 100, 200, 500, 1000)
INTERVALS = (5, 10, 30, 60, 300)
#: For so many seconds traces are looked for that are drawn beside the list.
DRAWN_IN = 3.0
_MOST_HOSTS = 100


def start() -> Response:
    """Nothing is to be seen at the root itself."""
    return flask.redirect(markup.link("traces"))


def open_trace() -> Response:
    """To the trace whose base_id was written down somewhere."""
    given = flask.request.args.get("id", "").strip()
    return flask.redirect(markup.link("trace", base_id=whole_id(given)))


def whole_id(text: str) -> str:
    """A base_id, with its dashes.

    :raises TraceNotFound: it is none
    """
    if len(text) == 32:
        text = "-".join(
            (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
        )
    if not is_id(text):
        raise exceptions.TraceNotFound(
            f"{markup.text(text, 60) or 'nothing'} is no base id: a trace is"
            " found by all 32 digits of it"
        )
    return text


def traces() -> Response:
    """A page of traces."""
    if url := plain_url():
        return flask.redirect(url)
    filters = Filters.of(flask.request.args)
    refresh = flask.request.args.get("refresh", type=int)
    if refresh not in INTERVALS:
        refresh = None
    values: dict[str, Any] = {
        "filters": filters,
        "offered": Offered.now(),
        "limits": [limit for limit in LIMITS if limit <= most_traces()]
        or [most_traces()],
        "intervals": INTERVALS,
        "refresh": refresh,
        "extra": {"refresh": refresh} if refresh else {},
    }
    query = filters.query
    if query is None:
        return markup.page("invalid.html", 400, here="traces", **values)
    shown, page, is_more = _page(query)
    last = page.stopped or (shown[-1] if is_more else None)
    has_next = last is not None and not (
        # Where it was sorted after it was looked at, no trace is the last.
        page.stopped and query.sort is Sort.DURATION
    )
    answer = markup.page(
        "traces.html",
        **values,
        query=query,
        traces=shown,
        longest=max((one.duration for one in shown), default=0),
        stopped=page.stopped,
        next=last.base_id if last is not None and has_next else None,
        is_drawn=len(shown) > 1,
        hosts=sorted({host for one in shown for host in one.hosts})[
            :_MOST_HOSTS
        ],
        is_empty=not shown and page.stopped is None and is_empty(),
    )
    if refresh:
        answer.headers["Refresh"] = str(refresh)
    return answer


def scatter() -> Response:
    """Traces as dots, from the first of a list on: a page for a frame in it.

    So the list waits for none but those that it shows.
    """
    query = Filters.of(flask.request.args).query
    if query is None:
        flask.abort(400)
    query = dataclasses.replace(
        query,
        limit=min(MOST, most_traces()),
        time_limit=min(DRAWN_IN, time_limit()),
    )
    try:
        page = storage().page(query)
    except exceptions.BridgeError as error:
        # A whole page about it would not fit in.
        status, message = errors.describe(error)
        return markup.page(
            "scatter.html", status, scatter=None, message=f"{message}."
        )
    return markup.page(
        "scatter.html",
        scatter=Scatter.of(page.traces),
        message=(
            f"In {query.time_limit:g} s fewer than two traces to draw were"
            " found."
            if page.stopped
            else "Fewer than two traces to draw."
        ),
        query=query,
        is_stopped=page.stopped is not None,
        is_full=len(page.traces) == query.limit,
        is_longest=query.sort is Sort.DURATION,
    )


def _page(query: TraceQuery) -> tuple[list[TraceSummary], Page, bool]:
    """One more than is shown tells whether there is another page."""
    assert query.limit is not None  # noqa: S101 - filters always have one
    more = dataclasses.replace(query, limit=query.limit + 1)
    try:
        page = storage().page(more)
    except exceptions.TraceNotFound:
        raise exceptions.TraceNotFound(
            f"the trace {printable(query.marker or '')}, after which this"
            " page begins, is gone: begin with the first page"
        ) from None
    return (
        page.traces[: query.limit],
        page,
        len(page.traces) > query.limit,
    )
