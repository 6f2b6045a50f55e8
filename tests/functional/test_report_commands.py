# SPDX-License-Identifier: Apache-2.0

"""Every report command and format, the same from every storage."""

from __future__ import annotations

import builtins
import errno
import json
import os
import re
import stat
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.cmd import report
from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.report.statistics import By
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Position
from profiler_bridge.storage.sql.plugin import SQLPlugin
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    request,
    seeded,
    span,
)
from tests.daemon import script

STORAGES = ["sqlite_url", "mariadb_url", "postgresql_url", "redis_url"]
TRACES = 8
UNKNOWN = str(uuid.UUID(int=1))


def traces() -> list[list[Payload]]:
    """Requests, the last of which lost its last notification."""
    made = [
        request(
            seeded(number),
            STARTED + number * SECOND,
            calls=number + 1,
            error=None if number % 3 else "LookupError",
        )
        for number in range(TRACES)
    ]
    made[-1] = sorted(made[-1], key=lambda payload: str(payload["timestamp"]))
    made[-1].pop()
    return made


def commands() -> list[list[str]]:
    ids = [trace[0]["base_id"] for trace in traces()]
    started = sorted(
        min(str(payload["timestamp"]) for payload in trace)
        for trace in traces()
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
        *(["list", "-f", "json", *options] for options in lists),
        *(["show", ids[0], "-f", name] for name in sorted(FORMATS)),
        *(["stats", "-f", "json", "--by", what] for what in By),
        ["stats", "--limit", "3", "--without-late", "--long"],
        ["stats", "--sort", "duration", "--limit", "3", "-f", "json"],
        ["stats", ids[0], ids[1], "-f", "csv"],
        ["show", ids[0], "--critical"],
        ["show", ids[0], "--critical", "-f", "json"],
        ["stats", "--critical", "-f", "json"],
        *(["diff", "error", ids[1], "--by", by] for by in ("root", "service")),
        ["diff", ids[0], ids[1], "-f", "json"],
        ["diff", f"limit=4,until={started[5]}", "error", "-f", "json"],
    ]


def run(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str]:
    code = BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", url, *args]
    )
    # A page tells when it was made.
    made = r"(?<=Made by profiler_bridge )[^<]* UTC"
    return code, re.sub(made, "", capsys.readouterr().out)


def store(url: str) -> None:
    storage = get_storage(url)
    storage.prepare()
    for trace in traces():
        storage.write([Notification.from_payload(p) for p in trace])
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


def test_what_failed_is_marked_for_people(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [n for n in range(TRACES) if not n % 3]
    _, shown = run(url, capsys, "list")
    assert shown.count("| ! POST ") == len(failed)
    _, shown = run(url, capsys, "list", "-f", "json")
    titles = {row["Title"]: row["Errors"] for row in json.loads(shown)}
    assert set(titles) == {"POST /v1/servers"}


def test_pages_by_duration_add_up(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed: list[str] = []
    while True:
        marker = ["--marker", listed[-1]] if listed else []
        args = ["--sort", "duration", "--limit", "3", *marker]
        _, page = run(
            url, capsys, "list", "-f", "value", "-c", "Base ID", *args
        )
        if not page:
            break
        listed += page.split()
    assert sorted(listed) == sorted(trace[0]["base_id"] for trace in traces())


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
    for trace in traces():
        _, shown = run(url, capsys, "show", trace[0]["base_id"])
        assert "\x1b" not in shown


@pytest.mark.parametrize(
    "args",
    [
        ["show", UNKNOWN],
        ["show", "/no/such/file"],
        ["show", os.devnull],
        ["show", "/bin/ls"],
        ["show", "/bin"],
        ["show", "x" * 300],
        ["show", "x" * 5000],
        ["show", "nul\0"],
        ["diff", "/bin/ls", "error"],
        ["diff", "service=" + "x" * 300, "error"],
        ["diff", "service=nova,serivce=" + "x" * 300, "error"],
        ["diff", "since=999999999999w", "error"],
        ["diff", "\0", "error"],
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
    errors = [
        record for record in caplog.records if record.levelname == "ERROR"
    ]
    assert code == 1
    assert len(errors) == 1
    assert errors[0].getMessage().isprintable()
    assert len(errors[0].getMessage()) < 400


@pytest.mark.parametrize(
    "args",
    [
        ["list", "--since", "999999999999w"],
        ["list", "--min-duration", "9" * 400],
        ["list", "--limit", "9" * 30],
        ["show", UNKNOWN, "--wait", "--timeout", "999999999w"],
    ],
)
def test_what_is_out_of_range_is_said(
    args: list[str], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        BridgeApp("profiler_bridge.report", "").run(
            ["--connection-string", url, *args]
        )
    assert ended.value.code == 2
    assert "out of range" in capsys.readouterr().err.splitlines()[-1]


def hostile(url: str) -> list[Payload]:
    text = 'a\x1b[J\0\u202e\ud800\n,"b'
    payloads = span(
        *(UNKNOWN, str(uuid.UUID(int=2)), UNKNOWN),
        name=text,
        service=text,
        host=text,
        error=text,
        info={"db": {"statement": text}},
    )
    storage = get_storage(url)
    storage.prepare()
    storage.write([*map(Notification.from_payload, payloads)])
    storage.close()
    return payloads


@pytest.mark.parametrize("format_", ["csv", "value", "table", "yaml"])
@pytest.mark.parametrize(
    "command",
    [
        ["list", "--long"],
        ["stats"],
        ["stats", "--by", "host"],
        ["stats", "--by", "statement"],
        ["stats", "--by", "root"],
        ["stats", "--critical", "--by", "statement", "--long"],
        ["diff", UNKNOWN, UNKNOWN],
        ["diff", UNKNOWN, UNKNOWN, "--by", "statement"],
    ],
)
def test_tables_of_hostile_text(
    command: list[str],
    format_: str,
    sqlite_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile(sqlite_url)
    code, shown = run(sqlite_url, capsys, *command, "-f", format_)
    assert code == 0
    assert shown.encode()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "x1b[J" in shown or "e[J" in shown


def test_json_of_hostile_text_is_as_it_was_sent(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    payloads = hostile(sqlite_url)
    [row] = json.loads(run(sqlite_url, capsys, "stats", "-f", "json")[1])
    assert row["Service"] == f"shop:{payloads[0]['service']}"


def test_show_the_critical_path_alone(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store(sqlite_url)
    base_id = traces()[0][0]["base_id"]

    def shown(*options: str) -> str:
        args = ("show", base_id, "--critical", *options)
        code, out = run(sqlite_url, capsys, *args)
        assert code == 0
        return out

    text = shown()
    assert "critical path: " in text
    assert "1 more)" not in text
    # What is left out is told, unless all is asked for.
    assert " more)" in shown("--min-duration", "1s")
    assert shown("--min-duration", "1s", "--no-fold") == text
    whole = json.loads(shown("-f", "json"))
    assert whole["base_id"] == base_id
    assert sum(row["time"] for row in whole["path"]) == whole["time"]


@pytest.mark.parametrize("format_", sorted({*FORMATS} - {"json", "tree"}))
def test_no_critical_path_in_other_formats(
    format_: str,
    sqlite_url: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    args = ("show", UNKNOWN, "--critical", "-f", format_)
    assert run(sqlite_url, capsys, *args) == (1, "")
    assert caplog.messages[-1] == (
        f"--critical: there is no such report with -f {format_}; leave it"
        " away, or take -f json"
    )


def test_list_and_show_agree_on_what_is_its_own_parent(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = str(uuid.UUID(int=2))
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write([*map(Notification.from_payload, span(UNKNOWN, own, own))])
    storage.close()
    listed = json.loads(
        run(sqlite_url, capsys, "list", "--incomplete", "-f", "json")[1]
    )
    assert [row["Complete"] for row in listed] == [False]
    _, shown = run(sqlite_url, capsys, "show", UNKNOWN)
    assert "1 span: 1 in a cycle of parents" in shown


def test_list_reads_in_stretches(
    url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = []
    index = SQLPlugin.index

    def counted(
        self: SQLPlugin,
        term: int,
        before: Position | None,
        since: int | None,
        count: int,
    ) -> Any:
        counts.append(count)
        return index(self, term, before, since, count)

    monkeypatch.setattr(SQLPlugin, "index", counted)
    _, shown = run(url, capsys, "list", "--limit", "100000", "-f", "json")
    assert len(json.loads(shown)) == TRACES
    assert max(counts) <= 1000


def test_wait_ends_without_a_trace(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = BridgeApp("profiler_bridge.report", "").run(
        [
            *("--connection-string", url, "show", UNKNOWN),
            *("--wait", "--timeout", "1"),
        ]
    )
    assert code == 1
    assert f"trace {UNKNOWN} is not in this storage" in caplog.text


def test_wait_until_nothing_is_open(
    sqlite_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However quiet it is meanwhile."""
    monkeypatch.setattr("profiler_bridge.cmd.report.show._QUIET", 0.2)
    start, stop = span(UNKNOWN, str(uuid.UUID(int=2)), UNKNOWN)
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write([Notification.from_payload(start)])
    timer = threading.Timer(
        3, storage.write, [[Notification.from_payload(stop)]]
    )
    timer.start()
    _, shown = run(sqlite_url, capsys, "show", UNKNOWN, "--wait")
    timer.join()
    storage.close()
    assert "1 span: complete" in shown


def test_wait_for_what_stays_open(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start, _ = span(UNKNOWN, str(uuid.UUID(int=2)), UNKNOWN)
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write([Notification.from_payload(start)])
    storage.close()
    args = ["show", UNKNOWN, "--wait", "--timeout", "1s"]
    BridgeApp("profiler_bridge.report", "").run(
        ["--connection-string", sqlite_url, *args]
    )
    printed = capsys.readouterr()
    assert "1 unfinished" in printed.out
    assert "Not all of it has ended within 1 s: see --timeout" in printed.err


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a configuration file in it that nobody can use."""
    folder = tmp_path / ".profiler_bridge"
    folder.mkdir()
    (folder / "bridge.conf").write_text("[osprofiler\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder / "bridge.conf"


def test_a_file_that_is_not_needed_is_not_read(
    url: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, capsys, "list")[0] == 0


def test_a_file_that_is_not_for_this_user_is_not_needed(
    redis_url: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis has options there, with defaults."""
    store(redis_url)
    assert run(redis_url, capsys, "list")[0] == 1

    def may(path: object, mode: int) -> bool:
        return path != str(home)

    monkeypatch.setattr(os, "access", may)
    assert run(redis_url, capsys, "list")[0] == 0
    # But it is where somebody asks for it.
    asked = ["--config-file", str(home), "list"]
    assert run(redis_url, capsys, *asked)[0] == 1


def test_shell_completion_that_oslo_config_does_not_have() -> None:
    """The templates for this are missing from its packages."""
    done = subprocess.run(
        [script("profiler-bridge"), "--shell_completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1


def test_a_file_that_only_the_daemon_may_read(
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever names the storage does not need it."""
    get_storage(sqlite_url).prepare()
    file = tmp_path / "bridge.conf"
    file.write_text("[osprofiler]\nconnection_string = redis://127.0.0.1\n")
    file.chmod(0)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OSPROFILER_CONNECTION_STRING", raising=False)
    if os.access(file, os.R_OK):  # root
        look, read = os.access, builtins.open

        def access(path: Any, mode: int) -> bool:
            return path != str(file) and look(path, mode)

        def open_other(path: Any, *args: Any, **kwargs: Any) -> Any:
            if path == str(file):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return read(path, *args, **kwargs)

        monkeypatch.setattr(os, "access", access)
        monkeypatch.setattr(builtins, "open", open_other)
    monkeypatch.setattr(
        "sys.argv", ["x", f"--connection-string={sqlite_url}", "list"]
    )
    assert report.main() == 0
    told = f"nothing is stored in {sqlite_url} yet\n"
    assert capsys.readouterr().err == told
    monkeypatch.setattr("sys.argv", ["x", "list"])
    assert report.main() == 1
    assert f"open some config files: {file}" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_a_standard_stream(url: str, closed: str) -> None:
    """As some start what runs in the background."""
    ended = subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {closed}', "sh"),
            *(script("profiler-bridge-report"), "--connection-string", url),
            "list",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert ("Base ID" in ended.stdout) == (">&-" not in closed.split())
