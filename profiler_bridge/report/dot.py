# SPDX-License-Identifier: Apache-2.0

"""A trace as a graph for Graphviz, like ``osprofiler trace show --dot``.

The language: https://graphviz.org/doc/info/lang.html; what a label may hold:
https://graphviz.org/docs/attr-types/escString/
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from profiler_bridge.report.heading import Heading
from profiler_bridge.report.spans import detail, error, label
from profiler_bridge.report.text import cut, duration
from profiler_bridge.text import printable
from profiler_bridge.trace import Span, Trace

_MAX_NAME = 60
_MAX_LINE = 100


def render(trace: Trace) -> Iterator[str]:
    """Give a line for each node and each edge.

    A span is a node, with an edge from its parent. One that failed is red;
    one whose start or stop is missing has a dashed border, and one that is
    late a dotted one.
    """
    heading = Heading.of(trace)
    about = _quoted(
        f"{heading.title} - {heading.took}",
        trace.base_id,
        heading.verdict,
        *heading.remarks,
    )
    yield f"digraph {_quoted(trace.base_id)} {{\n"
    yield (f"  graph [label={about}, labelloc=t]\n  node [shape=box]\n")
    above: list[int] = []
    for number, (depth, span) in enumerate(trace.walk()):
        style = _style(span, heading.late)
        yield f"  n{number} [label={_label(span)}{style}]\n"
        if depth:
            yield f"  n{above[depth - 1]} -> n{number}\n"
        del above[depth:]
        above.append(number)
    yield "}\n"


def _label(span: Span) -> str:
    if span.duration is not None:
        took = duration(span.duration)
    else:
        took = "unfinished" if span.stop is None else "no start"
    lines = [f"{cut(label(span), _MAX_NAME)} - {took}"]
    if left_out := detail(span):
        lines.append(left_out)
    if service := span.first.qualified_service:
        lines.append(service)
    if failure := error(span):
        lines.append(f"! {failure}")
    return _quoted(*lines)


def _style(span: Span, late: Set[str]) -> str:
    style = ", style=dotted" if span.trace_id in late else ""
    if span.start is None or span.stop is None:
        style = ", style=dashed"
    return style if span.exception is None else f"{style}, color=red"


def _quoted(*lines: str) -> str:
    """A label of these lines, whatever is in them.

    Within quotes Graphviz reads backslashes and entities, but no markup.
    """
    return '"' + r"\n".join(map(_escaped, lines)) + '"'


def _escaped(line: str) -> str:
    if len(line) > _MAX_LINE:
        line = f"{line[:_MAX_LINE]}..."
    line = printable(line)
    for char, escape in (("\\", r"\\"), ('"', r"\""), ("&", "&amp;")):
        line = line.replace(char, escape)
    return line
