# SPDX-License-Identifier: Apache-2.0

"""One trace: as a timeline, as a tree that needs no script, as a file."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import flask

from profiler_bridge import exceptions
from profiler_bridge.api.app import storage
from profiler_bridge.api.etags import unchanged
from profiler_bridge.api.pages import markup
from profiler_bridge.api.pages.listing import whole_id
from profiler_bridge.report import html
from profiler_bridge.report import spans as _spans
from profiler_bridge.report import tree as _tree
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.report.heading import Heading
from profiler_bridge.roots import Roots
from profiler_bridge.trace import Trace

#: The ending of a file in each format, and what is in it.
FILES = {
    "json": (".json", "application/json"),
    "otlp": (".otlp.json", "application/json"),
    "zipkin": (".zipkin.json", "application/json"),
    "chrome": (".chrome.json", "application/json"),
    "speedscope": (".speedscope.json", "application/json"),
    "dot": (".dot", "text/vnd.graphviz"),
    "tree": (".txt", "text/plain"),
    "html": (".html", "text/html"),
}
#: How many lines a tree has; nobody unfolds more.
MOST_LINES = 20_000
# About so many characters are sent at once.
_PIECE = 2**16
# Elements that are nested deeper are more than a browser likes to draw.
_DEEPEST = 60
# Deeper ones are folded at first.
_OPEN = 3


def trace(base_id: str) -> flask.Response:
    """The page of ``show -f html``, with ways to go on."""
    base_id = whole_id(base_id)
    answer = unchanged(base_id)
    if answer is None:
        shown = storage().trace(base_id)
        # The links are made while there is a request to make them by.
        page = html.render(shown, [*_links(shown)])
        answer = flask.Response(_joined(page), mimetype="text/html")
    # A browser takes it for the page that it has, too.
    answer.headers["Content-Security-Policy"] = (
        f"{html.policy()}; frame-ancestors 'none'"
    )
    return answer


def download(base_id: str, name: str) -> flask.Response:
    """A trace in one of the formats of ``show``, as a file."""
    if name not in FILES:
        raise exceptions.TraceNotFound(
            f"there is no format {markup.text(name, 60)}, but"
            f" {', '.join(FILES)}"
        )
    base_id = whole_id(base_id)
    if answer := unchanged(base_id):
        return answer
    shown = storage().trace(base_id)
    ending, mimetype = FILES[name]
    answer = flask.Response(_joined(FORMATS[name](shown)), mimetype=mimetype)
    answer.headers.set(
        *("Content-Disposition", "attachment"),
        filename=f"{shown.base_id}{ending}",
    )
    return answer


def tree(base_id: str) -> flask.Response:
    """The tree of a trace, folded."""
    base_id = whole_id(base_id)
    if answer := unchanged(base_id):
        return answer
    shown = storage().trace(base_id)
    heading = Heading.of(shown)
    return markup.streamed(
        "tree.html",
        trace=shown,
        heading=heading,
        lines=_lines(shown, heading),
        root=_root(shown),
        most=MOST_LINES,
    )


def pattern(text: str) -> str:
    """A pattern that is true of a text alone."""
    escaped = glob.escape(text)
    # At the beginning that would be "not".
    return f"?{escaped[1:]}" if escaped.startswith("!") else escaped


def _root(shown: Trace) -> str | None:
    """A pattern for traces of the same; None where nothing has begun."""
    name = Roots.of(shown.notifications()).name
    return pattern(name) if name else None


def _links(shown: Trace) -> Iterator[html.Link]:
    base_id = shown.base_id
    yield html.Link("Traces", markup.link("traces"))
    root = _root(shown)
    if root:
        url = markup.link("traces", root=root)
        yield html.Link("Same operation", url)
    url = markup.link("compare", after=base_id)
    yield html.Link("Compare with\u2026", url)
    yield html.Link("Tree", markup.link("tree", base_id=base_id))
    for name in FILES:
        url = markup.link("download", base_id=base_id, name=name)
        yield html.Link(name, url, is_file=True)


def _joined(pieces: Iterable[str]) -> Iterator[str]:
    """The same in fewer pieces: each is sent by itself."""
    some: list[str] = []
    size = 0
    for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield "".join(some)
            some, size = [], 0
    yield "".join(some)


class Line(NamedTuple):
    """A line of the tree; microseconds.

    :param span: its first span's trace_id, by which it can be linked to
    :param depth: 0 for a root
    :param name: what it did; what came in turn where that came again
    :param times: how often
    :param where: the service and the host where they change
    :param detail: what the name leaves out
    :param total: how long it took; None where an end is missing
    :param begin: when in the trace it began, percent
    :param share: how much of the trace it took, percent
    :param has_below: whether lines follow that are below it
    :param is_open: whether these are shown at first
    :param closes: how many lines with others below end with it
    """

    span: str
    depth: int
    name: str
    times: int
    where: str
    detail: str
    started: int
    total: int | None
    own: int | None
    missing: str
    error: str | None
    is_late: bool
    begin: float
    share: float
    has_below: bool
    is_open: bool
    closes: int


def _lines(shown: Trace, heading: Heading) -> Iterator[Line]:
    every = _tree.rows(shown, _tree.TreeOptions(), heading.late)
    rows = itertools.islice(every, MOST_LINES)
    row = next(rows, None)
    nested: list[int] = []
    # As long as nothing is late.
    over = max(
        (
            _spans.ended(span, shown.finished)
            for span in shown.spans
            if span.trace_id not in heading.late
        ),
        default=shown.finished,
    )
    while row is not None:
        after = next(rows, None)
        below = -1 if after is None else after.depth
        has_below = below > row.depth and len(nested) < _DEEPEST
        if has_below:
            nested.append(row.depth)
        closes = 0
        while nested and nested[-1] >= below:
            nested.pop()
            closes += 1
        yield _line(row, shown, over, heading, has_below, closes)
        row = after


def _line(
    row: _tree.Row,
    shown: Trace,
    over: int,
    heading: Heading,
    has_below: bool,
    closes: int,
) -> Line:
    first, last = row.spans[0], row.spans[-1]
    names = [_spans.label(span) for span in row.spans[: row.period]]
    whole = max(over - shown.started, 1)
    begin = 100 * max(first.started - shown.started, 0) / whole
    end = 100 * (_spans.ended(last, shown.finished) - shown.started) / whole
    above = None if row.parent is None else _spans.place(row.parent)
    where = _spans.place(first)
    return Line(
        span=first.trace_id,
        depth=row.depth,
        name="; ".join(names),
        times=len(row.spans) // row.period,
        where="" if where == above else str(where),
        detail=_spans.detail(first)[:200] if len(row.spans) == 1 else "",
        started=first.started - shown.started,
        total=_sum(span.duration for span in row.spans),
        own=_sum(span.self_time for span in row.spans),
        missing=(
            "unfinished"
            if first.stop is None
            else "no start" * (first.start is None)
        ),
        error=_spans.error(first),
        is_late=first.trace_id in heading.late,
        begin=min(begin, 99.5),
        share=max(min(end, 100) - begin, 0.5),
        has_below=has_below,
        is_open=row.depth < _OPEN,
        closes=closes,
    )


def _sum(times: Iterable[int | None]) -> int | None:
    known = [time for time in times if time is not None]
    return sum(known) if known else None
