# SPDX-License-Identifier: Apache-2.0

"""From which bus to which storage: each route has workers of its own."""

from __future__ import annotations

from typing import NamedTuple

from oslo_config import cfg

from profiler_bridge.bus.transport import Bus, get_buses, get_pools
from profiler_bridge.storage import get_storages
from profiler_bridge.storage.traces import Storage


class Route(NamedTuple):
    """From a bus to a storage.

    :param pool: whose queue is drained; None for the plain queue
    """

    bus: Bus
    storage: Storage
    pool: str | None


def get_routes(conf: cfg.ConfigOpts) -> list[Route]:
    """From each bus to each storage, the first bus's first.

    Routes to the same storage share its object, so one process can use one
    of them only.

    :returns: at least one
    :raises ConfigurationError: buses or storages are not configured as they
        have to be
    """
    stores = get_storages(conf)
    pools = get_pools(conf, stores)
    return [
        Route(bus, storage, pool)
        for bus in get_buses(conf)
        for storage, pool in zip(stores, pools, strict=True)
    ]
