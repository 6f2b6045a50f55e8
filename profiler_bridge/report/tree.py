# SPDX-License-Identifier: Apache-2.0

"""A trace as an indented tree for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from profiler_bridge import operation
from profiler_bridge.critical import critical_path, time_on_path
from profiler_bridge.report import spans as _spans
from profiler_bridge.report.folding import runs
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.text import cut, duration, width
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

# Deeper spans are not indented further: nobody reads past this column.
_MAX_INDENT = 80
_MAX_DETAIL = 100
_BAR_COLUMNS = 24
_BAR = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
_OPEN = "\N{BLACK RIGHT-POINTING TRIANGLE}"
# Bars take from the text what it needs in a narrower terminal.
_LEAST_WITH_BARS = 120
# Less of a detail says nothing.
_LEAST_DETAIL = 12
# What start, total, self time and time on the critical path take.
_TIMES_COLUMNS = 39

_RED, _YELLOW, _CYAN, _DIM, _RESET = (
    *("\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[2m"),
    "\x1b[0m",
)
_ONE_COLUMN_EACH = str.maketrans(f"…×{_BAR}{_OPEN}", "~x=>")


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """How a tree is drawn.

    :param width: how many columns a line may take; None for any number
    :param colours: with the escape sequences for them
    :param bars: when in the trace a span ran, where there is room
    :param ascii: without the characters beyond it that are the tree's own
    :param max_depth: hide what is deeper; 1 shows the roots only
    :param min_duration: hide spans that took fewer microseconds, unless they
        failed or are unfinished, or one below them is shown
    :param fold: show as one line siblings that are alike, groups of them that
        come again and again, and what is late with all that is below it
    """

    width: int | None = None
    colours: bool = False
    bars: bool = False
    ascii: bool = False
    max_depth: int | None = None
    min_duration: int | None = None
    fold: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """What is one line.

    :param depth: 0 for a root
    :param spans: siblings; several where they are folded
    :param period: after how many of them the same comes again
    :param inside: how many spans below them have no line of their own because
        they are late
    :param parent: None for a root
    """

    depth: int
    spans: Sequence[Span]
    period: int
    inside: int
    parent: Span | None


def render(
    trace: Trace,
    options: TreeOptions = TreeOptions(),
) -> Iterator[str]:
    """Give a heading, then a line for each span or row of spans alike."""
    lines = _lines(trace, options)
    if options.ascii:
        lines = (line.translate(_ONE_COLUMN_EACH) for line in lines)
    for line in lines:
        yield f"{line}\n"


def _lines(trace: Trace, options: TreeOptions) -> Iterator[str]:
    heading = Heading.of(trace)
    if options.width is not None and options.width < _LEAST_WITH_BARS:
        options = replace(options, bars=False)
    yield from heading.lines(trace, options.width)
    critical = time_on_path(critical_path(trace))
    if None in critical:
        yield (
            f"critical path: {duration(sum(critical.values()))}; in"
            f" {duration(critical[None])} of it nothing known ran"
        )
    yield ""
    bar = " " * (_BAR_COLUMNS + 2) if options.bars else ""
    yield (
        f"{'start':>8} {'total':>10} {'self':>8} {'critical':>8}  {bar}"
        "operation"
    )
    over = max(
        (
            _spans.ended(span, trace.finished)
            for span in trace.spans
            if span.trace_id not in heading.late
        ),
        default=trace.finished,
    )
    known = _Known(heading.late, critical, trace.started, over)
    for row in rows(trace, options, heading.late):
        yield _line(row, options, known)


def rows(trace: Trace, options: TreeOptions, late: Set[str]) -> Iterator[Row]:
    """What has a line each; parents first.

    :param late: the spans that are, by trace_id
    """
    shown = _Shown(
        late,
        _hidden(trace, options),
        _inside(trace, late) if options.fold else {},
        options.fold,
    )
    waiting = [shown.siblings(trace.roots, None, 0)]
    while waiting:
        row = next(waiting[-1], None)
        if row is None:
            waiting.pop()
            continue
        yield row
        first = row.spans[0]
        if first.trace_id in shown.inside:
            continue
        if options.max_depth is None or len(waiting) < options.max_depth:
            # Spans that are shown as one have no children.
            waiting.append(shown.siblings(first.children, first, len(waiting)))


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown of spans, known by their trace_id.

    :param hidden: those that are not
    :param inside: those that are with all that is below them, and how many
        that are
    """

    late: Set[str]
    hidden: Set[str]
    inside: Mapping[str, int]
    fold: bool

    def siblings(
        self, spans: Iterable[Span], parent: Span | None, depth: int
    ) -> Iterator[Row]:
        shown = [span for span in spans if span.trace_id not in self.hidden]
        looks = [self._look(span) if self.fold else None for span in shown]
        for start, length, period in runs(looks):
            folded = shown[start : start + length]
            inside = sum(self.inside.get(span.trace_id, 0) for span in folded)
            yield Row(depth, folded, period, inside, parent)

    def _look(self, span: Span) -> tuple[object, ...] | None:
        """What spans of one line have in common; None: never in one."""
        if span.duration is None or span.exception is not None:
            return None
        if span.children and span.trace_id not in self.inside:
            return None
        is_late = span.trace_id in self.late
        return _spans.label(span), _spans.place(span), is_late


def _hidden(trace: Trace, options: TreeOptions) -> set[str]:
    """Spans that are too short to be shown, by trace_id."""
    hidden: set[str] = set()
    if options.min_duration is None:
        return hidden
    # Children first, because what is shown has its parents above it.
    for _, span in reversed([*trace.walk()]):
        if (
            span.duration is not None
            and span.duration < options.min_duration
            and span.exception is None
            and all(child.trace_id in hidden for child in span.children)
        ):
            hidden.add(span.trace_id)
    return hidden


def _inside(trace: Trace, late: Set[str]) -> dict[str, int]:
    """The late spans that have one line with all that is below them.

    :returns: how many that are, by trace_id. What failed, or has something
        below it that did, is not in it.
    """
    inside: dict[str, int] = {}
    if late:
        for _, span in reversed([*trace.walk()]):
            if (
                span.trace_id in late
                and span.exception is None
                and all(child.trace_id in inside for child in span.children)
            ):
                inside[span.trace_id] = sum(
                    1 + inside[child.trace_id] for child in span.children
                )
    return inside


class _Known(NamedTuple):
    """What is known of the trace that rows are of.

    :param late: the spans that are, by trace_id
    :param critical: of spans on the critical path, by trace_id, for how long
    :param began: when the trace did
    :param ended: when that ended of it which is not late
    """

    late: Set[str]
    critical: Mapping[str | None, int]
    began: int
    ended: int


def _line(row: Row, options: TreeOptions, known: _Known) -> str:
    """The text of a row."""
    first = row.spans[0]
    total = [span.duration for span in row.spans if span.duration is not None]
    own = [span.self_time for span in row.spans if span.self_time is not None]
    critical = sum(known.critical.get(span.trace_id, 0) for span in row.spans)
    missing = "unfinished" if first.stop is None else "no start"
    line = (
        f"{duration(first.started - known.began):>8}"
        f" {duration(sum(total)) if total else missing:>10}"
        f" {duration(sum(own)) if own else '-':>8}"
        f" {duration(critical) if critical else '':>8}  "
    )
    if options.bars:
        line += f"{_bar(row, known.began, known.ended)}  "
    indent = min(2 * row.depth, _MAX_INDENT)
    room = None
    if options.width is not None:
        room = max(options.width - len(line), 20)
        indent = min(indent, room // 2)
        room -= indent
    below = " " * (len(line) + indent + 2)
    most = room
    if options.bars and options.colours:
        times, bar = line[:_TIMES_COLUMNS], line[_TIMES_COLUMNS:]
        line = f"{times}{_CYAN}{bar}{_RESET}"
    line += " " * indent
    more = ""
    for part in _parts(row, first.trace_id in known.late, room):
        text = part.text
        is_below = False
        if room is not None and most is not None:
            is_below = part.is_needed and width(text) > room
            if is_below:
                text = cut(text.lstrip(), most - 2)
            else:
                text = cut(text, room) if room >= part.least else ""
                room -= width(text)
        if text and part.colour and options.colours:
            text = f"{part.colour}{text}{_RESET}"
        if is_below:
            more += f"\n{below}{text}"
        else:
            line += text
    return line.rstrip() + more


def _bar(row: Row, began: int, ended: int) -> str:
    """When in the trace a row ran; an unfinished span to the trace's end."""
    last = row.spans[-1]
    whole = max(ended - began, 1)
    begin, end = (
        max(0, min(_BAR_COLUMNS, round((time - began) * _BAR_COLUMNS / whole)))
        for time in (row.spans[0].started, _spans.ended(last, ended))
    )
    begin = min(begin, _BAR_COLUMNS - 1)
    drawn = _BAR * max(end - begin, 1)
    if last.stop is None:
        drawn = drawn[:-1] + _OPEN
    return (" " * begin + drawn).ljust(_BAR_COLUMNS)


class _Part(NamedTuple):
    """A part of what is said of a row.

    :param least: in fewer columns it says nothing
    :param is_needed: it has a line of its own where there is no room for it
    """

    text: str
    colour: str = ""
    least: int = 1
    is_needed: bool = False


def _parts(row: Row, is_late: bool, room: int | None) -> Iterator[_Part]:
    """What is said of a row; what matters most is first."""
    first = row.spans[0]
    names = [_spans.label(span) for span in row.spans[: row.period]]
    name = f"({'; '.join(names)})" if row.period > 1 else names[0]
    times = len(row.spans) // row.period
    count = f" × {times}" if times > 1 else ""
    if room is not None:
        # How often is said, whatever else is not.
        name = cut(name, max(room - len(count), 1))
    colour = _DIM if is_late else ""
    failure = _spans.error(first)
    if failure is not None:
        colour = _RED
    elif first.duration is None:
        colour = _YELLOW
    yield _Part(name + count, colour)
    if failure is not None:
        yield _Part(f" ! {printable(failure)}", _RED, is_needed=True)
    if is_late:
        inside = f", {row.inside} inside" if row.inside else ""
        yield _Part(f" (late{inside})", _DIM)
    where = _where(row, room)
    if where:
        yield _Part(where, _DIM)
    if len(row.spans) == 1:
        yield _Part(_detail(first), _DIM, _LEAST_DETAIL)


def _where(row: Row, room: int | None) -> str:
    """The service and the host, where they are not those of the line above.

    Without the host where all of it would take more than half of the room.
    """
    above = None if row.parent is None else _spans.place(row.parent)
    places = {
        place: None
        for place in map(_spans.place, row.spans[: row.period])
        if place != above and any(place)
    }
    where = ", ".join(map(str, places))
    if room is not None and width(where) > room // 2:
        bare = dict.fromkeys(str(place._replace(host="")) for place in places)
        where = ", ".join(bare)
    return f" [{where}]" if where else ""


def _detail(span: Span) -> str:
    """What the operation leaves out; not the module of a function."""
    if operation.function_name(span.first):
        return ""
    detail = _spans.detail(span)[: _MAX_DETAIL + 1]
    shown = cut(printable(detail), _MAX_DETAIL)
    return f" {shown}" if shown else ""
