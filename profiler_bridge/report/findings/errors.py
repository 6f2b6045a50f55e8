# SPDX-License-Identifier: Apache-2.0

"""Errors: where they began, what they brought down, who handled them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from profiler_bridge.operation import operation
from profiler_bridge.report import spans as _spans
from profiler_bridge.report.findings.finding import (
    Finding,
    Limits,
    Rule,
    Subject,
    ended,
    service,
)
from profiler_bridge.report.text import shortened
from profiler_bridge.text import printable
from profiler_bridge.trace import Span

_LONGEST_MESSAGE = 100
_LONGEST_NAME = 80
# So many of the spans that an error brought down are named.
_MOST_NAMED = 5


class _Failure(NamedTuple):
    """An error, and all that failed with it.

    :param chain: the span where it began, and those above that it failed, in
        order
    :param handler: the span that waited for the last of these and did not
        fail; None where there is none
    """

    chain: Sequence[Span]
    handler: Span | None


def errors(subject: Subject, limits: Limits) -> Iterator[Finding]:
    """The first error that nobody handled, others, and those handled.

    An error goes up from caller to caller, as long as each of them fails and
    has waited for the one below. It is handled by a caller that went on and
    ended well. An answer with a status of 404 or 500 is no failure of the
    span that answers. So which of these it was is not known, and what the
    client did next is told.
    """
    client = _Client(subject)
    groups: dict[tuple[str, ...], list[_Failure]] = defaultdict(list)
    for failure in sorted(_failures(subject), key=_began):
        below, above = failure.chain[0], failure.chain[-1]
        groups[
            _name(below),
            operation(below.first),
            operation(above.first),
            _ending(subject, client, failure),
        ].append(failure)
    is_first = True
    for (name, did, _, ending), alike in groups.items():
        first = alike[0]
        rule = Rule.HANDLED_ERROR if first.handler else Rule.ERROR
        title = f"{_brought_down(first)}{ending}"
        if len(alike) > 1:
            title = f"{len(alike):,} times {title}"
        if rule is Rule.ERROR and is_first:
            title = f"the first error: {title}"
            is_first = False
        yield subject.finding(
            rule,
            f"{name} in {did}",
            title,
            (span for failure in alike for span in failure.chain),
            service(first.chain[0]),
        )


def _began(failure: _Failure) -> int:
    return ended(failure.chain[0])


def _failures(subject: Subject) -> Iterable[_Failure]:
    # By the last span that failed with it; above it nothing did.
    failed: dict[str, list[Span]] = defaultdict(list)
    tops: dict[str, str] = {}
    for _, span in subject.trace.walk():
        if span.exception is None or span.trace_id in subject.late:
            continue
        parent = subject.parents.get(span.trace_id)
        top = span.trace_id
        if parent is not None and _has_waited(parent, span):
            top = tops.get(parent.trace_id, top)
        tops[span.trace_id] = top
        failed[top].append(span)
    for top, spans in failed.items():
        # Of what ended at once, the one below.
        span = min(reversed(spans), key=ended)
        chain = [span]
        while span.trace_id != top:
            span = subject.parents[span.trace_id]
            chain.append(span)
        handler = subject.parents.get(top)
        if handler is not None and not (
            handler.stop and _has_waited(handler, span)
        ):
            handler = None
        yield _Failure(chain, handler)


def _has_waited(parent: Span, span: Span) -> bool:
    """Whether a span ran until the one below it had failed."""
    return parent.stop is None or parent.stop.timestamp >= ended(span)


def _name(span: Span) -> str:
    return printable(_spans.error_type(span)[:_LONGEST_NAME]) or "(unnamed)"


def _brought_down(failure: _Failure) -> str:
    """Which error it was, and what failed with it."""
    below = failure.chain[0]
    title = f"{_name(below)} in {operation(below.first)}"
    message = shortened(_spans.error_message(below), _LONGEST_MESSAGE)
    if message:
        title += f" ({printable(message)})"
    above = [operation(span.first) for span in failure.chain[1:]]
    if len(above) > _MOST_NAMED:
        left = len(above) - _MOST_NAMED
        above[_MOST_NAMED - 1 : -1] = [f"{left + 1:,} more"]
    return title + (f" brought down {', then '.join(above)}" if above else "")


def _ending(subject: Subject, client: _Client, failure: _Failure) -> str:
    """What became of it; empty where a client got it."""
    chain, handler = failure
    if handler is not None:
        did = operation(handler.first)
        return f", handled by {did}{client.then(handler)}"
    parent = subject.parents.get(chain[-1].trace_id)
    if parent is None:
        return ""
    if parent.stop is None:
        return f"; {operation(parent.first)} above has no end"
    return "; nobody waited for it"


class _Client:
    """What the client asked for: the roots that are requests."""

    def __init__(self, subject: Subject) -> None:
        self._requests = [
            root for root in subject.trace.roots if _path(root) is not None
        ]
        self._deleted: dict[str | None, int] = {}
        for root in self._requests:
            if root.first.info["request"].get("method") == "DELETE":
                self._deleted.setdefault(_path(root), root.started)

    def then(self, handler: Span) -> str:
        """What it did that got an answer in spite of an error.

        :returns: empty where the answer went to somebody else
        """
        asked = _path(handler)
        if asked is None or handler.parent_id != handler.first.base_id:
            return ""
        if self._deleted.get(asked, handler.started) < handler.started:
            return "; it is gone, as the client's DELETE had asked for"
        after = bisect_left(
            self._requests, ended(handler), key=attrgetter("started")
        )
        if after == len(self._requests):
            return "; the client asked for nothing more"
        did = operation(self._requests[after].first)
        return f"; the client went on with {did}"


def _path(root: Span) -> str | None:
    """Of a request that was answered; None for anything else."""
    request = root.first.info.get("request")
    path = request.get("path") if isinstance(request, dict) else None
    return path if isinstance(path, str) else None
