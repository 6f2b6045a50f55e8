# SPDX-License-Identifier: Apache-2.0

"""What simulate sends, held against what a real cloud sent."""

from __future__ import annotations

import contextlib
import json
import re
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import oslo_messaging
import pytest

from profiler_bridge import config
from profiler_bridge.body import decode_body
from profiler_bridge.cmd.simulate import STORED_BYTES, Simulate
from profiler_bridge.notification import Notification
from profiler_bridge.sender.points import encode
from profiler_bridge.simulation import arrival, service, shapes
from profiler_bridge.simulation.load import Load
from profiler_bridge.storage import get_storage
from profiler_bridge.trace import Trace
from tests import recorded

SMALL = shapes.parse("small", "keystone GET /v3 1")


def sent(
    load: Load, process: int = 0, began: int = 1_800_000_000_000_000
) -> list[str]:
    """The points of a process, as JSON."""
    return [
        encode(event.make(0))
        for event in load.events(process, began, lambda: 99)
        if event.make
    ]


def payloads(bodies: list[bytes]) -> list[str]:
    return [json.dumps(json.loads(body)["payload"]) for body in bodies]


def compressed(points: list[str]) -> float:
    """Bytes of a point, as batches of one trace's are stored."""
    batches = [points[at : at + 50] for at in range(0, len(points), 50)]
    return sum(
        len(zlib.compress("\n".join(batch).encode(), 4)) for batch in batches
    ) / len(points)


@pytest.mark.parametrize("creates", [0, 1])
def test_points_are_as_those_of_a_real_cloud(creates: int) -> None:
    real = payloads(
        recorded.server_create() if creates else recorded.keystone()
    )
    made = sent(Load(1, 1, creates, 1, "seed"))
    traces = len({json.loads(point)["base_id"] for point in real})
    assert len(made) == pytest.approx(len(real) / traces, rel=0.05)
    mean = sum(map(len, real)) / len(real)
    assert sum(map(len, made)) / len(made) == pytest.approx(mean, rel=0.05)
    assert compressed(made) == pytest.approx(compressed(real), rel=0.25)


def test_a_server_create_goes_through_its_services_as_a_real_one() -> None:
    real = Counter(
        (json.loads(point)["project"], json.loads(point)["name"])
        for point in payloads(recorded.server_create())
    )
    made = Counter(
        (json.loads(point)["service"].split("-")[0], json.loads(point)["name"])
        for point in sent(Load(1, 1, 1, 1, "seed"))
    )
    assert {*made} == {*real}
    # But for the calls that came minutes later.
    for kind, count in real.items():
        assert made[kind] == pytest.approx(count, rel=0.1, abs=24)


def test_a_trace_is_whole_and_marked() -> None:
    load = Load(1, 1, 1, 1, "seed")
    points: list[Any] = [decode_body(point.encode()) for point in sent(load)]
    notifications = [Notification.from_payload(point) for point in points]
    trace = Trace.build(load.base_id(0), notifications)
    assert len(trace.spans) == len(shapes.server_create().spans)
    assert {point["base_id"] for point in points} == {load.base_id(0)}
    assert {point["project"] for point in points} == {"simulated"}
    roots = [span for span in trace.spans if span.parent_id == trace.base_id]
    assert len(roots) == 14
    assert any("__type__" in point for point in sent(load))


@pytest.mark.parametrize("processes", [1, 3, 8, 11])
def test_processes_send_each_point_once(processes: int) -> None:
    load = Load(10, 20, 5, processes, "seed")
    alone = sent(Load(10, 20, 5, 1, "seed"))
    parts = [sent(load, process) for process in range(processes)]
    hosts = [
        {json.loads(point)["info"]["host"] for point in part} for part in parts
    ]
    assert hosts == [{f"simulated-{n + 1}"} for n in range(processes)]

    def ids(points: list[str]) -> list[tuple[str, str, str]]:
        return sorted(
            (point["trace_id"], point["name"], point["timestamp"])
            for point in map(json.loads, points)
        )

    assert ids([point for part in parts for point in part]) == ids(alone)
    assert len(alone) == load.points
    if processes == 8:
        assert all(
            len({json.loads(point)["service"] for point in part}) == 1
            for part in parts
        )


def test_points_come_in_the_order_of_time() -> None:
    due = [
        event.due
        for event in Load(10, 20, 5, 1, "seed").events(0, 0, lambda: 20)
    ]
    assert due == sorted(due)
    assert due[-1] <= 1.9 + shapes.server_create().lasts / 1e6


def test_ends_with_the_last_request_that_there_is_to_be() -> None:
    load = Load(10, 20, 0, 1, "seed")
    begun = {event.request for event in load.events(0, 0, lambda: 7)}
    assert begun == {*range(7)}


class Alone:
    """What one process tells itself."""

    def stopped(self) -> bool:
        return False

    def last(self) -> int:
        return 1

    def may_begin(self, process: int, request: int) -> bool:
        return True


def test_what_the_bus_does_not_take_is_lost_whatever_its_error_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conf = config.prepare([])
    transport = oslo_messaging.get_notification_transport(conf, "fake://")
    refuse = mock.Mock(side_effect=TimeoutError)
    monkeypatch.setattr(transport, "_send_notification", refuse)
    monkeypatch.setattr(service, "get_transport", lambda _: transport)
    monkeypatch.setattr(shapes, "keystone", lambda: SMALL)
    load = Load(1, 1, 0, 1, "seed")
    began = time.monotonic(), time.time_ns() // 1000
    sent = service.run(conf, service.Driver.MESSAGING, load, 0, began, Alone())
    assert (sent.points, sent.lost, sent.failure) == (0, 2, "TimeoutError")


def test_a_line_that_is_no_span_is_told() -> None:
    with pytest.raises(ValueError, match="'keystone nothing' is no span"):
        shapes.parse("wrong", "keystone nothing")


@pytest.mark.parametrize(
    ("arg", "error"),
    [
        ("--rate=nan", "must be a number from 0.01 to 100000"),
        ("--services=1.5", "must be a whole number"),
        ("--services=65", "must be a whole number from 1 to 64"),
        ("--seconds=1000000", "must be a number from 1 to 86400"),
        ("--points=0", "must be a number of at least 1"),
    ],
)
def test_every_number_is_bounded(
    arg: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Simulate(mock.Mock(), None).get_parser("simulate")
    with pytest.raises(SystemExit):
        parser.parse_args([arg])
    assert error in capsys.readouterr().err


def test_waits_until_all_is_stored_or_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "_STALLED", 0.1)
    load = Load(10, 2, 0, 1, "seed")
    began = time.time_ns() // 1000
    points = [
        Notification.from_payload(decode_body(point.encode()))
        for point in sent(load, began=began)
    ]
    with contextlib.closing(
        get_storage(f"sqlite:///{tmp_path}/db")
    ) as storage:
        storage.prepare()

        def wait() -> arrival.Arrival:
            ended = time.monotonic()
            return arrival.wait(storage, load, 2, began, ended, lambda: False)

        assert wait() == arrival.Arrival(0, 0, None)
        storage.write(points[:-1])
        assert wait() == arrival.Arrival(1, 2, None)
        storage.write(points[-1:])
        arrived = wait()
        assert (arrived.complete, arrived.traces) == (2, 2)
        assert arrived.seconds is not None


def test_stored_bytes_are_those_of_the_documentation() -> None:
    page = (
        Path(__file__).parents[2] / "doc/source/admin/sizing.rst"
    ).read_text()
    row = re.search(r"^``bridge`` +523 +(\d+) +(\d+) +(\d+)$", page, re.M)
    sqlite = re.search(r"^SQLite takes (\d+) and", page, re.M)
    assert row
    assert sqlite
    assert [
        STORED_BYTES[scheme]
        for scheme in ("redis", "mysql", "postgresql", "sqlite")
    ] == [int(size) for size in (*row.groups(), sqlite[1])]
