# SPDX-License-Identifier: Apache-2.0

"""A comparison as one HTML page that loads nothing and runs nothing.

There is no script in it. What comes from traces is text, escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from profiler_bridge.report import document
from profiler_bridge.report.comparison import Change, Comparison, Side
from profiler_bridge.report.statistics import By
from profiler_bridge.report.text import duration, percent, shortened
from profiler_bridge.text import printable

#: Nobody reads further.
MOST_ROWS = 1000
_LONGEST_KEY = 2000
# The width and the height of the bars of a row, and of one of them.
_WIDTH, _HEIGHT, _BAR = 160, 34, 12


def render(comparison: Comparison, before: str, after: str) -> Iterator[str]:
    """Give the page in pieces, in ASCII.

    :param before: what was asked for on this side, such as filters
    :param after: likewise
    """
    by = comparison.before.by
    title = printable(shortened(str(comparison), _LONGEST_KEY))
    yield document.head(title, document.assets("base.css", "comparison.css"))
    body, tail = document.assets("comparison.html").split("{rows}")
    left_out = len(comparison.changes) - MOST_ROWS
    yield body.format(
        title=_text(title),
        before=_text(before),
        before_traces=_text(str(comparison.before)),
        after=_text(after),
        after_traces=_text(str(comparison.after)),
        heads="".join(heads(by)),
    )
    yield from rows(comparison)
    yield tail.format(
        end=(
            f"and {left_out:,} more that changed less" if left_out > 0 else ""
        ),
        made=document.text(document.made()),
    )


def rows(comparison: Comparison) -> Iterator[str]:
    """The rows of the table as HTML, in ASCII; :data:`MOST_ROWS` at most."""
    changes = comparison.changes[:MOST_ROWS]
    longest = max(
        (max(change.before.time, change.after.time) for change in changes),
        default=0,
    )
    for change in changes:
        yield _row(change, longest, comparison.before.by)


def heads(by: By) -> Iterator[str]:
    """The cells above the table's columns, likewise."""
    time = "Answered after" if by is By.ROOT else "Self time a trace"
    yield f"<th>{by.capitalize()}</th><th>Verdict</th><th>{time}</th>"
    for head in ("Time", "Change", *_numbers(by)):
        yield f'<th class="number">{head}</th>'


def _row(change: Change, longest: float, by: By) -> str:
    *service, what = change.key
    where = f"<div>{_text(service[0])}</div>" if service else ""
    share = "" if change.percent is None else percent(change.percent)
    # "too few" is two words.
    verdict = str(change.verdict)
    sign = "+" if change.time > 0 else ""
    cells = (
        f"<th>{_text(what) or '(none)'}{where}</th>",
        f'<td class="{verdict.split()[-1]}">{verdict}</td>',
        f"<td>{_bars(change, longest)}</td>",
        _two(duration(change.before.time), duration(change.after.time)),
        _two(f"{sign}{duration(change.time)}", share, of_after=True),
        *(
            _two(cell(change.before), cell(change.after))
            for cell in _numbers(by).values()
        ),
    )
    return f"<tr>{''.join(cells)}</tr>\n"


def _two(above: str, below: str, *, of_after: bool = False) -> str:
    """A cell of two lines; the first is of before unless both are of after."""
    first = "<div>" if of_after else '<div class="before">'
    return (
        f'<td class="number">{first}{_text(above)}</div>'
        f"<div>{_text(below)}</div></td>"
    )


def _bars(change: Change, longest: float) -> str:
    # No style in an element, which the policy does not allow.
    return f'<svg aria-hidden="true" viewBox="0 0 {_WIDTH} {_HEIGHT}">' + (
        "".join(
            f'<rect class="{name}" y="{y}" height="{_BAR}"'
            f' width="{max(side.time, 0) / (longest or 1) * _WIDTH:.2f}"/>'
            for name, side, y in (
                ("before", change.before, 3),
                ("after", change.after, _HEIGHT - _BAR - 3),
            )
        )
        + "</svg>"
    )


def _quantile(percent: int) -> Callable[[Side], str]:
    return lambda side: duration(side.group.durations.percentile(percent))


def _numbers(by: By) -> dict[str, Callable[[Side], str]]:
    whole: dict[str, Callable[[Side], str]] = {
        "Traces": lambda side: f"{side.group.traces:,}",
    }
    if by is not By.ROOT:
        whole |= {
            "Calls a trace": lambda side: f"{side.calls:.2f}",
            "Mean": lambda side: duration(side.group.durations.mean),
        }
    return {**whole, "p50": _quantile(50), "p95": _quantile(95)}


def _text(text: str) -> str:
    """Any text as HTML that is nothing but text."""
    return document.text(printable(shortened(text, _LONGEST_KEY)))
