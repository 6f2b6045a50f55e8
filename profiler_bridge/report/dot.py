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
"""A trace as a graph for Graphviz, like ``osprofiler trace show --dot``.

The language: https://graphviz.org/doc/info/lang.html; what a label may hold:
https://graphviz.org/docs/attr-types/escString/
"""

from __future__ import annotations

from collections.abc import Iterator

from profiler_bridge.report.spans import error
from profiler_bridge.report.text import milliseconds, printable
from profiler_bridge.trace import Span, Trace

_MAX_NAME = 60
_MAX_LINE = 100


def render(trace: Trace) -> Iterator[str]:
    """Give a line a span and a line from its parent to it.

    Red is an error, a dashed line a span whose start or stop is missing.
    """
    total = milliseconds(trace.finished - trace.started)
    yield f"digraph {_quoted(trace.base_id)} {{\n"
    yield (
        f"  graph [label={_quoted(f'{trace.base_id} - {total} ms')},"
        " labelloc=t]\n"
        "  node [shape=box]\n"
    )
    above: list[int] = []
    for number, (depth, span) in enumerate(trace.walk()):
        yield f"  n{number} [label={_label(span)}{_style(span)}]\n"
        if depth:
            yield f"  n{above[depth - 1]} -> n{number}\n"
        del above[depth:]
        above.append(number)
    yield "}\n"


def _label(span: Span) -> str:
    service = span.first.service
    name = f"{service}:{span.name}" if service else span.name
    if span.duration is not None:
        took = f"{milliseconds(span.duration)} ms"
    else:
        took = "unfinished" if span.stop is None else "no start"
    lines = [f"{name[:_MAX_NAME]} - {took}"]
    if did := span.first.describe():
        lines.append(did)
    if failed := error(span):
        lines.append(f"! {failed}")
    return _quoted(*lines)


def _style(span: Span) -> str:
    style = "" if span.start and span.stop else ", style=dashed"
    return style if span.exception is None else f"{style}, color=red"


def _quoted(*lines: str) -> str:
    """A label of these lines, whatever they hold.

    In quotes, markup means nothing, but backslashes and entities do.
    """
    return '"' + r"\n".join(map(_escaped, lines)) + '"'


def _escaped(line: str) -> str:
    if len(line) > _MAX_LINE:
        line = f"{line[:_MAX_LINE]}..."
    line = printable(line)
    for char, escape in (("\\", r"\\"), ('"', r"\""), ("&", "&amp;")):
        line = line.replace(char, escape)
    return line
