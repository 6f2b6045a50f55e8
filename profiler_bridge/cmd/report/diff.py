# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-report diff."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from profiler_bridge import arguments, exceptions
from profiler_bridge.cmd.report import columns
from profiler_bridge.cmd.report.base import ListingCommand
from profiler_bridge.cmd.report.files import write_private
from profiler_bridge.cmd.report.tables import Column, add_long, keys, table
from profiler_bridge.report.comparison import Change, Comparison, Side, Verdict
from profiler_bridge.report.significance import FEWEST
from profiler_bridge.report.statistics import By, Statistics
from profiler_bridge.trace import Trace

# How much slower an operation may get before --fail-over counts it: nobody
# minds less. Microseconds a trace.
_LEAST = 1000
#: The exit code when one got slower.
SLOWER = 3

_BY = (By.OPERATION, By.STATEMENT, By.SERVICE, By.ROOT)


class Diff(ListingCommand):
    """Compare traces, or sets of traces: what got slower, is new, is gone"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        for name in ("before", "after"):
            parser.add_argument(
                name,
                metavar=name.upper(),
                help="A base id, a file, or filters of traces in one word,"
                " such as service=nova,since=2h,limit=100.",
            )
        parser.add_argument(
            "--by",
            type=By,
            choices=_BY,
            default=By.OPERATION,
            help="What to compare by; 'root' compares how long whole traces"
            " took to be answered (default: %(default)s).",
        )
        parser.add_argument(
            "--without-late",
            action="store_true",
            help="Leave out late spans: what a service's thread did for"
            " others, long after the request was over.",
        )
        parser.add_argument(
            "--fail-over",
            type=arguments.percent,
            metavar="PERCENT",
            help=f"Exit with {SLOWER} if an operation takes longer by more"
            f" than this, and by at least {_LEAST // 1000} ms a trace. From"
            f" {FEWEST} traces a side on, only what is more than noise"
            " counts.",
        )
        parser.add_argument(
            "--html",
            metavar="FILE",
            help="Also write the comparison to this file, as a page for a"
            " browser, readable for you only; it shows two traces one above"
            " the other.",
        )
        add_long(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        sides = parsed_args.before, parsed_args.after
        self._traces: list[Trace] = []
        before, after = (self._statistics(text, parsed_args) for text in sides)
        comparison = Comparison(before, after)
        self.app.stderr.write(
            f"before: {before}\nafter: {after}\n{comparison}\n"
        )
        if parsed_args.html is not None:
            # Not needed by other commands, which are imported with this one.
            from profiler_bridge.report import comparison_page

            write_private(
                parsed_args.html,
                comparison_page.render(
                    *(comparison, *sides, self._traces),
                ),
            )
        limit = parsed_args.fail_over
        self._is_slower = limit is not None and any(
            _is_over(change, limit) for change in comparison.changes
        )
        return table(_columns(parsed_args.by), comparison.changes, parsed_args)

    def run(self, parsed_args: argparse.Namespace) -> int:
        code: int = super().run(parsed_args)
        return SLOWER if not code and self._is_slower else code

    def _statistics(
        self, text: str, parsed_args: argparse.Namespace
    ) -> Statistics:
        statistics = Statistics(parsed_args.by, parsed_args.without_late)
        if self.is_trace(text):
            trace = self.trace(text)
            self._traces.append(trace)
            statistics.add(trace)
            return statistics
        try:
            query = arguments.query_of_text(text)
        except argparse.ArgumentTypeError as error:
            raise exceptions.ConfigurationError(str(error)) from None
        names = [part.partition("=")[0].strip() for part in text.split(",")]
        if "limit" not in names:
            query = replace(query, limit=None)
        self.sum_up(self.stored(query), statistics)
        if not statistics.traces:
            raise exceptions.TraceNotFound(
                f"no trace matches {columns.for_people(text)}"
            )
        return statistics


def _is_over(change: Change, limit: float) -> bool:
    if change.percent is None or change.percent <= limit:
        return False
    if change.time < _LEAST:
        return False
    if min(change.before.traces, change.after.traces) < FEWEST:
        return True
    return change.verdict is Verdict.SLOWER


def _columns(by: By) -> list[Column[Change]]:
    shown: list[Column[Change]] = [
        *keys(by, lambda change: change.key),
        *_both("Traces", lambda side: side.group.traces),
    ]
    if by is not By.ROOT:
        shown += [
            *_both("Calls", lambda side: round(side.calls, 2)),
            *_both("Mean", lambda side: _time(side.group.durations.mean)),
        ]
    return [
        *shown,
        *_both("p50", lambda side: _time(side.group.durations.percentile(50))),
        *_both("p95", lambda side: _time(side.group.durations.percentile(95))),
        Column("Before", lambda change: _time(change.before.time)),
        Column("After", lambda change: _time(change.after.time), True),
        Column("Change", lambda change: columns.Change(change.time)),
        Column(
            "Percent", lambda change: columns.Percent(change.percent), True
        ),
        Column("Verdict", lambda change: str(change.verdict)),
        Column("Chance", lambda change: _chance(change), True),
    ]


def _both(
    head: str, cell: Callable[[Side], object]
) -> tuple[Column[Change], Column[Change]]:
    return (
        Column(f"{head} before", lambda change: cell(change.before), True),
        Column(f"{head} after", lambda change: cell(change.after), True),
    )


def _time(microseconds: float) -> columns.Duration:
    return columns.Duration(microseconds)


def _chance(change: Change) -> float | None:
    probability = change.probability
    return None if probability is None else float(f"{probability:.2g}")
