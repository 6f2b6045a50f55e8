# SPDX-License-Identifier: Apache-2.0

"""Critical paths, summed up: of one trace alone, and of many."""

from __future__ import annotations

import json
from collections import Counter
from itertools import dropwhile
from typing import Any

import pytest
from hypothesis import given

from profiler_bridge.critical import critical_path
from profiler_bridge.report import critical, statistics
from profiler_bridge.report.statistics import By
from profiler_bridge.report.text import width
from profiler_bridge.report.waits import NOTHING, Wait, Waits
from profiler_bridge.testing.sample import MILLISECOND, TEXTS
from profiler_bridge.trace import Trace
from tests import recorded
from tests.unit.test_trace import BASE, build, child, payload_lists, uid


def get(path: str) -> dict[str, Any]:
    return {"request": {"method": "GET", "path": path}}


def sql(table: str) -> dict[str, Any]:
    return {"db": {"statement": f"SELECT a FROM {table}"}}


def polling(table: str = "t", again: int = 300) -> Trace:
    """Two requests, 150 ms of work between them, and 50 ms of nothing."""
    return build(
        child(1, duration=100, name="wsgi", info=get("/v3")),
        *(child(2, 1, 10, 20, info=sql(table)), child(3, 1, 40, 20)),
        child(4, 1, 50, 200, name="rpc", service="worker"),
        child(5, at=again, duration=100, name="wsgi", info=get("/v3")),
    )


def sums(waits: Waits) -> dict[tuple[str, ...], tuple[int, int]]:
    return {
        key: (wait.time // MILLISECOND, wait.spans)
        for key, wait in waits.ordered()
    }


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (
            By.OPERATION,
            {
                ("shop:api", "GET /v3"): (160, 2),
                ("shop:worker", "rpc"): (150, 1),
                ("", NOTHING): (50, 0),
                ("shop:api", "SELECT t"): (20, 1),
                ("shop:api", "db"): (20, 1),
            },
        ),
        (
            By.SERVICE,
            {
                ("shop:api",): (200, 4),
                ("shop:worker",): (150, 1),
                (NOTHING,): (50, 0),
            },
        ),
        (
            By.KIND,
            {
                ("wsgi",): (160, 2),
                ("rpc",): (150, 1),
                (NOTHING,): (50, 0),
                ("db",): (40, 2),
            },
        ),
        (
            By.STATEMENT,
            {(NOTHING,): (50, 0), ("SELECT a FROM t",): (20, 1)},
        ),
    ],
)
def test_sums_of_a_path(
    by: By, expected: dict[tuple[str, ...], tuple[int, int]]
) -> None:
    waits = Waits(by)
    waits.add(polling())
    assert sums(waits) == expected
    assert [*sums(waits)] == [*expected]
    assert (waits.traces, waits.paths, waits.time) == (1, 1, 400_000)


def test_shares_are_means_over_all_paths() -> None:
    waits = Waits(By.KIND)
    waits.add(polling())
    waits.add(build(child(1, duration=10, name="wsgi")))
    # Without a path a trace changes no share.
    waits.add(build(child(1, duration=0, name="wsgi")))
    waits.add(build())
    assert (waits.traces, waits.paths) == (4, 2)
    wsgi = waits.groups[("wsgi",)]
    assert wsgi.traces == 2
    assert wsgi.time == 170_000
    assert (wsgi.most, wsgi.base_id) == (160_000, BASE)
    assert waits.share(wsgi) == (160 / 400 + 1) / 2
    assert waits.share(waits.groups[("rpc",)]) == 150 / 400 / 2
    assert sum(map(waits.share, waits.groups.values())) == pytest.approx(1)
    assert Waits().share(Wait()) == 0


def test_more_operations_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest is one group, and where nothing ran stays another."""
    monkeypatch.setattr(statistics, "_MOST_GROUPS", 10)
    waits = Waits()
    for number in range(50):
        waits.add(build(child(1, duration=9, name="wsgi", info=get("/v3"))))
        waits.add(polling(f"t{number}"))
    assert len(waits.groups) <= 12
    assert waits.groups[waits.others].spans > 40
    assert waits.groups[waits.nothing].time == 50 * 50_000
    whole = 50 * (400_000 + 9_000)
    assert sum(wait.time for wait in waits.groups.values()) == whole
    assert waits.time == whole


@pytest.mark.parametrize("by", [By.OPERATION, By.SERVICE, By.HOST, By.KIND])
def test_recorded_paths_are_summed_up_whole(by: By) -> None:
    waits = Waits(by)
    traces = [
        *recorded.traces(recorded.server_create()),
        *recorded.traces(recorded.keystone()),
    ]
    for trace in traces:
        waits.add(trace)
    lengths = [
        path[-1].end - path[0].start for path in map(critical_path, traces)
    ]
    assert sum(lengths) == waits.time
    assert sum(wait.time for wait in waits.groups.values()) == waits.time
    assert waits.groups[waits.nothing].time <= 3_400_000


def lines(trace: Trace, **options: Any) -> list[str]:
    return "".join(critical.render(trace, **options)).splitlines()


def test_the_path_alone() -> None:
    trace = polling()
    assert lines(trace) == [
        "GET /v3 +1: 400 ms",
        f"trace {trace.base_id}, 2026-02-03T04:05:06.000007 UTC",
        "5 spans: complete",
        "critical path: 400 ms",
        "",
        "critical  share  spans  operation",
        "  160 ms  40.0%      2  GET /v3 [shop:api]",
        "  150 ms  37.5%      1  rpc [shop:worker]",
        " 50.0 ms  12.5%      -  (nothing known ran)",
        " 20.0 ms   5.0%      1  SELECT t [shop:api]",
        " 20.0 ms   5.0%      1  db [shop:api]",
        "",
        "critical  share  spans  service",
        "  200 ms  50.0%      4  shop:api",
        "  150 ms  37.5%      1  shop:worker",
        " 50.0 ms  12.5%      -  (nothing known ran)",
        "",
        "critical  share  spans  kind",
        "  160 ms  40.0%      2  wsgi",
        "  150 ms  37.5%      1  rpc",
        " 50.0 ms  12.5%      -  (nothing known ran)",
        " 40.0 ms  10.0%      2  db",
    ]


def test_what_is_little_is_one_line() -> None:
    least = 60 * MILLISECOND
    shown = lines(polling(), min_time=least)
    at = shown.index("critical  share  spans  operation")
    # How long nothing ran is told whatever it was.
    assert shown[at + 3 : at + 5] == [
        " 50.0 ms  12.5%      -  (nothing known ran)",
        " 40.0 ms  10.0%      2  (2 more)",
    ]
    late = polling(again=10_000)
    assert any("(2 more)" in line for line in lines(late))
    assert not any("more)" in line for line in lines(late, min_time=0))


def test_without_a_path() -> None:
    for trace in (build(), build(child(1)[:1])):
        assert lines(trace)[-1].startswith("no critical path")
        whole = json.loads("".join(critical.render_json(trace)))
        assert whole == {
            **{"base_id": BASE, "start": None, "time": 0},
            **{"operations": [], "services": [], "kinds": [], "path": []},
        }


def test_json_has_the_path_and_its_sums() -> None:
    trace = polling()
    whole = json.loads("".join(critical.render_json(trace)))
    path = critical_path(trace)
    assert whole["path"] == [
        {
            "start": start,
            "time": end - start,
            "trace_id": span and span.trace_id,
        }
        for start, end, span in path
    ]
    assert (whole["start"], whole["time"]) == (path[0].start, 400_000)
    assert whole["operations"][0] == {
        **{"service": "shop:api", "operation": "GET /v3"},
        **{"time": 160_000, "share": 0.4, "spans": 2},
    }
    assert whole["services"][2] == {
        **{"service": NOTHING, "time": 50_000, "share": 0.125, "spans": 0},
    }
    assert whole["kinds"][3]["kind"] == "db"
    for part in ("operations", "services", "kinds"):
        assert sum(row["time"] for row in whole[part]) == whole["time"]


@given(payload_lists(skew=True, cycles=True))
def test_any_trace(payloads: list[Any]) -> None:
    trace = build(payloads)
    whole = json.loads("".join(critical.render_json(trace)))
    times = Counter[str | None]()
    for segment in whole["path"]:
        times[segment["trace_id"]] += segment["time"]
    assert times.total() == whole["time"]
    assert times.keys() <= {None, *(span.trace_id for span in trace.spans)}
    every: list[dict[str, Any]] = [
        {"most": 60},
        {"most": 30, "is_ascii": True},
    ]
    for options in every:
        shown = lines(trace, **options)
        below = [*dropwhile(len, shown)]
        assert max(map(width, below), default=0) <= options["most"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_stays_in_its_line(text: str) -> None:
    info = {"function": {"name": text}}
    trace = build(child(1, name=text, service=text, host=text, info=info))
    shown = lines(trace, most=80)
    assert len(shown) == len(lines(build(child(1)), most=80))
    assert all(line.isprintable() for line in shown)
    assert max(map(width, shown)) <= 80
    whole = json.loads("".join(critical.render_json(trace)))
    assert whole["path"][0]["trace_id"] == uid(1)
