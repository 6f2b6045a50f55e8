# SPDX-License-Identifier: Apache-2.0

"""A storage with a real server create among thousands of small traces."""

from __future__ import annotations

from collections.abc import Iterator

from profiler_bridge.notification import Notification
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import SECOND, new_id, seeded, span
from tests import examples, recorded

#: Of the small traces one of so many has an error.
FAILED_OF = 50
_PATHS = ("/v2.1/servers", "/v2.1/flavors/detail", "/v2.0/ports")
# Notifications that are written at once.
_BATCH = 2000


def write(storage: Storage, count: int) -> str:
    """Prepare a storage, and write the recorded traces and others to it.

    :param count: of the others; they are older than the recorded ones, of
        three APIs, of two spans each, and always the same
    :returns: the recorded server create
    """
    storage.prepare()
    [create] = recorded.traces(recorded.server_create())
    for trace in (create, *recorded.traces(recorded.keystone())):
        storage.write([*trace.notifications()])
    batch: list[Notification] = []
    for notification in _small(count):
        batch.append(notification)
        if len(batch) == _BATCH:
            storage.write(batch)
            batch = []
    storage.write(batch)
    return create.base_id


def _small(count: int) -> Iterator[Notification]:
    rng = seeded(5)
    for number in range(count):
        base_id, top = new_id(rng), new_id(rng)
        started = examples.STARTED + number * 7 * SECOND
        took = int(10 ** rng.uniform(3.5, 6.5))
        path = _PATHS[number % len(_PATHS)]
        project = "neutron" if path.startswith("/v2.0") else "nova"
        host = f"controller-{number % 3}"
        for payload in (
            *span(
                *(base_id, top, base_id, started, took, "wsgi"),
                info=examples.http("GET", path),
                project=project,
                host=host,
                error=None if number % FAILED_OF else "NotFound",
            ),
            *span(
                *(base_id, new_id(rng), top, started + 1000, took // 2, "db"),
                info=examples.sql("SELECT id FROM things WHERE id = 1"),
                project=project,
                host=host,
            ),
        ):
            yield Notification.from_payload(payload)
