# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage simulate, into a real RabbitMQ and the daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import notifications, one_span
from tests import bus, servers
from tests.daemon import Daemon, script, wait_for

PAGE = (Path(__file__).parents[2] / "doc/source/admin/sizing.rst").read_text()
_SMALL = ("--rate=4", "--seconds=2", "--creates=0", "--services=2")


@pytest.fixture(scope="module")
def vhost(rabbitmq: servers.RabbitMQ) -> str:
    return rabbitmq.vhost()


@pytest.fixture(scope="module")
def daemon(
    vhost: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("simulate")
    made = Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": vhost},
            "osprofiler": {"connection_string": f"sqlite:///{folder}/db"},
        },
    )
    with made:
        wait_for(lambda: "Listening" in made.log, "the bridge")
        yield made


def command(config_file: Path, *args: str) -> list[str]:
    return [
        script("profiler-bridge-manage"),
        f"--config-file={config_file}",
        *args,
    ]


def simulate(
    config_file: Path, *args: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config_file, "simulate", *args, "-f", "json"),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("driver", ["messaging", "bridge"])
def test_what_is_sent_is_stored(daemon: Daemon, driver: str) -> None:
    done = simulate(daemon.config_file, *_SMALL, f"--driver={driver}")
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.stderr.startswith("Sending to rabbit://127.0.0.1:")
    assert "guest" not in done.stderr
    # On a busy machine there may be fewer than were asked for.
    assert 1 <= told["requests"] <= 8
    assert told["points sent"] == 198 * told["requests"]
    assert told["points lost"] == 0
    assert told["complete traces stored"] == told["requests"]
    assert done.returncode == ("were not reached" in done.stderr)
    assert told["requests"] == 8 or done.returncode
    many = driver == "bridge"
    assert (told["messages"] < told["points sent"] / 10) == many
    # A message has its envelope beside the point.
    assert (told["bytes/point, in messages"] < 470) == many
    assert told["CPU of sending, us/point"] > 0


def test_it_is_removed_as_documented(daemon: Daemon, tmp_path: Path) -> None:
    rule = re.search(
        r"^    \[retention:simulated\]\n(?:    .+\n)+", PAGE, re.M
    )
    assert rule
    url = f"sqlite:///{daemon.config_file.parent}/db"
    storage = get_storage(url)
    storage.write(notifications(one_span(started=1_000_000)))
    storage.close()
    rules = tmp_path / "simulated.conf"
    rules.write_text(
        f"[osprofiler]\nconnection_string = {url}\n{textwrap.dedent(rule[0])}"
    )

    def services() -> set[str]:
        assert (
            subprocess.run(command(rules, "purge"), timeout=120).returncode
            == 0
        )
        traces = storage.list_traces(TraceQuery(limit=None))
        storage.close()
        return {service for trace in traces for service in trace.services}

    wait_for(lambda: services() == {"shop:api"}, "nothing simulated")


def test_it_ends_at_once_when_told(daemon: Daemon) -> None:
    with subprocess.Popen(
        command(
            daemon.config_file,
            *("simulate", "--rate=2", "--seconds=600", "-f", "json"),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Sending to")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: len(children.read_text().split()) == 8, "processes")
        pids = [int(pid) for pid in children.read_text().split()]
        process.terminate()
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors == "it was stopped: the last traces are incomplete\n"
    assert json.loads(output)["requests"] < 1200
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_processes_end_when_their_parent_is_killed(daemon: Daemon) -> None:
    with subprocess.Popen(
        command(daemon.config_file, "simulate", "--seconds=600"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: len(children.read_text().split()) == 8, "processes")
        pids = [int(pid) for pid in children.read_text().split()]
        os.kill(process.pid, signal.SIGKILL)
    wait_for(
        lambda: (
            not [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]
        ),
        "no processes",
    )


@pytest.mark.parametrize(
    ("lines", "args", "code", "error"),
    [
        (
            "transport_url = rabbit://guest:guest@127.0.0.1:{free}/",
            (),
            2,
            "RabbitMQ does not answer",
        ),
        (
            "transport_url = fake://",
            (),
            1,
            "the bus fake:// does not leave a process: set transport_url",
        ),
        (
            "",
            ("--rate=1000", "--seconds=600"),
            1,
            "this would be 184380000 points, more than --points 1000000:",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, lines: str, args: tuple[str, ...], code: int, error: str
) -> None:
    config_file = tmp_path / "bridge.conf"
    config_file.write_text(
        f"[DEFAULT]\n{lines.format(free=servers.free_port())}\n"
    )
    done = simulate(config_file, *args)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, error in last) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert (code == 2 and args) or done.stderr.count("\n") == 1


def test_without_a_storage_that_can_be_read_it_says_so(
    rabbitmq: servers.RabbitMQ, tmp_path: Path
) -> None:
    url = rabbitmq.vhost()
    config_file = tmp_path / "bridge.conf"
    config_file.write_text(f"[DEFAULT]\ntransport_url = {url}\n")
    done = simulate(config_file, *_SMALL, "--driver=bridge")
    assert "What is stored is not known: no storage" in done.stderr
    told = json.loads(done.stdout)
    assert "complete traces stored" not in told
    assert told["messages in the queue at the end"] == told["messages"]
    assert rabbitmq.queue_depth(bus.QUEUE, url) == told["messages"]
