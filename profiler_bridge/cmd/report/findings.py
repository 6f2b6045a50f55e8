# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-report findings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from profiler_bridge import arguments
from profiler_bridge.cmd.report import terminal
from profiler_bridge.cmd.report.base import (
    ReadingCommand,
    add_adjust_clocks,
)
from profiler_bridge.trace import Trace

if TYPE_CHECKING:
    from profiler_bridge.report.findings import Finding, Limits, Rule
    from profiler_bridge.report.findings.totals import Totals

#: The exit code when there is something of which --fail-on says so.
FOUND = 3
_ANY = "any"

# What findings of many traces are added up by.
_KEYS = ("rule", "service", "operation")

# The option, the field of Limits, how it is read, and what it does.
_LIMITS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    (
        "--min-repeats",
        "repeats",
        arguments.positive,
        "SQL that one caller repeats this often (default: %(default)s).",
    ),
    (
        "--min-tokens",
        "tokens",
        arguments.positive,
        "Tokens that are validated this often (default: %(default)s).",
    ),
    (
        "--min-time",
        "time",
        arguments.duration,
        "Repetitions that take this long in all (default: 50ms).",
    ),
    (
        "--min-share",
        "share",
        arguments.percent,
        "Or this share of the critical path (default: 5%%).",
    ),
    (
        "--max-pause",
        "pause",
        arguments.duration,
        "Asking again after a longer pause is polling (default: 250ms).",
    ),
    (
        "--min-gap",
        "gap",
        arguments.duration,
        "Times in which nothing known ran (default: 100ms).",
    ),
    (
        "--min-statement",
        "statement",
        arguments.duration,
        "Single statements that take this long (default: 100ms).",
    ),
)

_METAVARS: dict[object, str] = {
    arguments.positive: "TIMES",
    arguments.duration: "DURATION",
    arguments.percent: "PERCENT",
}


class Findings(ReadingCommand):
    """Tell what was repeated, what was waited for, and what failed first"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        # Imported here, for cliff imports this to run any other command.
        from profiler_bridge.report.findings import DEFAULTS, Rule

        parser = super().get_parser(prog_name)
        parser.add_argument(
            "trace",
            nargs="*",
            metavar="BASE_ID|FILE",
            help="The trace. Findings of several traces, or without any of all"
            " that the filters choose, are added up.",
        )
        parser.add_argument(
            "-f",
            "--format",
            choices=("text", "json"),
            default="text",
            help="The format (default: %(default)s).",
        )
        parser.add_argument(
            "--fail-on",
            action="append",
            choices=[*Rule, _ANY],
            metavar="RULE",
            default=[],
            help=f"Exit with {FOUND} if there is a finding of this rule:"
            f" {', '.join(Rule)}, or {_ANY}; may be given more than once.",
        )
        add_adjust_clocks(parser)
        limits = parser.add_argument_group("what is worth telling, at least")
        for option, name, read, help_ in _LIMITS:
            limits.add_argument(
                option,
                dest=f"limit_{name}",
                metavar=_METAVARS[read],
                type=read,
                default=getattr(DEFAULTS, name),
                help=help_,
            )
        arguments.add_filters(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        from profiler_bridge.report.findings import Limits

        limits = Limits(
            **{
                limit.name: getattr(parsed_args, f"limit_{limit.name}")
                for limit in fields(Limits)
            }
        )
        if len(parsed_args.trace) == 1:
            rules = self._one(parsed_args, limits)
        else:
            rules = self._many(parsed_args, limits)
        fail_on = parsed_args.fail_on
        has_failed = any(_ANY in fail_on or rule in fail_on for rule in rules)
        return FOUND if has_failed else 0

    def _one(
        self, parsed_args: argparse.Namespace, limits: Limits
    ) -> Iterable[Rule]:
        from profiler_bridge.report.findings import findings, text

        [name] = parsed_args.trace
        trace = self.trace(name)
        if parsed_args.adjust_clocks:
            trace = trace.adjusted()
        self.report_gone(trace.base_id, trace.verdict.gone)
        told = findings(trace, limits)
        if parsed_args.format == "json":
            self._write_json(_of_trace(trace, told))
        else:
            stdout = self.app.stdout
            for line in text.render(trace, told, terminal.width(stdout)):
                stdout.write(line)
        return [finding.rule for finding in told]

    def _many(
        self, parsed_args: argparse.Namespace, limits: Limits
    ) -> Iterable[Rule]:
        from profiler_bridge.report.findings.text import render_totals
        from profiler_bridge.report.findings.totals import Totals

        query = replace(arguments.query(parsed_args), limit=parsed_args.limit)
        if parsed_args.trace:
            traces: Iterable[Trace] = map(self.trace, parsed_args.trace)
        else:
            traces = self.stored(query)
        if parsed_args.adjust_clocks:
            traces = (trace.adjusted() for trace in traces)
        totals = Totals(limits=limits)
        self.sum_up(traces, totals)
        self.app.stderr.write(
            f"{totals}\n" if totals.traces else self.what_there_is(query)
        )
        if parsed_args.format == "json":
            self._write_json(_of_totals(totals))
        elif totals.traces:
            stdout = self.app.stdout
            for line in render_totals(totals, terminal.width(stdout)):
                stdout.write(line)
        return totals.rules

    def _write_json(self, value: object) -> None:
        json.dump(value, self.app.stdout, indent=2)
        self.app.stdout.write("\n")


def _of_trace(trace: Trace, told: Iterable[Finding]) -> object:
    return {
        "base_id": trace.base_id,
        "findings": [finding._asdict() for finding in told],
    }


def _of_totals(totals: Totals) -> object:
    return {
        "traces": totals.traces,
        "traces_with_findings": totals.traces_with_any,
        "findings": [
            {**dict(zip(_KEYS, key, strict=True)), **asdict(group)}
            for key, group in totals.ordered()
        ],
    }
