# SPDX-License-Identifier: Apache-2.0

"""The report for speedscope, held to its schema and its importer.

https://www.speedscope.app/file-format-schema.json. The importer adds: what is
closed was opened last, and time does not go back.
"""

from __future__ import annotations

from profiler_bridge.trace import Trace
from tests.report_cases import (
    CASES,
    cases,
    load,
)


def check_speedscope(trace: Trace) -> None:
    document = load("speedscope", trace)
    assert (
        document["$schema"]
        == "https://www.speedscope.app/file-format-schema.json"
    )
    frames = document["shared"]["frames"]
    for frame in frames:
        assert frame.keys() == {"name", "file"}
        assert all(type(value) is str for value in frame.values())
    opened = 0
    for profile in document["profiles"]:
        assert profile.keys() == {
            "type",
            "name",
            "unit",
            "startValue",
            "endValue",
            "events",
        }
        assert profile["type"] == "evented"
        assert type(profile["name"]) is str
        assert profile["unit"] == "microseconds"
        now = profile["startValue"]
        stack = []
        for event in profile["events"]:
            assert event.keys() == {"type", "frame", "at"}
            assert 0 <= event["frame"] < len(frames)
            assert now <= event["at"] <= profile["endValue"]
            now = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
                opened += 1
            else:
                assert event["type"] == "C"
                assert stack.pop() == event["frame"]
        assert stack == []
    assert opened == len(trace.spans)


@cases
def test_speedscope(trace: Trace) -> None:
    check_speedscope(trace)


def test_speedscope_events() -> None:
    document = load("speedscope", CASES["simple"])
    assert [frame["name"] for frame in document["shared"]["frames"]] == [
        "GET /servers",
        "SELECT",
        "http GET /v3",
    ]
    (profile,) = document["profiles"]
    assert profile["name"] == "nova:api@one lane 1"
    assert [
        (event["type"], event["frame"], event["at"])
        for event in profile["events"]
    ] == [
        ("O", 0, 0),
        ("O", 1, 100),
        ("C", 1, 300),
        ("O", 2, 300),
        ("C", 2, 900),
        ("C", 0, 1000),
    ]


def test_speedscope_says_what_is_missing_and_wrong() -> None:
    def names(case: str) -> set[str]:
        frames = load("speedscope", CASES[case])["shared"]["frames"]
        return {frame["name"] for frame in frames}

    assert names("unfinished") == {"work (unfinished)", "work"}
    assert names("headless") == {"work (no start)", "work"}
    assert names("late") == {"work", "heartbeat (late)", "work (late)"}
    assert names("error") == {"work ! ValueError: no such flavor", "work ! 5"}
