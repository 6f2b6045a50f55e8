# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-report stats."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from profiler_bridge import arguments, exceptions
from profiler_bridge.cmd.report.base import ListingCommand
from profiler_bridge.cmd.report.columns import BaseID, Duration, Share
from profiler_bridge.cmd.report.tables import Column, add_long, keys, table
from profiler_bridge.query import TraceQuery
from profiler_bridge.report.statistics import By, Group, Key, Statistics, Sums
from profiler_bridge.report.waits import Wait, Waits
from profiler_bridge.trace import Trace

_Row = tuple[Key, Group]


class Stats(ListingCommand):
    """Show where the time of traces went"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "trace",
            nargs="*",
            metavar="BASE_ID|FILE",
            help="The traces; without any, all that the filters choose.",
        )
        parser.add_argument(
            "--by",
            type=By,
            choices=list(By),
            default=By.OPERATION,
            help="What to sum up by: 'statement' shows the SQL that is"
            " repeated most within one trace, 'root' how long whole traces"
            " took to be answered (default: %(default)s).",
        )
        parser.add_argument(
            "--without-late",
            action="store_true",
            help="Leave out late spans: what a service's thread did for"
            " others, long after the request was over.",
        )
        parser.add_argument(
            "--critical",
            action="store_true",
            help="Sum up critical paths only: what the ends of requests waited"
            " for. 'Share' is the mean over all traces. Not with --by root.",
        )
        add_long(parser)
        arguments.add_filters(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        if parsed_args.critical and parsed_args.by is By.ROOT:
            raise exceptions.ConfigurationError(
                "--critical: not with --by root, which sums up whole traces"
            )
        query = replace(arguments.query(parsed_args), limit=parsed_args.limit)
        if parsed_args.trace:
            traces: Iterable[Trace] = map(self.trace, parsed_args.trace)
        else:
            traces = self.stored(query)
        if parsed_args.critical:
            waits = Waits(parsed_args.by)
            self._sum_up(traces, waits, query)
            shown = _columns_of_waits(waits)
            return table(shown, waits.ordered(), parsed_args)
        by = parsed_args.by
        statistics = Statistics(by, parsed_args.without_late)
        self._sum_up(traces, statistics, query)
        rows = sorted(statistics.groups.items(), key=_ORDER.get(by, _by_time))
        return table(_columns(statistics), rows, parsed_args)

    def _sum_up(
        self, traces: Iterable[Trace], sums: Sums[Any], query: TraceQuery
    ) -> None:
        self.sum_up(traces, sums)
        self.app.stderr.write(
            f"{sums}\n" if sums.traces else self.what_there_is(query)
        )


def _by_time(row: _Row) -> tuple[Any, ...]:
    key, group = row
    return -group.self_time, key


def _by_repetition(row: _Row) -> tuple[Any, ...]:
    key, group = row
    return -group.most, -group.durations.total, key


_ORDER = {By.STATEMENT: _by_repetition}


def _quantile(head: str, percent: int, is_long: bool = False) -> Column[_Row]:
    return Column(
        head,
        lambda row: Duration(row[1].durations.percentile(percent)),
        is_long,
    )


_CALLS = Column[_Row]("Calls", lambda row: row[1].count)
_ERRORS = Column[_Row]("Errors", lambda row: row[1].errors)
_MEAN = Column[_Row]("Mean", lambda row: Duration(row[1].durations.mean), True)
_TOTAL = Column[_Row]("Total", lambda row: Duration(row[1].durations.total))
_TRACE = Column[_Row]("Trace", lambda row: BaseID(row[1].base_id))

_OF_SPANS = [
    Column[_Row]("Traces", lambda row: row[1].traces, True),
    _CALLS,
    replace(_ERRORS, is_long=True),
    replace(_TOTAL, is_long=True),
    Column[_Row]("Self", lambda row: Duration(row[1].self_time)),
    _MEAN,
    _quantile("p50", 50, is_long=True),
    _quantile("p95", 95),
    _quantile("p99", 99, is_long=True),
    _quantile("Max", 100, is_long=True),
]
_OF_ROOTS = [
    Column[_Row]("Answered", lambda row: row[1].traces, True),
    replace(_TOTAL, is_long=True),
    _MEAN,
    _quantile("p50", 50),
    _quantile("p95", 95),
    _quantile("p99", 99, is_long=True),
    _quantile("Max", 100, is_long=True),
    replace(_TRACE, is_long=True),
]
_OF_STATEMENTS = [
    Column[_Row]("Most", lambda row: row[1].most),
    _TRACE,
    _CALLS,
    replace(_ERRORS, is_long=True),
    _TOTAL,
    _MEAN,
    _quantile("p95", 95, is_long=True),
]


def _columns(statistics: Statistics) -> list[Column[_Row]]:
    by = statistics.by
    shown: list[Column[_Row]] = keys(by, itemgetter(0))
    if by is By.STATEMENT:
        # The widest last, where it can be cut.
        return _OF_STATEMENTS + shown
    if by is not By.ROOT:
        return shown + _OF_SPANS
    has_errors = any(group.errors for group in statistics.groups.values())
    return [
        *shown,
        Column("Traces", lambda row: row[1].count),
        replace(_ERRORS, is_long=not has_errors),
        *_OF_ROOTS,
    ]


_Waited = tuple[Key, Wait]


def _columns_of_waits(waits: Waits) -> list[Column[_Waited]]:
    shown: list[Column[_Waited]] = keys(waits.by, itemgetter(0))
    columns: list[Column[_Waited]] = [
        Column("Traces", lambda row: row[1].traces),
        Column("Spans", lambda row: row[1].spans, True),
        Column("Critical", lambda row: Duration(row[1].time)),
        Column("Share", lambda row: Share(waits.share(row[1]))),
        Column("Max", lambda row: Duration(row[1].most), True),
        Column("Trace", lambda row: BaseID(row[1].base_id), True),
    ]
    # The widest last, where it can be cut.
    is_last = waits.by is By.STATEMENT
    return columns + shown if is_last else shown + columns
