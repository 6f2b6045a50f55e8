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

"""profiler-bridge-manage check."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.lister import Lister

from profiler_bridge.cmd.app import BridgeCommand


class Check(BridgeCommand, Lister):
    """Find out what will go wrong with bus, storages and configuration

    The exit code is 0 when all is well, 1 with warnings, 2 with failures.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--bridges",
            type=int,
            default=0,
            metavar="N",
            help="how many daemons with this configuration run now, on all"
            " hosts together; whoever else reads their queue takes"
            " notifications away from them (default: 0, as before going live)",
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
        from profiler_bridge import check

        options = self.app.options
        findings = list(
            check.check(
                options.config_file,
                options.connection_string,
                parsed_args.bridges,
            )
        )
        self._exit_code = check.exit_code(findings)
        return (
            ("Check", "Result", "Detail"),
            [
                (each.check, each.result.value, each.detail)
                for each in findings
            ],
        )
