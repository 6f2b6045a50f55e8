# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage copy, between real servers."""

from __future__ import annotations

import copy
import json
import os
import pty
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from osprofiler.drivers.sqlalchemy_driver import SQLAlchemyDriver

from profiler_bridge import exceptions, transfer
from profiler_bridge.cmd.app import CLEARED
from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import osprofiler
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Inserted, Piece
from profiler_bridge.storage.sql import osprofiler_table
from profiler_bridge.storage.traces import Storage, split_into_pieces
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
    span,
)
from tests import servers
from tests.daemon import script
from tests.functional.test_storage_redis import notify, set_values
from tests.osprofiler_report import equal_reports, osprofiler_report

Traces = dict[str, list[Payload]]


def traces(count: int, seed: int = 1) -> Traces:
    """By base_id; one starts each second."""
    rng = seeded(seed)
    made = [request(rng, STARTED + number * SECOND) for number in range(count)]
    return {payloads[0]["base_id"]: payloads for payloads in made}


def fill(storage: Storage, stored: Traces) -> None:
    storage.prepare()
    for payloads in stored.values():
        storage.write(notifications(payloads))


def texts(trace: list[Notification]) -> list[str]:
    return sorted(notification.text for notification in trace)


def assert_has(storage: Storage, wanted: Traces) -> None:
    """It lists and has these traces, and no others."""
    page = storage.list_traces(TraceQuery(limit=10_000))
    assert {summary.base_id for summary in page} == wanted.keys()
    for base_id, payloads in wanted.items():
        assert texts(storage.notifications(base_id)) == texts(
            notifications(payloads)
        )


class Commands:
    """Runs the command with a configuration, whose storage is the target."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/target.sqlite"
        self.target = get_storage(self.url)
        self.set_aside = SetAside(f"{folder}/set-aside.sqlite", 2**20)
        self._config = folder / "bridge.conf"
        self._config.write_text(
            f"[osprofiler]\nconnection_string = {self.url}\n"
            f"[bridge]\nset_aside = {folder}/set-aside.sqlite\n"
        )

    def run(
        self, *args: str, stderr: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                script("profiler-bridge-manage"),
                f"--config-file={self._config}",
                "copy",
                *args,
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=120,
        )

    def copy(self, *args: str) -> str:
        """What is printed when all is well."""
        done = self.run(*args)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def said(copied: int, notifications: int, there: int, refused: int) -> str:
    return (
        f"{copied} traces copied ({notifications} notifications), {there}"
        f" were there, {refused} notifications set aside\n"
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite_url", "redis_url"),
        ("redis_url", "postgresql_url"),
        ("mariadb_url", "sqlite_url"),
    ],
)
def test_storages_are_copied(
    source: str,
    target: str,
    commands: Commands,
    request: pytest.FixtureRequest,
) -> None:
    urls = [request.getfixturevalue(name) for name in (source, target)]
    stored = traces(130)  # more than a page
    fill(get_storage(urls[0]), stored)
    args = ["--from", urls[0], "--to", urls[1]]
    count = sum(map(len, stored.values()))
    assert commands.copy(*args) == said(130, count, 0, 0)
    assert_has(get_storage(urls[1]), stored)
    assert commands.copy(*args) == said(0, 0, 130, 0)
    assert_has(get_storage(urls[1]), stored)


def test_traces_are_chosen(commands: Commands, sqlite_url: str) -> None:
    stored = traces(5)
    fill(get_storage(sqlite_url), stored)
    since, until = (
        next(iter(payloads))["timestamp"]
        for payloads in list(stored.values())[1:4:2]
    )
    commands.copy("--from", sqlite_url, "--since", since, "--until", until)
    chosen = list(stored)[1:3]
    assert_has(
        commands.target, {base_id: stored[base_id] for base_id in chosen}
    )
    assert commands.copy("--from", sqlite_url, "--error") == said(0, 0, 0, 0)


def test_progress_is_shown_on_a_terminal(
    commands: Commands, sqlite_url: str
) -> None:
    fill(get_storage(sqlite_url), traces(3))
    terminal, end = pty.openpty()
    done = commands.run("--from", sqlite_url, stderr=end)
    os.close(end)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert done.stdout.startswith("3 traces copied")
    assert shown.startswith("\r0 traces copied, 0 were there")
    assert shown.endswith(CLEARED)


@pytest.fixture
def copying_of(
    tmp_path: Path,
) -> Callable[[Storage], transfer.Transfer]:
    def make(target: Storage) -> transfer.Transfer:
        return transfer.Transfer(
            target, SetAside(f"{tmp_path}/set-aside", 2**20), pytest.fail
        )

    return make


@pytest.mark.parametrize("target", ["sqlite_url", "redis_url"])
def test_what_is_missing_is_copied(
    target: str,
    tmp_path: Path,
    copying_of: Callable[[Storage], transfer.Transfer],
    request: pytest.FixtureRequest,
) -> None:
    """Even of traces with equal summaries, or missing from the index."""
    there = get_storage(request.getfixturevalue(target))
    source = get_storage(f"sqlite:///{tmp_path}/source.sqlite")
    whole, half, changed, lost = traces(4).values()
    again = copy.deepcopy(changed)
    again[0]["info"]["host"] = "node-1"  # as it was
    again[0]["info"]["note"] = "the same span's start once more"
    stored = {
        payloads[0]["base_id"]: payloads
        for payloads in (whole, half, [*changed, again[0]], lost)
    }
    fill(source, stored)
    there.prepare()
    # In other pieces than they are copied in.
    for payloads in (whole[:5], whole[5:], half[:5], changed):
        there.write(notifications(payloads))
    # Its writer ended before it was in the index.
    there.plugin.insert(split_into_pieces(notifications(lost)), (), ())
    done = copying_of(there)
    for _ in done.copy(source, TraceQuery()):
        pass
    assert (done.traces, done.there) == (2, 2)
    assert done.notifications == len(half) - 5 + 1
    assert_has(there, stored)


def test_cut_off_and_run_again(
    sqlite_url: str,
    tmp_path: Path,
    copying_of: Callable[[Storage], transfer.Transfer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "_NOTIFICATIONS", 50)
    source = get_storage(sqlite_url)
    stored = traces(20)
    fill(source, stored)
    target = get_storage(f"sqlite:///{tmp_path}/target.sqlite")
    target.prepare()
    first = copying_of(target)
    insert, inserted = target.plugin.insert, []

    def insert_thrice(pieces: Sequence[Piece], *rest: Any) -> Inserted:
        inserted.append(len(pieces))
        if len(inserted) > 3:
            raise exceptions.StorageUnavailable("gone")
        return insert(pieces, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(target.plugin, "insert", insert_thrice)
        with pytest.raises(exceptions.StorageUnavailable):
            for _ in first.copy(source, TraceQuery()):
                pass
    assert 0 < first.traces < 20
    second = copying_of(target)
    for _ in second.copy(source, TraceQuery()):
        pass
    assert (second.traces, second.there) == (20 - first.traces, first.traces)
    assert_has(target, stored)


def test_what_the_target_refuses_is_set_aside(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = get_storage(sqlite_url)
    stored = traces(3)
    fill(source, stored)
    target = get_storage(f"sqlite:///{tmp_path}/target.sqlite")
    target.prepare()
    base_id, payloads = next(iter(stored.items()))
    insert = target.plugin.insert

    def insert_or_refuse(pieces: Sequence[Piece], *rest: Any) -> Inserted:
        if any(payloads[3]["trace_id"] in piece.text for piece in pieces):
            raise exceptions.WriteRefused("too odd")
        return insert(pieces, *rest)

    monkeypatch.setattr(target.plugin, "insert", insert_or_refuse)
    set_aside = SetAside(f"{tmp_path}/set-aside", 2**20)
    said: list[str] = []
    done = transfer.Transfer(target, set_aside, said.append)
    for _ in done.copy(source, TraceQuery()):
        pass
    refused = [
        payload
        for payload in payloads
        if payload["trace_id"] == payloads[3]["trace_id"]
    ]
    assert refused
    assert done.refused == len(said) == len(refused)
    assert said[0] == f"{source}: {base_id}: too odd"
    assert [
        json.loads(message.body)["payload"] for message in set_aside.messages()
    ] == refused
    stored[base_id] = [
        payload for payload in payloads if payload not in refused
    ]
    assert_has(target, stored)


def test_traces_that_are_purged_meanwhile(
    sqlite_url: str,
    tmp_path: Path,
    copying_of: Callable[[Storage], transfer.Transfer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even the last one of a page, after which the next page begins."""
    monkeypatch.setattr(transfer, "_PAGE", 4)
    source = get_storage(sqlite_url)
    stored = traces(10)
    fill(source, stored)
    target = get_storage(f"sqlite:///{tmp_path}/target.sqlite")
    target.prepare()
    steps = copying_of(target).copy(source, TraceQuery())
    newest = list(reversed(stored))
    for _ in range(5):
        next(steps)
    for base_id in newest[3:5]:
        digests = source.plugin.partials([base_id])[base_id].keys()
        source.plugin.delete({base_id: digests}, ())
    for _ in steps:
        pass
    del stored[newest[4]]
    assert_has(target, stored)


def assert_as_osprofiler_reports(storage: Storage, stored: Traces) -> None:
    page = storage.list_traces(TraceQuery(limit=10_000))
    assert {summary.base_id for summary in page} == stored.keys()
    for base_id, payloads in stored.items():
        assert equal_reports(
            osprofiler.report(storage.trace(base_id)),
            osprofiler_report(payloads),
        )


def test_what_osprofilers_redis_driver_stored(
    commands: Commands, redis_server: servers.Redis, redis_url: str
) -> None:
    """Both layouts, among traces of ours; what is wrong is set aside."""
    listed, valued, ours = traces(6), traces(6, 2), traces(3, 3)
    for payloads in listed.values():
        notify(redis_url, payloads)
    for payloads in valued.values():
        set_values(redis_server, payloads)
    fill(get_storage(redis_url), ours)
    bad: dict[str, object] = {**next(iter(listed.values()))[0]}
    bad["timestamp"] = "yesterday"
    key = f"osprofiler_opt:{bad['base_id']}"
    redis_server.execute("LPUSH", key, json.dumps(bad))
    redis_server.execute("LPUSH", "osprofiler_opt:x", "{")
    redis_server.execute("SET", f"osprofiler_error:{bad['base_id']}", "{}")
    done = commands.run("--from-osprofiler", redis_url)
    both = listed | valued
    count = sum(map(len, both.values()))
    assert done.stdout == said(12, count, 0, 2)
    assert done.returncode == 1
    assert_as_osprofiler_reports(commands.target, both)
    assert_has(commands.target, both)
    refused = {
        message.reason: json.loads(message.body)["payload"]
        for message in commands.set_aside.messages()
    }
    assert refused == {"bad-timestamp": bad, "not-an-object": "{"}
    assert len(done.stderr.splitlines()) == 2
    assert f"{bad['base_id']}: timestamp is not like" in done.stderr
    again = commands.run("--from-osprofiler", redis_url)
    assert again.stdout == said(0, 0, 12, 2)
    assert len([*commands.set_aside.messages()]) == 2
    # Into the same server, as well.
    commands.run("--from-osprofiler", redis_url, "--to", redis_url)
    assert_has(get_storage(redis_url), both | ours)


def test_what_osprofilers_sqlalchemy_driver_stored(
    commands: Commands,
    sql_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = traces(8)
    driver = SQLAlchemyDriver(sql_url, project="shop", service="x", host="h")
    for payloads in stored.values():
        for payload in payloads:
            driver.notify(dict(payload))
    table = driver._data_table
    good = next(iter(stored.values()))[0]
    row = {
        key: good[key]
        for key in ("name", "base_id", "trace_id", "parent_id", "timestamp")
    }
    bad = [
        {**row, "base_id": None},
        {**row, "timestamp": "yesterday"},
        {**row, "data": "{"},
        {**row, "data": "[1]"},
    ]
    for values in bad:
        driver._conn.execute(table.insert().values(**values))
    # It never does that itself, with the SQLAlchemy of today.
    driver._conn.commit()
    driver._conn.close()
    with monkeypatch.context() as patch:
        patch.setattr(osprofiler_table, "_PAGE", 2)
        stored_traces = [*get_storage(sql_url).plugin.left_by_osprofiler()]
    assert [
        (base_id, len(payloads)) for base_id, payloads in stored_traces
    ] == [
        (base_id, len(stored[base_id]) + 3 * (base_id == good["base_id"]))
        for base_id in sorted(stored)
    ] + [("", 1)]
    done = commands.run("--from-osprofiler", sql_url)
    count = sum(map(len, stored.values()))
    assert done.stdout == said(8, count, 0, 4), done.stderr
    assert done.returncode == 1
    assert_has(commands.target, stored)
    assert sorted(
        message.reason for message in commands.set_aside.messages()
    ) == [
        "bad-timestamp",
        *["wrong-type"] * 3,
    ]
    again = commands.run("--from-osprofiler", sql_url, "--since", "1d")
    assert again.stdout == said(0, 0, 0, 4)


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in which osprofiler may make its table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/osprofiler.sqlite"
    if request.param == "mariadb":
        mariadb: servers.MariaDB = request.getfixturevalue("mariadb")
        return mariadb.database("ALL")
    url: str = request.getfixturevalue("postgresql_url")
    return url


def test_reports_in_files(
    commands: Commands, redis_url: str, tmp_path: Path
) -> None:
    stored = traces(2)
    for payloads in stored.values():
        notify(redis_url, payloads)
    ours, theirs = (tmp_path / name for name in ("ours.json", "theirs.json"))
    one, other = stored
    environment = os.environ | {"OSPROFILER_CONNECTION_STRING": redis_url}
    for command in (
        [
            *("osprofiler", "trace", "show", one, "--json"),
            *("--out", str(theirs)),
        ],
        [
            *("profiler-bridge-report", "show", other, "-f", "json"),
            *("--include-osprofiler", "-o", str(ours)),
        ],
    ):
        subprocess.run(
            [script(command[0]), *command[1:]],
            env=environment,
            check=True,
            capture_output=True,
        )
    assert commands.copy(str(ours), str(theirs)) == said(
        2, sum(map(len, stored.values())), 0, 0
    )
    assert_has(commands.target, stored)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    done = commands.run(str(bad), "/nowhere/x", str(ours))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{bad}: this is no report of a trace",
        "/nowhere/x: No such file or directory",
    ]
    assert done.stdout == said(0, 0, 1, 0)


def test_secrets_in_what_osprofiler_stored_are_masked(
    commands: Commands, redis_url: str
) -> None:
    [trace] = traces(1).values()
    first = trace[0]
    payloads = span(
        *(first["base_id"], first["trace_id"], first["base_id"]),
        info={"db": {"params": {"password": "hunter2"}}},
    )
    notify(redis_url, payloads)
    commands.copy("--from-osprofiler", redis_url)
    copied = commands.target.notifications(str(first["base_id"]))
    assert len(copied) == 2
    assert "hunter2" not in "".join(
        notification.text for notification in copied
    )


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ([], "nothing to copy: give --from, --from-osprofiler or a file"),
        (["--from", "nosuch://x"], "no storage plugin for nosuch://"),
        (["--from", "sqlite:////nowhere/x"], "check that the path is right"),
        (
            ["--from-osprofiler", "sqlite:///{target}"],
            "has no table that osprofiler made",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    args: list[str], problem: str, commands: Commands
) -> None:
    commands.target.prepare()
    path = commands.url.removeprefix("sqlite:///")
    done = commands.run(*(argument.format(target=path) for argument in args))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert problem in line
