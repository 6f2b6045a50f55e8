# SPDX-License-Identifier: Apache-2.0

"""A picture of a soak: plain SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_WIDTH = 760
_LEFT = 62
_RIGHT = 150
_PLOT = _WIDTH - _LEFT - _RIGHT
_HEIGHT = 110
_GAP = 46
_TOP = 26
# Okabe and Ito's, which most people can tell apart.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#56b4e9", "#b8860b", "#000000", "#888888"),
)
_MOST_POINTS = 180
Row = Mapping[str, float]
#: Seconds, and what begins then; an empty text: it is over.
Event = tuple[float, str]

# Title, how the columns' names begin, factor; the least value of an axis that
# is logarithmic, 0 of one that is not.
_PANELS = (
    ("memory of the bridge's processes, MiB", "rss ", 1.0, 0.0),
    ("memory of MariaDB and RabbitMQ, MiB", "rss ", 1.0, 0.0),
    ("from a point's time until it is stored, mean, s", "lag", 1.0, 0.1),
    ("messages that wait", "waiting", 1.0, 0.0),
    ("rows of the tables, thousands", "rows ", 1e-3, 0.0),
    ("tables on the disk, MiB", "bytes ", 2.0**-20, 0.0),
)


def draw(rows: Sequence[Row], events: Sequence[Event]) -> str:
    """All panels, one below the other, over the same time."""
    end = max(rows[-1]["seconds"], 1.0)
    parts: list[str] = []
    for number, (title, prefix, factor, least) in enumerate(_PANELS):
        top = _TOP + number * (_HEIGHT + _GAP)
        servers = "MariaDB" in title
        names = [
            name
            for name in dict.fromkeys(name for row in rows for name in row)
            if name.startswith(prefix)
            and name not in ("lag sum", "lag count")
            and (prefix != "rss " or (name[4:5].isupper() == servers))
        ]
        series = {
            name.removeprefix(prefix) or name: [
                (row["seconds"], row[name] * factor)
                for row in rows
                if name in row
            ]
            for name in names
        }
        parts += _panel(title, series, events, end, top, least)
    height = _TOP + len(_PANELS) * (_HEIGHT + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH}'
        f' {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )


def _panel(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    events: Sequence[Event],
    end: float,
    top: float,
    least: float,
) -> Iterable[str]:
    most = max(
        (value for points in series.values() for _, value in points),
        default=0.0,
    )
    most = (
        10 ** math.ceil(math.log10(max(most, 10 * least)))
        if least
        else _round_up(most)
    )
    bottom = top + _HEIGHT

    def x(seconds: float) -> float:
        return _LEFT + _PLOT * seconds / end

    def y(value: float) -> float:
        part = value / most
        if least:
            part = math.log(max(value, least) / least, most / least)
        return bottom - _HEIGHT * part

    yield _text(_LEFT, top - 8, title, weight="bold")
    for begin, over in zip(
        events[::2], [*events[1::2], (end, "")], strict=False
    ):
        left, right = x(begin[0]), x(over[0])
        yield (
            f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}"'
            f' height="{_HEIGHT}" fill="#f3d9d0"/>'
        )
        if top == _TOP:  # in the others it would stand on lines
            yield _text(left, bottom - 6, begin[1], colour="#a33")
    values = [0.0, most / 2, most]
    if least:
        values = [least, math.sqrt(least * most), most]
    for value in values:
        level = y(value)
        yield (
            f'<path d="M{_LEFT} {level:.1f}H{_LEFT + _PLOT}"'
            ' stroke="#ddd" fill="none"/>'
        )
        yield _text(_LEFT - 6, level + 4, _number(value), anchor="end")
    steps = (1, 2, 5, 10, 30, 60)
    step = next(
        (minutes for minutes in steps if end < minutes * 600), steps[-1]
    )
    for minutes in range(0, int(end // 60) + 1, step):
        yield _text(x(minutes * 60), bottom + 14, f"{minutes} min", "middle")
    coloured = [
        (name, points, colour)
        for (name, points), colour in zip(
            series.items(), itertools.cycle(_COLOURS), strict=False
        )
        if points
    ]
    for _, points, colour in coloured:
        step = max(1, len(points) // _MOST_POINTS)
        line = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points[::step])
        yield (
            f'<path d="M{line}" stroke="{colour}" fill="none"'
            ' stroke-width="1.3"/>'
        )
    # Names stand beside the ends of the lines, and not on each other.
    ends = sorted(
        (y(points[-1][1]), name, colour) for name, points, colour in coloured
    )
    free = top - 2.0
    room = len(ends) * 12
    for place, name, colour in ends:
        at = max(free, min(place + 4, bottom + 8 - room + 12))
        room -= 12
        free = at + 12
        value = series[name][-1][1]
        yield _text(
            _LEFT + _PLOT + 6, at, f"{name} {_number(value)}", colour=colour
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 10, 20 and so on."""
    size = 1e-3
    while size < value:
        for factor in (1, 2, 4, 5):
            if size * factor >= value:
                return size * factor
        size *= 10
    return size


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    colour: str = "#333",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        f' fill="{colour}" font-weight="{weight}">{escape(text)}</text>'
    )
