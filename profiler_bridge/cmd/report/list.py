# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-report list."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.columns import FormattableColumn

from profiler_bridge import arguments
from profiler_bridge.cmd.report.base import ListingCommand
from profiler_bridge.cmd.report.columns import BaseID, Printable
from profiler_bridge.cmd.report.tables import Column, add_long, table
from profiler_bridge.notification import format_timestamp
from profiler_bridge.query import TraceQuery
from profiler_bridge.report.text import duration
from profiler_bridge.summary import TraceSummary

# Seconds.
_TIME_LIMIT = 30.0


class List(ListingCommand):
    """List traces, the newest first"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_long(parser)
        arguments.add_filters(parser)
        parser.set_defaults(time_limit=_TIME_LIMIT)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        query = arguments.query(parsed_args)
        page = self.storage.page(query)
        for summary in page.traces:
            self.report_gone(summary.base_id, summary.gone)
        if page.stopped is not None:
            self.app.stderr.write(_of_stop(query, page.stopped))
        elif not page.traces:
            self.app.stderr.write(self.what_there_is(query))
        return table(_COLUMNS, page.traces, parsed_args)


def _of_stop(query: TraceQuery, last: TraceSummary) -> str:
    """That a search was stopped, and where."""
    return (
        f"stopped after {query.time_limit:g} s, at a trace that started"
        f" {format_timestamp(last.started)} and took"
        f" {duration(last.duration)}; what comes after it was not"
        " looked at: ask for fewer with --root, --about or --until, or give"
        " a longer --time-limit\n"
    )


class _Title(Printable):
    """People see of a trace as well whether something in it failed."""

    def __init__(self, title: str, has_failed: bool) -> None:
        super().__init__(title)
        self._has_failed = has_failed

    def human_readable(self) -> str:
        title = super().human_readable()
        return f"! {title}" if self._has_failed else title


class _Moment(FormattableColumn[Any]):
    """Microseconds since 1970; people see seconds."""

    def human_readable(self) -> str:
        return format_timestamp(self._value)[:19].replace("T", " ")

    def machine_readable(self) -> str:
        return format_timestamp(self._value)


class _Lasted(FormattableColumn[int | None]):
    """Microseconds; None where it is not known."""

    def human_readable(self) -> str:
        return "-" if self._value is None else duration(self._value)


class _Took(FormattableColumn[Any]):
    """How long a trace lasted, until it was answered, and after that.

    A program gets the first.
    """

    def human_readable(self) -> str:
        lasted, answered, after = self._value
        text = f"{duration(lasted if answered is None else answered):>7}"
        return f"{text} (+{duration(after)})" if after else text

    def machine_readable(self) -> int:
        return int(self._value[0])


def _title(summary: TraceSummary) -> _Title:
    return _Title(summary.title or "-", summary.errors > 0)


def _took(summary: TraceSummary) -> _Took:
    return _Took((summary.duration, summary.answered, summary.after))


_COLUMNS: tuple[Column[TraceSummary], ...] = (
    Column("Base ID", lambda summary: BaseID(summary.base_id)),
    Column("Started (UTC)", lambda summary: _Moment(summary.started)),
    Column("Title", _title),
    Column("Duration", _took),
    Column("Answered", lambda summary: _Lasted(summary.answered), True),
    Column("After", lambda summary: _Lasted(summary.after), True),
    Column("Spans", lambda summary: summary.spans, True),
    Column("Errors", lambda summary: summary.errors, True),
    Column(
        "Services",
        lambda summary: Printable(", ".join(summary.services)),
        True,
    ),
    Column("Complete", lambda summary: summary.complete, True),
)
