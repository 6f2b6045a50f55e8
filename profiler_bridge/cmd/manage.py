# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage: what an operator does by hand."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from profiler_bridge import arguments, exceptions, forward
from profiler_bridge import storage as storages
from profiler_bridge.cmd.app import BridgeApp, BridgeCommand
from profiler_bridge.cmd.set_aside import (
    SetAsideDrop,
    SetAsideList,
    SetAsideReplay,
    SetAsideShow,
)
from profiler_bridge.storage import purging
from profiler_bridge.storage.retention import Retention, check_sections, shown
from profiler_bridge.storage.traces import Storage

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
            help="An age, such as 12h or 7d, instead of 'retention'; for"
            " traces that no rule matches.",
        )
        parser.add_argument(
            "--ignore-rules",
            action="store_true",
            help="Also delete what the rules in the configuration file would"
            " keep.",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Print how many traces would be deleted, by rule, and delete"
            " none.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        retention = self._retention(parsed_args)
        now = time.time_ns() // 1000
        failed = 0
        for storage in self.storages:
            purge = purging.Purge(retention)
            try:
                purged = storage.purge_by(
                    purge,
                    now,
                    parsed_args.dry_run,
                    self._held(storage),
                )
            except exceptions.StorageError as error:
                self.app.stderr.write(f"{error}\n")
                failed = 1
                continue
            done = "would be" if parsed_args.dry_run else "were"
            self.app.stdout.write(
                f"{purged} traces {done} deleted from {storage}\n"
            )
            if parsed_args.dry_run and retention.rules:
                self._write_counts(retention, purge)
        return failed

    def _held(self, storage: Storage) -> int | None:
        """As the daemon does, wait for those that traces are sent to."""
        self.conf.register_opts(forward.OPTS, forward.GROUP)
        if not self.conf[forward.GROUP].endpoint:
            return None
        # It imports the libraries of the bus.
        from profiler_bridge.daemon import settling

        self.conf.register_opts(settling.OPTS, settling.GROUP)
        return settling.held(self.conf, storage)

    def _retention(self, parsed_args: argparse.Namespace) -> Retention:
        older_than = parsed_args.older_than
        try:
            check_sections(self.conf)
            retention = storages.get_retention(self.conf)
        except exceptions.ConfigurationError:
            if older_than is None or not parsed_args.ignore_rules:
                raise
            retention = Retention(0)
        if older_than is not None:
            retention = replace(retention, plain=older_than // 1_000_000)
        if parsed_args.ignore_rules:
            retention = replace(retention, rules=())
        if not retention.lengths:
            raise exceptions.ConfigurationError(
                "everything is kept for ever: give --older-than, or set"
                " retention in [osprofiler] of a configuration file"
            )
        return retention

    def _write_counts(
        self, retention: Retention, purge: purging.Purge
    ) -> None:
        """What there is of each rule, of traces that are old for some."""
        rows = [(rule.name, rule.keep) for rule in retention.rules]
        for name, keep in [*rows, (None, retention.plain)]:
            what = "no rule" if name is None else f"rule {name}"
            self.app.stdout.write(
                f"  {what} ({shown(keep)}): {purge.gone[name]} would go,"
                f" {purge.kept[name]} would stay\n"
            )


def main() -> int:
    return BridgeApp(
        "profiler_bridge.manage", "Manage what profiler-bridge keeps."
    ).run(sys.argv[1:])
