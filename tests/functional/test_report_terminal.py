# SPDX-License-Identifier: Apache-2.0

"""What the report commands print on terminals of several kinds."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from profiler_bridge.report.text import width
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import notifications
from profiler_bridge.trace import Trace
from tests import recorded
from tests.daemon import script
from tests.unit.test_trace import BASE, child

ESCAPE = "\x1b["


def environment(**variables: str) -> dict[str, str]:
    left_out = ("COLUMNS", "NO_COLOR", "OSPROFILER_CONNECTION_STRING")
    kept = {
        key: value for key, value in os.environ.items() if key not in left_out
    }
    return kept | {"TERM": "xterm", "PYTHONUTF8": "1"} | variables


def on_terminal(columns: int, *args: str, **variables: str) -> list[str]:
    """The lines that a command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", 40, columns, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    with subprocess.Popen(
        [script("profiler-bridge-report"), *args],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env=environment(**variables),
    ) as process:
        os.close(theirs)
        read = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # it has ended
                break
            if not piece:
                break
            read += piece
    os.close(ours)
    assert process.returncode == 0, read
    return read.decode().replace("\r\n", "\n").splitlines()


def in_pipe(
    *args: str, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [script("profiler-bridge-report"), *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(**variables),
        check=False,
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the recorded traces are."""
    folder = tmp_path_factory.mktemp("terminal")
    url = f"sqlite:///{folder}/traces.sqlite"
    storage = get_storage(url)
    storage.prepare()
    for trace in traces():
        storage.write([*trace.notifications()])
    storage.close()
    return url


def traces() -> list[Trace]:
    return [
        *recorded.traces(recorded.server_create()),
        *recorded.traces(recorded.keystone()),
    ]


@pytest.fixture
def show(stored: str) -> list[str]:
    create = traces()[0].base_id
    return ["--connection-string", stored, "show", create]


@pytest.mark.parametrize("columns", [80, 160])
def test_the_tree_takes_the_width_there_is(
    columns: int, show: list[str]
) -> None:
    shown = on_terminal(columns, *show, NO_COLOR="1")
    assert shown[0] == "POST /v2.1/servers +13: 18.9 s (+127 s after)"
    assert columns - 4 < max(map(width, shown)) <= columns
    # COLUMNS is what somebody wants it to be.
    shown = on_terminal(columns, *show, NO_COLOR="1", COLUMNS="100")
    assert 96 < max(map(width, shown)) <= 100


@pytest.mark.parametrize("columns", [60, 80, 110, 160])
def test_the_list_fits(columns: int, stored: str) -> None:
    create = traces()[0]
    args = ["--connection-string", stored, "list"]
    shown = on_terminal(columns, *args)
    assert max(map(width, shown)) <= max(columns, 70)
    assert len(shown) == 4 + 4
    base_id = create.base_id if columns > 107 else create.base_id[:8]
    title = "POST /v2.1/servers +13" if columns > 60 else "POST /v2.1/…"
    assert [cell.strip() for cell in shown[3].split("|")[1:-1]] == [
        *(base_id, "2026-11-25 17:54:26", title, "18.9 s (+127 s)"),
    ]
    # What a narrow table says of an id is enough.
    lines = on_terminal(columns, *args[:2], "show", base_id)
    assert create.base_id in lines[1]


def test_the_list_for_programs(stored: str) -> None:
    args = ["--connection-string", stored, "list", "-f", "json"]
    [first, *_] = json.loads(in_pipe(*args).stdout)
    assert first == {
        "Base ID": traces()[0].base_id,
        "Started (UTC)": "2026-11-25T17:54:26.055980",
        "Title": "POST /v2.1/servers +13",
        "Duration": 146_153_194,
        "Answered": 18_863_424,
        "After": 127_289_770,
        "Spans": 1227,
        "Errors": 0,
        "Services": first["Services"],
        "Complete": True,
    }
    assert first["Services"].startswith("glance:api, keystone:public, ")


def test_all_columns_of_the_list(stored: str) -> None:
    args = ["--connection-string", stored, "list"]
    short, long = on_terminal(160, *args), on_terminal(160, *args, "--long")
    assert "Complete" not in short[1]
    assert "Complete" in long[1]
    assert max(map(width, long)) <= 160
    # Ids are never wrapped, even where nothing fits.
    assert len(on_terminal(40, *args, "--long")) == len(long) == 8


def test_the_tree_in_a_pipe(show: list[str]) -> None:
    """Lines are as long as they are, unless somebody says COLUMNS."""
    shown = in_pipe(*show).stdout.decode().splitlines()
    assert max(map(width, shown)) > 160
    assert not any(ESCAPE in line for line in shown)
    shown = in_pipe(*show, COLUMNS="80").stdout.decode().splitlines()
    assert max(map(width, shown)) <= 80


def test_colours_are_for_terminals_that_want_them(show: list[str]) -> None:
    coloured = on_terminal(160, *show)
    plain = on_terminal(160, *show, NO_COLOR="1")
    assert any(ESCAPE in line for line in coloured)
    assert not any(ESCAPE in line for line in plain)
    assert [re.sub("\x1b\\[[0-9]+m", "", line) for line in coloured] == plain
    assert any("━" in line for line in plain)
    dumb = on_terminal(160, *show, TERM="dumb")
    assert not any(ESCAPE in line or "━" in line for line in dumb)


def test_a_terminal_without_unicode(show: list[str]) -> None:
    shown = on_terminal(
        160, *show, NO_COLOR="1", PYTHONUTF8="0", PYTHONIOENCODING="ascii"
    )
    assert all(line.isascii() for line in shown)
    assert any("Service.save x 6 (late, 12 inside)" in line for line in shown)


def test_a_pipe_without_unicode(sqlite_url: str) -> None:
    """What is in the trace is shown as escapes."""
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write(notifications(child(1, name="d\xe9j\xe0 vu")))
    storage.close()
    done = in_pipe(
        *("--connection-string", sqlite_url, "show", BASE),
        PYTHONUTF8="0",
        PYTHONIOENCODING="ascii",
    )
    assert done.returncode == 0
    assert rb"d\xe9j\xe0 vu" in done.stdout


@pytest.mark.parametrize("command", ["report", "manage"])
def test_without_a_command_the_help_is_printed(command: str) -> None:
    printed = [
        subprocess.run(
            [script(f"profiler-bridge-{command}"), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        for args in ([], ["--help"])
    ]
    bare, asked = printed
    assert (bare.returncode, bare.stdout, bare.stderr) == (
        *(asked.returncode, asked.stdout, asked.stderr),
    )
    assert bare.returncode == 0
    assert "\nCommands:\n" in bare.stdout


def test_without_a_storage_it_is_said_what_to_do(tmp_path: Path) -> None:
    done = in_pipe("list", HOME=str(tmp_path))
    [line] = done.stderr.decode().splitlines()
    assert done.returncode == 1
    for hint in (
        "connection_string in [osprofiler]",
        "--connection-string",
        "OSPROFILER_CONNECTION_STRING",
        "~/.profiler_bridge",
        "/etc/profiler_bridge",
    ):
        assert hint in line
    file = tmp_path / "bridge.conf"
    file.write_text("[DEFAULT]\n")
    done = in_pipe("--config-file", str(file), "list")
    assert f"(read: {file})" in done.stderr.decode()
