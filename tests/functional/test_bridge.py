# SPDX-License-Identifier: Apache-2.0

"""The main job: from osprofiler over RabbitMQ into a database, and out."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from osprofiler import profiler

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from tests import bus, servers
from tests.daemon import Daemon, script, wait_for
from tests.osprofiler_report import equal_reports, osprofiler_report

DATABASES = ["sqlite_url", "mariadb_url", "postgresql_url"]


def daemon(
    folder: Path, transport_url: str, url: str, **bridge: object
) -> Daemon:
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": url},
            "bridge": bridge,
        },
    )


def report(url: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script("profiler-bridge-report"), *args],
        env={**os.environ, "OSPROFILER_CONNECTION_STRING": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def stored(storage: Storage, base_ids: Iterable[str]) -> int:
    return sum(len(storage.notifications(base_id)) for base_id in base_ids)


def pieces(base_id: str, spans: int) -> list[dict[str, Any]]:
    """The payloads of a trace with so many spans, half of them nested."""
    payloads: list[dict[str, Any]] = []
    parent = base_id
    for number in range(spans):
        trace_id = str(uuid.uuid4())
        for phase, tick in (("start", 0), ("stop", 500)):
            payloads.append(
                {
                    "name": f"db-{phase}",
                    "base_id": base_id,
                    "trace_id": trace_id,
                    "parent_id": parent,
                    "timestamp": f"2026-11-23T00:{number // 60 % 60:02}:"
                    f"{number % 60:02}.{tick:06}",
                    "project": "nova",
                    "service": "api",
                    "info": {"host": "vm", "db": {"params": [number]}},
                }
            )
        if number % 2:
            parent = trace_id
    return payloads


@pytest.mark.parametrize("database", DATABASES)
def test_profiled_request_is_reported(
    database: str,
    transport_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    url: str = request.getfixturevalue(database)
    with daemon(tmp_path, transport_url, url) as running:
        with bus.osprofiler_to(transport_url):
            base_id: str = profiler.init("SECRET_KEY").get_base_id()
            with profiler.Trace(
                "wsgi", info={"request": {"method": "GET", "path": "/v2/☃"}}
            ):
                with profiler.Trace(
                    "db",
                    info={
                        "db": {
                            "statement": "SELECT ?, ?",
                            "params": ["\N{PILE OF POO}", 1, None],
                        }
                    },
                ):
                    pass
                with (
                    pytest.raises(ValueError, match="boom"),
                    profiler.Trace("rpc"),
                ):
                    raise ValueError("boom")
            profiler.start("unfinished")
        with_storage = get_storage(url)
        wait_for(
            lambda: (
                Path(running.log_file).exists()
                and "Listening" in running.log
                and stored(with_storage, [base_id]) == 7
                and with_storage.list_traces(TraceQuery())
            ),
            "seven notifications, and the trace in the index",
        )
        # What lists need is stored after the notifications.
        assert running.terminate() == 0
    shown = json.loads(report(url, "show", base_id, "-f", "json").stdout)
    [wsgi, unfinished] = shown["children"]
    [db, rpc] = wsgi["children"]
    assert db["info"]["meta.raw_payload.db-start"]["info"]["db"] == {
        "statement": "SELECT ?, ?",
        "params": ["\N{PILE OF POO}", 1, None],
    }
    assert rpc["info"]["exception"] == "ValueError"
    assert "meta.raw_payload.unfinished-stop" not in unfinished["info"]

    tree = report(url, "show", base_id).stdout
    assert "GET /v2/☃" in tree
    assert "! ValueError: boom" in tree
    assert "1 unfinished" in tree

    [row] = json.loads(report(url, "list", "-f", "json").stdout)
    assert row["Base ID"] == base_id
    assert (row["Spans"], row["Errors"], row["Complete"]) == (4, 1, False)


@pytest.mark.parametrize("database", DATABASES)
def test_reports_equal_those_of_osprofiler(
    database: str,
    transport_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """From many traces, interleaved, through the bus."""
    url: str = request.getfixturevalue(database)
    payloads = recorded_payloads() + [
        payload for _ in range(5) for payload in pieces(str(uuid.uuid4()), 40)
    ]
    payloads.sort(key=lambda payload: str(payload["timestamp"]))
    base_ids = {payload["base_id"] for payload in payloads}
    storage = get_storage(url)
    with daemon(tmp_path, transport_url, url, batch_size=64):
        bus.publish(transport_url, map(bus.envelope, payloads))
        wait_for(
            lambda: (
                (tmp_path / "bridge.log").exists()
                and "Listening" in (tmp_path / "bridge.log").read_text()
                and stored(storage, base_ids) == len(payloads)
            ),
            f"{len(payloads)} notifications",
        )
    for base_id in base_ids:
        theirs = osprofiler_report(
            payload for payload in payloads if payload["base_id"] == base_id
        )
        ours = report(url, "show", base_id, "-f", "json").stdout
        assert equal_reports(json.loads(ours), theirs)


def recorded_payloads() -> list[dict[str, Any]]:
    """Payloads recorded from a real service, where somebody names a file.

    RECORDED_NOTIFICATIONS is the path of a file with a bus message a line.
    """
    path = os.environ.get("RECORDED_NOTIFICATIONS")
    if not path:
        return []
    lines = Path(path).read_text().splitlines()
    return [json.loads(line)["payload"] for line in lines]


def test_what_is_in_hand_at_sigterm_is_stored_and_acknowledged(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    base_id = str(uuid.uuid4())
    payloads = pieces(base_id, 1500)
    storage = get_storage(sqlite_url)
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        wait_for(lambda: "Listening" in running.log, "the listener")
        bus.publish(transport_url, map(bus.envelope, payloads))
        assert running.terminate() == 0
    left = rabbitmq.queue_depth(bus.QUEUE, transport_url)
    assert stored(storage, [base_id]) + left == len(payloads)
    assert not [line for line in running.log.splitlines() if " ERROR " in line]


def test_sigterm_while_the_bus_is_away(
    sqlite_url: str, tmp_path: Path
) -> None:
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    with daemon(tmp_path, nobody, sqlite_url) as running:
        wait_for(lambda: "Connection" in running.log, "a failed connection")
        assert running.terminate() == 0


def test_sighup_while_workers_die_leaves_some(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        wait_for(lambda: "Listening" in running.log, "a listener")
        killed: set[int] = set()
        while "Forking too fast" not in running.log:
            for pid in {*running.workers()} - killed:
                killed.add(pid)
                running.signal("KILL", pid)
        starts = running.log.count("Listening")
        running.signal("HUP")
        wait_for(lambda: running.log.count("Listening") > starts, "a listener")
        assert running.terminate() == 0


def test_a_bad_message_costs_itself_alone(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    base_id = str(uuid.uuid4())
    good = pieces(base_id, 50)
    again = pieces(base_id, 1)[0]
    storage = get_storage(sqlite_url)
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        for payload in good:
            bus.publish(
                transport_url,
                [
                    {},
                    {"payload": None},
                    {"payload": ["a list"]},
                    bus.envelope({"name": "db-start"}),
                    bus.envelope({**again, "base_id": "*"}),
                    bus.envelope({**again, "timestamp": "now"}),
                    bus.envelope({**again, "name": "\x1b[31mdb\n"}),
                    {**bus.envelope(payload), "priority": 5},
                    # As after a redelivery: stored once all the same.
                    bus.envelope(again),
                ],
            )
        wait_for(
            lambda: (
                "Listening" in running.log
                and stored(storage, [base_id]) == len(good) + 1
            ),
            "every good notification",
        )
        assert running.terminate() == 0
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0
    assert "\x1b" not in running.log


@pytest.mark.parametrize(
    ("osprofiler", "message"),
    [
        ({}, "set connection_string in [osprofiler]"),
        ({"connection_string": "nosuch://x"}, "no storage plugin for nosuch"),
        ({"connection_string": "messaging://"}, "no storage plugin"),
        (
            {"connection_string": "sqlite:////nowhere/x.db"},
            "check that the path is right",
        ),
    ],
)
def test_daemon_says_in_one_line_what_is_wrong(
    osprofiler: dict[str, object], message: str, tmp_path: Path
) -> None:
    with Daemon(tmp_path, {"osprofiler": osprofiler}) as running:
        assert running.process is not None
        assert running.process.wait(90) == 1
    [line] = running.log.splitlines()
    assert message in line


def test_existing_profiler_section_is_understood(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    running = Daemon(
        tmp_path,
        {
            "DEFAULT": {"transport_url": transport_url},
            "profiler": {"connection_string": sqlite_url},
        },
    )
    with running:
        wait_for(lambda: "Listening" in running.log, "the listener")
        assert running.terminate() == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", str(uuid.UUID(int=0))), "is not in this storage"),
        (
            ("list", "--marker", str(uuid.UUID(int=0))),
            "marker 00000000-0000-0000-0000-000000000000 is not",
        ),
        (("list", "--config-file", "/nowhere"), "/nowhere"),
    ],
)
def test_report_says_in_one_line_what_is_wrong(
    args: tuple[str, ...], message: str, sqlite_url: str
) -> None:
    get_storage(sqlite_url).prepare()
    failed = report(sqlite_url, *args)
    assert failed.returncode != 0
    [line] = failed.stderr.splitlines()
    assert message in line


def test_report_never_makes_a_database(tmp_path: Path) -> None:
    failed = report(f"sqlite:///{tmp_path / 'mistyped'}", "list")
    assert failed.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["table", "json", "csv", "value", "yaml"])
def test_list_in_every_form(form: str, sqlite_url: str) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    assert report(sqlite_url, "list", "-f", form).returncode == 0
    assert storage.list_traces(TraceQuery()) == []
