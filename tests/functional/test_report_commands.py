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

"""Every report command and format, the same from every storage."""

from __future__ import annotations

import json
import os
import stat
import uuid
from pathlib import Path

import pytest

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report import FORMATS
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    request,
    seeded,
)

STORAGES = ["sqlite_url", "mariadb_url", "postgresql_url", "redis_url"]
TRACES = 8
UNKNOWN = str(uuid.UUID(int=1))


def traces() -> list[list[Payload]]:
    """Requests, the last of which lost its last notification."""
    found = [
        request(
            seeded(number),
            STARTED + number * SECOND,
            calls=number + 1,
            error=None if number % 3 else "LookupError",
        )
        for number in range(TRACES)
    ]
    found[-1] = sorted(found[-1], key=lambda each: str(each["timestamp"]))
    found[-1].pop()
    return found


def commands() -> list[list[str]]:
    ids = [each[0]["base_id"] for each in traces()]
    started = sorted(
        min(str(payload["timestamp"]) for payload in each) for each in traces()
    )
    service = next(p["service"] for p in traces()[0] if p["service"])
    lists = [
        [],
        ["--limit", "3"],
        ["--limit", "3", "--marker", ids[2]],
        ["--since", started[3]],
        ["--until", started[3]],
        ["--service", str(service)],
        ["--service", "no such"],
        ["--project", str(traces()[0][0]["project"])],
        ["--host", str(traces()[0][0]["info"]["host"])],
        ["--name", "db"],
        ["--error"],
        ["--incomplete"],
        ["--min-duration", "20ms"],
        ["--max-duration", "20ms"],
        ["--sort", "duration"],
        ["--sort", "duration", "--limit", "2", "--marker", ids[1]],
    ]
    return [
        *(["list", "-f", "json", *each] for each in lists),
        *(["show", ids[0], "-f", each] for each in sorted(FORMATS)),
        *(
            ["stats", "-f", "json", "--by", each]
            for each in ("operation", "kind", "host", "statement")
        ),
        ["stats", ids[0], ids[1], "-f", "csv"],
        ["diff", ids[0], ids[1], "-f", "json"],
        ["diff", f"limit=4,until={started[5]}", "error", "-f", "json"],
    ]


def run(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str]:
    code = BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", url, *args]
    )
    return code, capsys.readouterr().out


def store(url: str) -> None:
    storage = get_storage(url)
    storage.prepare()
    for each in traces():
        storage.write([Notification.from_payload(p) for p in each])
    storage.close()


@pytest.mark.parametrize("storage", STORAGES[1:])
def test_every_command_is_the_same_from_every_storage(
    storage: str,
    sqlite_url: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url: str = request.getfixturevalue(storage)
    store(sqlite_url)
    store(url)
    for command in commands():
        expected = run(sqlite_url, capsys, *command)
        assert expected[0] == 0, command
        assert run(url, capsys, *command) == expected, command


@pytest.fixture
def url(sqlite_url: str) -> str:
    store(sqlite_url)
    return sqlite_url


def test_filters_choose(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    def count(*args: str) -> int:
        return len(
            json.loads(run(url, capsys, "list", "-f", "json", *args)[1])
        )

    assert count() == TRACES
    assert count("--limit", "3") == 3
    assert count("--incomplete") == 1
    assert count("--service", "no such") == 0
    assert count("--min-duration", "0us") == TRACES
    assert count("--max-duration", "0us") == 0


def test_pages_by_duration_add_up(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[str] = []
    while True:
        marker = ["--marker", found[-1]] if found else []
        args = ["--sort", "duration", "--limit", "3", *marker]
        _, page = run(
            url, capsys, "list", "-f", "value", "-c", "Base ID", *args
        )
        if not page:
            break
        found += page.split()
    assert sorted(found) == sorted(each[0]["base_id"] for each in traces())


def test_a_file_is_as_good_as_the_storage(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base_id = traces()[0][0]["base_id"]
    path = str(tmp_path / "report.json")
    assert run(url, capsys, "show", base_id, "-f", "json", "-o", path)[0] == 0
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    for form in FORMATS:
        assert run(url, capsys, "show", path, "-f", form) == run(
            url, capsys, "show", base_id, "-f", form
        )


def test_osprofiler_reads_our_file(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from osprofiler.cmd.shell import OSProfilerShell

    base_id = traces()[0][0]["base_id"]
    path = str(tmp_path / "report.json")
    run(url, capsys, "show", base_id, "-f", "json", "-o", path)
    OSProfilerShell(
        ["trace", "show", path, "--json", "--connection-string", "redis://"]
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(Path(path).read_text())


@pytest.mark.parametrize(
    ("limit", "code"), [("1%", 3), ("1000000%", 0), ("99", 0)]
)
def test_fail_over(
    limit: str,
    code: int,
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same trace with an operation that takes 90% longer."""
    before = tmp_path / "before.json"
    after = tmp_path / "after.json"
    base_id = str(uuid.uuid4())
    for path, duration in ((before, 100_000), (after, 190_000)):
        storage = get_storage(f"sqlite:///{path}.sqlite")
        storage.prepare()
        storage.write(
            [
                Notification.from_payload(
                    {
                        "name": f"db-{phase}",
                        "base_id": base_id,
                        "trace_id": base_id,
                        "parent_id": base_id,
                        "timestamp": format_timestamp(at),
                        "info": {"host": "h"},
                    }
                )
                for phase, at in (("start", 0), ("stop", duration))
            ]
        )
        run(
            str(storage),
            capsys,
            "show",
            base_id,
            "-f",
            "json",
            "-o",
            str(path),
        )
    args = ["diff", str(before), str(after), "--fail-over", limit]
    assert run(url, capsys, *args)[0] == code


def test_tree_in_a_pipe_has_no_colours(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in traces():
        _, shown = run(url, capsys, "show", each[0]["base_id"])
        assert "\x1b" not in shown


@pytest.mark.parametrize(
    "args",
    [
        ["show", UNKNOWN],
        ["show", "/no/such/file"],
        ["show", os.devnull],
        ["diff", UNKNOWN, UNKNOWN],
        ["diff", "service=none", "service=none"],
        ["diff", "nonsense", "error"],
        ["list", "--include-osprofiler"],
    ],
)
def test_errors_are_one_line(
    args: list[str], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", url, *args]
    )
    errors = [each for each in caplog.records if each.levelname == "ERROR"]
    assert code == 1
    assert len(errors) == 1
    assert "\n" not in errors[0].getMessage()
