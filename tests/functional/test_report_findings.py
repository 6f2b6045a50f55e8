# SPDX-License-Identifier: Apache-2.0

"""findings as it prints, of one trace and of many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.cmd.report.findings import FOUND
from profiler_bridge.report.findings import Rule, findings
from profiler_bridge.storage import get_storage
from profiler_bridge.trace import Trace
from tests import recorded


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    bodies = [*recorded.keystone(), *recorded.server_create()]
    return recorded.traces(bodies)


@pytest.fixture
def url(sqlite_url: str, traces: list[Trace]) -> str:
    storage = get_storage(sqlite_url)
    storage.prepare()
    for trace in traces:
        storage.write([*trace.notifications()])
    storage.close()
    return sqlite_url


def run(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    code = BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", url, "findings", *args]
    )
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def parsed(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> dict[str, Any]:
    code, out, _ = run(url, capsys, "-f", "json", *args)
    assert code == 0
    told: dict[str, Any] = json.loads(out)
    return told


def test_one_trace(
    url: str,
    traces: list[Trace],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    create = traces[-1]
    code, out, err = run(url, capsys, create.base_id[:8])
    assert (code, err) == (0, "")
    assert out.startswith("POST /v2.1/servers +13: 18.9 s (+127 s after)\n")
    assert max(map(len, out.splitlines())) <= 80
    lines = out.splitlines()
    [begin] = [line for line in lines if "repeated-sql: SELECT tags" in line]
    assert begin.split()[:6] == ["5.01", "s", "750", "ms", "880", "ms"]
    # Without a terminal a finding is one line.
    monkeypatch.delenv("COLUMNS")
    _, out, _ = run(url, capsys, create.base_id)
    assert len(out.splitlines()) == 4 + len(findings(create))


def test_one_trace_for_programs(
    url: str, traces: list[Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    create = traces[-1]
    told = parsed(url, capsys, create.base_id)
    assert told == {
        "base_id": create.base_id,
        "findings": [
            {**finding._asdict(), "spans": [*finding.spans]}
            for finding in findings(create)
        ],
    }


def test_a_file(
    url: str,
    traces: list[Trace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from profiler_bridge.report.formats import FORMATS

    path = tmp_path / "trace.json"
    path.write_text("".join(FORMATS["json"](traces[1])))
    assert run(url, capsys, str(path)) == run(url, capsys, traces[1].base_id)


def test_nothing_to_tell(
    url: str, traces: list[Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    base_id = traces[0].base_id
    code, out, _ = run(url, capsys, base_id, "--fail-on", "any")
    assert code == 0
    assert out.endswith("\n\nnothing worth telling\n")
    assert parsed(url, capsys, base_id)["findings"] == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["gap"], 0),
        (["repeated-sql"], FOUND),
        (["any"], FOUND),
        (["gap", "repeated-sql"], FOUND),
    ],
)
def test_exit_codes(
    options: list[str],
    code: int,
    url: str,
    traces: list[Trace],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [f"--fail-on={option}" for option in options]
    assert run(url, capsys, traces[1].base_id, *asked)[0] == code
    of_many = traces[0].base_id, traces[1].base_id
    assert run(url, capsys, *of_many, *asked)[0] == code


def test_limits(
    url: str, traces: list[Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*args: str) -> set[str]:
        of_all = parsed(url, capsys, *args)["findings"]
        return {finding["rule"] for finding in of_all}

    everything = told(
        *("--min-time=0", "--min-gap=0", "--min-statement=0"),
        *("--min-tokens=1", "--min-repeats=1"),
    )
    assert everything == {*Rule} - {Rule.ERROR, Rule.HANDLED_ERROR}
    assert told("--min-repeats=1000") == {
        *(Rule.REPEATED_TOKEN, Rule.GAP, Rule.REPEATED_REQUEST)
    }
    assert (
        told(
            *("--min-time=1m", "--min-share=100%", "--min-gap=1m"),
        )
        == set()
    )
    assert Rule.REPEATED_REQUEST not in told("--max-pause=1ms")


def test_many_traces(
    url: str, traces: list[Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--root", "GET /v3/*", "--service", "!nova")
    code, out, err = run(url, capsys, *chosen)
    assert code == 0
    assert err == (
        "2 traces, 2026-11-23 00:39:47 to 00:39:48 UTC, 2 with findings\n"
    )
    lines = out.splitlines()
    assert len(lines) == 1 + 2 * 3
    assert lines[1].split()[0] == "2"
    assert lines[1].endswith("repeated-sql: SELECT project [keystone:public]")
    assert lines[2].split()[0] == f"{traces[1].base_id[:8]}:"
    told = parsed(url, capsys, *chosen)
    assert (told["traces"], told["traces_with_findings"]) == (2, 2)
    one = told["findings"][0]
    own = [findings(trace)[0] for trace in traces[1:3]]
    assert one["critical"] == sum(finding.critical for finding in own)
    assert one["base_id"] == traces[1].base_id
    assert one["title"] == own[0].title


def test_no_trace(
    url: str, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(url, capsys, "--service", "glance", "--limit=1")
    assert err == "1 trace, 2026-11-25 17:54:26 UTC, 1 with findings\n"
    code, out, err = run(url, capsys, "--service", "no such")
    assert (code, out) == (0, "")
    assert err.startswith("no trace matches; there are traces of these")
    code, out, err = run(url, capsys, "0" * 32)
    assert (code, out) == (1, "")
