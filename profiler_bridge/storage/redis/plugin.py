# SPDX-License-Identifier: Apache-2.0

"""Storage in Redis; how it is laid out stands in :mod:`.layout`."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from oslo_config import cfg

from profiler_bridge.notification import Notification
from profiler_bridge.storage.plugin import (
    Entry,
    Inserted,
    Kind,
    Lease,
    Mark,
    Name,
    Piece,
    Position,
    StoragePlugin,
)
from profiler_bridge.storage.redis import (
    checks,
    deletion,
    eviction,
    layout,
    osprofiler_keys,
    reading,
    versions,
)
from profiler_bridge.storage.redis.lifetime import Lifetime
from profiler_bridge.storage.redis.osprofiler_view import OsprofilerView
from profiler_bridge.storage.redis.sentinels import connect
from profiler_bridge.storage.redis.sweep import Sweep
from profiler_bridge.storage.redis.writing import Write
from profiler_bridge.storage.retention import RETENTION
from profiler_bridge.summary import PartialSummary

OPTS: Sequence[cfg.Opt] = [
    RETENTION,
    cfg.IntOpt(
        "wait_replicas",
        min=0,
        help="How many replicas must confirm a write to Redis; until they do,"
        " messages stay on the bus. When a master fails, what no replica has"
        " is lost. The default is 1 if there are replicas, and 0 if not. A"
        " plain Redis server counts replicas that are connected. Sentinels"
        " count all that they ever saw, down or not, so that a master cut off"
        " from its replicas stores nothing. A cluster counts those of each"
        " master, without those that most masters take for failed. To go on"
        " without replicas that will not come back set this to 0, or make the"
        " sentinels forget them with SENTINEL RESET.",
    ),
    cfg.FloatOpt(
        "socket_timeout",
        default=0.1,
        min=0.01,
        deprecated_group="profiler",
        help="How many seconds to wait for the sentinels, and for the master"
        " that they name, at each send and receive. Writes of more than 256"
        " KB, and those that replicas must confirm, may take 5 seconds.",
    ),
    cfg.StrOpt(
        "sentinel_service_name",
        default="mymaster",
        deprecated_group="profiler",
        help="The name under which the sentinels know the master.",
    ),
    cfg.StrOpt(
        "sentinel_username",
        help="The user of the sentinels themselves, if they have users.",
    ),
    cfg.StrOpt(
        "sentinel_password",
        secret=True,
        help="The password of the sentinels themselves, if they have one. The"
        " one in the connection string is the master's.",
    ),
]


class RedisPlugin(StoragePlugin):
    """A Redis server, the one that sentinels name as the master, or a cluster.

    :param connection_string: as in :mod:`profiler_bridge.storage.redis.url`
    :param retention: seconds; 0 is for ever
    :param options: the others of OPTS, as these describe them
    :raises ConfigurationError: the connection string cannot be used
    """

    OPTS: ClassVar[Sequence[cfg.Opt]] = OPTS

    def __init__(
        self,
        connection_string: str,
        *,
        retention: int = 0,
        wait_replicas: int | None = None,
        socket_timeout: float = 0.1,
        sentinel_service_name: str = "mymaster",
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self._client = connect(
            connection_string,
            wait_replicas=wait_replicas,
            sentinel_service_name=sentinel_service_name,
            socket_timeout=socket_timeout,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
        )
        self.expires = bool(retention)
        self._lifetime = (
            Lifetime(self._client, retention) if retention else None
        )
        self._sweep = Sweep(self._client, retention)

    def __str__(self) -> str:
        return str(self._client)

    def prepare(self) -> list[str]:
        warnings = self.check()
        versions.note(self._client)
        return warnings

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        write = Write(
            self._client.keys, pieces, marks, entries, names, self._lifetime
        )
        replies = self._run(write)
        known, torn = write.known(replies), write.torn(replies)
        if write.is_short_lived(replies):
            replies = self._run(write)
        while write.is_cut(replies):
            replies = self._run(write)
        places = write.places(replies)
        if self._lifetime:
            self._lifetime.mark_again(torn)
            self._sweep.note(entries)
            self._sweep.run_if_due()
        if unread := {*write.base_ids}.difference(places).union(torn):
            places |= reading.places(self._client, unread)
        return Inserted(known, places)

    def _run(self, write: Write) -> list[Any]:
        replies = self._client.run_in_turn(write.stages(), confirmed=True)
        if self._lifetime:
            is_whole = self._lifetime.lengthen(
                write.lives(replies),
                write.shared_lives(replies),
                write.string_keys,
            )
            if not is_whole:
                # An index that nobody wrote to for so long expired right after
                # it was added to; made anew, it does not.
                self._run(write)
            self._client.run(write.without_life(replies), confirmed=True)
        return replies

    def notifications(self, base_id: str) -> list[Notification]:
        return self.notifications_of([base_id]).get(base_id, [])

    def notifications_of(
        self, base_ids: Collection[str]
    ) -> dict[str, list[Notification]]:
        traces: dict[str, list[Notification]] = {}
        for base_id, values in reading.strings(self._client, base_ids):
            if own := {
                notification.text: notification
                for notification in osprofiler_keys.decoded(values, base_id)
            }:
                traces[base_id] = [*own.values()]
        return traces

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        return reading.partials(self._client, base_ids)

    def marks(
        self, base_ids: Iterable[str], kind: Kind
    ) -> Mapping[str, Collection[int]]:
        return reading.marks(self._client, base_ids, kind)

    def lease(self, lease: Lease) -> bool:
        key = layout.leases_key(lease.task)
        field = layout.to_lease_field(lease.slot, lease.attempt)
        own = layout.to_lease_value(lease)
        _, value = self._client.run(
            [("HSETNX", key, field, own), ("HGET", key, field)],
            confirmed=True,
        )
        return bool(value == own.encode())

    def leases(self, task: str, slot: int) -> Sequence[Lease]:
        (fields,) = self._client.run([("HGETALL", layout.leases_key(task))])
        leases = sorted(
            layout.to_lease(task, *field) for field in dict(fields).items()
        )
        return [lease for lease in leases if lease.slot >= slot]

    def delete_leases(self, task: str, slot: int) -> None:
        key = layout.leases_key(task)
        (fields,) = self._client.run([("HKEYS", key)])
        first = layout.to_lease_field(slot, 0).encode()
        old = sorted(field for field in fields if field < first)
        self._client.run(
            ("HDEL", key, *some) for some in reading.chunks(old, 1000)
        )

    def index(
        self, term: int, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        end = "+" if before is None else f"({layout.to_member(before)}"
        start = "-"
        if since is not None:
            start = f"[{layout.to_member(Position(since, ''))}"
        stretch = (end, start, "LIMIT", "0", str(count))
        parts = self._client.run(
            ("ZREVRANGEBYLEX", key, *stretch)
            for key in self._client.keys.index_parts(term)
        )
        members = heapq.merge(*parts, reverse=True)
        return [*map(layout.to_position, itertools.islice(members, count))]

    def names(self, week: int) -> set[str]:
        return reading.index_names(self._client, week)

    def delete_names(self, before: int) -> None:
        deletion.delete_names(self._client, before)

    def base_ids(self) -> Iterator[Sequence[str]]:
        for keys in self._client.scan(f"{layout.NO_SUMMARY}*"):
            yield [*map(self._client.keys.base_id, keys)]

    def count_gone(
        self, base_ids: Sequence[str], *, exactly: bool
    ) -> Mapping[str, int]:
        return eviction.count_gone(self._client, base_ids, exactly=exactly)

    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        deletion.delete(self._client, pieces, entries)

    def keep(self, lives: Mapping[str, int]) -> None:
        if self._lifetime:
            self._lifetime.keep(lives)

    def check_deletion(self) -> None:
        checks.check_deletion(self._client)

    def check(self) -> list[str]:
        checks.check_server(self._client)
        checks.check_rights(self._client, expiring=self.expires)
        return [
            *versions.check(self._client),
            *checks.warn_of_settings(self._client),
            *self.compare_clocks(lambda: checks.clock(self._client)),
        ]

    def note_reindexed(self) -> None:
        versions.note_reindexed(self._client)

    def with_osprofiler(self) -> StoragePlugin:
        if not self._client.keys.are_together:
            return super().with_osprofiler()  # it knows no cluster
        return OsprofilerView(self, self._client)

    def left_by_osprofiler(self) -> Iterator[tuple[str, list[object]]]:
        if not self._client.keys.are_together:
            return super().left_by_osprofiler()
        return osprofiler_keys.traces(self._client)

    def close(self) -> None:
        self._client.close()


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """What oslo-config-generator writes of Redis."""
    return [("osprofiler", [opt for opt in OPTS if opt != RETENTION])]
