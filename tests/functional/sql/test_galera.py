# SPDX-License-Identifier: Apache-2.0

"""Galera: one database, to which every node writes."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Piece
from profiler_bridge.testing.sample import notifications, request, seeded
from profiler_bridge.testing.storage import (
    assert_presentable,
    expected,
    listed,
    observed,
    write,
)
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import pieces


@pytest.fixture
def node(galera: servers.GaleraCluster) -> Iterator[servers.GaleraNode]:
    """One that a test may break."""
    yield galera.nodes[2]
    galera.start()


def test_check_leaves_nothing_at_any_node(
    galera: servers.GaleraCluster, galera_urls: list[str]
) -> None:
    """With log_bin=OFF, Galera's default."""
    name = sa.make_url(galera_urls[0]).database
    get_storage(galera_urls[0]).prepare()
    for url in galera_urls:
        storage = get_storage(url)
        assert storage.check() == []
        storage.prepare()
        storage.close()
    for node in galera.nodes:
        node.execute("SET SESSION wsrep_sync_wait = 1")
        for table in ("bridge_pieces", "bridge_marks", "bridge_index"):
            assert node.execute(f"SELECT * FROM {name}.{table}") == []


def test_what_one_node_has_every_reader_finds(
    node: servers.GaleraNode, galera_urls: list[str]
) -> None:
    """Even at a node that has not applied the write yet."""
    here, _, there = map(get_storage, galera_urls)
    here.prepare()
    payloads = request(seeded(1))
    base_id = payloads[0]["base_id"]
    assert there.notifications(base_id) == []
    busy = node.connect(None)
    busy.query("FLUSH TABLES WITH READ LOCK")
    with ThreadPoolExecutor(1) as threads:
        write(here, payloads)
        reading = threads.submit(there.notifications, base_id)
        servers.wait_until(reading.done, 1)
        busy.query("UNLOCK TABLES")
        assert len(reading.result()) == len(payloads)
    busy.close()
    here.close()
    there.close()


def test_writers_at_two_nodes(galera_urls: list[str]) -> None:
    """All write parts of the same traces; who fails at COMMIT retries."""
    storages = [get_storage(url) for url in galera_urls]
    storages[0].prepare()
    traces = [request(seeded(number), calls=6) for number in range(20)]

    def write_parts(number: int) -> None:
        for payloads in traces:
            # One in the middle of all.
            write(storages[number], payloads[number::3] + payloads[10:12])

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write_parts, range(3)))
    for storage in storages:
        everything = [*itertools.chain(*traces)]
        assert observed(storage, everything) == expected(everything)
        for service in ("api", "conductor"):
            assert len(listed(storage, services=[service], limit=100)) == 20
        storage.close()


def test_certification_failure_is_tried_again(
    galera: servers.GaleraCluster,
    galera_urls: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same row at another node, between our INSERT and our COMMIT."""
    storage = get_storage(galera_urls[0])
    storage.prepare()
    name = sa.make_url(galera_urls[0]).database
    payloads = request(seeded(1))
    piece = Piece.of(notifications(payloads))
    other = galera.nodes[1].connect(name)
    failures: list[object] = []
    commit = pymysql.Connection.commit

    def commit_late(connection: Any) -> None:
        if not failures and "bridge_pieces" in executed:
            failures.append(None)
            with other.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO bridge_pieces VALUES (%s, %s, '', '')",
                    (piece.base_id, piece.digest),
                )
        try:
            commit(connection)
        except pymysql.Error as error:
            failures.append(error.args[0])
            raise

    executed = ""

    def note(*args: object) -> None:
        nonlocal executed
        executed = str(args[2]) if "INSERT" in str(args[2]) else ""

    monkeypatch.setattr(pymysql.Connection, "commit", commit_late)
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        storage.plugin.insert([piece], (), ())
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert failures == [None, 1213]
    other.close()
    storage.close()


def test_node_that_is_cut_off(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    node: servers.GaleraNode,
    galera_urls: list[str],
    tmp_path: Path,
) -> None:
    """It refuses everything; the daemon says so once, and waits."""
    get_storage(galera_urls[0]).prepare()
    daemon = Daemon(
        tmp_path,
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": galera_urls[2]},
        },
    )
    payloads = pieces(str(uuid.uuid4()), 20)
    with daemon:
        wait_for(lambda: "Listening" in daemon.log, "a worker")
        bus.publish(transport_url, map(bus.envelope, payloads[:1]))
        storage = get_storage(galera_urls[0])
        base_id = payloads[0]["base_id"]
        wait_for(lambda: storage.notifications(base_id), "a first one")
        before = len(daemon.log.splitlines())
        node.isolate()
        with pytest.raises(exceptions.StorageUnavailable) as caught:
            get_storage(galera_urls[2]).check()
        assert_presentable(caught.value, galera_urls[2])
        bus.publish(transport_url, map(bus.envelope, payloads[1:]))
        wait_for(lambda: "Waiting for the storage" in daemon.log, "patience")
        node.rejoin()
        wait_for(lambda: "storage is back" in daemon.log, "its end")
        wait_for(
            lambda: not rabbitmq.queue_depth(bus.QUEUE, transport_url),
            "an empty queue",
        )
        assert "Traceback" not in daemon.log
        assert len(daemon.log.splitlines()) == before + 2
    assert len(storage.notifications(base_id)) == len(payloads)
    storage.close()
