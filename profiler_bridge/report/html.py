# SPDX-License-Identifier: Apache-2.0

"""A trace as one HTML page that loads nothing and trusts nothing.

The trace is only ever data: JSON in a script block that no browser runs,
from which the scripts in page/ make text. The page's policy allows these and
page/page.css, known by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html import escape
from importlib import resources
from typing import Any, NamedTuple

from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report import spans as _spans
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.statements import by_shape
from profiler_bridge.report.text import shortened
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

#: The files of page/ that are the page's one script, in this order.
SCRIPTS = (
    *("text.js", "trace.js", "view.js", "rows.js", "bars.js", "ruler.js"),
    *("search.js", "details.js", "tables.js", "page.js"),
)

# Rows show one line; the details and the search have the whole.
_MAX_LINE = 200
_MAX_STATEMENTS = 200
_ROWS_A_PIECE = 1000

# A page's strings may take so many bytes more than its trace.
_MORE_ROOM = 100_000
# A string of so many characters is never cut.
_SHORT = 30
# What a place and its comma take, at most, in bytes.
_ARGUMENT = 7

# A notification's arguments are places of strings in the table, or one of
# these: its own timestamp, its span's trace_id, the parent's trace_id.
_TIMESTAMP, _SPAN, _PARENT = -1, -2, -3

# Shown in place of a notification for which there is no room.
_LEFT_OUT = '{"info":{"payload":{"left out":"too large for this page"}}}'

# The tokens of JSON in which notifications that are alike differ. A string
# with a colon behind it is a key.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"(:?)|-?[0-9][0-9.eE+-]*+')


class Link(NamedTuple):
    """Where to go on from a trace that a service shows."""

    text: str
    url: str
    is_file: bool = False


def policy() -> str:
    """What a browser may do for a page: run its script, know its style."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(_script())}",
            f"style-src {_source(_asset('page.css'))}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def render(trace: Trace, links: Iterable[Link] = ()) -> Iterator[str]:
    """Give the page in pieces, in ASCII.

    :param links: none for a page that is a file
    """
    heading = Heading.of(trace)
    title = f"{heading.title} ({printable(trace.base_id)})"
    head, tail = _asset("page.html").split("{data}")
    yield head.format(
        policy=policy(),
        title=_text(title),
        style=_asset("page.css"),
        links=_links(links),
    )
    for piece in _data(trace, heading):
        yield piece.translate(_MARKUP)
    yield tail.format(script=_script())


def _links(links: Iterable[Link]) -> str:
    """Files are folded away."""
    shown: dict[bool, str] = {False: "", True: ""}
    for text, url, is_file in links:
        shown[is_file] += f'<a href="{_text(url)}">{_text(text)}</a>\n'
    if shown[True]:
        files = f"<summary>Download</summary>\n{shown[True]}"
        shown[True] = f"<details>{files}</details>\n"
    inside = "".join(shown.values())
    # In a file there is nothing to go on to.
    return inside and f'<nav id="links" aria-label="More">\n{inside}</nav>\n'


class Repeated(NamedTuple):
    """A statement that the trace executed more than once.

    :param statement: without what differs between its executions
    :param total: microseconds
    """

    statement: str
    total: int
    spans: list[Span]


def _totals(
    trace: Trace, key: Callable[[Span], str]
) -> Iterator[tuple[str, int, int, int, int]]:
    """Sum up the spans that have the same key.

    :returns: of each key: how many spans, how many failed, their total time
        and their self time in microseconds
    """
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for span in trace.spans:
        sums = totals[key(span)]
        sums[0] += 1
        sums[1] += span.exception is not None
        sums[2] += span.duration or 0
        sums[3] += span.self_time or 0
    for value, (count, errors, total, own) in totals.items():
        yield value, count, errors, total, own


def _repeated_statements(trace: Trace) -> list[Repeated]:
    """Those executed most often first."""
    repeated = [
        Repeated(statement, sum(span.duration or 0 for span in spans), spans)
        for statement, spans in by_shape(trace.spans).items()
        if len(spans) > 1
    ]
    repeated.sort(key=lambda group: (-len(group.spans), -group.total))
    return repeated[:_MAX_STATEMENTS]


def _service(span: Span) -> str:
    return span.first.qualified_service or ""


def _host(span: Span) -> str:
    return span.first.host or ""


def _data(trace: Trace, heading: Heading) -> Iterator[str]:
    """Give what the scripts draw, as JSON in pieces."""
    table = _Table(sum(len(end.text) for end in trace.notifications()))
    started = trace.started
    places: dict[str, int] = {}
    above: list[Span] = []
    rows: list[str] = []
    yield '{"spans":['
    for depth, span in trace.walk():
        if len(rows) == _ROWS_A_PIECE:
            yield ",".join(rows) + ","
            rows.clear()
        del above[depth:]
        parent = above[-1] if above else None
        is_late = int(span.trace_id in heading.late)
        row = depth, *_row(span, parent, started, table), is_late
        rows.append(_encode(row))
        above.append(span)
        places[span.trace_id] = len(places)
    yield ",".join(rows)
    rest = {
        "base_id": trace.base_id,
        "started": divmod(started, 1_000_000),
        "length": trace.finished - started,
        "title": heading.title,
        "took": heading.took,
        "verdict": heading.verdict,
        "remarks": heading.remarks,
        "complete": trace.verdict.complete,
        "totals": [
            [
                (table.place(value), *sums)
                for value, *sums in _totals(trace, by)
            ]
            for by in (_spans.label, _service, _host)
        ],
        "statements": [
            (
                table.place(statement),
                total,
                [places[span.trace_id] for span in spans],
            )
            for statement, total, spans in _repeated_statements(trace)
        ],
        # These are the last two, because all that is above adds to them.
        "notifications": list(table.notifications),
        "strings": list(table.strings),
    }
    yield "]," + _encode(rest)[1:]


def _row(
    span: Span, parent: Span | None, started: int, table: _Table
) -> tuple[Any, ...]:
    """Give a span in the order in which trace.js names the places.

    :param started: of the trace
    """
    return (
        span.trace_id,
        table.place(_spans.label(span)),
        table.place(span.name),
        table.place(_service(span)),
        table.place(_host(span)),
        table.place(_line(_spans.detail(span))),
        span.started - started,
        span.duration,
        span.self_time,
        table.place(_failure(span)),
        table.notification(span.start, parent),
        table.notification(span.stop, parent),
    )


def _failure(span: Span) -> str:
    if span.stop is None or span.exception is None:
        return ""
    message = span.stop.info.get("message")
    # That it failed must be seen, even if the text is empty.
    return (
        _line(span.exception + (f": {message}" if message else ""))
        or "(unnamed)"
    )


class _Table:
    """Strings and notifications, each once however often it occurs.

    :param room: about how many bytes strings may take; further ones are cut,
        so that no page is many times as large as its trace
    :param strings: the place of each string; that of the empty one is 0
    :param notifications: the place of each notification. It is the place of
        its template, which is its JSON without strings and numbers, and then
        the places of these. Where they are so many that they take more room,
        the template is its whole JSON.
    """

    def __init__(self, room: int) -> None:
        self._room = room + _MORE_ROOM
        self.strings = {"": 0}
        self.notifications: dict[tuple[int, ...], int] = {}
        self._literals: dict[str, int] = {}

    def place(self, text: str, otherwise: str = "") -> int:
        """Add a string, unless it is known; return its place.

        :param otherwise: what is added where there is no room for it; its
            beginning where that is empty
        """
        place = self.strings.get(text)
        if place is None:
            if len(text) > _SHORT and not self._has_room(text):
                text = otherwise or shortened(text, _SHORT)
            place = self.strings.setdefault(text, len(self.strings))
        return place

    def _has_room(self, text: str) -> bool:
        size = len(_encode(text))
        size += sum(map(text.count, "<>&")) * len(r"u003c")
        if size > self._room:
            return False
        self._room -= size
        return True

    def notification(
        self, notification: Notification | None, parent: Span | None
    ) -> int:
        """Add a notification, unless it is known; return its place.

        :returns: -1 for no notification
        """
        if notification is None:
            return -1
        own = {
            f'"{format_timestamp(notification.timestamp)}"': _TIMESTAMP,
            f'"{notification.trace_id}"': _SPAN,
        }
        if parent is not None:
            own[f'"{parent.trace_id}"'] = _PARENT
        literals: list[str] = []

        def take(token: re.Match[str]) -> str:
            literal = token[0]
            if token[1]:
                return literal
            literals.append(literal)
            return "@" if literal[0] == '"' else "#"

        template = _TOKEN.sub(take, notification.text)
        if len(literals) * _ARGUMENT > len(notification.text):
            template, literals = notification.text, []
        place = self.place(template, _LEFT_OUT)
        if place == self.strings.get(_LEFT_OUT):
            literals = []
        arguments = (
            own[literal] if literal in own else self._literal(literal)
            for literal in literals
        )
        return self.notifications.setdefault(
            (place, *arguments), len(self.notifications)
        )

    def _literal(self, literal: str) -> int:
        place = self._literals.get(literal)
        if place is None:
            text = json.loads(literal) if literal[0] == '"' else literal
            place = self._literals[literal] = self.place(text)
        return place


def _line(text: str) -> str:
    text = " ".join(text[: 20 * _MAX_LINE].split())
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 1] + "\u2026"


def _text(text: str) -> str:
    return escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


@cache
def _script() -> str:
    return "".join(map(_asset, SCRIPTS))


@cache
def _asset(name: str) -> str:
    page = resources.files(__package__).joinpath("page")
    return page.joinpath(name).read_text("ascii")


@cache
def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


_encode = json.JSONEncoder(separators=(",", ":")).encode

# These occur in JSON's strings only. Without them nothing in a script block
# can end it, or begin a comment or an entity.
_MARKUP = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})
