# SPDX-License-Identifier: Apache-2.0

"""Spans in a trace that are not of its request. Pure.

A service's thread on which osprofiler was set up for a request keeps it until
the thread ends, unless somebody takes it away. What the thread does later,
heartbeats and other requests, goes into the trace of the first.
"""

from __future__ import annotations

from collections.abc import Set

from profiler_bridge.operation import function_name, kind
from profiler_bridge.trace import Span, Trace

#: After so many microseconds in which nothing of a request ran, what comes is
#: not of it. While a recorded server was built, the longest pause was 20 ms.
#: Heartbeats come every 10 s, there the first 2.9 s after the answer.
PAUSE = 2_000_000


def late_spans(trace: Trace) -> Set[str]:
    """The spans that began when the request's own work was over.

    The work goes on after the last root's end: a server is built while the
    client has its answer. It is over when nothing of it has run for longer
    than :data:`PAUSE`. What begins then, and after its own parent's end, is
    late, and so is all below it.

    What is below a span without a stop is not late; for others such a span
    is over as soon as it began. While a root has no stop, nothing is late;
    a request never is.

    :returns: by trace_id
    """
    asked = requests(trace)
    if not asked or any(request.stop is None for request in asked):
        return frozenset()
    over = max(map(_end, asked))
    if trace.spans[-1].started <= over + PAUSE:
        return frozenset()  # the last to start, of most traces
    parents = {
        child.trace_id: span for span in trace.spans for child in span.children
    }
    late: set[str] = set()
    for span in trace.spans:
        parent = parents.get(span.trace_id)
        is_below = parent is not None and parent.trace_id in late
        if is_below or (
            span.started > over + PAUSE
            and _is_detached(span, parent, trace.base_id)
        ):
            late.add(span.trace_id)
        else:
            over = max(over, _end(span))
    # Where clocks disagree, a child may seem to start before its parent.
    for _, span in trace.walk():
        if span.trace_id in late:
            late.update(child.trace_id for child in span.children)
    return late


def requests(trace: Trace) -> list[Span]:
    """The roots that are requests; where there is none, all of them.

    See :class:`~profiler_bridge.roots.Roots`.

    :returns: earliest first; none of them an orphan
    """
    roots = [root for root in trace.roots if root.parent_id == trace.base_id]
    return [root for root in roots if kind(root.first) == "wsgi"] or roots


def _end(span: Span) -> int:
    """When it was over: not before it began, even if a clock was put back."""
    if span.stop is None:
        return span.started
    return max(span.started, span.stop.timestamp)


def _is_detached(span: Span, parent: Span | None, base_id: str) -> bool:
    """Whether a span began after its parent's end; a root always did.

    Of an orphan nobody knows.
    """
    if parent is None:
        return span.parent_id == base_id
    return parent.stop is not None and _end(parent) < span.started


def is_mixed(trace: Trace) -> bool:
    """Whether a trace seems to have several requests in it.

    A call by RPC has at its other end what was called, once. It is mixed
    where something else is there: another method of a server, or the same
    again and more than :data:`PAUSE` later. A fanout is answered at once by
    all whom it reaches.

    Wrapped methods, of which the names are not known, and what Nova asks its
    conductor for count for nothing: a trace can be mixed and not seem so.
    """
    for span in trace.spans:
        asked = function_name(span.first)
        if ".rpcapi." not in asked or kind(span.first) != "rpc":
            continue
        method = asked.rpartition(".")[2]
        earliest = None
        for child in span.children:
            answered = _method_of_server(child)
            if answered is None:
                continue
            if answered != method:
                return True
            if earliest is None:
                earliest = child.started
            elif child.started > earliest + PAUSE:
                return True
    return False


def _method_of_server(span: Span) -> str | None:
    """What a server was asked for by RPC; None where that is not known."""
    name = function_name(span.first)
    method = name.rpartition(".")[2]
    if (
        not name
        or kind(span.first) != "rpc"
        or ".rpcapi." in name
        or "<locals>" in name
        or method.startswith("object_")
    ):
        return None
    return method
