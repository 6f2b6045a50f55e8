# SPDX-License-Identifier: Apache-2.0

"""The names of redis-py that the plugin uses and its pages do not promise.

A release that changes one fails here, and not in a cloud.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import redis

from profiler_bridge.storage.redis import connections
from profiler_bridge.storage.redis.connections import CLIENT, Pool, exchange
from tests import servers


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


@pytest.fixture
def descriptors() -> set[int]:
    return set()


@pytest.fixture
def pool(server: servers.Redis, descriptors: set[int]) -> Iterator[Pool]:
    address = {"host": "127.0.0.1", "port": server.port, "db": 0}
    made = Pool({**address, "descriptors": descriptors, **CLIENT}, 5)
    yield made
    made.forget()


def accepted(server: servers.Redis) -> int:
    """How many connections there were, with the one that asks."""
    count: int = server.execute("INFO", "stats")["total_connections_received"]
    return count


@pytest.mark.parametrize(
    "kind",
    [redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection],
)
def test_methods_of_connections(kind: type) -> None:
    for name in (
        *("_connect", "connect", "disconnect", "can_read"),
        "send_packed_command",
    ):
        assert callable(getattr(kind, name))


def test_a_socket_is_known_while_it_is_open(
    pool: Pool, descriptors: set[int]
) -> None:
    pool.run([("PING",)])
    (descriptor,) = descriptors
    with socket.socket(fileno=os.dup(descriptor)) as opened:
        assert opened.getpeername()[0] == "127.0.0.1"
    pool.forget()
    assert descriptors == set()


def test_replies(pool: Pool) -> None:
    """Of any text and bytes; errors stand where they belong."""
    assert pool.run([("SET", "k\udc80", b"\0\r\n"), ("SET", "k", "")]) == [
        b"OK",
        b"OK",
    ]
    values, refused, number = pool.run(
        [
            ("MGET", b"k\xed\xb2\x80", "absent", "k"),
            ("HGETALL", "k"),
            ("TTL", "k"),
        ]
    )
    assert values == [b"\0\r\n", None, b""]
    assert isinstance(refused, redis.ResponseError)
    assert str(refused).startswith("WRONGTYPE")
    assert number == -1


def test_replies_that_are_decoded(pool: Pool) -> None:
    pool.run([("HSET", "h", "f", "v"), ("ZADD", "z", "0", "m")])
    fields, info, (cursor, keys), members = pool.run(
        [
            ("HGETALL", "h"),
            ("INFO", "server"),
            ("SCAN", "0"),
            ("ZSCAN", "z", "0"),
        ]
    )
    assert fields == {b"f": b"v"}
    assert info["redis_mode"] == "standalone"
    assert (cursor, {*keys}) == (0, {b"h", b"z"})
    assert members == (0, [(b"m", 0.0)])


def test_a_connection_is_used_again(server: servers.Redis, pool: Pool) -> None:
    before = accepted(server)
    for _ in range(3):
        pool.run([("PING",)])
    assert accepted(server) == before + 1 + 1
    with pool.connection() as one, pool.connection() as other:
        assert exchange(one, [("PING",)]) == exchange(other, [("PING",)])
    assert accepted(server) == before + 2 + 2


def test_a_connection_that_was_closed_meanwhile(
    server: servers.Redis, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MAY_BE_CLOSED", 0)
    for _ in range(3):
        assert pool.run([("PING",)]) == [b"PONG"]
        server.execute("CLIENT", "KILL", "TYPE", "normal")


def test_a_child_process_has_connections_of_its_own(
    server: servers.Redis, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.run([("PING",)])
    before = accepted(server)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    pool.run([("PING",)])
    assert accepted(server) == before + 1 + 1
