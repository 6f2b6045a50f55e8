# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A trace as one HTML page that loads nothing and trusts nothing.

The trace is only ever data: JSON in a script block that no browser runs,
from which html.js makes text. The page's policy allows that script and
html.css, known by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from html import escape
from importlib import resources
from typing import Any, NamedTuple

from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report.statistics import (
    Total,
    statement_of,
    without_literals,
)
from profiler_bridge.report.text import printable
from profiler_bridge.trace import Span, Trace

# Rows show one line; the details and the search have the whole.
_MAX_LINE = 200
_MAX_STATEMENTS = 200
_ROWS_A_PIECE = 1000

# In a notification's arguments: not a string's place in the table, but its
# own timestamp, its span's trace_id, the trace_id of the span around it.
_TIMESTAMP, _SPAN, _PARENT = -1, -2, -3

# The tokens of JSON that differ between notifications alike. With a colon
# a string is a key.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"(:?)|-?[0-9][0-9.eE+-]*+')

# Where a query reads from says more than what.
_COLUMNS = re.compile(r"\bSELECT .{12,}? FROM ", re.IGNORECASE)


def render(trace: Trace) -> Iterator[str]:
    """Give the page in pieces, in ASCII."""
    style, script = _asset("html.css"), _asset("html.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(script)}",
            f"style-src {_source(style)}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    title = escape(printable(trace.base_id))
    yield _HEAD.format(policy=policy, title=title, style=style)
    for piece in _data(trace):
        yield piece.translate(_MARKUP)
    yield _TAIL.format(script=script)


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
    """What spans have in common; how many, errors, total and self time."""
    totals: dict[str, Total] = defaultdict(Total)
    for span in trace.spans:
        totals[key(span)].add(span)
    for value, each in totals.items():
        yield value, each.count, each.errors, each.total, each.self_time


def _repeated_statements(trace: Trace) -> list[Repeated]:
    """Those executed most often first."""
    by_text: dict[str, list[Span]] = defaultdict(list)
    for span in trace.spans:
        if text := statement_of(span):
            by_text[text].append(span)
    groups: dict[str, list[Span]] = defaultdict(list)
    for text, spans in by_text.items():
        groups[without_literals(text)] += spans
    repeated = [
        Repeated(statement, sum(span.duration or 0 for span in spans), spans)
        for statement, spans in groups.items()
        if len(spans) > 1
    ]
    repeated.sort(key=lambda each: (-len(each.spans), -each.total))
    return repeated[:_MAX_STATEMENTS]


def _service(span: Span) -> str:
    return ":".join(filter(None, (span.first.project, span.first.service)))


def _name(span: Span) -> str:
    return span.name


def _host(span: Span) -> str:
    return span.first.host or ""


def _data(trace: Trace) -> Iterator[str]:
    """Give what html.js draws, as JSON in pieces."""
    table = _Table()
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
        rows.append(_encode([depth, *_row(span, parent, started, table)]))
        above.append(span)
        places[span.trace_id] = len(places)
    yield ",".join(rows)
    rest = {
        "base_id": trace.base_id,
        "started": divmod(started, 1_000_000),
        "length": trace.finished - started,
        "verdict": str(trace.verdict),
        "complete": trace.verdict.complete,
        "totals": [
            [
                (table.place(value), *sums)
                for value, *sums in _totals(trace, by)
            ]
            for by in (_name, _service, _host)
        ],
        "statements": [
            (
                table.place(statement),
                total,
                [places[span.trace_id] for span in spans],
            )
            for statement, total, spans in _repeated_statements(trace)
        ],
        # The last two: what is above adds to them.
        "notifications": list(table.notifications),
        "strings": list(table.strings),
    }
    yield "]," + _encode(rest)[1:]


def _row(
    span: Span, parent: Span | None, started: int, table: _Table
) -> tuple[Any, ...]:
    """Give a span in the order in which html.js names the places.

    :param started: of the trace
    """
    return (
        span.trace_id,
        table.place(span.name),
        table.place(_service(span)),
        table.place(_host(span)),
        table.place(_line(span.first.describe())),
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
    # Whatever it says, that it failed must be seen.
    return (
        _line(span.exception + (f": {message}" if message else ""))
        or "(unnamed)"
    )


class _Table:
    """Strings and notifications, each once however often it occurs.

    :param strings: with its place, each string; an empty one at 0
    :param notifications: with its place, each notification as the place of
        its JSON without its strings and numbers, and then theirs
    """

    def __init__(self) -> None:
        self.strings = {"": 0}
        self.notifications: dict[tuple[int, ...], int] = {}
        self._literals: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def notification(
        self, notification: Notification | None, parent: Span | None
    ) -> int:
        """Place a notification; -1 for none."""
        if notification is None:
            return -1
        own = {
            f'"{format_timestamp(notification.timestamp)}"': _TIMESTAMP,
            f'"{notification.trace_id}"': _SPAN,
        }
        if parent is not None:
            own[f'"{parent.trace_id}"'] = _PARENT
        arguments: list[int] = []

        def take(token: re.Match[str]) -> str:
            literal = token[0]
            if token[1]:
                return literal
            argument = own.get(literal)
            arguments.append(
                self._literal(literal) if argument is None else argument
            )
            return "@" if literal[0] == '"' else "#"

        template = _TOKEN.sub(take, notification.text)
        return self.notifications.setdefault(
            (self.place(template), *arguments), len(self.notifications)
        )

    def _literal(self, literal: str) -> int:
        place = self._literals.get(literal)
        if place is None:
            text = json.loads(literal) if literal[0] == '"' else literal
            place = self._literals[literal] = self.place(text)
        return place


def _line(text: str) -> str:
    # Cut before it is searched, and after.
    text = " ".join(text[: 20 * _MAX_LINE].split())
    text = _COLUMNS.sub("SELECT \u2026 FROM ", text)
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 1] + "\u2026"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("ascii")


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


_encode = json.JSONEncoder(separators=(",", ":")).encode

# In JSON these stand in strings only. Without them nothing in a script block
# can end it, or begin a comment or an entity.
_MARKUP = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})

_HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Trace {title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page draws the trace with JavaScript, which is off.</noscript>
<header>
<h1 id="title">Trace {title}</h1>
<dl id="facts"></dl>
<fieldset>
<legend>View</legend>
<label><input type="radio" name="view" id="show-timeline" autocomplete="off"
 checked>Timeline</label>
<label><input type="radio" name="view" id="show-totals" autocomplete="off">
Where the time went</label>
<label><input type="radio" name="view" id="show-statements" autocomplete="off">
Repeated SQL (<span id="statement-count">0</span>)</label>
</fieldset>
</header>
<main>
<section id="timeline" aria-label="Timeline">
<div id="toolbar">
<span role="search">
<input type="search" id="query" aria-label="Search the spans"
 aria-keyshortcuts="/" placeholder="Search name, SQL, host, error&hellip; (/)"
 autocomplete="off" spellcheck="false">
<button type="button" id="previous" aria-label="Previous match"
 title="Previous match (Shift+Enter)">&uarr;</button>
<button type="button" id="next" aria-label="Next match"
 title="Next match (Enter)">&darr;</button>
<output id="found"></output>
</span>
<label><input type="checkbox" id="problems" autocomplete="off">
Problems only (<span id="problem-count">0</span>)</label>
<span>
<button type="button" id="expand">Expand all</button>
<button type="button" id="collapse">Collapse all</button>
</span>
<span>
<button type="button" id="zoom" title="Zoom to the selected span (z)"
>Zoom to span</button>
<button type="button" id="unzoom" title="Show the whole trace (Escape)"
 disabled>Reset zoom</button>
</span>
</div>
<div id="overview" title="Drag to zoom in"><canvas id="canvas" role="img"
 aria-label="The whole trace, small"></canvas><div id="window"></div></div>
<div id="panes">
<div id="grid" role="treegrid" aria-label="Spans" tabindex="0">
<div role="rowgroup" id="head"><div role="row" aria-rowindex="1" class="row">
<span role="columnheader" class="operation">Operation</span>
<span role="columnheader" class="where">Service @ host</span>
<span role="columnheader" class="duration">Duration, ms</span>
<span role="columnheader" class="self"
 title="While none of its children ran">Self, ms</span>
<span role="columnheader" class="time" id="ruler" aria-label="Time"
 title="Drag to zoom in"></span>
</div></div>
<div role="rowgroup" id="rows"></div>
</div>
<aside id="details" aria-label="Details of the span" tabindex="0"
 hidden></aside>
</div>
<p id="legend"><span id="colours"></span>
<span><i class="bar shaded"></i>solid: own time, pale: in children</span>
<span><i class="bar failed"></i>error</span>
<span><i class="bar unfinished"></i>unfinished: no stop</span>
<span><i class="bar headless"></i>headless: no start</span>
<span>Keys: arrows, Enter: details, /: search, n, N: next, previous match,
z: zoom, Escape: back</span></p>
</section>
<section id="totals" aria-label="Where the time went" tabindex="0"></section>
<section id="statements" aria-label="Repeated SQL" tabindex="0"></section>
</main>
<script type="application/json" id="data">"""

_TAIL = """\
</script>
<script>{script}</script>
</body>
</html>
"""
