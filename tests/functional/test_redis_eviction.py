# SPDX-License-Identifier: Apache-2.0

"""Redis: a part of a trace is gone, and users are told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage.plugin import Piece
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import cut, summary_of, write
from profiler_bridge.testing.sample import notifications
from tests import servers
from tests.functional.test_bridge import report
from tests.functional.test_storage_redis import ids, redis_storage, traces


@pytest.fixture
def server(redis_server: servers.Redis, redis_url: str) -> servers.Redis:
    """The server, empty."""
    return redis_server


@pytest.fixture
def storage(redis_url: str) -> Iterator[Storage]:
    with contextlib.closing(redis_storage(redis_url)) as storage:
        yield storage


def gone(storage: Storage, base_id: str) -> tuple[int, int]:
    """How many notifications list and report say are gone; they agree."""
    summary = summary_of(storage, base_id)
    verdict = storage.trace(base_id).verdict
    assert summary.complete == (summary.gone == 0)
    assert verdict.complete == (not verdict.gone)
    assert summary.complete == verdict.complete
    assert (str(verdict) == "complete") == verdict.complete
    return summary.gone, verdict.gone


@pytest.mark.parametrize("calls", [1, 300])
def test_notifications_are_gone(
    storage: Storage, server: servers.Redis, calls: int
) -> None:
    whole, broken = traces(2, calls=calls)
    write(storage, whole, *cut(broken, 40))
    base_id = broken[0]["base_id"]
    keys = sorted(server.execute("KEYS", f"osprofiler:{base_id}*"))
    # Both ends of a span, so that nothing in the rest tells.
    names = [key for key in keys if key.split("_")[1] == keys[0].split("_")[1]]
    server.execute("DEL", *names, *keys[::2])
    count = len({*names, *keys[::2]})
    assert gone(storage, base_id) == (count, count)
    assert f"{count} notifications gone" in str(storage.trace(base_id).verdict)
    assert gone(storage, whole[0]["base_id"]) == (0, 0)
    [summary] = storage.list_traces(TraceQuery(incomplete=True))
    assert (summary.base_id, summary.gone) == (base_id, count)


def test_the_names_of_notifications_are_gone(
    storage: Storage, server: servers.Redis
) -> None:
    ours, half = traces(2)
    first, *rest = cut(half, 4)
    write(storage, ours, first, *rest)
    base_id = ours[0]["base_id"]
    server.execute("DEL", f"profiler_bridge:keys:{base_id}")
    key = f"profiler_bridge:keys:{half[0]['base_id']}"
    digest = layout.to_hex(Piece.of(notifications(first)).digest)
    assert server.execute("HDEL", key, digest) == 1
    assert summary_of(storage, base_id).gone == len(ours)
    with pytest.raises(
        exceptions.TraceNotFound, match=rf"its {len(ours)} notification\(s\)"
    ):
        storage.trace(base_id)
    assert gone(storage, half[0]["base_id"]) == (len(first), len(first))


EXPIRE_ALL = """
for _, key in ipairs(redis.call("KEYS", ARGV[1])) do
    redis.call("EXPIRE", key, 3600)
end
"""


def test_the_server_evicts(storage: Storage, server: servers.Redis) -> None:
    made = traces(60, calls=100)
    write(storage, *made)
    # Of all keys it might take the one by which the list finds any trace.
    server.execute("EVAL", EXPIRE_ALL, 0, "osprofiler:*")
    server.execute("CONFIG", "SET", "maxmemory-policy", "volatile-random")

    def evicted() -> bool:
        used = server.execute("INFO", "memory")["used_memory"]
        server.execute("CONFIG", "SET", "maxmemory", int(used * 0.95))
        server.execute("SET", "x", "x" * 1000)
        return bool(server.execute("INFO", "stats")["evicted_keys"] > 500)

    server.execute("CONFIG", "RESETSTAT")
    try:
        assert servers.wait_until(evicted, 30)
    finally:
        server.execute("CONFIG", "SET", "maxmemory", "0")
        server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    # The setting is mended, but the server has counted them.
    summaries = storage.list_traces(TraceQuery(limit=1000))
    assert {summary.base_id for summary in summaries} == set(ids(*made))
    assert sum(summary.gone for summary in summaries) > 500
    for summary in summaries:
        assert gone(storage, summary.base_id) == (summary.gone, summary.gone)


def test_commands_say_what_is_gone(
    storage: Storage, server: servers.Redis, redis_url: str
) -> None:
    (payloads,) = traces(1)
    write(storage, payloads)
    base_id = payloads[0]["base_id"]
    server.execute(
        "DEL", *server.execute("KEYS", f"osprofiler:*{base_id}*")[:2]
    )
    for args in (("list", "-f", "json"), ("show", base_id, "-f", "json")):
        done = report(redis_url, *args)
        assert done.returncode == 0
        assert json.loads(done.stdout)
        assert f"{base_id}: 2 of its notifications are gone" in done.stderr
    shown = report(redis_url, "show", base_id).stdout
    assert "2 notifications gone from the storage" in shown


def test_what_is_being_written_is_not_gone(
    storage: Storage, server: servers.Redis
) -> None:
    """Names come first, then notifications, and the summary at the end."""
    (payloads,) = traces(1)
    first, second = cut(payloads, 8)
    write(storage, first, second)
    (base_id,) = ids(payloads)
    digest = layout.to_hex(Piece.of(notifications(second)).digest)
    server.execute("HDEL", f"profiler_bridge:summary:{base_id}", digest)
    for payload in second:
        key = "osprofiler:{base_id}_{trace_id}_{timestamp}_*".format(**payload)
        server.execute("DEL", *server.execute("KEYS", key))
    for exactly in (True, False):
        assert storage.plugin.count_gone([base_id], exactly=exactly) == {}
    assert len(storage.notifications(base_id)) == len(first)
