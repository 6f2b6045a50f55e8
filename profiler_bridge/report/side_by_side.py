# SPDX-License-Identifier: Apache-2.0

"""Two traces on one scale, one above the other, as a part of a page.

It folds without a script. What comes from traces is text, escaped. Its style
is page/side_by_side.css.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from profiler_bridge.report import document
from profiler_bridge.report import spans as _spans
from profiler_bridge.report.alignment import Pair, service
from profiler_bridge.report.differences import Differences, Row
from profiler_bridge.report.folding import LEAST_TIMES
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.text import duration, percent, shortened
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

#: Nobody reads further.
MOST_ROWS = 5000
#: How many differences are named above the rows.
MOST_NAMED = 8
# Elements that are nested deeper are more than a browser likes to draw.
_DEEPEST = 24
_LONGEST_NAME = 300
_LONGEST_DETAIL = 120
# The width of a drawing, in its own units; less than the least is not seen.
_WIDTH = 1000
_LEAST = 2.0
# Of the rows, and of the drawing above them.
_BAR, _BETWEEN = 8, 3
_LEVEL, _LEVELS = 4, 12


def render(before: Trace, after: Trace) -> Iterator[str]:
    """Give a section of a page in pieces, in ASCII."""
    differences = Differences.of(before, after)
    scale = max(*differences.lengths, 1)
    yield '<section class="beside">\n<h2>One above the other</h2>\n'
    yield _summary(differences)
    yield _overview(differences, scale)
    yield '<div class="costs">\n'
    numbers = {id(row): n for n, row in enumerate(differences.rows)}
    for title, costs in (
        ("What costs more", differences.costing_more()),
        ("What costs less", differences.costing_less()),
    ):
        yield from _costs(title, costs, numbers)
    yield "</div>\n"
    yield _head(scale)
    yield from _list(differences, scale)
    yield "</section>\n"


def _summary(differences: Differences) -> str:
    both, new, gone = differences.counts()
    sides = zip(
        ("before", "after"),
        (differences.before, differences.after),
        differences.late,
        strict=True,
    )
    took = ", ".join(
        f"{Heading.of(trace).took} {name}" for name, trace, _ in sides
    )
    text = f"{took}. {both:,} spans are in both"
    text += f", {new:,} only after (new), {gone:,} only before (gone)."
    if any(differences.late):
        earlier, later = differences.late
        text += (
            f" Left out is what is late, not of the request: {earlier:,} spans"
            f" before, {later:,} after."
        )
    least = _text(duration(differences.least))
    return (
        f"<p><b>{_text(text)}</b></p>\n<p>Spans are paired by what they did,"
        " in which service, below what, and in which turn. What differs by"
        f" {least} or more is marked. These are differences of two traces and"
        " no verdicts: what is more than chance, only many traces tell.</p>\n"
    )


def _costs(
    title: str, costs: Sequence[Row], numbers: dict[int, int]
) -> Iterator[str]:
    yield f"<div><h3>{title}</h3>\n"
    if not costs:
        yield "<p>Nothing.</p>\n"
    else:
        yield "<ol>\n"
        for row in costs[:MOST_NAMED]:
            number = numbers[id(row)]
            name = _name(row)
            # A row that is not shown cannot be gone to.
            if number < MOST_ROWS:
                name = f'<a href="#row-{number}">{name}</a>'
            word = _tag("new" if row.is_new else "gone" if row.is_gone else "")
            yield (
                f'<li><b class="number">{_signed(row.own_change)}</b>'
                f"<div>{name}{word}{_where(row)}</div></li>\n"
            )
        yield "</ol>\n"
        rest = costs[MOST_NAMED:]
        if rest:
            change = _signed(sum(row.own_change or 0 for row in rest))
            yield f"<p>{len(rest):,} other rows: {change} together.</p>\n"
    yield "</div>\n"


def _head(scale: int) -> str:
    ticks = "".join(
        f"<span>{duration(scale * quarter / 4) if quarter else 0}</span>"
        for quarter in range(5)
    )
    return (
        '<div class="line head"><span class="what">Operation</span>'
        '<span class="number took"><span>Before</span>'
        "<span>After</span></span>"
        '<span class="number">Change</span>'
        '<span class="number own">Itself</span>'
        f'<span class="ticks">{ticks}</span></div>\n'
    )


def _list(differences: Differences, scale: int) -> Iterator[str]:
    """The rows, folded where nothing is to be told of them."""
    rows = differences.rows
    shown = rows[:MOST_ROWS]
    quiet = _quiet(differences)
    nested: list[int] = []
    yield '<div class="rows">\n'
    for number, row in enumerate(shown):
        while nested and nested[-1] <= number:
            nested.pop()
            yield "</details>\n"
        if number in quiet and len(nested) < _DEEPEST:
            alike, end = quiet[number]
            nested.append(end)
            name = f"<i>{len(alike.pairs):,} that hardly differ</i>"
            inside = _cells(alike, name, differences, scale)
            yield f'<details><summary class="line">{inside}</summary>\n'
        is_nested = row.below > 0 and len(nested) < _DEEPEST
        if is_nested:
            nested.append(number + 1 + row.below)
            yield "<details open>" if row.is_open else "<details>"
        tag = "summary" if is_nested else "div"
        name = _name(row) + _failed(row) + _where(row) + _detail(row)
        yield (
            f'<{tag} id="row-{number}" class="line">'
            f"{_cells(row, name, differences, scale)}</{tag}>\n"
        )
    yield "</details>\n" * len(nested) + "</div>\n"
    if len(rows) > len(shown):
        yield f"<p>and {len(rows) - len(shown):,} more rows</p>\n"


def _quiet(differences: Differences) -> dict[int, tuple[Row, int]]:
    """Siblings in a row of which nothing is to be told.

    :returns: by the place of the first row: all of them as one row, and the
        place behind the last and what is below it
    """
    rows = differences.rows
    folded: dict[int, tuple[Row, int]] = {}
    for number, parent in enumerate(rows):
        end = number + 1 + parent.below
        begin = at = number + 1
        alike: list[Pair] = []
        count = 0
        while at <= end:
            row = rows[at] if at < end else None
            if row is not None and not (
                row.is_open
                or differences.word(row)
                or differences.is_told(row)
            ):
                alike += row.pairs
                count += 1
            else:
                if count >= LEAST_TIMES:
                    row = Row(parent.depth + 1, alike, len(alike), parent)
                    folded[begin] = row, at
                alike, count = [], 0
                begin = at + 1
            at += 1 if row is None else 1 + row.below
    return folded


def _cells(row: Row, name: str, differences: Differences, scale: int) -> str:
    """What is in a line.

    :param name: as HTML
    """
    took = "".join(
        f'<span class="{side}"><i>{side} </i>{_took(row, place)}</span>'
        for place, side in enumerate(("before", "after"))
    )
    return (
        f'<span class="what">{name}</span>'
        f'<span class="number took">{took}</span>'
        f'<span class="number change">{_tag(differences.word(row))}'
        f"<span>{_signed(row.change)}{_share(row)}</span></span>"
        f'<span class="number own">{_own(row, differences)}</span>'
        f"{_bars(row, differences, scale)}"
    )


def _failed(row: Row) -> str:
    error = row.error
    if error is None:
        return ""
    text = _text(printable(shortened(error, _LONGEST_NAME)))
    return f' <span class="wrong">&#x2717; {text}</span>'


_SIGNS = {
    "new": "+",
    "gone": "&#x2212;",
    "slower": "&#x25b2;",
    "faster": "&#x25bc;",
    "fails": "&#x2717;",
    "failed": "&#x2713;",
}


def _tag(word: str) -> str:
    if not word:
        return ""
    return f' <b class="{word}">{_SIGNS[word]} {word}</b>'


def _name(row: Row) -> str:
    names = [_spans.label(pair.span) for pair in row.pairs[: row.period]]
    name = f"({'; '.join(names)})" if row.period > 1 else names[0]
    times = f" <b>&#xd7; {row.times:,}</b>" if row.times > 1 else ""
    return _text(printable(shortened(name, _LONGEST_NAME))) + times


def _where(row: Row) -> str:
    """The service, where it is not that of the row above."""
    where = service(row.pairs[0].span)
    parent = row.parent
    if parent is not None and service(parent.pairs[0].span) == where:
        return ""
    where = shortened(where, _LONGEST_DETAIL)
    return f' <span class="where">{_text(where)}</span>' if where else ""


def _detail(row: Row) -> str:
    if len(row.pairs) > 1:
        return ""
    detail = printable(_spans.detail(row.pairs[0].span)[: _LONGEST_DETAIL + 1])
    if len(detail) > _LONGEST_DETAIL:
        detail = f"{detail[:_LONGEST_DETAIL]}\u2026"
    return f" <small>{_text(detail)}</small>" if detail else ""


def _took(row: Row, side: int) -> str:
    spans = row.spans(side)
    took = row.took(side)
    if not spans:
        return "&#x2013;"
    if took is None:
        return "unfinished" if spans[0].stop is None else "no start"
    return duration(took)


def _share(row: Row) -> str:
    before, change = row.took(0), row.change
    if row.is_new or row.is_gone or not before or before < 0 or not change:
        return ""
    share = change / before * 100
    # Many times as long is seen from the two times.
    if share >= 1000:
        return ""
    return f" <small>{percent(share).replace('-', '&#x2212;')}</small>"


def _own(row: Row, differences: Differences) -> str:
    text = _signed(row.own_change)
    own = row.own_change or 0
    return f"<b>{text}</b>" if abs(own) >= differences.least else text


def _signed(change: int | None) -> str:
    if not change:
        return ""
    sign = "+" if change > 0 else "&#x2212;"
    return sign + duration(abs(change))


# Drawings


def _bars(row: Row, differences: Differences, scale: int) -> str:
    # No style in an element, which the policy does not allow.
    traces = differences.before, differences.after
    paths = "".join(
        f'<path class="{name}" d="'
        + _pieces(row.spans(side), traces[side], scale, y, _BAR)
        + '"/>'
        for side, name, y in (
            (0, "before", 0),
            (1, "after", _BAR + _BETWEEN),
        )
        if row.pairs[0].sides[side] is not None
    )
    return _drawing(paths, 2 * _BAR + _BETWEEN, "bars")


def _overview(differences: Differences, scale: int) -> str:
    """Both timelines, level by level of the trees, without names."""
    levels: dict[tuple[int, int, bool], list[Span]] = defaultdict(list)
    for row in differences.rows:
        if row.depth < _LEVELS:
            is_told = differences.is_told(row)
            for side in (0, 1):
                levels[side, row.depth, is_told] += row.spans(side)
    deepest = max((depth for _, depth, _ in levels), default=0) + 1
    traces = differences.before, differences.after
    drawn = []
    for number, name in enumerate(("before", "after")):
        paths = "".join(
            f'<path class="{"told" if is_told else name}" d="'
            + _pieces(spans, traces[side], scale, depth * _LEVEL, _LEVEL - 1)
            + '"/>'
            for (side, depth, is_told), spans in sorted(
                levels.items(), key=lambda item: item[0]
            )
            if side == number and spans
        )
        drawn.append(
            f"<span>{name.capitalize()}</span>"
            + _drawing(paths, deepest * _LEVEL, f"lanes-{deepest}")
        )
    return (
        '<div class="overview" role="img" aria-label="Both traces on one'
        f' scale; their rows are below">{"".join(drawn)}</div>\n'
    )


def _drawing(inside: str, height: int, name: str) -> str:
    return (
        f'<svg aria-hidden="true" class="{name}" preserveAspectRatio="none"'
        f' viewBox="0 0 {_WIDTH} {height}">{inside}</svg>'
    )


def _pieces(
    spans: Iterable[Span], trace: Trace, scale: int, y: int, height: int
) -> str:
    """When spans ran, as a path; those that touch are one piece.

    :returns: so bounded, however many spans there are
    """
    times = sorted(
        (
            max(span.started - trace.started, 0) / scale * _WIDTH,
            (_spans.ended(span, trace.finished) - trace.started)
            / scale
            * _WIDTH,
        )
        for span in spans
    )
    pieces: list[list[float]] = []
    for begin, end in times:
        begin = min(begin, _WIDTH - _LEAST)
        end = min(max(end, begin + _LEAST), _WIDTH)
        if pieces and begin < pieces[-1][1] + 1:
            pieces[-1][1] = max(pieces[-1][1], end)
        else:
            pieces.append([begin, end])
    return "".join(
        f"M{begin:.1f} {y}h{end - begin:.1f}v{height}h-{end - begin:.1f}z"
        for begin, end in pieces
    )


def _text(text: str) -> str:
    return document.text(text)
