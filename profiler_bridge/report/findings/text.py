# SPDX-License-Identifier: Apache-2.0

"""Findings as a person reads them in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from profiler_bridge.notification import format_timestamp
from profiler_bridge.report.findings import Finding
from profiler_bridge.report.findings.totals import Totals
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.text import duration
from profiler_bridge.trace import Trace

# Sentences are not made narrower than this.
_NARROWEST = 30
# How many characters of a base_id find a trace.
_ENOUGH = 8

_NOTHING = "nothing worth telling\n"


def render(
    trace: Trace, told: Sequence[Finding], width: int | None = None
) -> Iterator[str]:
    """Give a heading, and of each finding when it began, and its cost.

    :param width: how many columns a line may take; None for any number
    """
    heading = Heading.of(trace)
    yield f"{heading.title}: {heading.took}\n"
    yield f"trace {trace.base_id}, {format_timestamp(trace.started)} UTC\n\n"
    if not told:
        yield _NOTHING
        return
    yield f"{'start':>8} {'on path':>8} {'total':>8}  finding\n"
    for finding in told:
        start = finding.started - trace.started
        cells = start, finding.critical, finding.total
        yield from _lines(
            [*map(duration, cells)],
            f"{finding.rule}: {finding.title}",
            width,
        )


def render_totals(totals: Totals, width: int | None = None) -> Iterator[str]:
    """Give what findings cost in all traces together, and an example."""
    ordered = totals.ordered()
    if not ordered:
        yield _NOTHING
        return
    yield f"{'traces':>8} {'on path':>8} {'total':>8}  finding\n"
    for (rule, service, operation), group in ordered:
        what = f"{rule}: {operation}" if rule else operation
        where = f" [{service}]" if service else ""
        cells = (
            f"{group.traces:,}",
            duration(group.critical),
            duration(group.total),
        )
        yield from _lines(cells, f"{what}{where}", width)
        yield from _lines(
            ("", "", ""), f"{group.base_id[:_ENOUGH]}: {group.title}", width
        )


def _lines(
    cells: Iterable[str], text: str, width: int | None
) -> Iterator[str]:
    head = f"{' '.join(f'{cell:>8}' for cell in cells)}  "
    lines = [text]
    if width is not None:
        room = max(width - len(head), _NARROWEST)
        lines = textwrap.wrap(text, room, break_on_hyphens=False)
    for line in lines:
        yield f"{head}{line}\n"
        head = " " * len(head)
