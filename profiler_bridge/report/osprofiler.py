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

"""The report that osprofiler's users know, as a dictionary.

Its structure is that of osprofiler's own drivers (osprofiler 4.4.0,
osprofiler/drivers/base.py), which Horizon and Rally read too. One thing is
different on purpose: an operation's name keeps its hyphens.
"""

from __future__ import annotations

from typing import Any

from profiler_bridge.trace import Span, Trace


class _Keys(dict[str, str]):
    """Under which key a notification's payload stands, by its name."""

    def __missing__(self, name: str) -> str:
        self[name] = f"meta.raw_payload.{name}"
        return self[name]


def report(trace: Trace) -> dict[str, Any]:
    """Build the report of a trace.

    Times are whole milliseconds since the trace's first notification. As in
    osprofiler, a span whose stop is missing ends when it began and has no
    ``exception``; one whose start is missing began when it ended.

    :returns: ``info``, ``children`` and ``stats``; for a trace without
        notifications the times are None and the rest is empty
    """
    zero = trace.started
    stats: dict[str, dict[str, int]] = {}
    tops: list[dict[str, Any]] = []
    keys = _Keys()
    # What is to be done, last first, and among which nodes it belongs.
    stack = [(span, tops) for span in reversed(trace.roots)]
    while stack:
        span, siblings = stack.pop()
        node = _node(span, zero, keys)
        siblings.append(node)
        info, children = node["info"], node["children"]
        stat = stats.get(info["name"])
        if stat is None:
            stat = stats[info["name"]] = {"count": 0, "duration": 0}
        stat["count"] += 1
        stat["duration"] += info["finished"] - info["started"]
        if span.children:
            stack += [(child, children) for child in reversed(span.children)]
    last_start = max(
        (span.start.timestamp for span in trace.spans if span.start),
        default=None,
    )
    return {
        "info": {
            "name": "total",
            "started": 0,
            "finished": (
                (trace.finished - zero) // 1000 if trace.spans else None
            ),
            "last_trace_started": (
                None if last_start is None else (last_start - zero) // 1000
            ),
        },
        "children": tops,
        "stats": stats,
    }


def _node(span: Span, zero: int, keys: _Keys) -> dict[str, Any]:
    start, stop, first = span.start, span.stop, span.first
    payload = first.payload
    started = (first.timestamp - zero) // 1000
    info: dict[str, Any] = {
        "name": first.name,
        "project": payload.get("project"),
        "service": payload.get("service"),
        "host": first.host,
        "started": started,
        "finished": started,
    }
    if start is not None:
        info[keys[start.payload["name"]]] = start.payload
    if stop is not None:
        info["finished"] = (stop.timestamp - zero) // 1000
        info[keys[stop.payload["name"]]] = stop.payload
        info["exception"] = stop.info.get("etype", "None")
    return {
        "info": info,
        "trace_id": first.trace_id,
        "parent_id": first.parent_id,
        "children": [],
    }
