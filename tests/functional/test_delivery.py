# SPDX-License-Identifier: Apache-2.0


"""Whatever comes off the bus is stored, or set aside; nothing else is so."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import resource
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kombu.utils import json as kombu_json
from oslo_serialization import jsonutils
from osprofiler import profiler

from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import FORMAT, VERSION
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import request as sample
from profiler_bridge.testing.sample import seeded
from tests import bus, recorded, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import daemon, pieces, report, stored
from tests.functional.test_monitoring import Watched
from tests.osprofiler_report import equal_reports, osprofiler_report

STORAGES = ["sqlite_url", "mariadb_url", "postgresql_url", "redis_url"]
MIB = 1 << 20


def set_aside(running: Daemon) -> list[SetAsideMessage]:
    return [*SetAside(str(running.set_aside), 1 << 40).messages()]


def typed(base_id: str) -> tuple[list[bytes], dict[str, object]]:
    """Messages with a value of every type, half of them many in a message.

    :returns: bodies, and what is to be stored of the values
    """
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
    values: dict[str, Any] = {
        "datetime": (moment, "2026-01-02T03:04:05.000000"),
        "aware": (
            moment.replace(tzinfo=datetime.UTC),
            "2026-01-02T03:04:05.000000+00:00",
        ),
        "date": (moment.date(), "2026-01-02"),
        "time": (moment.time(), "03:04:05"),
        "decimal": (Decimal("1.50"), "1.50"),
        "uuid": (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        "text": (b"text", "text"),
        "bytes": (b"\xff\x00", "base64:/wA="),
        "unknown": ({"__type__": "point", "__value__": 1},) * 2,
        "junk": ({"__type__": "datetime", "__value__": "junk"},) * 2,
        "token": ("eyJ" * 270_000,) * 2,
    }
    payloads = pieces(base_id, 4)
    for payload in payloads:
        payload["info"]["db"]["params"] = {
            key: value for key, (value, _) in values.items()
        }
    messages = [
        *(bus.envelope(payload) for payload in payloads[:4]),
        bus.envelope({FORMAT: VERSION, "points": payloads[4:]}),
    ]
    return (
        [kombu_json.dumps(message).encode() for message in messages],
        {key: text for key, (_, text) in values.items()},
    )


@pytest.mark.parametrize("name", STORAGES)
def test_every_notification_of_a_real_cloud_is_stored(
    name: str,
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    url: str = request.getfixturevalue(name)
    bodies = recorded.server_create()
    # As osprofiler's own driver for Redis stores them.
    payloads = [
        json.loads(jsonutils.dumps(kombu_json.loads(body.decode())["payload"]))
        for body in bodies
    ]
    base_id = payloads[0]["base_id"]
    made_id = str(uuid.uuid4())
    made, values = typed(made_id)
    bus.publish(transport_url, [*bodies, *made])
    running = daemon(tmp_path, transport_url, url, mask_secrets=False)
    storage = get_storage(url)
    with running:
        wait_for(lambda: "Listening" in running.log, "the worker")
        wait_for(
            lambda: stored(storage, [base_id, made_id]) == len(bodies) + 8,
            "everything stored",
            seconds=60,
        )
        assert running.terminate() == 0
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0
    assert set_aside(running) == []
    trace = storage.trace(base_id)
    assert len(trace.spans) == 1227
    assert trace.verdict.complete
    shown = report(url, "show", base_id, "-f", "json")
    assert equal_reports(json.loads(shown.stdout), osprofiler_report(payloads))
    for notification in storage.notifications(made_id):
        assert notification.info["db"]["params"] == values
    listed = json.loads(report(url, "list", "-f", "json").stdout)
    assert [row["Complete"] for row in listed] == [True, True]


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
def test_bodies_that_a_service_compresses(
    compression: str, transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    storage = get_storage(sqlite_url)
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        rabbit = {"kombu_compression": compression}
        with bus.osprofiler_to(transport_url, rabbit=rabbit):
            base_id = profiler.init("SECRET_KEY").get_base_id()
            with profiler.Trace("wsgi", info={"a": "b" * 1000}):
                pass
        wait_for(
            lambda: (
                "Listening" in running.log and stored(storage, [base_id]) == 2
            ),
            "a trace",
        )
        assert running.terminate() == 0
    assert set_aside(running) == []


def numbers(status: str, field: str) -> int:
    match = re.search(rf"{field}:\s*(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


def test_a_message_that_there_is_no_memory_for(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """A valid one, of which Python makes forty times its size."""
    base_id, large_id = str(uuid.uuid4()), str(uuid.uuid4())
    small = [bus.envelope(one) for one in pieces(base_id, 30)]
    payload = pieces(large_id, 1)[0]
    payload["info"]["db"]["params"] = "HERE"
    large = json.dumps(bus.envelope(payload)).encode()
    large = large.replace(b'"HERE"', b"[" + b"{}," * (2 * MIB) + b"1]")
    storage = get_storage(sqlite_url)
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        wait_for(lambda: "Listening" in running.log, "the worker")
        bus.publish(transport_url, small[:1])
        wait_for(lambda: stored(storage, [base_id]) == 1, "the first")
        [worker] = running.workers()
        status = Path(f"/proc/{worker}/status").read_text()
        limit = numbers(status, "VmSize") + 100 * MIB
        resource.prlimit(worker, resource.RLIMIT_AS, (limit, limit))
        bus.publish(transport_url, [*small[1:31], large, *small[31:]])
        wait_for(
            lambda: (
                stored(storage, [base_id]) == len(small) and set_aside(running)
            ),
            "verdicts",
            seconds=120,
        )
        wait_for(
            lambda: not rabbitmq.queue_depth(bus.QUEUE, transport_url),
            "an empty queue",
        )
        assert running.workers() == [worker]
        assert running.terminate() == 0
    [kept] = set_aside(running)
    assert kept.body == large
    assert kept.reason == Reason.FAILED
    assert running.log.count("Traceback") == 1
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


def test_a_message_that_there_is_no_memory_to_decompress(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """A small one, that becomes large; small ones are around it."""
    base_id = str(uuid.uuid4())
    small = [bus.envelope(one) for one in pieces(base_id, 30)]
    payload = pieces(str(uuid.uuid4()), 1)[0]
    payload["info"]["db"]["params"] = "HERE"
    bomb = json.dumps(bus.envelope(payload)).encode()
    bomb = bomb.replace(b'"HERE"', b"[" + b"{}," * (5 * MIB) + b"1]")
    bomb = zlib.compress(bomb)
    storage = get_storage(sqlite_url)
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        wait_for(lambda: "Listening" in running.log, "the worker")
        [worker] = running.workers()
        status = Path(f"/proc/{worker}/status").read_text()
        limit = numbers(status, "VmSize") + 100 * MIB
        resource.prlimit(worker, resource.RLIMIT_AS, (limit, limit))
        bus.publish(transport_url, [*small[:30], bomb, *small[30:]])
        wait_for(
            lambda: (
                stored(storage, [base_id]) == len(small) and set_aside(running)
            ),
            "verdicts",
        )
        assert running.terminate() == 0
    [kept] = set_aside(running)
    assert (kept.body, kept.reason) == (bomb, Reason.FAILED)
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


def test_a_channel_that_is_opened_again_has_its_prefetch(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """As after a consumer's timeout; the broker would send all it has."""
    get_storage(sqlite_url).prepare()
    count = 300
    database = sqlite_url.removeprefix("sqlite:///")

    def prefetches() -> list[str]:
        lines = rabbitmq.ctl(
            *("list_consumers", "-p", transport_url.rpartition("/")[2]),
            *("prefetch_count", "--quiet"),
        )
        return re.findall(r"^\d+$", lines, re.MULTILINE)

    def set_broker(timeout: str, tick: str) -> None:
        for name, value in (
            ("consumer_timeout", timeout),
            ("channel_tick_interval", tick),
        ):
            rabbitmq.ctl(
                "eval", f"application:set_env(rabbit,{name},{value})."
            )

    running = daemon(
        tmp_path, transport_url, sqlite_url, batch_size=5, prefetch=10
    )
    set_broker("4000", "500")  # of channels that are opened now
    try:
        with running, contextlib.closing(sqlite3.connect(database)) as lock:
            wait_for(lambda: prefetches() == ["10"], "a consumer")
            lock.execute("BEGIN EXCLUSIVE")
            base_id = str(uuid.uuid4())
            bus.publish(
                transport_url, map(bus.envelope, pieces(base_id, count // 2))
            )
            again = "RabbitMQ closed the channel; opening it again"
            wait_for(lambda: again in running.log, "another opening", 60)
            wait_for(lambda: prefetches() == ["10"], "its prefetch")
            lock.rollback()
            wait_for(
                lambda: stored(get_storage(sqlite_url), [base_id]) == count,
                "all of it",
            )
            assert running.terminate() == 0
    finally:
        set_broker("1800000", "60000")
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


def test_valid_messages_go_on_while_nothing_can_be_set_aside(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    base_ids = [str(uuid.uuid4()) for _ in range(3)]
    bad = [bus.envelope({"number": number}) for number in range(20)]
    storage = get_storage(sqlite_url)

    def unacknowledged() -> int:
        counts = rabbitmq.ctl(
            *("list_queues", "-p", transport_url.rpartition("/")[2]),
            *("messages_unacknowledged", "--quiet"),
        )
        return sum(map(int, re.findall(r"^\d+$", counts, re.MULTILINE)))

    running = Watched(tmp_path, transport_url, sqlite_url)
    with running:
        running.wait_until_ready()
        with sqlite3.connect(running.set_aside) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            for turn, base_id in enumerate(base_ids, 1):
                bus.publish(transport_url, bad[10 * turn - 10 : 10 * turn])
                bus.publish(
                    transport_url, map(bus.envelope, pieces(base_id, 50))
                )
                wait_for(
                    lambda: stored(storage, base_ids) == 100 * turn,  # noqa: B023
                    "valid ones",
                )
            wait_for(lambda: unacknowledged() == 20, "those that wait")
            status, problem = running.get("/readyz")
            assert status == 503
            assert f"set-aside file {running.set_aside} is waited" in problem
            assert "storage is waited" not in problem
            assert running.get("/healthz") == (200, "ok\n")
            wait_for(
                lambda: running.total("set_aside_waiting") == 20,
                "the metric of those that wait",
            )
            lock.rollback()
        running.wait_until_ready()
        wait_for(lambda: unacknowledged() == 0, "verdicts")
        wait_for(
            lambda: running.total("notifications_set_aside_total") == 20,
            "the metric of those that are set aside",
        )
        assert running.terminate() == 0
    lock.close()
    assert len(set_aside(running)) == 20
    assert running.log.count("Waiting for the set-aside file") == 1
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0


@pytest.fixture
def watched(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> Iterator[Watched]:
    with Watched(tmp_path, transport_url, sqlite_url) as running:
        running.wait_until_ready()
        yield running


def test_a_stopped_worker_is_not_healthy(watched: Watched) -> None:
    [worker] = watched.collectors()
    assert watched.get("/healthz") == (200, "ok\n")
    watched.signal("STOP", worker)
    wait_for(lambda: watched.get("/healthz")[0] == 503, "ill health", 50)
    assert "worker 0 for rabbit://" in watched.get("/healthz")[1]
    watched.signal("CONT", worker)
    wait_for(lambda: watched.get("/healthz") == (200, "ok\n"), "health")


def test_a_bus_that_is_away_at_the_start_and_later(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    """It is no reason to restart, and is not said over and over."""
    rabbitmq.pause()
    running = Watched(tmp_path, transport_url, sqlite_url)
    try:
        with running:
            wait_for(lambda: running.get("/healthz")[0] == 200, "an endpoint")
            time.sleep(8)
            assert running.get("/healthz") == (200, "ok\n")
            assert running.get("/readyz")[0] == 503
            rabbitmq.resume()
            running.wait_until_ready()
            assert running.terminate() == 0
    finally:
        rabbitmq.resume()
    assert "Traceback" not in running.log


def test_ids_may_be_typed(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    payload: dict[str, Any] = dict(sample(seeded(1))[0])
    base_id = payload["base_id"]
    payload["base_id"] = uuid.UUID(base_id)
    payload["timestamp"] = datetime.datetime(2026, 1, 2)  # noqa: DTZ001
    body = kombu_json.dumps(bus.envelope(payload)).encode()
    storage = get_storage(sqlite_url)
    with daemon(tmp_path, transport_url, sqlite_url) as running:
        bus.publish(transport_url, [body])
        wait_for(
            lambda: "Listening" in running.log and stored(storage, [base_id]),
            "a notification",
        )
        assert running.terminate() == 0
