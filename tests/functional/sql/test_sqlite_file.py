# SPDX-License-Identifier: Apache-2.0

"""SQLite's file: who makes it, its mode, its name, its locks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    STARTED,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    assert_presentable,
    expected,
    observed,
    write,
)
from tests.functional.sql.databases import (
    misconfigured,
)


def test_check_before_there_is_a_file(tmp_path: Path, sqlite_url: str) -> None:
    with pytest.raises(exceptions.StorageNotPrepared, match="no file yet"):
        get_storage(sqlite_url).check()
    assert not list(tmp_path.iterdir())


def test_sqlite_file_is_the_owners_only(sqlite_url: str) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    write(storage, request(seeded(1)))
    path = Path(sa.make_url(sqlite_url).database or "")
    files = sorted(path.parent.glob(f"{path.name}*"))
    assert len(files) > 1  # its log too, while it is open
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_sqlite_file_keeps_its_mode(sqlite_url: str) -> None:
    path = Path(sa.make_url(sqlite_url).database or "")
    path.touch()
    path.chmod(0o640)
    get_storage(sqlite_url).prepare()
    assert path.stat().st_mode & 0o777 == 0o640


def test_only_prepare_makes_sqlites_file(
    tmp_path: Path, sqlite_url: str
) -> None:
    storage = get_storage(sqlite_url)
    attempts: list[Callable[[], object]] = [
        storage.check,
        lambda: storage.trace("0" * 32),
        lambda: storage.list_traces(TraceQuery()),
        lambda: storage.purge(STARTED),
        lambda: write(storage, request(seeded(1))),
    ]
    for attempt in attempts:
        with pytest.raises(exceptions.StorageMisconfigured) as caught:
            attempt()
        assert_presentable(caught.value, sqlite_url)
    assert list(tmp_path.iterdir()) == []


def test_report_command_does_not_make_sqlites_file(
    tmp_path: Path, sqlite_url: str
) -> None:
    command = shutil.which(
        "profiler-bridge-report", path=sysconfig.get_path("scripts")
    )
    assert command
    done = subprocess.run(
        [command, "--connection-string", sqlite_url, "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "check that the path is right" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["with space", "100%", "a#b", "💥", "semi;colon", "a&b=c"]
)
def test_sqlite_file_of_any_name(tmp_path: Path, name: str) -> None:
    storage = get_storage(f"sqlite:///{tmp_path}/{name}.sqlite")
    storage.prepare()
    write(storage, payloads := request(seeded(1)))
    storage.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.sqlite"]
    assert observed(storage, payloads) == expected(payloads)


def test_sqlite_file_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    get_storage("sqlite:///traces.sqlite").prepare()
    assert (tmp_path / "traces.sqlite").exists()


def test_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n" * 100)
    misconfigured(f"sqlite:///{path}", "check that the path is right")
    assert path.read_text() == "buy milk\n" * 100


def test_folder_as_file(tmp_path: Path) -> None:
    misconfigured(f"sqlite:///{tmp_path}", "check that the path is right")


def test_preparing_again_takes_no_lock_away(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Closing a file drops all locks that a process has on it.

    Without them another process believes itself to be the last, and deletes
    the write-ahead log that is still in use.
    """
    storage = get_storage(sqlite_url)
    storage.prepare()
    write(storage, request(seeded(1)))
    storage.prepare()
    path = tmp_path / "profiler.db"
    visit = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('SELECT 1 FROM bridge_pieces').fetchone(); c.close()"
    )
    subprocess.run([sys.executable, "-c", visit, str(path)], check=True)
    assert path.with_name("profiler.db-wal").exists()
    storage.close()
