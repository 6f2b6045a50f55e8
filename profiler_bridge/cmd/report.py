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

"""profiler-bridge-report: what is stored, for people and programs."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cliff.columns import FormattableColumn
from cliff.lister import Lister

from profiler_bridge import exceptions, report
from profiler_bridge.cmd import arguments
from profiler_bridge.cmd.app import BridgeApp, BridgeCommand
from profiler_bridge.notification import format_timestamp, is_id
from profiler_bridge.query import TraceQuery, TraceSummary
from profiler_bridge.report import json, tree
from profiler_bridge.report.statistics import Statistics, Total, changes
from profiler_bridge.report.text import milliseconds, printable
from profiler_bridge.trace import Trace

# --wait: how often to look, and for how long nothing may come, in seconds.
_LOOK_EVERY = 0.5
_QUIET = 3.0
# For so many seconds an incomplete trace may only be late.
_STILL_ARRIVING = 30.0
# How much slower an operation may get before --fail-over counts it: below,
# it is noise. Microseconds a trace.
_NOISE = 1000
SLOWER = 3


class _Printable(FormattableColumn[str]):
    """Text from a trace: made harmless for a terminal, whole for a program."""

    def human_readable(self) -> str:
        return printable(self._value)


class _Milliseconds(FormattableColumn[float]):
    """Microseconds, shown as milliseconds, to a program as a number."""

    def human_readable(self) -> str:
        return milliseconds(self._value)

    def machine_readable(self) -> float:
        return self._value / 1000


class ReadingCommand(BridgeCommand):
    """A command that reads traces: from the storage, and from files."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--include-osprofiler",
            action="store_true",
            help="also what osprofiler's own redis driver stored; to list"
            " that, every key of the database is looked at",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.include_osprofiler:
            if not hasattr(self.storage, "include_osprofiler"):
                raise exceptions.ConfigurationError(
                    f"{self.storage} has nothing that osprofiler stored"
                )
            self.storage.include_osprofiler = True
        code: int = super().run(parsed_args)
        return code

    def trace(self, name: str) -> Trace:
        """By base_id, or from a file with a report of it."""
        if not is_id(name):
            try:
                return json.read(Path(name).read_text())
            except OSError as error:
                raise exceptions.TraceNotFound(
                    f"{printable(name)} is no base_id, and no file that can"
                    f" be read: {error.strerror}"
                ) from None
            except exceptions.InvalidNotification as error:
                raise exceptions.TraceNotFound(
                    f"{printable(name)}: {error}"
                ) from None
        return self.storage.trace(name)

    def statistics(self, query: TraceQuery) -> Statistics:
        """Of stored traces; counts them on a terminal meanwhile."""
        found = Statistics()
        terminal = self.app.stderr.isatty()
        for trace in self.storage.traces(query):
            found.add(trace)
            if terminal:
                self.app.stderr.write(f"\r{found.traces} traces ")
        if terminal:
            self.app.stderr.write("\r\x1b[K")
        return found


class List(ReadingCommand, Lister):
    """List traces, the newest first"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        arguments.add_filters(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        query = arguments.query(parsed_args)
        return (
            (
                "Base ID",
                "Started (UTC)",
                "Duration (ms)",
                "Root",
                "Spans",
                "Errors",
                "Services",
                "Complete",
            ),
            [_row(each) for each in self.storage.list_traces(query)],
        )


class Show(ReadingCommand):
    """Show a trace"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "trace",
            metavar="BASE_ID|FILE",
            help="a stored trace, or a file that 'show -f json' or osprofiler"
            " wrote",
        )
        parser.add_argument(
            "-f",
            "--format",
            choices=sorted(report.FORMATS),
            default="tree",
            help="(default: %(default)s)",
        )
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            help="write there, readable for you only, instead of printing",
        )
        parser.add_argument(
            "--wait",
            action="store_true",
            help="wait for a trace that still arrives, until it is quiet",
        )
        parser.add_argument(
            "--adjust-clocks",
            action="store_true",
            help="move what seems to have begun before it was asked for,"
            " because two hosts' clocks disagree; times in raw payloads stay"
            " as they are",
        )
        drawing = parser.add_argument_group("the tree")
        drawing.add_argument(
            "--max-depth",
            type=arguments.positive,
            help="hide what is deeper",
        )
        drawing.add_argument(
            "--min-duration",
            type=arguments.duration,
            help="hide what took less, unless it failed: 20ms, 1.5s",
        )
        drawing.add_argument(
            "--no-fold",
            action="store_true",
            help="a line for each of several siblings that are alike",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if parsed_args.wait and is_id(parsed_args.trace):
            self._wait(parsed_args.trace)
        trace = self.trace(parsed_args.trace)
        age = time.time() - trace.finished / 1_000_000
        if not trace.verdict.complete and 0 <= age < _STILL_ARRIVING:
            self.app.stderr.write(
                f"Its last notification is {age:.0f} s old, there may be more"
                " to come: see --wait\n"
            )
        if parsed_args.adjust_clocks:
            trace = trace.adjusted()
        if parsed_args.format == "tree":
            pieces = tree.render(
                trace,
                tree.TreeOptions(
                    terminal=self.app.stdout.isatty()
                    and parsed_args.output is None,
                    max_depth=parsed_args.max_depth,
                    min_duration=parsed_args.min_duration,
                    fold=not parsed_args.no_fold,
                ),
            )
        else:
            pieces = iter(report.FORMATS[parsed_args.format](trace))
        if parsed_args.output is None:
            for piece in pieces:
                self.app.stdout.write(piece)
            return
        try:
            _write_private(parsed_args.output, pieces)
        except OSError as error:
            raise exceptions.BridgeError(
                f"{parsed_args.output}: {error.strerror}"
            ) from None

    def _wait(self, base_id: str) -> None:
        """Until something of the trace is there, and no more comes."""
        count, quiet_since = 0, time.monotonic()
        while not count or time.monotonic() - quiet_since < _QUIET:
            time.sleep(_LOOK_EVERY)
            found = len(self.storage.notifications(base_id))
            if found != count:
                count, quiet_since = found, time.monotonic()
            if self.app.stderr.isatty():
                self.app.stderr.write(f"\r{count} notifications ")
                self.app.stderr.flush()
        if self.app.stderr.isatty():
            self.app.stderr.write("\n")


class Stats(ReadingCommand, Lister):
    """Show where the time of traces went"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "trace",
            nargs="*",
            metavar="BASE_ID|FILE",
            help="these traces; without any, those that the filters choose",
        )
        parser.add_argument(
            "--by",
            choices=["operation", "kind", "host", "statement"],
            default="operation",
            help="what to sum up by; 'statement' shows the SQL that is most"
            " repeated within one trace (default: %(default)s)",
        )
        arguments.add_filters(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        if parsed_args.trace:
            found = Statistics.of(map(self.trace, parsed_args.trace))
        else:
            found = self.statistics(arguments.query(parsed_args))
        if parsed_args.by == "statement":
            return _statements(found)
        totals: Iterable[tuple[tuple[str, ...], Total]]
        if parsed_args.by == "operation":
            totals = found.operations.items()
            return _totals(("Service", "Operation"), totals)
        groups = found.kinds if parsed_args.by == "kind" else found.hosts
        totals = (((key,), each) for key, each in groups.items())
        return _totals((parsed_args.by.capitalize(),), totals)


class Diff(ReadingCommand, Lister):
    """Compare traces, or sets of traces: what got slower, is new, vanished"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        for name in ("before", "after"):
            parser.add_argument(
                name,
                metavar=name.upper(),
                help="a base_id, a file, or filters of traces as one word:"
                " service=nova,since=2h,limit=100",
            )
        parser.add_argument(
            "--fail-over",
            type=arguments.percent,
            metavar="PERCENT",
            help=f"exit with {SLOWER} if an operation takes so much longer"
            f" a trace, and at least {_NOISE // 1000} ms",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        found = changes(
            self._statistics(parsed_args.before),
            self._statistics(parsed_args.after),
        )
        limit = parsed_args.fail_over
        self._too_slow = limit is not None and any(
            each.percent is not None
            and each.percent > limit
            and (each.after or 0) - (each.before or 0) >= _NOISE
            for each in found
        )
        return (
            (
                "Service",
                "Operation",
                "Before (ms)",
                "After (ms)",
                "Change (%)",
                "Calls before",
                "Calls after",
                "Verdict",
            ),
            [
                (
                    _Printable(each.service),
                    _Printable(each.operation),
                    _optional(each.before),
                    _optional(each.after),
                    None if each.percent is None else round(each.percent, 1),
                    round(each.calls_before, 2),
                    round(each.calls_after, 2),
                    each.verdict,
                )
                for each in found
            ],
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        code: int = super().run(parsed_args)
        return SLOWER if not code and self._too_slow else code

    def _statistics(self, text: str) -> Statistics:
        if is_id(text) or Path(text).exists():
            return Statistics.of([self.trace(text)])
        try:
            query = arguments.query_of_text(text)
        except argparse.ArgumentTypeError as error:
            raise exceptions.ConfigurationError(str(error)) from None
        found = self.statistics(query)
        if not found.traces:
            raise exceptions.TraceNotFound(f"no trace matches {text!a}")
        return found


def _row(summary: TraceSummary) -> tuple[Any, ...]:
    return (
        summary.base_id,
        format_timestamp(summary.started),
        _Milliseconds(summary.duration),
        _Printable(summary.root or "-"),
        summary.spans,
        summary.errors,
        _Printable(", ".join(summary.services)),
        summary.complete,
    )


def _totals(
    head: Sequence[str], totals: Iterable[tuple[tuple[str, ...], Total]]
) -> tuple[Sequence[str], Iterator[Any]]:
    """The rows of a table, those with the most time of their own first."""
    rows = sorted(totals, key=lambda item: (-item[1].self_time, item[0]))
    return (
        (
            *head,
            "Count",
            "Errors",
            "Total (ms)",
            "Self (ms)",
            "Mean (ms)",
            "p50 (ms)",
            "p95 (ms)",
            "p99 (ms)",
            "Max (ms)",
        ),
        (
            (
                *map(_Printable, key),
                total.count,
                total.errors,
                _Milliseconds(total.total),
                _Milliseconds(total.self_time),
                _Milliseconds(total.mean),
                *(
                    _Milliseconds(total.percentile(percent))
                    for percent in (50, 95, 99, 100)
                ),
            )
            for key, total in rows
        ),
    )


def _statements(
    found: Statistics,
) -> tuple[Sequence[str], Iterator[Any]]:
    rows = sorted(
        found.statements.items(),
        key=lambda item: (-item[1].most, -item[1].total, item[0]),
    )
    return (
        ("Most in a trace", "Count", "Total (ms)", "Trace", "Statement"),
        (
            (
                each.most,
                each.count,
                _Milliseconds(each.total),
                each.base_id,
                _Printable(statement),
            )
            for statement, each in rows
        ),
    )


def _optional(microseconds: float | None) -> _Milliseconds | None:
    return None if microseconds is None else _Milliseconds(microseconds)


def _write_private(path: str, pieces: Iterable[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(pieces)


def main() -> int:
    # What is read stays until it is printed. To look again and again whether
    # it is garbage takes as long as all the rest.
    gc.set_threshold(100_000, 50, 1000)
    return BridgeApp(
        "profiler_bridge.report",
        "Reports from the traces that profiler-bridge stored.",
    ).run(sys.argv[1:])
