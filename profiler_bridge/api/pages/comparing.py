# SPDX-License-Identifier: Apache-2.0

"""What became slower or faster: ``diff`` as a page."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flask
from markupsafe import Markup
from werkzeug.wrappers import Response

from profiler_bridge import exceptions
from profiler_bridge.api.app import storage
from profiler_bridge.api.pages import markup
from profiler_bridge.api.pages.filters import (
    DEFAULT_LIMIT,
    Reading,
    is_whole,
    most_traces,
    plain_url,
    time_limit,
)
from profiler_bridge.api.pages.listing import whole_id
from profiler_bridge.api.pages.operations import one_of
from profiler_bridge.api.pages.showing import pattern
from profiler_bridge.arguments import query_of_text
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import comparison_page, document, side_by_side
from profiler_bridge.report.comparison import Comparison
from profiler_bridge.report.significance import FEWEST
from profiler_bridge.report.statistics import By, Statistics
from profiler_bridge.roots import Roots
from profiler_bridge.summary import TraceSummary
from profiler_bridge.trace import Trace

BY = (By.OPERATION, By.STATEMENT, By.SERVICE, By.ROOT)
# How many traces are offered to compare one with.
_CHOICES = 20


class Side(NamedTuple):
    """One of the two.

    :param error: why it is nothing; empty where it is something
    :param trace: what a side is that is one trace
    :param is_cut: whether there may be more traces
    """

    statistics: Statistics
    error: str = ""
    trace: Trace | None = None
    is_cut: bool = False

    @property
    def base_id(self) -> str:
        """Of a side that is one trace; else empty."""
        return "" if self.trace is None else self.trace.base_id


def compare() -> Response:
    """Two traces, or two sets of them, each as ``diff`` takes it."""
    if url := plain_url():
        return flask.redirect(url)
    given = flask.request.args
    by = one_of(By, given.get("by"), By.OPERATION)
    if by not in BY:
        by = By.OPERATION
    message = ""
    if ticked := given.getlist("trace"):
        # Of a list with the newest first.
        if len(ticked) == 2:
            after, before = ticked
            return flask.redirect(
                markup.link("compare", before=before, after=after)
            )
        message = f"Choose two traces to compare, not {len(ticked)}."
    without_late = "without-late" in given
    sides = {
        name: _side(text, by, without_late)
        for name in ("before", "after")
        if (text := given.get(name, ""))
    }
    values: dict[str, Any] = {
        "before": given.get("before", ""),
        "after": given.get("after", ""),
        "sides": sides,
        "by": by,
        "kinds": BY,
        "without_late": without_late,
        "message": message,
    }
    if len(sides) < 2 or any(side.error for side in sides.values()):
        failed = any(side.error for side in sides.values())
        return markup.page(
            "compare.html",
            400 if failed else 200,
            **values,
            comparison=None,
            choices=_choices(sides),
            missing="after" if "before" in sides else "before",
        )
    first, second = sides["before"], sides["after"]
    comparison = Comparison(first.statistics, second.statistics)
    beside: Iterable[str] = ()
    if first.trace is not None and second.trace is not None:
        beside = side_by_side.render(first.trace, second.trace)
    return markup.page(
        "compare.html",
        **values,
        comparison=comparison,
        least=FEWEST,
        beside=_safe(beside),
        heads=_safe(comparison_page.heads(by)),
        rows=_safe(comparison_page.rows(comparison)),
        left_out=max(len(comparison.changes) - comparison_page.MOST_ROWS, 0),
    )


def style() -> Response:
    """What two traces beside each other look like, as in a file."""
    answer = flask.Response(
        document.assets("side_by_side.css"), mimetype="text/css"
    )
    answer.add_etag()
    return answer.make_conditional(flask.request)


def _safe(pieces: Iterable[str]) -> Sequence[Markup]:
    """HTML that was made of escaped text."""
    return [Markup(piece) for piece in pieces]  # noqa: S704


def _side(text: str, by: By, without_late: bool) -> Side:
    """A side, of what was written for it.

    :raises StorageError: the storage cannot be read
    """
    statistics = Statistics(by, without_late)
    try:
        base_id = whole_id(text.strip())
    except exceptions.TraceNotFound:
        return _of_query(text, statistics)
    try:
        trace = storage().trace(base_id)
    except exceptions.TraceNotFound as error:
        return Side(statistics, str(error))
    statistics.add(trace)
    return Side(statistics, trace=trace)


def _of_query(text: str, statistics: Statistics) -> Side:
    try:
        query = query_of_text(text)
    except argparse.ArgumentTypeError as error:
        if "=" in text:
            return Side(statistics, str(error))
        return Side(
            statistics,
            f"{markup.text(text, 60)} is neither a base id nor filters, as"
            " service=nova,since=2h",
        )
    if not is_whole(query.marker):
        return Side(statistics, "marker: must be a whole base id")
    names = [part.partition("=")[0].strip() for part in text.split(",")]
    limit = query.limit if "limit" in names else DEFAULT_LIMIT
    reading = Reading(
        dataclasses.replace(
            query,
            limit=min(limit or DEFAULT_LIMIT, most_traces()),
            time_limit=time_limit(),
        )
    )
    try:
        for trace in reading:
            statistics.add(trace)
    except exceptions.TraceNotFound as error:
        return Side(statistics, str(error))
    if not statistics.traces:
        return Side(statistics, "no trace matches")
    return Side(statistics, is_cut=reading.is_stopped or reading.is_full)


def _choices(sides: dict[str, Side]) -> list[TraceSummary]:
    """Traces like the one that is given, to choose the other from."""
    for side in sides.values():
        if side.base_id:
            notifications = storage().notifications(side.base_id)
            root = Roots.of(notifications).name
            query = TraceQuery(
                roots=[pattern(root)] if root else [],
                limit=_CHOICES + 1,
                time_limit=time_limit(),
            )
            traces = storage().list_traces(query)
            return [t for t in traces if t.base_id != side.base_id]
    return []
