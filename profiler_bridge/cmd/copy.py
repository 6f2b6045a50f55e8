# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage copy."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from profiler_bridge import archive, arguments, exceptions, storage
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import json
from profiler_bridge.storage.traces import Storage
from profiler_bridge.text import printable
from profiler_bridge.transfer import Transfer


class Copy(BridgeCommand):
    """Copy traces into a storage: from another, from an archive or osprofiler

    What the storage has already is left as it is, so this can be interrupted
    and run again. The exit code is 1 when something can never be stored; that
    is set aside.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--from",
            dest="source",
            metavar="URL",
            help="Copy from this storage.",
        )
        parser.add_argument(
            "--from-osprofiler",
            metavar="URL",
            help="Copy what osprofiler's own redis or sqlalchemy driver stored"
            " with this connection string.",
        )
        parser.add_argument(
            "--to",
            metavar="URL",
            help="Copy into this storage; by default the first in the"
            " configuration file.",
        )
        parser.add_argument(
            "file",
            nargs="*",
            metavar="FILE",
            help="What 'archive' wrote, a directory or some of its files; or"
            " reports of 'osprofiler trace show --json' or"
            " 'profiler-bridge-report show -f json'.",
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
                connected = storage.get_storage(url, self.conf)
                return stack.enter_context(contextlib.closing(connected))

            target = connect(options.to) if options.to else self.storage
            transfer = Transfer(
                target, SetAside.from_conf(self.conf), self._report_problem
            )
            query = arguments.query(options)
            target.prepare()
            if options.source:
                source = connect(options.source)
                self._follow(transfer, transfer.copy(source, query))
            if options.from_osprofiler:
                source = connect(options.from_osprofiler)
                self._take_in(
                    transfer,
                    str(source),
                    source.plugin.left_by_osprofiler(),
                    query,
                )
            reports = []
            for name in options.file:
                if archive.is_archive(Path(name)):
                    self._restore(transfer, Path(name), query)
                else:
                    reports.append(name)
            self._take_in(transfer, "file", self._reports(reports), query)
        self.app.stdout.write(
            f"{transfer.traces} traces copied ({transfer.notifications}"
            f" notifications), {transfer.there} were there,"
            f" {transfer.refused} notifications set aside\n"
        )
        failed = transfer.refused or transfer.unread or self._unreadable
        return 1 if failed else 0

    def _restore(
        self, transfer: Transfer, path: Path, query: TraceQuery
    ) -> None:
        """Copy a file of an archive, or a directory of them."""
        paths = [path]
        if path.is_dir():
            paths = archive.files(path, since=query.since, until=query.until)
            if not paths and not archive.files(path):
                self._unreadable += 1
                self._report_problem(f"{path}: there is no archive in it")
        for one in paths:
            steps = transfer.restore(str(one), archive.read(one), query)
            self._follow(transfer, steps)

    def _take_in(
        self,
        transfer: Transfer,
        name: str,
        traces: Iterable[tuple[str, list[object]]],
        query: TraceQuery,
    ) -> None:
        # Imported here, for the patterns that it needs take long to compile.
        from profiler_bridge import masking

        # As the daemon does with what comes from the bus.
        self.conf.register_opts(masking.OPTS, masking.GROUP)
        masker = masking.Masker.from_conf(self.conf)
        decode = masker.decode if masker else Notification.from_payload
        self._follow(transfer, transfer.take_in(name, traces, query, decode))

    def _follow(self, transfer: Transfer, steps: Iterator[None]) -> None:
        self.follow(
            steps,
            lambda: (
                f"{transfer.traces} traces copied, {transfer.there} were there"
            ),
        )

    def _reports(
        self, names: Iterable[str]
    ) -> Iterator[tuple[str, list[object]]]:
        for name in names:
            try:
                payloads = json.payloads(Path(name).read_text())
            except (OSError, exceptions.InvalidNotification) as error:
                self._unreadable += 1
                problem = getattr(error, "strerror", None) or error
                self._report_problem(f"{name}: {problem}")
            except UnicodeDecodeError:
                self._unreadable += 1
                self._report_problem(f"{name}: this is no report of a trace")
            else:
                yield name, payloads

    def _report_problem(self, problem: str) -> None:
        self.app.stderr.write(f"{printable(problem)}\n")
