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

from profiler_bridge.notification import START
from profiler_bridge.trace import Span, Trace


def report(trace: Trace) -> dict[str, Any]:
    """Build the report of a trace.

    Times are whole milliseconds since the trace's first notification. As in
    osprofiler, a span whose stop is missing ends when it began and has no
    ``exception``; one whose start is missing began when it ended.

    :returns: ``info``, ``children`` and ``stats``; for a trace without
        notifications the times are None and the rest is empty
    """
    starts = [
        each.timestamp for each in trace.notifications() if each.phase == START
    ]
    first = trace.started

    def milliseconds(timestamp: int) -> int:
        return (timestamp - first) // 1000

    stats: dict[str, dict[str, int]] = {}
    tops: list[dict[str, Any]] = []
    above: list[list[dict[str, Any]]] = [tops]
    for depth, span in trace.walk():
        node = _node(span)
        info = node["info"]
        info["started"] = milliseconds(span.started)
        info["finished"] = milliseconds(
            span.stop.timestamp if span.stop else span.started
        )
        stat = stats.setdefault(info["name"], {"count": 0, "duration": 0})
        stat["count"] += 1
        stat["duration"] += info["finished"] - info["started"]
        del above[depth + 1 :]
        above[depth].append(node)
        above.append(node["children"])
    return {
        "info": {
            "name": "total",
            "started": 0,
            "finished": milliseconds(trace.finished) if trace.spans else None,
            "last_trace_started": (
                milliseconds(max(starts)) if starts else None
            ),
        },
        "children": tops,
        "stats": stats,
    }


def _node(span: Span) -> dict[str, Any]:
    first = span.first
    info: dict[str, Any] = {
        "name": first.name,
        "project": first.project,
        "service": first.service,
        "host": first.host,
    }
    for each in (span.start, span.stop):
        if each is not None:
            info[f"meta.raw_payload.{each.payload['name']}"] = each.payload
    if span.stop is not None:
        info["exception"] = span.stop.info.get("etype", "None")
    return {
        "info": info,
        "trace_id": first.trace_id,
        "parent_id": first.parent_id,
        "children": [],
    }
