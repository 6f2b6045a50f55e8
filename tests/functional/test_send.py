# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage send, into a real RabbitMQ and the daemon."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.notification import FORMAT, VERSION
from profiler_bridge.report import osprofiler
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, script, wait_for
from tests.functional.test_bridge import pieces, recorded_payloads

Payload = dict[str, Any]


def configured(folder: Path, transport_url: str) -> Daemon:
    folder.mkdir(exist_ok=True)
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": f"sqlite:///{folder}/db"},
        },
    )


def send(
    daemon: Daemon, lines: Iterable[object], *args: str
) -> subprocess.CompletedProcess[str]:
    """Bytes are lines as they are; everything else becomes JSON."""
    text = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode()
        for line in lines
    )
    done = subprocess.run(
        [
            script("profiler-bridge-manage"),
            f"--config-file={daemon.config_file}",
            "send",
            *(args or "-"),
        ],
        input=text,
        capture_output=True,
        timeout=120,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def reports(daemon: Daemon, payloads: list[Payload]) -> dict[str, Any]:
    """Those of all traces, when everything is stored."""
    storage = get_storage(f"sqlite:///{daemon.config_file.parent}/db")
    base_ids = {payload["base_id"] for payload in payloads}
    with daemon:
        wait_for(
            lambda: (
                "Listening" in daemon.log
                and sum(
                    len(storage.notifications(base_id)) for base_id in base_ids
                )
                == len(payloads)
            ),
            f"{len(payloads)} notifications",
        )
    by_base_id = {
        base_id: osprofiler.report(storage.trace(base_id))
        for base_id in base_ids
    }
    storage.close()
    return by_base_id


def test_reports_are_the_same_as_sent_one_by_one(
    rabbitmq: servers.RabbitMQ, transport_url: str, tmp_path: Path
) -> None:
    payloads = recorded_payloads() + [
        payload for _ in range(3) for payload in pieces(str(uuid.uuid4()), 40)
    ]
    one_by_one = configured(tmp_path / "one", transport_url)
    bus.publish(transport_url, map(bus.envelope, payloads))
    together = configured(tmp_path / "many", rabbitmq.vhost())
    file = tmp_path / "points.jsonl"
    file.write_text(
        "".join(
            json.dumps(bus.envelope(payload)) + "\n" for payload in payloads
        )
    )
    done = send(together, [], str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{len(payloads)} points sent\n"
    assert reports(together, payloads) == reports(one_by_one, payloads)


def test_lines_of_every_kind_and_bad_ones(
    transport_url: str, tmp_path: Path
) -> None:
    good = pieces(str(uuid.uuid4()), 5)
    many = {FORMAT: VERSION, "points": [*good[2:5], {"name": "\x1b[31m"}]}
    daemon = configured(tmp_path, transport_url)
    done = send(
        daemon,
        [
            good[0],
            b"",
            b"{",
            bus.envelope(good[1]),
            many,
            b"\xff",
            {"payload": None},
            bus.envelope({FORMAT: VERSION, "points": good[5:]}),
            {**good[0], "timestamp": "yesterday"},
            b"[" * 100_000,
        ],
    )
    assert done.returncode == 1
    assert done.stdout == f"{len(good)} points sent\n"
    assert [
        line.split(" ", 2)[1].rstrip(":") for line in done.stderr.splitlines()
    ] == ["3", "5", "6", "7", "9", "10"]
    assert "line 5: base_id is missing\n" in done.stderr
    assert "line 9: timestamp is not like" in done.stderr
    reports(daemon, good)


def test_bus_that_is_away(tmp_path: Path) -> None:
    daemon = configured(
        tmp_path, f"rabbit://u:s3cret@127.0.0.1:{servers.free_port()}/"
    )
    done = send(daemon, pieces(str(uuid.uuid4()), 5))
    assert (done.returncode, done.stdout) == (2, "0 points sent\n")
    [line] = done.stderr.splitlines()
    assert "RabbitMQ does not answer" in line
    assert "s3cret" not in line


@pytest.mark.parametrize("stopped", [True, False])
def test_bus_that_takes_nothing(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    tmp_path: Path,
    stopped: bool,
) -> None:
    """It does not answer, or lets everybody in and then takes no message."""
    daemon = configured(tmp_path, transport_url)
    if stopped:
        rabbitmq.pause()
    else:
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        done = send(
            daemon, pieces(str(uuid.uuid4()), 5), "--timeout", "0.5", "-"
        )
    finally:
        if stopped:
            rabbitmq.resume()
        else:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    assert (done.returncode, done.stdout) == (2, "0 points sent\n")
    assert done.stderr.count("\n") == 1, done.stderr
    line = done.stderr
    assert "RabbitMQ does not answer" in line or "did not take" in line


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    done = send(configured(tmp_path, "fake://"), [], "/nowhere/points")
    assert done.returncode == 1
    assert done.stderr == "/nowhere/points: No such file or directory\n"
