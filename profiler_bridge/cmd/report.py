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
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.columns import FormattableColumn
from cliff.lister import Lister

from profiler_bridge import report
from profiler_bridge.cmd.app import BridgeApp, BridgeCommand
from profiler_bridge.notification import format_timestamp
from profiler_bridge.query import DEFAULT_LIMIT, TraceQuery, TraceSummary
from profiler_bridge.report.text import milliseconds, printable


class _Printable(FormattableColumn[str]):
    """Text from a trace: made harmless for a terminal, whole for a program."""

    def human_readable(self) -> str:
        return printable(self._value)


class List(BridgeCommand, Lister):
    """List traces, the newest first"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--limit",
            type=_positive,
            default=DEFAULT_LIMIT,
            help="how many (default: %(default)s)",
        )
        parser.add_argument(
            "--marker",
            metavar="BASE_ID",
            help="the last trace of the page before",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        query = TraceQuery(limit=parsed_args.limit, marker=parsed_args.marker)
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


class Show(BridgeCommand):
    """Show a trace as a tree, or as osprofiler's JSON"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("base_id", metavar="BASE_ID", help="the trace")
        parser.add_argument(
            "-f",
            "--format",
            choices=sorted(report.FORMATS),
            default="tree",
            help="(default: %(default)s)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        trace = self.storage.trace(parsed_args.base_id)
        for piece in report.FORMATS[parsed_args.format](trace):
            self.app.stdout.write(piece)


def _row(summary: TraceSummary) -> tuple[Any, ...]:
    return (
        summary.base_id,
        format_timestamp(summary.started),
        milliseconds(summary.duration),
        _Printable(summary.root or "-"),
        summary.spans,
        summary.errors,
        _Printable(", ".join(summary.services)),
        summary.complete,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    return BridgeApp(
        "profiler_bridge.report",
        "Reports from the traces that profiler-bridge stored.",
    ).run(sys.argv[1:])
