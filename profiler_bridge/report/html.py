# SPDX-License-Identifier: Apache-2.0

"""A trace as one HTML page that loads nothing and trusts nothing.

The trace is only ever data: JSON in a script block that no browser runs,
from which the scripts in page/ make text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from profiler_bridge.critical import Segment, critical_path
from profiler_bridge.report import document, tree
from profiler_bridge.report import spans as _spans
from profiler_bridge.report.document import assets, made, text
from profiler_bridge.report.findings import findings
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.packing import Packing, encode
from profiler_bridge.report.statements import by_shape
from profiler_bridge.report.text import shortened
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

#: The files of page/ that are the page's one style, and its one script, each
#: in this order.
STYLES = (
    *("base.css", "colours.css", "page.css", "timeline.css", "views.css"),
    "print.css",
)
SCRIPTS = (
    *("text.js", "trace.js", "critical.js", "view.js", "colours.js"),
    *("rows.js", "bars.js", "ruler.js", "columns.js", "search.js"),
    *("times.js", "copying.js", "details.js", "findings.js", "tables.js"),
    *("flame.js", "list.js", "page.js"),
)

# Rows show one line; the details and the search have the whole.
_MAX_LINE = 200
_MAX_TITLE = 1000
_MAX_STATEMENTS = 200
_ROWS_A_PIECE = 1000


class Link(NamedTuple):
    """Where to go on from a trace that a service shows."""

    text: str
    url: str
    is_file: bool = False


def policy() -> str:
    """What a browser may do for a page: run its script, know its style."""
    return document.policy(assets(*STYLES), assets(*SCRIPTS))


def render(trace: Trace, links: Iterable[Link] = ()) -> Iterator[str]:
    """Give the page in pieces, in ASCII.

    :param links: none for a page that is a file
    """
    heading = Heading.of(trace)
    title = f"{heading.title} ({printable(trace.base_id)})"
    yield document.head(title, assets(*STYLES), assets(*SCRIPTS))
    body, tail = assets("page.html").split("{data}")
    yield body.format(title=text(title), links=_links(links), made=made())
    for piece in _data(trace, heading):
        yield piece.translate(_MARKUP)
    yield tail.format(script=assets(*SCRIPTS))


def _links(links: Iterable[Link]) -> str:
    """Files are folded away."""
    shown: dict[bool, str] = {False: "", True: ""}
    for name, url, is_file in links:
        shown[is_file] += f'<a href="{text(url)}">{text(name)}</a>\n'
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
    table = Packing(sum(len(end.text) for end in trace.notifications()))
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
        rows.append(encode(row))
        above.append(span)
        places[span.trace_id] = len(places)
    yield ",".join(rows)
    path = critical_path(trace)
    rest = {
        "base_id": trace.base_id,
        "started": divmod(started, 1_000_000),
        "length": trace.finished - started,
        "title": heading.title,
        "took": heading.took,
        "verdict": heading.verdict,
        "remarks": heading.remarks,
        "complete": trace.verdict.complete,
        "runs": [*_runs(trace, heading, places)],
        "path": [*_path(path, started, places)],
        "findings": [*_findings(trace, path, places)],
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
    yield "]," + encode(rest)[1:]


def _row(
    span: Span, parent: Span | None, started: int, table: Packing
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


def _runs(
    trace: Trace, heading: Heading, places: Mapping[str, int]
) -> Iterator[tuple[int, int, int]]:
    """Siblings that the tree shows as one line.

    :returns: the place of the first, how many they are, and after how many of
        them the same comes again. One alone has late spans below it.
    """
    for row in tree.rows(trace, tree.TreeOptions(), heading.late):
        if len(row.spans) > 1 or row.inside:
            yield places[row.spans[0].trace_id], len(row.spans), row.period


def _path(
    path: Sequence[Segment], started: int, places: Mapping[str, int]
) -> Iterator[int]:
    """The critical path, flat.

    :param started: of the trace
    :returns: when it begins; then of each segment how long it is, and the
        place of its span, -1 where nothing known ran. Empty for no path.
    """
    if path:
        yield path[0].start - started
    for start, end, span in path:
        yield end - start
        yield -1 if span is None else places[span.trace_id]


def _findings(
    trace: Trace, path: Sequence[Segment], places: Mapping[str, int]
) -> Iterator[tuple[str, str, list[int], int, int]]:
    """What is worth telling, in the order in which trace.js names it."""
    for finding in findings(trace, path=path):
        spans = [places[trace_id] for trace_id in finding.spans]
        yield (
            *(finding.rule, shortened(finding.title, _MAX_TITLE), spans),
            *(finding.critical, finding.total),
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


def _line(of: str) -> str:
    line = " ".join(of[: 20 * _MAX_LINE].split())
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "\u2026"


# These occur in JSON's strings only. Without them nothing in a script block
# can end it, or begin a comment or an entity.
_MARKUP = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})
