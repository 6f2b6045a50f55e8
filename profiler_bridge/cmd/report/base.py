# SPDX-License-Identifier: Apache-2.0

"""What the report commands share: they read traces, and make tables."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cliff.lister import Lister

from profiler_bridge import exceptions
from profiler_bridge.cmd.app import CLEARED, BridgeCommand
from profiler_bridge.cmd.report.columns import Printable, for_people
from profiler_bridge.cmd.report.fitting import FittingTable
from profiler_bridge.notification import is_id
from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.report import json
from profiler_bridge.report.statistics import Sums
from profiler_bridge.storage.pages import Page
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import TraceSummary
from profiler_bridge.text import printable
from profiler_bridge.trace import Trace

# So many summaries are read at once, where all traces are.
_PAGE = 200
# How many services are named to who finds nothing.
_MOST_SERVICES = 30
# What may be the beginning of a base_id.
_is_part_of_id = re.compile("[0-9a-fA-F-]{1,35}").fullmatch


def add_adjust_clocks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adjust-clocks",
        action="store_true",
        help="Move spans that seem to begin before their caller made the call,"
        " because two hosts' clocks disagree; times in raw payloads stay"
        " as they are.",
    )


class ReadingCommand(BridgeCommand):
    """A command that reads traces: from the storage, and from files."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--include-osprofiler",
            action="store_true",
            help="Also read what osprofiler's own redis driver stored; to list"
            " that, every key of the database is looked at.",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.include_osprofiler:
            self.storages[0] = Storage(self.storage.plugin.with_osprofiler())
        code: int = super().run(parsed_args)
        return code

    def report_gone(self, base_id: str, gone: int) -> None:
        """Write to stderr what was lost of a trace, if anything was.

        :param gone: how many of its notifications
        """
        if gone:
            self.app.stderr.write(
                f"{base_id}: {gone} of its notifications are gone from"
                f" {self.storage}: evicted, expired or deleted\n"
            )

    def what_there_is(self, query: TraceQuery) -> str:
        """A line for who got no trace: where there are some."""
        services = self.storage.services(query.since)
        services = services or self.storage.services()
        if not services and self.storage.page(TraceQuery(limit=1)).traces:
            return "no trace matches\n"
        if not services:
            return f"nothing is stored in {self.storage} yet\n"
        shown = services[:_MOST_SERVICES]
        more = len(services) - len(shown)
        return (
            "no trace matches; there are traces of these services:"
            f" {', '.join(map(for_people, shown))}"
            + (f" and {more} more\n" if more else "\n")
        )

    def stored_id(self, name: str) -> str | None:
        """The base_id that a name is, or begins; None for that of a file.

        :raises TraceNotFound: it begins none, or more than one
        """
        if is_id(name):
            return name
        if _is_part_of_id(name) and not os.path.exists(name):  # noqa: PTH110
            return self.storage.find(name)
        return None

    @staticmethod
    def is_trace(name: str) -> bool:
        """Whether :meth:`trace` can be meant: an id, part of one, a file."""
        # Unlike Path.exists(), False for what can be no path as well.
        return bool(
            is_id(name) or _is_part_of_id(name) or os.path.exists(name)  # noqa: PTH110
        )

    def trace(self, name: str) -> Trace:
        """Read a trace by its base_id, or from a file with a report of it.

        :raises TraceNotFound: there is none
        :raises StorageError: the storage cannot be read
        """
        base_id = self.stored_id(name)
        if base_id is not None:
            return self.storage.trace(base_id)
        try:
            return json.read(Path(name).read_text("utf-8"))
        except OSError as error:
            raise exceptions.TraceNotFound(
                f"{for_people(name)} is no base_id, and no file that can"
                f" be read: {error.strerror}"
            ) from None
        except ValueError:
            raise exceptions.TraceNotFound(
                f"{for_people(name)} is no base_id, and no report of a"
                " trace: it is no text"
            ) from None
        except exceptions.InvalidNotification as error:
            raise exceptions.TraceNotFound(
                f"{for_people(name)}: {error}"
            ) from None

    def stored(self, query: TraceQuery) -> Iterator[Trace]:
        """The traces that a query chooses, one after the other.

        Says on stderr when the time was over before all were looked at.

        :param query: without a limit all are given, in any order
        """
        if query.sort is Sort.DURATION and (query.limit or query.marker):
            # To find the longest, each page may look at all again.
            pages = iter([self.storage.page(query)])
        else:
            pages = _pages(
                self.storage, dataclasses.replace(query, sort=Sort.START)
            )
        for page in pages:
            for summary in page.traces:
                # Some may be purged meanwhile.
                notifications = self.storage.notifications(summary.base_id)
                if notifications:
                    yield Trace.build(summary.base_id, notifications)
            if page.stopped is not None:
                self.app.stderr.write(
                    f"stopped after {query.time_limit:g} s: there may be more"
                    " traces that match\n"
                )

    def sum_up(self, traces: Iterable[Trace], sums: Sums[Any]) -> None:
        """Add traces to sums; on a terminal count them meanwhile."""
        terminal = self.app.stderr.isatty()
        for trace in traces:
            sums.add(trace)
            if terminal:
                self.app.stderr.write(f"\r{sums.traces:,} traces ")
        if terminal:
            self.app.stderr.write(CLEARED)


def _pages(storage: Storage, query: TraceQuery) -> Iterator[Page]:
    """The newest traces first, a bounded number of them at a time."""
    left = query.limit or sys.maxsize
    end = None
    if query.time_limit is not None:
        end = time.monotonic() + query.time_limit
    oldest: TraceSummary | None = None
    while left:
        asked = min(left, _PAGE)
        query = dataclasses.replace(query, limit=asked)
        if end is not None:
            rest = max(end - time.monotonic(), 0)
            query = dataclasses.replace(query, time_limit=rest)
        try:
            page = storage.page(query)
        except exceptions.TraceNotFound:
            if oldest is None:
                raise  # the marker that a user gave
            # Purged since it was read, and all that is older soon will be.
            query = dataclasses.replace(
                query, marker=None, until=oldest.started
            )
            continue
        yield page
        if page.stopped is not None or len(page.traces) < asked:
            return
        left -= asked
        oldest = page.traces[-1]
        query = dataclasses.replace(query, marker=oldest.base_id)


class ListingCommand(ReadingCommand, Lister):
    """A command that gives a table."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        if parsed_args.formatter == "table":
            self.formatter = FittingTable()
        # Of the formats for programs these alone have no escapes of their
        # own, and may well end up on a terminal.
        if parsed_args.formatter in ("csv", "value"):
            data = (
                tuple(
                    printable(cell.machine_readable())
                    if isinstance(cell, Printable)
                    else cell
                    for cell in row
                )
                for row in data
            )
        return super().produce_output(parsed_args, column_names, data)
