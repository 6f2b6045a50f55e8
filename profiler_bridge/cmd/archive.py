# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage archive."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from profiler_bridge import arguments, storage, transfer
from profiler_bridge.archive import COMPRESSIONS, Archive
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.text import printable


class WriteArchive(BridgeCommand):
    """Write traces to compressed files, one or more a day

    What the files have already is not written again, so this can be
    interrupted and run again. 'copy' reads them back. The exit code is 1 when
    something cannot be written, or existing files are damaged.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--from",
            dest="source",
            metavar="URL",
            help="Read from this storage; by default the first in the"
            " configuration file.",
        )
        parser.add_argument(
            "--to",
            metavar="DIRECTORY",
            type=Path,
            required=True,
            help="Where the files go; made if it is missing.",
        )
        parser.add_argument(
            "--compression",
            choices=list(COMPRESSIONS),
            default="gzip",
            help="How to compress the files (default: %(default)s).",
        )
        arguments.add_filters(parser, paging=False)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        options = parsed_args
        with contextlib.ExitStack() as stack:
            if options.source:
                source = storage.get_storage(options.source, self.conf)
                stack.callback(source.close)
            else:
                source = self.storage
            target = stack.enter_context(
                Archive(options.to, options.compression, self._report)
            )
            self.follow(
                transfer.archive(source, arguments.query(options), target),
                lambda: (
                    f"{target.traces} traces archived,"
                    f" {target.there} were there"
                ),
            )
        self.app.stdout.write(
            f"{target.traces} traces archived ({target.notifications}"
            f" notifications) in {target.files} files, {target.there} were"
            " there\n"
        )
        return 1 if target.left_out or target.damaged else 0

    def _report(self, what: str) -> None:
        self.app.stderr.write(f"{printable(what)}\n")
