# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage forward, with a real storage and a real server."""

from __future__ import annotations

import datetime
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import STARTED, notifications
from tests import otlp_server
from tests.daemon import script, wait_for
from tests.functional.test_copy import traces
from tests.otlp_server import Collector, Reply, spans_of
from tests.report_cases import render

TRACES = 3


@pytest.fixture
def storage(sqlite_url: str) -> Storage:
    storage = get_storage(sqlite_url)
    storage.prepare()
    for payloads in traces(TRACES).values():
        storage.write(notifications(payloads))
    return storage


@pytest.fixture
def collector() -> Iterator[Collector]:
    with otlp_server.collector() as serving:
        yield serving


class Command:
    """Runs the command with a configuration."""

    def __init__(self, url: str, folder: Path) -> None:
        self._config = folder / "bridge.conf"
        self._url = url
        self.configure("")

    def configure(self, options: str) -> None:
        self._config.write_text(
            f"[osprofiler]\nconnection_string = {self._url}\n"
            f"[forward]\n{options}\n"
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                script("profiler-bridge-manage"),
                f"--config-file={self._config}",
                "forward",
                *args,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str) -> tuple[int, str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def command(sqlite_url: str, tmp_path: Path) -> Command:
    return Command(sqlite_url, tmp_path)


def test_what_is_stored_is_sent(
    storage: Storage, collector: Collector, command: Command
) -> None:
    command.configure(f"endpoint = {collector.url}")
    code, out, err = command.run()
    assert (code, err) == (0, "")
    printed: dict[bytes, tuple[bytes, Span]] = {}
    for trace in storage.traces(TraceQuery()):
        text = render("otlp", trace)
        printed |= spans_of(otlp_server.from_json(text))
    assert collector.spans() == printed
    assert out == (
        f"{len(printed)} spans sent to {collector.url}, 0 rejected,"
        f" 0 dropped; {TRACES} traces were read\n"
    )
    # Once more, to one who is named, what a filter chooses.
    collector.taken.clear()
    command.configure(f"endpoint = {collector.url}\nmatch = error")
    since = f"--since={_iso(STARTED + 1_500_000)}"
    assert command.run(f"--endpoint={collector.url}", since)[0] == 0
    assert {span.trace_id for _, span in collector.spans().values()} < {
        span.trace_id for _, span in printed.values()
    }
    # What is configured holds for those that are.
    collector.taken.clear()
    assert command.run()[0] == 0
    assert collector.taken == []


def _iso(microseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(
        microseconds / 1_000_000, datetime.UTC
    )
    return moment.isoformat()


def test_what_is_not_taken_shows_in_the_exit_code(
    storage: Storage, collector: Collector, command: Command
) -> None:
    collector.acts.append(otlp_server.partial(2, "no room"))
    code, out, err = command.run(f"--endpoint={collector.url}")
    assert code == 1
    assert "2 rejected, 0 dropped" in out
    assert "no room" in err
    collector.acts.append(Reply(403))
    code, out, err = command.run(f"--endpoint={collector.url}")
    assert code == 1
    assert "0 rejected" in out
    assert "0 spans sent" in out
    assert "has answered 403" in err


def test_who_is_away_is_waited_for_until_somebody_ends_it(
    storage: Storage, collector: Collector, command: Command
) -> None:
    collector.acts.extend([Reply(503)] * 20)
    process = command.start(f"--endpoint={collector.url}")
    wait_for(lambda: collector.requests, "a request")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode not in (0, 1)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "there is nobody to send to"),
        ("endpoint = http://collector", "otlp+http:// or otlp+https://"),
        ("endpoint = otlp+http://me:sec@ret@host", "%40 for @"),
        ("endpoint = otlp+http://host\nmatch = slow", "match in [forward]"),
        ("hold = soon", "hold in [forward]"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    command: Command, options: str, problem: str
) -> None:
    command.configure(options)
    code, out, err = command.run()
    assert (code, out) == (1, "")
    assert problem in err
    assert err.count("\n") == 1
    assert "sec@ret" not in err
