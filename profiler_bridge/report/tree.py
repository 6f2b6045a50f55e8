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

"""A trace as an indented tree for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from profiler_bridge.notification import format_timestamp
from profiler_bridge.report.text import milliseconds, printable
from profiler_bridge.trace import Span, Trace

# Deeper spans are not indented further: nobody reads past this column.
_MAX_INDENT = 40
_MAX_DETAIL = 100


def render(trace: Trace) -> Iterator[str]:
    """Give a heading, then a line a span, parents first."""
    started = trace.started
    yield f"trace {trace.base_id}\n"
    yield (
        f"{format_timestamp(started)} UTC, {len(trace.spans)} spans:"
        f" {trace.verdict}\n\n"
    )
    yield f"{'start ms':>12} {'duration ms':>12}  operation\n"
    for depth, span in trace.walk():
        yield (
            f"{milliseconds(span.started - started):>12} {_duration(span):>12}"
            f"  {'  ' * min(depth, _MAX_INDENT)}{_label(span)}\n"
        )


def _duration(span: Span) -> str:
    if span.duration is not None:
        return milliseconds(span.duration)
    return "unfinished" if span.stop is None else "no start"


def _label(span: Span) -> str:
    first = span.first
    where = ":".join(filter(None, (first.project, first.service)))
    parts = [first.name, first.describe()[:_MAX_DETAIL]]
    if where or first.host:
        parts.append(f"[{where}@{first.host}]" if first.host else f"[{where}]")
    if span.exception is not None and span.stop is not None:
        message = span.stop.info.get("message")
        parts.append(
            f"! {span.exception}" + (f": {message}" if message else "")
        )
    return " ".join(printable(part) for part in parts if part)
