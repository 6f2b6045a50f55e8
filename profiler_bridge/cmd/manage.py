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

"""profiler-bridge-manage: what an operator does by hand."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.lister import Lister

from profiler_bridge import exceptions
from profiler_bridge.cmd import arguments
from profiler_bridge.cmd.app import BridgeApp, BridgeCommand
from profiler_bridge.notification import Notification
from profiler_bridge.report.text import printable
from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage.base import Storage


class SetAsideCommand(BridgeCommand):
    """A command on the messages that were set aside."""

    @property
    def set_aside(self) -> SetAside:
        return SetAside.from_conf(self.conf)


class SetAsideSelection(SetAsideCommand):
    """A command on some of them."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "id", nargs="*", type=int, default=[], help="by their numbers"
        )
        which.add_argument("--all", action="store_true", help="all of them")
        return parser


def _ids(parsed_args: argparse.Namespace) -> Sequence[int] | None:
    return None if parsed_args.all else parsed_args.id


class SetAsideList(SetAsideCommand, Lister):
    """List the messages that could not be stored, the oldest first"""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        return (
            ("ID", "Time (UTC)", "Reason", "Detail", "Source", "Bytes"),
            [
                (
                    each.id,
                    each.time,
                    each.reason.value,
                    printable(each.detail),
                    each.source,
                    len(each.body),
                )
                for each in self.set_aside.messages()
            ],
        )


class SetAsideShow(SetAsideSelection):
    """Print messages as they came, one JSON text a line"""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        for each in self.set_aside.messages(_ids(parsed_args)):
            self.app.stdout.write(f"{each.body}\n")


class SetAsideReplay(SetAsideSelection):
    """Try again to store messages; those that are stored are dropped here"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        stored = left = 0
        set_aside = self.set_aside
        for storage in self.storages:
            storage.prepare()
        for each in list(set_aside.messages(_ids(parsed_args))):
            problems = [
                problem
                for storage in self.storages
                if (problem := self._store(each.body, storage))
            ]
            if problems:
                for problem in problems:
                    self.app.stderr.write(f"{each.id}: {printable(problem)}\n")
                left += 1
            else:
                set_aside.remove([each.id])
                stored += 1
        self.app.stdout.write(f"{stored} stored, {left} left\n")
        return 1 if left else 0

    def _store(self, body: str, storage: Storage) -> str:
        """What is wrong with a message; empty when it is stored now."""
        try:
            message = json.loads(body)
            payload = (
                message.get("payload")
                if isinstance(message, dict)
                else message
            )
            storage.write([Notification.from_payload(payload)])
        except (
            exceptions.InvalidNotification,
            exceptions.NotificationsRejected,
            RecursionError,
        ) as error:
            return str(error)
        return ""


class SetAsideDrop(SetAsideSelection):
    """Delete messages for good"""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        dropped = self.set_aside.remove(_ids(parsed_args))
        self.app.stdout.write(f"{dropped} dropped\n")


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
