# SPDX-License-Identifier: Apache-2.0

"""What a program does not import, for all of it is paid at each start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from osprofiler import profiler

from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from tests import bus
from tests.daemon import script, wait_for
from tests.functional.test_bridge import daemon

# Python then writes a line on stderr for each module, of all processes.
TELL = {"PYTHONPROFILEIMPORTTIME": "1"}
IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)$", re.MULTILINE)

BUS = {"amqp", "eventlet", "kombu", "oslo_messaging", "oslo_service"}
REDIS = {"redis", "profiler_bridge.storage.redis"}
SQL = {"pymysql", "psycopg", "sqlalchemy", "profiler_bridge.storage.sql"}
# But SQLite's, which SQLAlchemy imports for an option that a table has there.
DIALECTS = {
    f"sqlalchemy.dialects.{name}"
    for name in ("mssql", "mysql", "oracle", "postgresql")
}
# Of no use to any program that runs by itself.
OTHERS = {
    *("cmd2", "jsonschema", "osprofiler", "pkg_resources", "requests"),
    # What only the service for reading needs.
    *("flask", "keystonemiddleware", "profiler_bridge.api", "waitress"),
    *("oslo_middleware", "werkzeug"),
}
METRICS = {"prometheus_client"}
CLIFF = {"cliff", "prettytable"}
DAEMON = {"cotyledon", "jinja2", "oslo_reports", *METRICS}
# It compiles hundreds of patterns, to mask by.
MASKING = {"oslo_utils.strutils"}
# What only --config-file, and options that a storage has, are read with.
OPTIONS = {"oslo_log.log", "oslo_utils", "profiler_bridge.daemon"}
FORMATS = {
    f"profiler_bridge.report.{name}"
    for name in ("chrome", "dot", "html", "otlp", "speedscope", "zipkin")
}

# What each database's URL needs of what is not needed otherwise.
NEEDED = {
    "sqlite_url": {"sqlalchemy", "sqlalchemy.dialects.sqlite"},
    "mariadb_url": {"sqlalchemy", "sqlalchemy.dialects.mysql", "pymysql"},
    "postgresql_url": {
        *("sqlalchemy", "sqlalchemy.dialects.postgresql", "psycopg")
    },
    "redis_url": {"redis"},
}
URLS = list(NEEDED)


def of_other_storages(url_name: str) -> set[str]:
    if url_name == "redis_url":
        return SQL
    return (REDIS | SQL | DIALECTS) - {
        *("profiler_bridge.storage.sql", *NEEDED[url_name])
    }


def assert_not_imported(
    told: str, unwanted: Iterable[str], wanted: Iterable[str] = ()
) -> None:
    """Fail with the modules that came in, or that nobody told of.

    :param told: what Python has written
    :param unwanted: modules, and packages with all that is in them
    :param wanted: others, that are imported
    """
    imported = set(IMPORTED.findall(told))
    missing = sorted({*wanted} - imported)
    assert not missing, f"not imported: {', '.join(missing)}"
    come_in = [
        min(names)
        for module in sorted(unwanted)
        if (names := [n for n in imported if f"{n}.".startswith(f"{module}.")])
    ]
    assert not come_in, f"imported: {', '.join(come_in)}"


def run(*args: str) -> str:
    done = subprocess.run(
        [script(args[0]), *args[1:]],
        env={**os.environ, **TELL},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def prepared(url: str) -> str:
    storage = get_storage(url)
    storage.prepare()
    storage.close()
    return url


@pytest.mark.parametrize("url_name", URLS)
@pytest.mark.parametrize("command", ["list", "stats"])
def test_a_report_imports_its_storage_alone(
    command: str, url_name: str, request: pytest.FixtureRequest
) -> None:
    url = prepared(request.getfixturevalue(url_name))
    assert_not_imported(
        run("profiler-bridge-report", f"--connection-string={url}", command),
        BUS
        | DAEMON
        | FORMATS
        | MASKING
        | OTHERS
        | of_other_storages(url_name)
        # Redis has options.
        | (set() if url_name == "redis_url" else OPTIONS),
        NEEDED[url_name],
    )


@pytest.mark.parametrize("command", ["set-aside list", "purge"])
def test_managing_needs_no_bus(
    command: str, sqlite_url: str, tmp_path: Path
) -> None:
    config_file = tmp_path / "bridge.conf"
    set_aside = tmp_path / "set-aside.sqlite"
    config_file.write_text(
        f"[osprofiler]\nconnection_string = {sqlite_url}\n"
        f"[bridge]\nset_aside = {set_aside}\n"
    )
    prepared(sqlite_url)
    SetAside(str(set_aside), 1).prepare()
    purge = command == "purge"
    assert_not_imported(
        run(
            "profiler-bridge-manage",
            f"--config-file={config_file}",
            *command.split(),
            *(["--older-than=1d"] if purge else []),
        ),
        BUS
        | DAEMON
        | FORMATS
        | MASKING
        | OTHERS
        | (of_other_storages("sqlite_url") if purge else SQL | REDIS),
        ["oslo_log.log"],
    )


@pytest.mark.parametrize("url_name", URLS)
def test_the_daemon_imports_its_storage_alone(
    url_name: str,
    request: pytest.FixtureRequest,
    transport_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And all that the workers need before there are any: once for all."""
    url = request.getfixturevalue(url_name)
    for name, value in TELL.items():
        monkeypatch.setenv(name, value)
    storage = get_storage(url)
    with (
        daemon(tmp_path, transport_url, url) as running,
        bus.osprofiler_to(transport_url),
    ):
        wait_for(lambda: "Listening" in running.log, "the daemon listening")
        profiler.init("key")
        with profiler.Trace("db"):
            pass
        wait_for(lambda: storage.list_traces(TraceQuery()), "something stored")
        assert running.terminate() == 0
    storage.close()
    assert_not_imported(
        running.log,
        CLIFF | FORMATS | METRICS | OTHERS | of_other_storages(url_name),
        NEEDED[url_name] | BUS | MASKING,
    )
    of_workers = running.log.partition("Bridging ")[2]
    assert_not_imported(
        of_workers,
        BUS | MASKING | REDIS | SQL | {"profiler_bridge", "oslo_log"},
    )


def test_openstack_pays_little_for_commands_that_it_does_not_run() -> None:
    """It imports the commands of all its plugins."""
    done = subprocess.run(
        [sys.executable, "-c", "import profiler_bridge.cmd.openstack"],
        env={**os.environ, **TELL},
        capture_output=True,
        text=True,
        check=True,
    )
    assert_not_imported(
        done.stderr,
        BUS | DAEMON | FORMATS | MASKING | OPTIONS | OTHERS | REDIS | SQL,
        ["cliff"],
    )


def test_what_is_installed_is_looked_through_once(sqlite_url: str) -> None:
    """And not to find out from which package a command is."""
    prepared(sqlite_url)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "def hook(event, args):\n"
            "    if event == 'open':\n"
            "        print(args[0], file=sys.stderr)\n"
            "sys.addaudithook(hook)\n"
            "from profiler_bridge.cmd.report import main\n"
            "main()",
            f"--connection-string={sqlite_url}",
            "list",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    opened = done.stderr.splitlines()
    assert any(path.endswith("/METADATA") for path in opened)
    again = {
        path
        for path in opened
        if path.endswith("/entry_points.txt") and opened.count(path) > 1
    }
    assert again == set()
    lists = ("/RECORD", "/SOURCES.txt", "/top_level.txt")
    assert [path for path in opened if path.endswith(lists)] == []
