# SPDX-License-Identifier: Apache-2.0

"""rediscluster: the conformance suite, and what is special here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import Payload
from profiler_bridge.testing.storage import (
    StorageConformance,
    as_texts,
    cut,
    expected,
    observed,
    shuffled,
    write,
)
from tests import servers
from tests.functional.test_storage_redis import (
    redis_storage,
    stored,
    traces,
    unavailable,
    write_at_last,
)


@pytest.fixture
def cluster(redis_cluster: servers.RedisCluster) -> servers.RedisCluster:
    """All of it running, and empty."""
    redis_cluster.start()
    redis_cluster.clear()
    return redis_cluster


def stored_in(cluster: servers.RedisCluster) -> list[Payload]:
    """What is in the keys of notifications, wherever they are."""
    return [
        payload for node in cluster.masters() for payload in stored_at(node)
    ]


def stored_at(node: servers.Redis) -> list[Payload]:
    import json
    return [
        json.loads(node.execute("GET", key))
        for key in node.execute("KEYS", "osprofiler:*")
    ]


class TestRedisCluster(StorageConformance):
    @pytest.fixture
    def connection_string(self, cluster: servers.RedisCluster) -> str:
        self.cluster = cluster
        return cluster.url

    @pytest.fixture
    def absent_connection_string(self) -> str:
        ports = servers.free_port(), servers.free_port()
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"rediscluster://u:s%40cret@{hosts}"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, cluster: servers.RedisCluster) -> Iterator[None]:
        for node in cluster.nodes:
            node.pause()
        yield
        cluster.start()

    def raw_payloads(self, connection_string: str) -> list[Payload]:
        return stored_in(self.cluster)
