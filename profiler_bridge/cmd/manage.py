# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage: what an operator does by hand."""

from __future__ import annotations

import argparse
import sys
import time

from profiler_bridge import exceptions
from profiler_bridge.cmd import arguments
from profiler_bridge.cmd.app import BridgeApp, BridgeCommand
from profiler_bridge.cmd.set_aside import (
    SetAsideDrop,
    SetAsideList,
    SetAsideReplay,
    SetAsideShow,
)

__all__ = [
    "main",
    "Purge",
    "SetAsideDrop",
    "SetAsideList",
    "SetAsideReplay",
    "SetAsideShow",
]


class Purge(BridgeCommand):
    """Delete old traces from all storages"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--older-than",
            metavar="AGE",
            type=arguments.age,
            required=True,
            help="of traces of which the last that is known is older: 12h, 7d",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="say how many they are, and delete nothing",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        before = time.time_ns() // 1000 - parsed_args.older_than
        failed = 0
        for storage in self.storages:
            try:
                purged = storage.purge(before, parsed_args.dry_run)
            except exceptions.StorageError as error:
                self.app.stderr.write(f"{error}\n")
                failed = 1
            else:
                done = "would be" if parsed_args.dry_run else "were"
                self.app.stdout.write(
                    f"{purged} traces {done} deleted from {storage}\n"
                )
        return failed


def main() -> int:
    return BridgeApp(
        "profiler_bridge.manage", "Manage what profiler-bridge keeps."
    ).run(sys.argv[1:])
