# SPDX-License-Identifier: Apache-2.0

"""How long traces live where there is a retention.

With each write the summary and the marks of a trace live on for the retention;
its notifications and their names up to a quarter longer, and so do the sets
that belong to many traces: the index of each of its terms, and the names of
terms. That is what is paid in memory for not having to lengthen the lives of
all of these with each write.

A trace that is kept has longer lives, and everything that is written to it
later takes them over. What tells is the life of its names: no write shortens
it, so a write that sees it longer than it would make it has the rest of the
trace live on for so long. What belongs to many traces has its life lengthened
where it is too short, and never shortened.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.storage.names import Names, week_of
from profiler_bridge.storage.places import (
    entry_terms,
    missing_marks,
    place_of,
)
from profiler_bridge.storage.plugin import LONGEST_NAME, Name
from profiler_bridge.storage.redis import layout, reading
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.summary import LONGEST, PartialSummary, term_names

# Seconds, which may pass between two looks at a key.
_LATE = 5
# How often lives are lengthened that others shorten.
_KEEP_TRIES = 10


def expire(key: str, seconds: int) -> Command:
    return "EXPIRE", key, str(seconds)


class Lifetime:
    """Of everything that is written.

    :param retention: seconds, at least one
    """

    def __init__(self, client: RedisClient, retention: int) -> None:
        self._client = client
        self._keys = client.keys
        #: Seconds.
        self.of_traces = retention
        self.of_strings = retention + max(1, retention // 4)
        self._names = Names()

    def lengthen(
        self,
        lives: Mapping[str, int],
        shared: Mapping[str, int],
        written: Mapping[str, Sequence[str]],
    ) -> bool:
        """See to it that nothing of a trace expires before its summary.

        :param lives: by trace, how many seconds its notifications live on;
            that is what the key of their names does; negative where this is
            new, and does not expire yet
        :param shared: the same of keys that belong to many traces
        :param written: by trace, the keys of the notifications that have just
            been written
        :returns: whether all keys that belong to many traces were still there
        """
        commands: list[Command] = []
        short: dict[str, int] = {}
        longest = 0
        for base_id, seconds in lives.items():
            if seconds > self.of_strings:
                longest = max(longest, seconds)
                commands += self._keep(base_id, written[base_id], seconds)
                continue
            if seconds > self.of_traces:
                continue
            if seconds >= 0:
                keys = reading.string_keys(self._client, base_id)
                short |= dict.fromkeys(keys, self.of_strings)
            short[self._keys.names(base_id)] = self.of_strings
        for key, seconds in shared.items():
            if seconds <= self.of_traces or seconds < longest:
                short[key] = max(longest, self.of_strings)
        self._client.run(commands, confirmed=True)
        gone = self._lengthen(short)
        # What is negative did not expire, or was not there before.
        return not any(shared.get(key, -1) >= 0 for key in gone)

    def _lengthen(self, keys: Mapping[str, int]) -> list[str]:
        """Have keys live on for so many seconds, or longer.

        EXPIRE has no GT before Redis 7, so their lives are read right before;
        where that shows them longer, since somebody has lengthened them a
        moment ago, they become so again.

        :returns: those that are not there
        """
        replies = self._client.run(
            (
                command
                for key, seconds in keys.items()
                for command in (("TTL", key), expire(key, seconds))
            ),
            confirmed=True,
        )
        longer = [
            expire(key, left)
            for (key, seconds), left in zip(
                keys.items(), replies[::2], strict=True
            )
            if left > seconds
        ]
        self._client.run(longer, confirmed=True)
        lengthened = zip(keys, replies[1::2], strict=True)
        return [key for key, is_there in lengthened if not is_there]

    def _keep(
        self, base_id: str, strings: Iterable[str], seconds: int
    ) -> Iterator[Command]:
        """Have the rest of a trace live on for as long as its names."""
        for key in strings:
            yield expire(key, seconds)
        for key in (self._keys.summary(base_id), self._keys.marks(base_id)):
            yield expire(key, seconds - self.of_strings + self.of_traces)

    def keep(self, lives: Mapping[str, int]) -> None:
        """As :meth:`StoragePlugin.keep`."""
        short = self._try_to_keep(lives)
        # Somebody who saw the lives of before may have made them short again.
        for _ in range(_KEEP_TRIES):
            if not short:
                return
            short = self._try_to_keep({one: lives[one] for one in short})
        raise exceptions.StorageUnavailable(
            f"{self._client}: what is to be kept is being written all the time"
        )

    def _try_to_keep(self, lives: Mapping[str, int]) -> list[str]:
        """Lengthen lives.

        :returns: the traces of which something does not live so long
        """
        # Names first: what others write to a trace from then on lives as long.
        # It is their life that tells, if this is interrupted.
        until: dict[str, int] = {}
        for base_id, left in self._lives_of_names(lives).items():
            if left >= 0:  # it is there, and is not for ever
                longer = lives[base_id] + self.of_strings - self.of_traces
                until[base_id] = max(left, longer)
        self._lengthen(
            {self._keys.names(one): seconds for one, seconds in until.items()}
        )
        commands: list[Command] = []
        for base_id, keys in self._string_keys(until).items():
            commands += self._keep(base_id, keys, until[base_id])
        self._client.run(commands, confirmed=True)
        shared: dict[str, int] = {}
        shared_by: dict[str, set[str]] = {}
        for base_id, pieces in reading.partials(self._client, until).items():
            seconds = until[base_id]
            self._keep_names(pieces.values(), seconds)
            terms = entry_terms(place_of(pieces.values())) | {LONGEST}
            shared_by[base_id] = {
                layout.NAMES,
                *(self._keys.index(term, base_id) for term in terms),
            }
            for key in shared_by[base_id]:
                shared[key] = max(seconds, shared.get(key, 0))
        self._lengthen(
            {
                key: shared[key]
                for key, left in self._lives(shared).items()
                if left < shared[key]
            }
        )
        left_of_names = self._lives_of_names(shared_by)
        left_of_keys = self._lives(shared)
        return [
            base_id
            for base_id, keys in shared_by.items()
            if any(
                0 <= left < until[base_id] - _LATE
                for left in (
                    left_of_names[base_id],
                    *(left_of_keys[key] for key in keys),
                )
            )
        ]

    def _keep_names(
        self, pieces: Collection[PartialSummary], seconds: int
    ) -> None:
        """Have the names of a trace's terms stay as long as it does."""
        # As if they had been added when it goes.
        week = week_of(time.time_ns() // 1000 + seconds * 1_000_000)
        due = self._names.due(
            Name(week, text)
            for text in term_names(pieces)
            if len(text) <= LONGEST_NAME
        )
        self._client.run(
            ("ZADD", layout.NAMES, "0", layout.to_names_member(name))
            for name in due
        )
        self._names.remember(due)

    def _string_keys(self, base_ids: Iterable[str]) -> dict[str, list[str]]:
        traces = reading.names(self._client, base_ids, bounded=False)
        return {
            base_id: self._keys.strings(
                base_id, layout.unpack_names(packed.values())
            )
            for base_id, (_, packed) in traces.items()
        }

    def _lives_of_names(self, base_ids: Iterable[str]) -> dict[str, int]:
        by_key = {self._keys.names(base_id): base_id for base_id in base_ids}
        return {by_key[key]: left for key, left in self._lives(by_key).items()}

    def _lives(self, keys: Collection[str]) -> dict[str, int]:
        """How many seconds keys live on; negative for ever, or if gone."""
        replies = self._client.run(("TTL", key) for key in keys)
        return dict(zip(keys, replies, strict=True))

    def mark_again(self, base_ids: Sequence[str]) -> None:
        """Have the marks of traces say what their summaries say.

        The two expire at nearly the same moment. Marks that are left from a
        trace that has expired would put what came after it where that began;
        and without marks nothing is known of what came before.
        """
        self._client.run(
            [("UNLINK", self._keys.marks(base_id)) for base_id in base_ids]
        )
        lives = self._lives([*map(self._keys.summary, base_ids)])
        # Only now, so that what others have marked before is marked again.
        traces = reading.partials(self._client, base_ids)
        commands: list[Command] = []
        for base_id, pieces in traces.items():
            marks = missing_marks(base_id, None, place_of(pieces.values()))
            key = self._keys.marks(base_id)
            life = lives[self._keys.summary(base_id)]
            commands += (
                ("ZADD", key, "0", layout.to_marks_member(mark))
                for mark in marks
            )
            commands.append(expire(key, max(life, self.of_traces)))
        self._client.run(commands, confirmed=True)
