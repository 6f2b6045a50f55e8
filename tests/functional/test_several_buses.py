# SPDX-License-Identifier: Apache-2.0

"""Several buses at once: each has workers of its own."""

from __future__ import annotations

import uuid
from pathlib import Path

from profiler_bridge.preflight import Result, check
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import pieces, stored
from tests.functional.test_monitoring import Watched
from tests.functional.test_several_storages import (
    pools,
    profile,
    wait_for_stored,
)
from tests.unit.test_url import leaks

DURABLE = "?amqp_durable_queues=true"


def name(url: str) -> str:
    return url.replace("guest:guest@", "")


def publish(url: str, requests: int, durable: bool = False) -> list[str]:
    base_ids = [str(uuid.uuid4()) for _ in range(requests)]
    bus.publish(
        url,
        (
            bus.envelope(payload)
            for base_id in base_ids
            for payload in pieces(base_id, 1)
        ),
        durable,
    )
    return base_ids


def daemon(folder: Path, transport_urls: list[str], urls: list[str]) -> Daemon:
    return Daemon(
        folder,
        {
            "osprofiler": {"connection_string": urls},
            "bridge": {"transport_url": transport_urls, "batch_timeout": 0.1},
        },
    )


def wait_for_listeners(running: Daemon, count: int) -> None:
    wait_for(
        lambda: running.log.count(": Listening") == count, f"{count} listeners"
    )


def test_one_that_is_killed_neither_stalls_the_other_nor_loses_anything(
    rabbitmq: servers.RabbitMQ,
    other_rabbitmq: servers.RabbitMQ,
    transport_url: str,
    other_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    running = Watched(
        tmp_path,
        "rabbit://nobody:reads@127.0.0.1:1/",
        sqlite_url,
        transport_url=[transport_url, other_url + DURABLE],
        workers=2,
    )
    with running:
        running.wait_until_ready()
        here = publish(transport_url, 5)
        there = publish(other_url, 7, durable=True)
        wait_for_stored(sqlite_url, here + there, 24)

        # What is in hand then comes again.
        there += publish(other_url, 500, durable=True)
        other_rabbitmq.kill()
        here += publish(transport_url, 50)
        wait_for_stored(sqlite_url, here, 110)
        wait_for(
            lambda: rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0,
            "an empty queue",
        )
        problem = (
            f"{sqlite_url}: 0 of 2 workers are connected to"
            f" {name(other_url)}\n"
        )
        wait_for(
            lambda: running.get("/readyz") == (503, problem),
            "word of the one that is away",
        )
        assert running.get("/healthz") == (200, "ok\n")
        [line] = [
            line
            for line in running.log.splitlines()
            if "ERROR" in line and "Waiting to listen" in line
        ][:1]
        assert f"{name(other_url)}: Waiting to listen" in line

        other_rabbitmq.start()
        there += publish(other_url, 10, durable=True)
        wait_for_stored(sqlite_url, there, 2 * len(there))
        running.wait_until_ready()
        labels = f'{{bus="{name(transport_url)}",storage="{sqlite_url}"}}'
        # They are counted when they are stored.
        wait_for(
            lambda: (
                f"profiler_bridge_notifications_stored_total{labels} 110.0"
                in running.get("/metrics")[1]
            ),
            "the metric of those that are stored",
        )
        _, text = running.get("/metrics")
        assert running.terminate() == 0
    for metric, count in (
        ("notifications_stored_total", 110),
        ("workers", 2),
        ("workers_connected", 2),
    ):
        assert f"profiler_bridge_{metric}{labels} {count}.0" in text
    assert other_rabbitmq.queue_depth(bus.QUEUE, other_url) == 0
    assert stored(get_storage(sqlite_url), here + there) == 2 * len(
        here + there
    )
    assert "guest:guest" not in running.log + text


def test_each_of_two_storages_gets_what_is_on_each_of_two_buses(
    rabbitmq: servers.RabbitMQ,
    other_rabbitmq: servers.RabbitMQ,
    transport_url: str,
    other_url: str,
    redis_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    buses, urls = [transport_url, other_url], [redis_url, sqlite_url]
    for url in buses:
        bus.make_exchange(url, "nova")
    with daemon(tmp_path, buses, urls) as running:
        wait_for_listeners(running, 4)
        base_ids = [
            base_id for url in buses for base_id in profile(url, "nova")
        ]
        for url in urls:
            wait_for_stored(url, base_ids, 40)
        assert running.terminate() == 0
    [_, pool] = pools(tmp_path, *urls)
    assert pool is not None
    for queue in (bus.QUEUE, pool):
        assert rabbitmq.queue_depth(queue, transport_url) == 0
        assert other_rabbitmq.queue_depth(queue, other_url) == 0


def test_sighup_takes_neither_more_nor_fewer_buses(
    transport_url: str, other_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    buses = [transport_url, other_url]
    with daemon(tmp_path, buses, [sqlite_url]) as running:
        wait_for_listeners(running, 2)
        text = running.config_file.read_text()
        running.config_file.write_text(
            text.replace(f"transport_url = {other_url}\n", "")
        )
        running.signal("HUP")
        wait_for_listeners(running, 4)
        assert "Going on with the buses of before" in running.log
        base_ids = publish(transport_url, 3) + publish(other_url, 4)
        wait_for_stored(sqlite_url, base_ids, 14)
        assert running.terminate() == 0


def test_sighup_takes_a_new_password_of_each_bus(
    rabbitmq: servers.RabbitMQ,
    other_rabbitmq: servers.RabbitMQ,
    transport_url: str,
    other_url: str,
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    changed = []
    for server, url in (
        (rabbitmq, transport_url),
        (other_rabbitmq, other_url),
    ):
        user, virtual_host = uuid.uuid4().hex, url.rpartition("/")[2]
        server.ctl("add_user", user, "new")
        server.ctl(
            "set_permissions", "-p", virtual_host, user, ".*", ".*", ".*"
        )
        changed.append(url.replace("guest:guest", f"{user}:new"))
    before = [url.replace(":new@", ":old@") for url in changed]
    with daemon(tmp_path, before, [sqlite_url]) as running:
        wait_for(
            lambda: running.log.count("Waiting to listen") >= 2, "refusals"
        )
        text = running.config_file.read_text()
        running.config_file.write_text(text.replace(":old@", ":new@"))
        running.signal("HUP")
        wait_for_listeners(running, 2)
        base_ids = publish(transport_url, 3) + publish(other_url, 4)
        wait_for_stored(sqlite_url, base_ids, 14)
        assert running.terminate() == 0
    assert "Going on with" not in running.log


def test_one_given_twice_is_refused_at_the_start(
    sqlite_url: str, tmp_path: Path
) -> None:
    buses = ["rabbit://a:secret@127.0.0.1/", "rabbit://127.0.0.1:5672/%2F"]
    with daemon(tmp_path, buses, [sqlite_url]) as running:
        assert running.process is not None
        assert running.process.wait(90) == 1
    assert running.log == (
        "profiler-bridge: rabbit://127.0.0.1:5672/ is given more than once as"
        " transport_url in [bridge]\n"
    )


def test_a_check_looks_at_each(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    """Whatever is wrong with another."""
    away = f"rabbit://u:secret@127.0.0.1:{servers.free_port()}/"
    publish(transport_url, 2, durable=True)
    configured = daemon(
        tmp_path, [away, transport_url + DURABLE], [sqlite_url]
    )
    findings = [*check([str(configured.config_file)])]
    assert not [line for line in findings if "secret" in line.detail]
    of_buses = [
        line
        for line in findings
        if line.check not in ("configuration", "storage", "set-aside")
    ]
    [refusal, *others] = of_buses
    assert (refusal.check, refusal.result) == ("bus", Result.FAILURE)
    assert refusal.detail.startswith(away.replace("u:secret@", ""))
    prefix = name(transport_url)
    assert [line for line in others if prefix not in line.detail] == []
    details = {line.check: line.detail for line in others}
    assert details["bus"] == f"{prefix} answers"
    assert details["durability"].startswith(f"{prefix}: queues survive")
    assert details["queue"] == f"{prefix}: profiler.info is durable"
    assert details["messages"].startswith(f"{prefix}: 4 message(s) wait")


def test_no_password_is_shown(sqlite_url: str, tmp_path: Path) -> None:
    """Neither in the log, with debug and a report, nor over HTTP."""
    password = "QaXbZcKdJeqfxgzh"
    urls = [
        f"rabbit://u:{password}@127.0.0.1:{servers.free_port()}/{number}"
        for number in range(2)
    ]
    running = Watched(tmp_path, "rabbit://", sqlite_url, transport_url=urls)
    with running.config_file.open("a") as file:
        file.write("[DEFAULT]\ndebug = true\n")
    with running:
        wait_for(
            lambda: running.log.count("Waiting to listen") == 2, "refusals"
        )
        pages = [running.get(path)[1] for path in ("/metrics", "/readyz")]
        running.signal("USR2")
        wait_for(lambda: "transport_url" in running.log, "a report")
        assert running.terminate() == 0
    for url in urls:
        assert url.replace(f"u:{password}@", "") in pages[0]
    assert leaks("\n".join([running.log, *pages]), password) == set()
