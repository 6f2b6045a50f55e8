# SPDX-License-Identifier: Apache-2.0

"""The report for Chrome and Perfetto, held to what these accept.

These are the Trace Event Format's rules for complete, begin and metadata
events, and Perfetto's: events of a thread nest or do not overlap
(https://perfetto.dev/docs/faq).
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

from profiler_bridge.trace import Trace
from tests.report_cases import (
    CASES,
    cases,
    load,
)


def chrome(trace: Trace) -> list[dict[str, Any]]:
    document = load("chrome", trace)
    assert document["displayTimeUnit"] == "ms"
    assert document["otherData"]["base_id"] == trace.base_id
    events: list[dict[str, Any]] = document["traceEvents"]
    return events


def check_chrome(trace: Trace) -> None:
    lanes: dict[int, list[tuple[int, int]]] = {}
    names = {}
    seen = []
    for event in chrome(trace):
        assert type(event["name"]) is str
        assert type(event["pid"]) is type(event["tid"]) is int
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert (event["name"], event["tid"]) not in names
            names[event["name"], event["tid"]] = event["args"]["name"]
            continue
        # Named before it is used, and a thread in one process only.
        assert names["process_name", event["pid"]]
        assert names["thread_name", event["tid"]]
        assert event["ts"] >= 0
        lane = lanes.setdefault(event["tid"], [])
        if event["ph"] == "B":
            assert "dur" not in event
            lane.append((event["ts"], trace.finished - trace.started))
        else:
            assert event["ph"] == "X"
            assert event["dur"] >= 0
            lane.append((event["ts"], event["ts"] + event["dur"]))
        seen.append(event["args"]["osprofiler.trace_id"])
    assert sorted(seen) == sorted(span.trace_id for span in trace.spans)
    for lane in lanes.values():
        assert nest(lane)


def nest(lane: list[tuple[int, int]]) -> bool:
    """Whether intervals begin in order, and end within those still open."""
    open_: list[int] = []
    for (start, end), (following, _) in pairwise([*lane, (sys.maxsize, 0)]):
        while open_ and open_[-1] <= start and open_[-1] < end:
            open_.pop()
        if (open_ and end > open_[-1]) or following < start:
            return False
        open_.append(end)
    return True


@cases
def test_chrome(trace: Trace) -> None:
    check_chrome(trace)


def test_chrome_events() -> None:
    process, thread, root, *_ = chrome(CASES["simple"])
    assert (process["name"], process["args"]) == (
        "process_name",
        {"name": "nova:api@one"},
    )
    assert (thread["name"], thread["args"]) == (
        "thread_name",
        {"name": "lane 1"},
    )
    assert root["name"] == "GET /servers"
    assert (root["cat"], root["ph"]) == ("wsgi", "X")
    assert (root["ts"], root["dur"]) == (0, 1000)
    assert root["args"]["url.path"] == "/servers"


def test_chrome_says_what_is_missing() -> None:
    root = chrome(CASES["unfinished"])[2]
    assert root["ph"] == "B"
    assert root["args"]["profiler_bridge.unfinished"] is True
    headless = chrome(CASES["headless"])[3]
    assert (headless["ph"], headless["ts"], headless["dur"]) == ("X", 8, 0)
    verdict = load("chrome", CASES["unfinished"])["otherData"]["verdict"]
    assert verdict == "2 unfinished"


def test_chrome_error() -> None:
    failed = chrome(CASES["error"])[2]
    assert failed["args"]["error"] == "ValueError: no such flavor"
    assert failed["cname"] == "terrible"
