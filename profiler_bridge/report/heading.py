# SPDX-License-Identifier: Apache-2.0

"""What stands above a trace, in whichever format."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Self

from profiler_bridge.late import is_mixed, late_spans
from profiler_bridge.notification import format_timestamp
from profiler_bridge.operation import operation
from profiler_bridge.report.text import cut, took
from profiler_bridge.roots import Roots
from profiler_bridge.trace import Trace


@dataclass(frozen=True, slots=True)
class Heading:
    """What is said of a trace as a whole.

    :param title: its name, and how many more requests it has; printable
    :param took: how long it took, and went on after its last request
    :param verdict: what is missing from it
    :param remarks: what else to know before reading on, a sentence each
    :param late: the spans that are not of its request, by trace_id
    """

    title: str
    took: str
    verdict: str
    remarks: tuple[str, ...]
    late: Set[str]

    @classmethod
    def of(cls, trace: Trace) -> Self:
        roots = Roots.of(trace.notifications())
        unfinished = {
            span.trace_id for span in trace.spans if span.stop is None
        }
        length = trace.finished - trace.started
        after = roots.after(unfinished, trace.finished)
        late = late_spans(trace)
        remarks = []
        if late:
            remarks.append(_late(len(late)))
        if is_mixed(trace):
            remarks.append("mixed: seems to hold several requests")
        return cls(
            title=roots.title or _name_without_roots(trace),
            took=took(
                length, None if after is None else length - after, after
            ),
            verdict=str(trace.verdict),
            remarks=tuple(remarks),
            late=late,
        )

    def lines(self, trace: Trace, most: int | None) -> Iterator[str]:
        """All of it, as it stands above what is shown of the trace.

        :param most: how many columns a line may take; None for any number
        """
        title = self.title
        if most is not None:
            title = cut(title, max(most - len(self.took) - 2, 1))
        yield f"{title}: {self.took}"
        yield f"trace {trace.base_id}, {format_timestamp(trace.started)} UTC"
        for text in (
            f"{len(trace.spans)} spans: {self.verdict}",
            *self.remarks,
        ):
            if most is None:
                yield text
            else:
                yield from textwrap.wrap(text, max(most, 20))

    def __str__(self) -> str:
        """The verdict and the remarks, on one line."""
        return "; ".join((self.verdict, *self.remarks))


def _late(count: int) -> str:
    late, began = ("span is", "it") if count == 1 else ("spans are", "they")
    return (
        f"{count} {late} late: {began} began after the request's work was over"
        " (a service's thread kept its profiler)"
    )


def _name_without_roots(trace: Trace) -> str:
    """Of the earliest span, where no root has started."""
    if not trace.spans:
        return "(empty trace)"
    return operation(trace.spans[0].first)
