# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-report show."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable

from profiler_bridge import arguments, exceptions
from profiler_bridge.cmd.report import terminal
from profiler_bridge.cmd.report.base import (
    ReadingCommand,
    add_adjust_clocks,
)
from profiler_bridge.cmd.report.files import write_private
from profiler_bridge.trace import Trace

# --wait: how often to look, and for how long nothing may come, in seconds.
# A client that waits for a server asks again each 5 s.
_LOOK_EVERY = 0.5
_QUIET = 6.0
_TIMEOUT = "60s"
# For so many seconds an incomplete trace may only be late.
_STILL_ARRIVING = 30.0
# The formats that a critical path alone can have.
_CRITICAL = ("tree", "json")


class Show(ReadingCommand):
    """Show a trace"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        # Imported here, for cliff imports this to run any other command.
        from profiler_bridge.report.formats import FORMATS

        parser = super().get_parser(prog_name)
        parser.add_argument(
            "trace",
            metavar="BASE_ID|FILE",
            help="A stored trace, or a file that 'show -f json' or osprofiler"
            " wrote.",
        )
        parser.add_argument(
            "-f",
            "--format",
            choices=sorted(FORMATS),
            default="tree",
            help="The format (default: %(default)s).",
        )
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            help="Write to this file, readable for you only, instead of"
            " printing.",
        )
        parser.add_argument(
            "--wait",
            action="store_true",
            help="Wait for a trace that still arrives, until no operation of"
            f" it is open and nothing came for {_QUIET:.0f} s.",
        )
        parser.add_argument(
            "--timeout",
            type=arguments.age,
            default=_TIMEOUT,
            help="How long to wait at most, such as 90 or 10m; then what is"
            " there is shown (default: %(default)s).",
        )
        add_adjust_clocks(parser)
        parser.add_argument(
            "--critical",
            action="store_true",
            help="Show the critical path only: how long the end of the request"
            " waited for each operation, service and kind; as text, or with"
            " -f json. Operations below --min-duration, or 0.5%% of the path,"
            " are one line, unless --no-fold is given.",
        )
        drawing = parser.add_argument_group("the tree")
        drawing.add_argument(
            "--max-depth",
            type=arguments.positive,
            help="Hide what is deeper than this.",
        )
        drawing.add_argument(
            "--min-duration",
            type=arguments.duration,
            help="Hide what took less than this, such as 20ms or 1.5s, unless"
            " it failed.",
        )
        drawing.add_argument(
            "--no-fold",
            action="store_true",
            help="A line for each span, also for equal siblings, groups that"
            " repeat, and late spans.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if parsed_args.critical and parsed_args.format not in _CRITICAL:
            raise exceptions.ConfigurationError(
                "--critical: there is no such report with -f"
                f" {parsed_args.format}; leave it away, or take -f json"
            )
        base_id = parsed_args.wait and self.stored_id(parsed_args.trace)
        if base_id:
            self._wait(base_id, parsed_args.timeout / 1_000_000)
        trace = self.trace(parsed_args.trace)
        age = time.time() - trace.finished / 1_000_000
        if not trace.verdict.complete and 0 <= age < _STILL_ARRIVING:
            self.app.stderr.write(
                f"Its last notification is {age:.0f} s old, there may be more"
                " to come: see --wait\n"
            )
        self.report_gone(trace.base_id, trace.verdict.gone)
        if parsed_args.adjust_clocks:
            trace = trace.adjusted()
        pieces = self._render(trace, parsed_args)
        if parsed_args.output is None:
            for piece in pieces:
                self.app.stdout.write(piece)
            return
        write_private(parsed_args.output, pieces)

    def _render(
        self, trace: Trace, parsed_args: argparse.Namespace
    ) -> Iterable[str]:
        from profiler_bridge.report import critical, tree
        from profiler_bridge.report.formats import FORMATS

        if parsed_args.critical and parsed_args.format == "json":
            return critical.render_json(trace)
        if parsed_args.format != "tree":
            return FORMATS[parsed_args.format](trace)
        options = tree.TreeOptions(
            max_depth=parsed_args.max_depth,
            min_duration=parsed_args.min_duration,
            fold=not parsed_args.no_fold,
        )
        if parsed_args.output is None:
            stdout = self.app.stdout
            options = dataclasses.replace(
                options,
                width=terminal.width(stdout),
                colours=terminal.has_colours(stdout),
                bars=not terminal.is_dumb(stdout),
                ascii=terminal.is_ascii(stdout),
            )
        if parsed_args.critical:
            least = 0 if parsed_args.no_fold else options.min_duration
            return critical.render(trace, options.width, least, options.ascii)
        return tree.render(trace, options)

    def _wait(self, base_id: str, timeout: float) -> None:
        """Until the trace is there, nothing of it is open, and no more comes.

        :param timeout: seconds, after which that is waited for no longer
        """
        is_watched = self.app.stderr.isatty()
        begun = quiet_since = time.monotonic()
        count, is_open = 0, True
        while is_open or time.monotonic() - quiet_since < _QUIET:
            left = timeout - (time.monotonic() - begun)
            if left <= 0:
                break
            time.sleep(min(_LOOK_EVERY, left))
            notifications = self.storage.notifications(base_id)
            if len(notifications) != count:
                count, quiet_since = len(notifications), time.monotonic()
                trace = Trace.build(base_id, notifications)
                is_open = trace.verdict.unfinished > 0
            if is_watched:
                self.app.stderr.write(f"\r{count} notifications ")
                self.app.stderr.flush()
        if is_watched:
            self.app.stderr.write("\n")
        if count and is_open:
            self.app.stderr.write(
                f"Not all of it has ended within {timeout:.0f} s: see"
                " --timeout\n"
            )
