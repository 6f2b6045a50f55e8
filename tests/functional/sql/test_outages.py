# SPDX-License-Identifier: Apache-2.0

"""Databases that are away in every way there is, and their addresses."""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline, get_storage
from profiler_bridge.storage.plugin import Piece
from profiler_bridge.storage.sql.plugin import SQLPlugin
from profiler_bridge.storage.traces import split_into_pieces
from profiler_bridge.testing.sample import (
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    assert_presentable,
    expected,
    observed,
    one_span,
    write,
)
from tests import servers

Server = servers.MariaDB | servers.PostgreSQL


@pytest.fixture(params=["mariadb", "postgresql"])
def server(request: pytest.FixtureRequest) -> Server:
    database: Server = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def server_url(server: Server, request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{server.name.lower()}_url")
    return url


@pytest.fixture
def proxy(server: Server) -> Iterator[servers.Proxy]:
    with servers.Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def url(server_url: str, proxy: servers.Proxy) -> str:
    """The database's, by way of the proxy."""
    return changed(server_url, port=proxy.port)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "LONGEST_CALL", 1.0)
    monkeypatch.setattr(deadline, "LONGEST_SILENCE", 1.0)


def changed(url: str, query: dict[str, str] | None = None, **to: Any) -> str:
    """The URL with other parts, and more options."""
    parts = sa.make_url(url).set(**to).update_query_dict(query or {})
    return parts.render_as_string(hide_password=False)


@contextlib.contextmanager
def unavailable(url: str, says: str) -> Iterator[None]:
    """What is done meanwhile fails, in one line without a password."""
    with pytest.raises(exceptions.StorageUnavailable, match=says) as caught:
        yield
    assert_presentable(caught.value, url)


# Failover


@pytest.fixture
def promoted(server: Server, server_url: str) -> Iterator[Server]:
    """Another server, with the same database and user."""
    with type(server)() as other:
        parts = sa.make_url(server_url)
        db, user, password = parts.database, parts.username, parts.password
        if isinstance(server, servers.PostgreSQL):
            other.execute(f"CREATE USER {user} PASSWORD '{password}'")
            other.execute(f"CREATE DATABASE {db} OWNER {user}")
        else:
            other.execute(f"CREATE DATABASE {db}")
            other.execute(f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'")
            other.execute(f"GRANT ALL ON {db}.* TO {user}@'%'")
        yield other


@contextlib.contextmanager
def demoted(server: Server) -> Iterator[None]:
    """It goes on, but takes no writes."""
    if isinstance(server, servers.PostgreSQL):
        change = "ALTER SYSTEM SET default_transaction_read_only = {}"
        state = "SHOW default_transaction_read_only"
    else:
        change, state = "SET GLOBAL read_only = {}", "SELECT @@read_only"

    def become(value: str) -> None:
        before = server.execute(state)
        server.execute(change.format(value))
        if isinstance(server, servers.PostgreSQL):
            server.execute("SELECT pg_reload_conf()")
        # PostgreSQL tells its processes about it after that.
        assert servers.wait_until(lambda: server.execute(state) != before, 30)

    become("on")
    try:
        yield
    finally:
        become("off")


def test_address_moves_to_another_server(
    server: Server, promoted: Server, proxy: servers.Proxy, url: str
) -> None:
    """The old one lives on, read-only, and keeps its connections."""
    get_storage(changed(url, port=promoted.port)).prepare()
    storage = get_storage(url)
    storage.prepare()
    traces = [request(seeded(number), calls=3) for number in range(7)]
    with ThreadPoolExecutor(3) as threads:
        # Several connections are pooled then.
        list(threads.map(functools.partial(write, storage), traces[:3]))
        with demoted(server):
            proxy.target = promoted.port
            with unavailable(url, "read-only"):
                write(storage, traces[3])
            list(threads.map(functools.partial(write, storage), traces[3:]))
    there = get_storage(changed(url, port=promoted.port))
    for payloads in traces[3:]:
        assert observed(there, payloads) == expected(payloads)
    storage.close()


WAITING = {
    servers.PostgreSQL: "SELECT 1 FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock'",
    # Not innodb_trx, which is only brought up to date between two looks that
    # are a tenth of a second apart.
    servers.MariaDB: "SELECT 1 FROM information_schema.global_status WHERE"
    " variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value > 0",
}


def test_deadlock_keeps_the_connection(
    server: Server, proxy: servers.Proxy, url: str
) -> None:
    storage = get_storage(url)
    storage.prepare()
    payloads = [*request(seeded(1)), *request(seeded(2))]
    first, last = split_into_pieces(notifications(payloads))
    connections = proxy.accepted
    other = server.connect(sa.make_url(url).database)
    cursor = other.cursor()
    cursor.execute("BEGIN")

    def insert(piece: Piece, number: int = 0) -> None:
        cursor.execute(
            "INSERT INTO bridge_pieces VALUES (%s, %s, '', '')",
            (piece.base_id, piece.digest + number),
        )

    insert(last)
    for number in range(1, 100):  # who wrote more need not give way
        insert(last, number)
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write, storage, payloads)
        assert servers.wait_until(
            lambda: server.execute(WAITING[type(server)]), 30
        )
        insert(first)
        cursor.execute("ROLLBACK")
        writing.result()
    other.close()
    assert observed(storage, payloads) == expected(payloads)
    assert proxy.accepted == connections
    storage.close()


def test_lock_that_is_held_for_long(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    """The server reports it before our timeout passes."""
    storage = get_storage(mariadb_url)
    assert isinstance(storage.plugin, SQLPlugin)
    query = "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout"
    with storage.plugin._database.begin() as connection:
        for seconds in connection.exec_driver_sql(query).one():
            assert 0 < seconds < deadline.LONGEST_CALL
    storage.close()


def test_more_threads_than_connections(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gets none may try again, and is told what to change."""
    monkeypatch.setattr(deadline, "LONGEST_GREETING", 2.0)
    storage = get_storage(url)
    storage.prepare()
    write(storage, one_span())
    base_id = str(one_span()[0]["base_id"])
    assert isinstance(storage.plugin, SQLPlugin)
    database = storage.plugin._database
    with contextlib.ExitStack() as others:
        for _ in range(15):
            others.enter_context(database.connect(streaming=True))
        for call in (
            functools.partial(storage.notifications, base_id),
            functools.partial(storage.plugin.partials, [base_id]),
        ):
            with unavailable(url, "fewer threads"):
                call()
    assert storage.notifications(base_id)
    storage.close()


# Hung


@pytest.fixture(params=["stopped", "swallowed"])
def hung(
    server: Server, proxy: servers.Proxy, request: pytest.FixtureRequest
) -> contextlib.AbstractContextManager[None]:
    """A server that is stopped, or that no packet reaches any more.

    Its kernel, or the proxy's, acknowledges all the same.
    """

    @contextlib.contextmanager
    def stopped() -> Iterator[None]:
        server.pause()
        yield
        server.resume()

    @contextlib.contextmanager
    def swallowed() -> Iterator[None]:
        proxy.swallow()
        yield
        proxy.pass_on()

    return stopped() if request.param == "stopped" else swallowed()


@pytest.mark.usefixtures("impatient")
def test_hung_server(
    url: str, hung: contextlib.AbstractContextManager[None]
) -> None:
    storage = get_storage(changed(url, {"connect_timeout": "2"}))
    storage.prepare()
    payloads = request(seeded(1))
    write(storage, payloads[:3])
    with hung:
        with unavailable(url, "no answer within 1 s"):
            write(storage, payloads)
        # Now it has to connect.
        with unavailable(url, "no greeting|no answer|timeout expired"):
            storage.check()
    write(storage, payloads)
    assert observed(storage, payloads) == expected(payloads)
    storage.close()


def test_report_of_a_hung_server(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: servers.Proxy
) -> None:
    monkeypatch.setattr(deadline, "LONGEST_SILENCE", 1.0)
    if url.startswith("mysql"):
        url = changed(url, {"read_timeout": "1"})
    storage = get_storage(url)
    storage.prepare()
    write(storage, payloads := request(seeded(1)))
    proxy.swallow()
    with unavailable(url, "no answer within 1 s|timed out"):
        storage.trace(payloads[0]["base_id"])
    proxy.pass_on()
    assert observed(storage, payloads) == expected(payloads)
    storage.close()


def test_report_of_a_slow_server(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: servers.Proxy
) -> None:
    """A report may take long, as long as bytes come."""
    storage = get_storage(url)
    storage.prepare()
    random = base64.b85encode(seeded(1).randbytes(800_000)).decode()
    payloads = one_span(info={"db": {"params": random}})
    write(storage, payloads)
    proxy.delay = 0.2
    monkeypatch.setattr(deadline, "LONGEST_CALL", 1.0)
    assert len(storage.notifications(payloads[0]["base_id"])) == 2
    storage.close()


# PostgreSQL commits a statement that stands for itself.
COMMITS = {
    servers.PostgreSQL: b"INSERT INTO bridge_pieces",
    servers.MariaDB: b"COMMIT",
}


@pytest.mark.usefixtures("impatient")
def test_server_is_lost_while_it_commits(
    server: Server, url: str, proxy: servers.Proxy
) -> None:
    """Whether it was committed or not, writing again is right."""
    storage = get_storage(url)
    storage.prepare()
    payloads = request(seeded(1))
    proxy.swallow_after(COMMITS[type(server)])
    with unavailable(url, "no answer within 1 s"):
        write(storage, payloads)
    proxy.pass_on()
    write(storage, payloads)
    assert observed(storage, payloads) == expected(payloads)
    storage.close()


def test_server_ended_the_pooled_connections(
    url: str, proxy: servers.Proxy
) -> None:
    """The plugin connects anew, and callers notice nothing."""
    storage = get_storage(url)
    storage.prepare()
    connections = proxy.accepted
    proxy.end_connections()
    write(storage, payloads := request(seeded(1)))
    assert observed(storage, payloads) == expected(payloads)
    assert proxy.accepted == connections + 1
    storage.close()


# What is no such database


@contextlib.contextmanager
def listening(greeting: bytes) -> Iterator[int]:
    """Something that accepts, says one thing and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    clients.append(server.accept()[0])
                    clients[-1].sendall(greeting)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("greeting", "says"),
    [
        (b"", "no greeting within 1 s.*is it MySQL or MariaDB"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "no greeting|sequence number"),
        (b"\x05\0\0\0hello", "does not speak as MySQL"),
    ],
)
def test_what_is_no_mysql(greeting: bytes, says: str) -> None:
    with listening(greeting) as port:
        url = f"mysql://u:s3cret@127.0.0.1:{port}/db?connect_timeout=1"
        with unavailable(url, says):
            get_storage(url).check()


@pytest.mark.parametrize(
    ("greeting", "says"), [(b"", "timeout expired"), (b"-ERR\r\n", "SSL")]
)
def test_what_is_no_postgresql(greeting: bytes, says: str) -> None:
    with listening(greeting) as port:
        url = f"postgresql://u:s3cret@127.0.0.1:{port}/db?connect_timeout=2"
        with unavailable(url, says):
            get_storage(url).check()
