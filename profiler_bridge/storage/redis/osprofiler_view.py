# SPDX-License-Identifier: Apache-2.0

"""Reading a storage together with what osprofiler's own driver left in it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence

from profiler_bridge.notification import Notification
from profiler_bridge.storage.names import names_of
from profiler_bridge.storage.places import duration_place, place_of
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
from profiler_bridge.storage.redis import osprofiler_keys
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.summary import LONGEST, PartialSummary

# What osprofiler has of a trace is one piece; no digest is as likely as this.
_THEIRS = 0


class OsprofilerView(StoragePlugin):
    """Reads both, and does the rest as the plugin does it.

    For one command: what osprofiler has is looked for once, by looking at
    every key, when a list is asked for first.

    :param plugin: what it is a view of
    """

    def __init__(self, plugin: StoragePlugin, client: RedisClient) -> None:
        self._plugin = plugin
        self._client = client

    def __str__(self) -> str:
        return str(self._plugin)

    def notifications(self, base_id: str) -> list[Notification]:
        keys = osprofiler_keys.find(self._client, base_id).get(base_id, ())
        theirs = osprofiler_keys.notifications(self._client, base_id, keys)
        both = [*self._plugin.notifications(base_id), *theirs]
        return list({item.text: item for item in both}.values())

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        base_ids = [*base_ids]
        traces = {
            base_id: {**pieces}
            for base_id, pieces in self._plugin.partials(base_ids).items()
        }
        for base_id in base_ids:
            if base_id in self._theirs:
                pieces = traces.setdefault(base_id, {})
                pieces[_THEIRS] = self._theirs[base_id]
        return traces

    def index(
        self, term: int, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        positions = {*self._plugin.index(term, before, since, count)}
        positions.update(
            position
            for position in (
                self._durations if term == LONGEST else self._positions
            )
            if (before is None or position < before)
            and (since is None or position.at >= since)
        )
        return sorted(positions, reverse=True)[:count]

    @functools.cached_property
    def _theirs(self) -> Mapping[str, PartialSummary]:
        summaries = {}
        for base_id, keys in osprofiler_keys.find(self._client, "").items():
            notifications = osprofiler_keys.notifications(
                self._client, base_id, keys
            )
            if notifications:
                summaries[base_id] = PartialSummary.of(notifications)
        return summaries

    @functools.cached_property
    def _positions(self) -> Sequence[Position]:
        """Of their traces, under every term: readers skip what is wrong."""
        return [
            Position(
                min(partial.started for partial in pieces.values()), base_id
            )
            for base_id, pieces in self.partials(self._theirs).items()
        ]

    @functools.cached_property
    def _durations(self) -> Sequence[Position]:
        places = {
            base_id: place_of(pieces.values())
            for base_id, pieces in self.partials(self._theirs).items()
        }
        return [
            Position(duration_place(place.finished - place.started), base_id)
            for base_id, place in places.items()
        ]

    def names(self, week: int) -> set[str]:
        return self._plugin.names(week).union(
            name.text
            for name in names_of(self._theirs.values())
            if name.week >= week
        )

    def delete_names(self, before: int) -> None:
        self._plugin.delete_names(before)

    def marks(
        self, base_ids: Iterable[str], kind: Kind
    ) -> Mapping[str, Collection[int]]:
        return self._plugin.marks(base_ids, kind)

    def lease(self, lease: Lease) -> bool:
        return self._plugin.lease(lease)

    def leases(self, task: str, slot: int) -> Sequence[Lease]:
        return self._plugin.leases(task, slot)

    def delete_leases(self, task: str, slot: int) -> None:
        self._plugin.delete_leases(task, slot)

    def count_gone(
        self, base_ids: Sequence[str], *, exactly: bool
    ) -> Mapping[str, int]:
        return self._plugin.count_gone(base_ids, exactly=exactly)

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        return self._plugin.insert(pieces, marks, entries, names)

    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        self._plugin.delete(pieces, entries)

    def check(self) -> list[str]:
        return self._plugin.check()

    def close(self) -> None:
        self._plugin.close()
