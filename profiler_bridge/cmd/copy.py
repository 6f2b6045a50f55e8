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

"""profiler-bridge-manage copy."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from profiler_bridge import exceptions, masking, storage
from profiler_bridge.cmd import arguments
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.copying import Copying
from profiler_bridge.masking import Masker
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import json
from profiler_bridge.report.text import printable
from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage.base import Storage


class Copy(BridgeCommand):
    """Copy traces into a storage: from another, and what osprofiler stored

    What the storage has already is left as it is, so this can be cut off and
    run again. The exit code is 1 when there was something that can never be
    stored; it is set aside.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--from",
            dest="source",
            metavar="URL",
            help="copy from this storage",
        )
        parser.add_argument(
            "--from-osprofiler",
            metavar="URL",
            help="copy what osprofiler's own redis or sqlalchemy driver stored"
            " with this connection string",
        )
        parser.add_argument(
            "--to",
            metavar="URL",
            help="copy into this storage; by default the first in the"
            " configuration file",
        )
        parser.add_argument(
            "file",
            nargs="*",
            metavar="FILE",
            help="take in the report that 'osprofiler trace show --json' or"
            " 'profiler-bridge-report show -f json' wrote there",
        )
        arguments.add_filters(parser, paging=False)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        options = parsed_args
        if not (options.source or options.from_osprofiler or options.file):
            raise exceptions.ConfigurationError(
                "nothing to copy: give --from, --from-osprofiler or a file"
            )
        self._unreadable = 0
        with contextlib.ExitStack() as stack:

            def connect(url: str) -> Storage:
                found = storage.get_storage(url, self.conf)
                return stack.enter_context(contextlib.closing(found))

            target = connect(options.to) if options.to else self.storage
            copying = Copying(target, SetAside.from_conf(self.conf), self._say)
            query = arguments.query(options)
            target.prepare()
            if options.source:
                source = connect(options.source)
                self._follow(copying, copying.copy(source, query))
            if options.from_osprofiler:
                source = connect(options.from_osprofiler)
                self._take_in(
                    copying, str(source), source.left_by_osprofiler(), query
                )
            self._take_in(copying, "file", self._reports(options.file), query)
        self.app.stdout.write(
            f"{copying.traces} traces copied ({copying.notifications}"
            f" notifications), {copying.there} were there,"
            f" {copying.refused} notifications set aside\n"
        )
        return 1 if copying.refused or self._unreadable else 0

    def _take_in(
        self,
        copying: Copying,
        name: str,
        traces: Iterable[tuple[str, list[object]]],
        query: TraceQuery,
    ) -> None:
        # As the daemon does with what comes from the bus.
        self.conf.register_opts(masking.OPTS, masking.GROUP)
        masker = Masker.from_conf(self.conf)
        decode = masker.decode if masker else Notification.from_payload
        self._follow(copying, copying.take_in(name, traces, query, decode))

    def _follow(self, copying: Copying, steps: Iterator[None]) -> None:
        """Copy; count on a terminal meanwhile."""
        terminal = self.app.stderr.isatty()
        for _ in steps:
            if terminal:
                self.app.stderr.write(
                    f"\r{copying.traces} traces copied,"
                    f" {copying.there} were there "
                )
                self.app.stderr.flush()
        if terminal:
            self.app.stderr.write("\r\x1b[K")

    def _reports(
        self, names: Iterable[str]
    ) -> Iterator[tuple[str, list[object]]]:
        for name in names:
            try:
                payloads = json.payloads(Path(name).read_text())
            except (OSError, exceptions.InvalidNotification) as error:
                self._unreadable += 1
                problem = getattr(error, "strerror", None) or error
                self._say(f"{name}: {problem}")
            except UnicodeDecodeError:
                self._unreadable += 1
                self._say(f"{name}: this is no report of a trace")
            else:
                yield name, payloads

    def _say(self, problem: str) -> None:
        self.app.stderr.write(f"{printable(problem)}\n")
