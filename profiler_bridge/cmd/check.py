# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage check."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.lister import Lister

from profiler_bridge.cmd.app import BridgeCommand


class Check(BridgeCommand, Lister):
    """Check bus, storages and configuration for what will go wrong

    The exit code is 0 when all is well, 1 with warnings, 2 with failures.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--bridges",
            type=int,
            metavar="N",
            help="How many daemons with this configuration run now, on all"
            " hosts together; any other reader of their queue is reported"
            " (default: those of this host).",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        super().run(parsed_args)
        return self._exit_code

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        # What they have to say stands in the table.
        for library in ("oslo.messaging", "oslo_messaging", "oslo_service"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        # Imported here, for no other command needs the bus.
        from profiler_bridge import preflight

        options = self.app.options
        findings = list(
            preflight.check(
                options.config_file,
                options.connection_string,
                parsed_args.bridges,
            )
        )
        self._exit_code = preflight.exit_code(findings)
        return (
            ("Check", "Result", "Detail"),
            [
                (finding.check, finding.result.value, finding.detail)
                for finding in findings
            ],
        )
