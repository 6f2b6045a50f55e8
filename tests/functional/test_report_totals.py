# SPDX-License-Identifier: Apache-2.0

"""stats and diff over many traces: which these are, and what that takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.cmd.report import base
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.pages import Page
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    request,
    seeded,
)

TRACES = 25


def store(url: str, traces: Iterable[list[Payload]]) -> None:
    storage = get_storage(url)
    storage.prepare()
    for payloads in traces:
        storage.write([*map(Notification.from_payload, payloads)])
    storage.close()


def made(count: int) -> Iterable[list[Payload]]:
    """Some begin in the same microsecond."""
    rng = seeded(count)
    for number in range(count):
        yield request(rng, STARTED + number // 3 * SECOND, calls=1)


@pytest.fixture
def url(sqlite_url: str) -> str:
    store(sqlite_url, made(TRACES))
    return sqlite_url


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_PAGE", 4)


def run(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    code = BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", url, *args]
    )
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def rows(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> list[dict[str, Any]]:
    _, out, _ = run(url, capsys, *args, "-f", "json")
    table: list[dict[str, Any]] = json.loads(out)
    return table


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], TRACES),
        (["--limit", "3"], 3),
        (["--limit", "9"], 9),
        (["--limit", "100"], TRACES),
        (["--sort", "duration"], TRACES),
        (["--sort", "duration", "--limit", "7"], 7),
        (["--until", "2026-02-03T04:05:08"], 6),
        (["--service", "conductor"], TRACES),
        (["--operation", "UPDATE*"], TRACES),
        (["--time-limit", "60"], TRACES),
    ],
)
def test_all_traces_are_looked_at_unless_there_is_a_limit(
    options: list[str],
    count: int,
    url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = rows(url, capsys, "stats", "--by", "kind", *options)
    assert {row["Kind"]: row["Calls"] for row in table} == {
        "wsgi": count,
        "rpc": count,
        "db": 2 * count,
    }
    _, _, err = run(url, capsys, "stats", *options)
    assert err.startswith(f"{count} traces, 2026-02-03 04:05:")


def test_a_limit_takes_the_newest(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, err = run(url, capsys, "stats", "--limit", "6")
    assert err == "6 traces, 2026-02-03 04:05:12 to 04:05:14 UTC\n"


def test_after_a_marker(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, listed, _ = run(
        url, capsys, "list", "-f", "value", "-c", "Base ID", "--limit", "5"
    )
    marker = listed.split()[-1]
    for sort in ("start", "duration"):
        args = ("stats", "--marker", marker, "--sort", sort)
        _, _, err = run(url, capsys, *args)
        assert re.match("[0-9]+ traces", err)
    _, _, err = run(url, capsys, "stats", "--marker", marker)
    assert err.startswith(f"{TRACES - 5} traces")


@pytest.mark.parametrize("options", [[], ["--sort", "duration"]])
def test_a_marker_that_is_not_there(
    options: list[str],
    url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker = "00000000-0000-4000-8000-000000000000"
    assert run(url, capsys, "stats", "--marker", marker, *options)[0] == 1


def test_nothing_matches(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(url, capsys, "stats", "--service", "none")
    assert (code, out.strip()) == (0, "")
    assert err.startswith("no trace matches; there are traces of these")


def test_the_time_is_over(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for sort in ("start", "duration"):
        args = ("stats", "--time-limit", "0", "--sort", sort)
        code, _, err = run(url, capsys, *args)
        assert code == 0
        assert err.splitlines()[0] == (
            "stopped after 0 s: there may be more traces that match"
        )
        assert err.splitlines()[1].startswith("1 trace, ")


def test_traces_that_are_purged_meanwhile(
    url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of a page, from which the next would go on."""
    read = Storage.page

    def read_and_purge(self: Storage, query: TraceQuery) -> Page:
        page = read(self, query)
        if query.marker is None and query.until is None:
            last = page.traces[-1]
            before = {last.base_id: self.plugin.partials([last.base_id])}
            assert before[last.base_id]
            self.purge(last.finished + 1)
            store(url, made(3))  # the oldest come again
        return page

    monkeypatch.setattr(Storage, "page", read_and_purge)
    code, _, err = run(url, capsys, "stats")
    assert code == 0
    assert re.match("[4-9] traces, ", err)


def test_people_see_fewer_columns(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def head(*options: str) -> list[str]:
        _, out, _ = run(url, capsys, "stats", *options)
        return [cell.strip() for cell in out.splitlines()[1].split("|")[1:-1]]

    shown = ["Service", "Operation", "Calls", "Self", "p95"]
    every = list(rows(url, capsys, "stats")[0])
    assert head() == shown
    assert head("--long") == every
    assert set(shown) < set(every)
    assert head("-c", "p50") == ["p50"]


def test_what_the_ends_of_requests_waited_for(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("stats", "--critical")
    table = rows(url, capsys, *args)
    assert [*table[0]] == [
        *("Service", "Operation", "Traces", "Spans", "Critical", "Share"),
        *("Max", "Trace"),
    ]
    # Each request takes 11 ms, one after the other.
    assert {row["Operation"]: row["Critical"] for row in table} == {
        "POST /v1/servers": TRACES * 5000,
        "build": TRACES * 4000,
        "SELECT servers": TRACES * 1000,
        "UPDATE servers": TRACES * 1000,
    }
    assert [row["Share"] for row in table] == [45.45, 36.36, 9.09, 9.09]
    assert {row["Traces"] for row in table} == {TRACES}
    _, out, err = run(url, capsys, *args, "--limit", "3")
    assert err.startswith("3 traces, ")
    assert "45.5%" in out
    assert "Max" not in out
    assert "Max" in run(url, capsys, *args, "--long")[1]
    [base_id] = {row["Trace"] for row in table[:1]}
    assert len(rows(url, capsys, *args, base_id)) == len(table)


@pytest.mark.parametrize("by", ["kind", "service", "host", "statement"])
def test_what_they_waited_for_otherwise(
    by: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows(url, capsys, "stats", "--critical", "--by", by)
    assert {row["Traces"] for row in table} == {TRACES}
    if by == "statement":
        assert [*table[0]][-1] == "Statement"
    else:
        assert sum(row["Critical"] for row in table) == TRACES * 11_000


def test_whole_traces_have_no_part_of_their_own_path(
    url: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    args = ("stats", "--critical", "--by", "root")
    assert run(url, capsys, *args)[:2] == (1, "")
    assert caplog.messages[-1] == (
        "--critical: not with --by root, which sums up whole traces"
    )


def test_people_see_errors_of_roots_where_there_are_some(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("stats", "--by", "root")
    _, out, _ = run(url, capsys, *args)
    assert "Errors" not in out
    assert rows(url, capsys, *args)[0]["Errors"] == 0
    failed = request(seeded(1), STARTED, calls=1, error="DBDeadlock")
    store(url, [failed])
    _, out, _ = run(url, capsys, *args)
    assert "Errors" in out
    assert rows(url, capsys, *args)[0]["Errors"] == 1


def test_people_see_units_and_programs_microseconds(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(url, capsys, "stats")
    assert (
        "| shop:api       | POST /v1/servers |    25 |  125 ms | 11.0 ms |"
        in (out)
    )
    [row] = [
        row
        for row in rows(url, capsys, "stats")
        if row["Operation"] == "POST /v1/servers"
    ]
    assert (row["Self"], row["p95"]) == (125_000, 11_000)
    assert all(type(row[head]) is int for head in ("Self", "p95", "Mean"))


def test_memory_is_bounded(url: str) -> None:
    """Whatever is stored; Python and its libraries are in it."""
    store(url, made(1000))
    program = (
        "import pathlib, sys\n"
        "from profiler_bridge.cmd import report\n"
        "report.main()\n"
        "print(pathlib.Path('/proc/self/status').read_text())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--connection-string", url, "stats"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("1,025 traces, ")
    # Not ru_maxrss, which knows of this process before it became that one.
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert peak
    assert int(peak[1]) <= 100 * 1024
