# SPDX-License-Identifier: Apache-2.0

"""Taking what has expired out of the index."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from profiler_bridge.storage.names import week_of
from profiler_bridge.storage.plugin import Entry
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.storage.redis.deletion import delete_names

# So often the index is searched, in seconds.
_EVERY = 60.0
_MEMBERS = "1000"
# So many terms at most are searched then, for so many seconds.
_TERMS = 1000
_SECONDS = 1.0


class Sweep:
    """Searches those terms that were written to; others expire as a whole.

    In no order: a trace expires by when it was written last, and stands where
    it started, by a clock that may have been wrong.

    :param retention: seconds
    """

    def __init__(self, client: RedisClient, retention: int) -> None:
        self._client = client
        self._run = client.run
        self._retention = retention
        self._next = 0.0
        # By the key of a term that may have in it what has expired: how far
        # it has been searched.
        self._cursors: dict[str, int] = {}

    def note(self, entries: Iterable[Entry]) -> None:
        """Be told of entries that were written."""
        keys = self._client.keys
        for entry in entries:
            # Anybody who may publish makes up services. What has no room here
            # will have, when it is written to later.
            if len(self._cursors) >= _TERMS * keys.parts:
                return
            self._cursors.setdefault(keys.index(entry.term, entry.base_id), 0)

    def run_if_due(self) -> None:
        """Search for about a second, now and then."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + min(_EVERY, self._retention)
            self._search()
            oldest = time.time_ns() // 1000 - self._retention * 1_000_000
            # A week more than that, as names are added now and then only.
            delete_names(self._client, week_of(oldest) - 1)

    def _search(self) -> None:
        end = time.monotonic() + _SECONDS
        for key, cursor in [*self._cursors.items()]:
            while True:
                ((cursor, members),) = self._run(
                    [("ZSCAN", key, str(cursor), "COUNT", _MEMBERS)]
                )
                expired = self._expired([member for member, _ in members])
                self._run([("ZREM", key, member) for member in expired])
                # Some may have been written to meanwhile. Whoever does so
                # later, adds them later.
                back = set(expired).difference(self._expired(expired))
                self._run([("ZADD", key, "0", member) for member in back])
                # Go on while it is worth it.
                if not cursor or len(expired) < len(members) / 10:
                    break
                if time.monotonic() > end:
                    break
            # To the end, or out, until it is written to again.
            del self._cursors[key]
            if cursor:
                self._cursors[key] = cursor
            if time.monotonic() > end:
                break

    def _expired(self, members: Sequence[bytes]) -> list[bytes]:
        """Those members of the index whose traces are gone."""
        keys = self._client.keys
        exist = self._run(
            ("EXISTS", keys.summary(layout.to_position(member).base_id))
            for member in members
        )
        return [
            member
            for member, exists in zip(members, exist, strict=True)
            if not exists
        ]
