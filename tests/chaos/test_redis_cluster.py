# SPDX-License-Identifier: Apache-2.0

"""What happens to a Redis Cluster: nothing is lost, and all is found."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from tests import servers
from tests.chaos.scene import Scene, node, play, storage_away
from tests.chaos.test_chaos import STORAGES

# So many of the slots are moved that one of those of the index is among them,
# whichever master they are from.
MOVED = 700


def master_killed(cluster: servers.RedisCluster, scene: Scene) -> None:
    """Its replica takes over; it comes back as a replica of that."""
    storage_away(scene)


def failovers(cluster: servers.RedisCluster, scene: Scene) -> None:
    """Masters and replicas change places, one pair after the other."""
    over = time.monotonic() + scene.seconds
    while time.monotonic() < over:
        time.sleep(scene.random.uniform(0.2, 0.5))
        replica = scene.random.choice(
            [node for node in cluster.nodes if not node.is_master()]
        )
        how = scene.random.choice([(), ("FORCE",)])
        for _ in range(5):
            replica.execute("CLUSTER FAILOVER", *how)
            # One that takes Redis more than 5 seconds it gives up.
            if servers.wait_until(replica.is_master, 7):
                break
        assert replica.is_master()
        cluster.start()  # which waits until all know of it


def slots_moved(cluster: servers.RedisCluster, scene: Scene) -> None:
    """Slots go from a master to another and back, with what is in them."""
    first, second, _ = cluster.masters()
    over = time.monotonic() + scene.seconds
    time.sleep(1)
    while True:
        move(cluster, first, second)
        move(cluster, second, first)
        if time.monotonic() > over:
            return


def move(
    cluster: servers.RedisCluster,
    source: servers.Redis,
    target: servers.Redis,
) -> None:
    cluster.start()  # which waits until all nodes say the same of slots
    cluster.cli(
        *("reshard", f"127.0.0.1:{source.port}"),
        *("--cluster-from", source.execute("CLUSTER MYID")),
        *("--cluster-to", target.execute("CLUSTER MYID")),
        *("--cluster-slots", str(MOVED), "--cluster-yes"),
    )


@pytest.mark.parametrize("fault", [master_killed, failovers, slots_moved])
def test_nothing_lost_nothing_doubled(
    fault: Callable[[servers.RedisCluster, Scene], None],
    redis_cluster: servers.RedisCluster,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    redis_cluster.start()
    redis_cluster.clear()
    with STORAGES["rediscluster"](request, tmp_path) as breakable:
        play(
            functools.partial(fault, redis_cluster),
            node(request),
            "rediscluster",
            breakable,
            tmp_path,
            request.config,
            poison=10,
            name=fault.__name__.replace("_", " "),
        )
    redis_cluster.start()
    storage = get_storage(redis_cluster.url)
    base_ids = {one for some in storage.plugin.base_ids() for one in some}
    summaries = storage.list_traces(TraceQuery(limit=2 * len(base_ids)))
    assert {summary.base_id for summary in summaries} == base_ids
    assert all(summary.complete for summary in summaries)
