# SPDX-License-Identifier: Apache-2.0

"""Where the time of traces went: ``stats`` as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flask
from werkzeug.wrappers import Response

from profiler_bridge.api.pages import markup
from profiler_bridge.api.pages.filters import (
    Filters,
    Offered,
    Reading,
    is_empty,
    plain_url,
)
from profiler_bridge.api.pages.listing import LIMITS
from profiler_bridge.api.pages.showing import pattern
from profiler_bridge.query import Sort
from profiler_bridge.report.statistics import By, Group, Key, Statistics

#: How many rows are shown.
MOST_ROWS = 1000
# Of such a value a filter would not be one.
_LONGEST = 500


class Column(NamedTuple):
    """What is known of a group, as a number to sort by.

    :param is_time: in microseconds
    """

    head: str
    value: Callable[[Group], float]
    is_time: bool = True


COLUMNS = {
    "calls": Column("Calls", lambda group: group.count, False),
    "errors": Column("Errors", lambda group: group.errors, False),
    "traces": Column("Traces", lambda group: group.traces, False),
    "self": Column("Self", lambda group: group.self_time),
    "total": Column("Total", lambda group: group.durations.total),
    "mean": Column("Mean", lambda group: group.durations.mean),
    "p50": Column("p50", lambda group: group.durations.percentile(50)),
    "p95": Column("p95", lambda group: group.durations.percentile(95)),
    "max": Column("Max", lambda group: group.durations.greatest),
    "most": Column("Most in one", lambda group: group.most, False),
}
_SPANS = ("self", "calls", "p95", "errors", "traces", "total", "mean", "p50")
_SHOWN = {
    By.ROOT: ("calls", "errors", "traces", "mean", "p50", "p95", "max"),
    By.STATEMENT: ("calls", "most", "errors", "total", "mean", "p95", "max"),
}
_HEADS = {
    By.ROOT: {"calls": "Traces", "traces": "Answered"},
}


class Row(NamedTuple):
    """A group, and the arguments of a list of its traces, if there can be."""

    service: str
    what: str
    group: Group
    args: Mapping[str, Sequence[str]] | None


def operations() -> Response:
    """Sums over the traces that the URL's filters choose."""
    if url := plain_url():
        return flask.redirect(url)
    given = flask.request.args
    filters = Filters.of(given)
    by = one_of(By, given.get("by"), By.OPERATION)
    shown = _SHOWN.get(by, (*_SPANS, "max"))
    order = given.get("order", "")
    if order not in (*shown, "name"):
        order = {By.STATEMENT: "most", By.ROOT: "mean"}.get(by, "self")
    without_late = "without-late" in given
    extra = {"by": str(by)} | ({"without-late": "1"} if without_late else {})
    values: dict[str, Any] = {
        "filters": filters,
        "offered": Offered.now(),
        "limits": LIMITS,
        "by": by,
        "kinds": list(By),
        "order": order,
        "extra": extra,
        "without_late": without_late,
        "hosts": (),
    }
    if filters.query is None:
        return markup.page("invalid.html", 400, here="operations", **values)
    reading = Reading(filters.query)
    statistics = Statistics(by, without_late)
    for trace in reading:
        statistics.add(trace)
    heads = _HEADS.get(by, {})
    columns = {
        name: COLUMNS[name]._replace(head=heads.get(name, COLUMNS[name].head))
        for name in shown
    }
    rows = [
        _row(key, group, by, filters)
        for key, group in statistics.groups.items()
    ]
    rows.sort(key=lambda row: (row.what, row.service))
    if order != "name":
        rows.sort(key=lambda row: -COLUMNS[order].value(row.group))
    return markup.page(
        "operations.html",
        **values,
        query=filters.query,
        reading=reading,
        statistics=statistics,
        columns=columns,
        rows=rows[:MOST_ROWS],
        left_out=max(len(rows) - MOST_ROWS, 0),
        is_longest=filters.query.sort is Sort.DURATION,
        is_empty=not statistics.traces and is_empty(),
    )


def _row(key: Key, group: Group, by: By, filters: Filters) -> Row:
    *services, what = key
    service = services[0] if services else ""
    return Row(service, what, group, _args(service, what, by, filters))


def _args(
    service: str, what: str, by: By, filters: Filters
) -> Mapping[str, Sequence[str]] | None:
    """What a list of a group's traces is asked for by.

    :returns: None where there is no such filter
    """
    if not what or max(len(what), len(service)) > _LONGEST:
        return None
    added = {}
    match by:
        case By.OPERATION:
            added["operation"] = pattern(what)
        case By.ROOT:
            added["root"] = pattern(what)
        case By.SERVICE:
            added["service"] = what
        case By.HOST:
            added["host"] = what
        case _:
            return None
    if service:
        added["service"] = service
    if any(value.startswith("!") for value in added.values()):
        return None
    args = {name: [*values] for name, values in filters.chosen.items()}
    for name, value in added.items():
        if value not in args.get(name, ()):
            args.setdefault(name, []).append(value)
    return args


def one_of(kinds: type[By], given: str | None, otherwise: By) -> By:
    """What a URL asks to sum up by."""
    return kinds(given) if given in list(kinds) else otherwise
