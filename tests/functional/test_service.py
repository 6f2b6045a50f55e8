# SPDX-License-Identifier: Apache-2.0

"""A service among services: systemd, signals, shells and ``openstack``."""

from __future__ import annotations

import configparser
import json
import re
import socket
import subprocess
import uuid
from io import StringIO
from pathlib import Path

import pytest
from cliff.app import App
from cliff.commandmanager import CommandManager

from profiler_bridge.storage import get_storage
from profiler_bridge.testing import sample
from tests import bus, servers
from tests.daemon import Daemon, script, wait_for
from tests.functional.test_bridge import daemon, pieces

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "etc" / "profiler-bridge.service"


def test_systemd_is_told_when_it_is_ready(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        with daemon(tmp_path, nobody, sqlite_url) as running:
            assert systemd.recv(100) == b"READY=1"
            assert get_storage(sqlite_url).check() == []
            assert running.terminate() == 0


def test_unit_runs_what_is_installed(tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    program, *args = unit["Service"]["ExecStart"].split()
    assert Path(script(Path(program).name)).exists()
    assert args == ["--config-file", "/etc/profiler_bridge/bridge.conf"]
    try:
        systemd = servers.find("systemd", "systemd-analyze")
    except servers.ServerMissing:
        return
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace(program, script(Path(program).name))
    )
    done = subprocess.run(
        [systemd, "verify", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "profiler-bridge.service" not in done.stderr


def test_every_process_reports_on_a_signal(
    sqlite_url: str, tmp_path: Path
) -> None:
    nobody = f"rabbit://guest:p4ssw0rd@127.0.0.1:{servers.free_port()}/"
    running = daemon(tmp_path, nobody, sqlite_url)
    with running:
        wait_for(lambda: "Waiting to listen" in running.log, "a worker")
        [worker] = running.workers()
        for count, pid in enumerate((None, worker), 1):
            running.signal("USR2", pid)
            wait_for_reports(running, count)
        assert [*running.workers()] == [worker]
        assert running.terminate() == 0
    assert "connection_string = ***" in reports_of(running)
    assert "p4ssw0rd" not in reports_of(running)


def test_the_log_says_at_the_end_what_was_done(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    bus.publish(
        transport_url, [{}, *map(bus.envelope, pieces(str(uuid.uuid4()), 2))]
    )
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        storage = get_storage(sqlite_url)
        wait_for(
            lambda: "Listening" in running.log and storage.check() == [],
            "a worker",
        )
        wait_for(lambda: running.set_aside.exists(), "a message set aside")
        assert running.terminate() == 0
    assert re.search(r"ending, received [1-9]\d* in \d+ s: ", running.log)
    assert "set aside 1, requeued" in running.log


def wait_for_reports(running: Daemon, count: int) -> None:
    last = "Configuration of profiler_bridge"
    wait_for(lambda: running.log.count(last) == count, "a report")


def reports_of(running: Daemon) -> str:
    return running.log.partition("Guru Meditation")[2]


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("profiler-bridge-report", ["diff", "list", "show", "stats"]),
        ("profiler-bridge-manage", ["check", "purge", "set-aside"]),
    ],
)
def test_shells_complete_commands(
    name: str, commands: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [script(name), "complete"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    asked = subprocess.run(
        [
            "bash",
            "-c",
            # Of the package bash-completion: the word that is being typed.
            "_get_comp_words_by_ref() { cur=; prev=; words=(x ''); }\n"
            f"{done.stdout}\n"
            f"_{name.replace('-', '_')}; echo ${{COMPREPLY[@]}}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert {*commands} <= {*asked.stdout.split()}


def test_openstack_has_the_report_commands(sqlite_url: str) -> None:
    """As that program finds and runs them."""
    storage = get_storage(sqlite_url)
    storage.prepare()
    storage.write(sample.notifications(sample.request(sample.seeded(1))))
    printed = StringIO()
    app = App("", "1", CommandManager("openstack.extension"), stdout=printed)
    code = app.run(
        [
            *("profiler", "trace", "list", "-f", "json"),
            f"--connection-string={sqlite_url}",
        ]
    )
    assert code == 0
    assert json.loads(printed.getvalue())
