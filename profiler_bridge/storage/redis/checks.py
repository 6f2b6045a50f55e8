# SPDX-License-Identifier: Apache-2.0

"""What has to be right at a server: its kind, rights and settings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from profiler_bridge import exceptions
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.storage.redis.errors import RIGHTS
from profiler_bridge.storage.redis.protocol import Command


def check_server(client: RedisClient) -> None:
    """Find out whether it is one that traces can be stored in.

    :raises StorageError: it is not, and why
    """
    if not client.keys.are_together:
        client.servers()  # which nothing but a cluster has
        return
    (server,) = client.run([("INFO", "server")])
    # Valkey calls it server_mode.
    mode = server.get("redis_mode", server.get("server_mode"))
    if mode == "cluster":
        raise exceptions.StorageMisconfigured(
            f"{client} is a Redis Cluster: write rediscluster:// for redis://"
        )
    if mode == "sentinel":
        raise exceptions.StorageMisconfigured(
            f"{client} is a sentinel: write redissentinel:// for redis://"
        )


def check_rights(client: RedisClient, *, expiring: bool) -> None:
    """Find out whether the user may write and read.

    :param expiring: whether there is a retention
    :raises StorageMisconfigured: what is missing
    """
    _check_commands(client, [*_used(client, expiring)])


def check_deletion(client: RedisClient) -> None:
    """Find out whether the user may delete; delete nothing.

    :raises StorageMisconfigured: what is missing
    """
    _check_commands(
        client,
        [
            *(("UNLINK", key) for key in (layout.NO_STRING, layout.NO_MARKS)),
            *(
                ("HDEL", key, "")
                for key in (layout.NO_NAMES, layout.NO_SUMMARY)
            ),
            ("ZREM", layout.NO_INDEX, ""),
        ],
    )
    with client.watching([layout.NO_NAMES]) as run:
        run([])


def warn_of_settings(client: RedisClient) -> list[str]:
    """What the server's settings may cost, one line each."""
    return [
        warning
        for server in client.servers()
        for warning in _warn_of_settings(server)
    ]


def _warn_of_settings(client: RedisClient) -> Iterator[str]:
    memory, persistence = client.run(
        [("INFO", "memory"), ("INFO", "persistence")], confirmed=True
    )
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"{client} deletes traces when its memory is full: set"
            f" maxmemory-policy to noeviction, it is {policy}"
        )
    if not persistence.get("aof_enabled"):
        yield (
            f"{client} keeps no append-only file: when it ends, what came"
            " after its last snapshot is lost, or all where it makes none:"
            " set appendonly to yes"
        )


def clock(client: RedisClient) -> float:
    """The server's, in seconds since 1970."""
    # Not TIME, for which the user would need one more right.
    (server,) = client.servers()[0].run([("INFO", "server")])
    # Not told by servers before Redis 6.
    return int(server.get("server_time_usec", time.time() * 1e6)) / 1e6


def _check_commands(client: RedisClient, commands: Sequence[Command]) -> None:
    for server in client.servers():
        refused: dict[str, list[str]] = {}
        for command in server.refused(commands):
            name, key, *_ = map(str, command)
            keys = f" on {key}*" if ":" in key else ""
            refused.setdefault(keys, []).append(name)
        if refused:
            what = "; ".join(
                f"{', '.join(names)}{keys}" for keys, names in refused.items()
            )
            raise exceptions.StorageMisconfigured(
                f"{server}: no right to {what}: {RIGHTS}"
            )


def _used(client: RedisClient, expiring: bool) -> Iterator[Command]:
    """What writing and reading need the right to; this changes nothing.

    The keys are nobody's. Where a command would change something all the
    same, there is an argument too few.
    """
    yield "SET", layout.NO_STRING, "", "XX"
    yield "MSET", layout.NO_STRING, "", layout.NO_STRING
    yield "MGET", layout.NO_STRING
    yield "EXISTS", layout.NO_STRING
    for key in (layout.NO_NAMES, layout.NO_SUMMARY):
        yield "HSET", key, "", "", ""
    yield "HKEYS", layout.NO_SUMMARY
    for key in (layout.NO_NAMES, layout.NO_SUMMARY):
        yield "HGETALL", key
    for key in (layout.NO_MARKS, layout.NO_INDEX, layout.VERSIONS):
        yield "ZADD", key, "XX", "0", ""
    for key in (layout.NO_MARKS, layout.VERSIONS):
        yield "ZRANGE", key, "0", "0"
    yield "EXISTS", layout.NO_INDEX
    yield "HSETNX", layout.NO_LEASES, ""
    yield "HGET", layout.NO_LEASES, ""
    yield "HGETALL", layout.NO_LEASES
    yield "ZRANGEBYLEX", layout.NO_MARKS, "-", "+"
    yield "ZREVRANGEBYLEX", layout.NO_INDEX, "+", "-"
    if expiring:
        for key in (
            layout.NO_STRING,
            layout.NO_NAMES,
            layout.NO_SUMMARY,
            layout.NO_MARKS,
            layout.NO_INDEX,
        ):
            yield "EXPIRE", key, "1"
        for key in (layout.NO_NAMES, layout.NO_SUMMARY, layout.NO_INDEX):
            yield "TTL", key
        yield "EXISTS", layout.NO_SUMMARY
        yield "UNLINK", layout.NO_MARKS
        yield "ZSCAN", layout.NO_INDEX, "0"
        yield "ZREM", layout.NO_INDEX, ""
    if client.replicas_to_wait_for():
        yield "WAIT", "0", "0"
