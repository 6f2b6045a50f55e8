# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage forward."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from profiler_bridge import arguments, config, exceptions, forward
from profiler_bridge.cmd.app import CLEARED, BridgeCommand
from profiler_bridge.query import TraceQuery
from profiler_bridge.settled import Settled
from profiler_bridge.transfer import pages

if TYPE_CHECKING:
    from profiler_bridge.forward.target import Target

# How much is in memory before it is sent.
_SPANS = 5_000


class Forward(BridgeCommand):
    """Send stored traces over OTLP/HTTP

    They are read from the first storage, and sent as they are now to the
    endpoints of the configuration file, those that 'match' chooses for each.
    What the daemon sends does not change. An endpoint that is away is waited
    for. What is sent again has the same ids. The exit code is 1 when spans
    were rejected or dropped.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--endpoint",
            metavar="URL",
            action="append",
            help="Send to this endpoint, such as otlp+http://host:4318,"
            " instead of the configured ones, and without 'match'; may be"
            " given more than once.",
        )
        arguments.add_filters(parser, paging=False)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        # Imported here, for every command's module is imported for one.
        from profiler_bridge.forward.target import Counts

        self.conf.register_opts(forward.OPTS, forward.GROUP)
        config.read(self.conf)
        targets = forward.targets(self.conf, parsed_args.endpoint)
        if not targets:
            raise exceptions.ConfigurationError(
                "there is nobody to send to: give --endpoint, or set endpoint"
                " in [forward] of the configuration file"
            )
        counts = [Counts() for _ in targets]
        for target, its_counts in zip(targets, counts, strict=True):
            target.report = its_counts
        terminal = self.app.stderr.isatty()
        traces = 0
        with contextlib.ExitStack() as stack:
            for target in targets:
                stack.enter_context(contextlib.closing(target))
            for some in self._read(targets, arguments.query(parsed_args)):
                for target in targets:
                    target.take(some, time.sleep)
                traces += len(some)
                if terminal:
                    sent = max(its_counts.sent for its_counts in counts)
                    self.app.stderr.write(
                        f"\r{traces} traces, {sent} spans sent "
                    )
                    self.app.stderr.flush()
        if terminal:
            self.app.stderr.write(CLEARED)
        lost = 0
        for target, its_counts in zip(targets, counts, strict=True):
            dropped = its_counts.dropped.total()
            self.app.stdout.write(
                f"{its_counts.sent} spans sent to {target},"
                f" {its_counts.rejected} rejected, {dropped} dropped;"
                f" {traces} traces were read\n"
            )
            lost += its_counts.rejected + dropped
        return 1 if lost else 0

    def _read(
        self, targets: Sequence[Target], query: TraceQuery
    ) -> Iterator[list[Settled]]:
        """The traces that somebody wants, some at a time."""
        some: list[Settled] = []
        spans = 0
        for page in pages(self.storage, query):
            for summary in page:
                if not any(target.wants(summary) for target in targets):
                    continue
                # Some may be purged meanwhile.
                with contextlib.suppress(exceptions.TraceNotFound):
                    trace = self.storage.trace(summary.base_id)
                    new = {span.trace_id for span in trace.spans}
                    some.append(Settled(trace, summary, new))
                    spans += len(new)
                if spans >= _SPANS:
                    yield some
                    some, spans = [], 0
        if some:
            yield some
