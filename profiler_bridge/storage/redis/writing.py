# SPDX-License-Identifier: Apache-2.0

"""The commands that store something, and what their replies say. Pure.

They are no transaction, for which a user would need one more right, and which
no cluster has for all; so their order matters. First come the names of
strings: a deletion that does not see them yet has deleted already what it
will, and one that sees them leaves these strings alone. Then come strings,
then the summary: where it is, all of its piece is. Then come marks, then
entries, and at last what is read.
"""

from __future__ import annotations

import itertools
from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

from profiler_bridge.storage.plugin import (
    Entry,
    Mark,
    Name,
    Piece,
    Place,
    Position,
)
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.client import TRIP_COMMANDS
from profiler_bridge.storage.redis.keys import Keys
from profiler_bridge.storage.redis.lifetime import Lifetime, expire
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.redis.reading import chunks

# With more than ten words Redis closes the connection of who gave no password,
# where it would say so otherwise.
_MSET_VALUES = 4


class Write:
    """What one call adds, and then reads.

    :param keys: of what is written
    :param lifetime: of it; None is for ever
    """

    def __init__(
        self,
        keys: Keys,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name],
        lifetime: Lifetime | None,
    ) -> None:
        self._keys = keys
        self._pieces = pieces
        self._lifetime = lifetime
        by_trace: dict[str, list[Piece]] = {}
        for piece in pieces:
            by_trace.setdefault(piece.base_id, []).append(piece)
        members: dict[str, list[str]] = {}
        for mark in marks:
            member = layout.to_marks_member(mark)
            members.setdefault(mark.base_id, []).append(member)
        #: The traces whose places are read.
        self.base_ids = [*{**by_trace, **members}]
        self.commands: list[Command] = []
        # After how many of these something else begins.
        self._ends: list[int] = []
        # At which of the commands it is found out, by digest, what was known;
        # for each piece, whether its names were; and by base_id, whether a
        # trace was there, and how long its names live on before they are
        # added to, and afterwards.
        self._summaries: dict[int, int] = {}
        self._names_added: list[int] = []
        self._marks_lives: dict[str, int] = {}
        self._existences: dict[str, int] = {}
        self._lives: dict[str, int] = {}
        # And how long keys live on that are of many traces.
        self._shared: dict[str, int] = {}
        #: By trace, the keys of what is written of its notifications.
        self.string_keys: dict[str, list[str]] = {}
        self._lives_before = range(len(by_trace) if lifetime else 0)
        if lifetime:
            self.commands += (
                ("TTL", keys.names(base_id)) for base_id in by_trace
            )
        self._add_strings()
        for base_id in self.base_ids:
            self._add_trace(
                base_id, by_trace.get(base_id, ()), members.get(base_id, ())
            )
        self._ends.append(len(self.commands))
        self._add_shared(entries, names)
        self._ends.append(len(self.commands))
        self._add_reads(by_trace)

    def _read_life(self, key: str) -> None:
        if self._lifetime:
            self._shared[key] = len(self.commands)
            self.commands.append(("TTL", key))

    def _add_strings(self) -> None:
        # Those that one command may be about.
        together: dict[str, list[tuple[str, str]]] = {}
        for piece in self._pieces:
            names = layout.names(piece)
            own = self._keys.strings(piece.base_id, names)
            self.string_keys.setdefault(piece.base_id, []).extend(own)
            group = "" if self._keys.are_together else piece.base_id
            together.setdefault(group, []).extend(
                (key, notification.text)
                for key, notification in zip(
                    own, piece.notifications, strict=True
                )
            )
            self._names_added.append(len(self.commands))
            self.commands.append(
                (
                    "HSET",
                    self._keys.names(piece.base_id),
                    layout.to_hex(piece.digest),
                    # Sorted, for both ends of a span share most of theirs.
                    layout.pack("\n".join(sorted(names))),
                )
            )
        for strings in together.values():
            if self._lifetime is None:
                # Some with one command: a reply costs as much as a value.
                for at in range(0, len(strings), _MSET_VALUES):
                    some = strings[at : at + _MSET_VALUES]
                    self.commands.append(("MSET", *itertools.chain(*some)))
            else:
                seconds = str(self._lifetime.of_strings)
                self.commands += (
                    ("SET", key, text, "EX", seconds) for key, text in strings
                )

    def _add_trace(
        self, base_id: str, pieces: Sequence[Piece], marks: Sequence[str]
    ) -> None:
        commands = self.commands
        summary_key = self._keys.summary(base_id)
        marks_key = self._keys.marks(base_id)
        if self._lifetime and pieces:
            # Those that are there live on from now: none expires before all
            # is added.
            self._existences[base_id] = len(commands)
            commands += (
                expire(key, self._lifetime.of_traces)
                for key in (summary_key, marks_key)
            )
        for piece in pieces:
            self._summaries[piece.digest] = len(commands)
            packed = layout.pack(piece.summary.to_text())
            field = layout.to_hex(piece.digest)
            commands.append(("HSET", summary_key, field, packed))
        if self._lifetime and pieces:
            commands.append(expire(summary_key, self._lifetime.of_traces))
        if marks:
            scored = itertools.chain(*(("0", mark) for mark in marks))
            commands.append(("ZADD", marks_key, *scored))
        if self._lifetime and pieces:
            commands.append(expire(marks_key, self._lifetime.of_traces))
        elif self._lifetime:
            # They live as long as they did, which may be longer than others.
            self._marks_lives[marks_key] = len(commands)
            commands.append(("TTL", marks_key))

    def _add_shared(
        self, entries: Collection[Entry], names: Collection[Name]
    ) -> None:
        """What is in keys that belong to many traces."""
        for key, own in _by_key(self._keys, entries):
            self._add_members(key, own)
            self._read_life(key)
        self._add_members(layout.NAMES, map(layout.to_names_member, names))
        # Names come now and then, not with each trace that has them.
        self._read_life(layout.NAMES)

    def _add_members(self, key: str, members: Iterable[str]) -> None:
        for some in chunks(members, TRIP_COMMANDS):
            scored = itertools.chain(*(("0", member) for member in some))
            self.commands.append(("ZADD", key, *scored))

    def _add_reads(self, traces: Iterable[str]) -> None:
        """What is read at last.

        :param traces: those that pieces are of
        """
        for base_id in traces if self._lifetime else ():
            # After all of it: who keeps the trace from now on sees it.
            self._lives[base_id] = len(self.commands)
            self.commands.append(("TTL", self._keys.names(base_id)))
        self.commands += (
            command
            for base_id in self.base_ids
            for command in (
                (
                    *("ZRANGEBYLEX", self._keys.marks(base_id)),
                    *layout.TERMS_AND_START,
                ),
                (
                    *("ZRANGE", self._keys.marks(base_id)),
                    *layout.GREATEST_FINISH,
                ),
            )
        )

    def stages(self) -> list[list[Command]]:
        """The commands: of traces, then of what belongs to many, then rest.

        Those of one trace, and of one key, are in order within each.
        """
        ends = [0, *self._ends, len(self.commands)]
        return [self.commands[at:end] for at, end in itertools.pairwise(ends)]

    def without_life(self, replies: Sequence[Any]) -> Iterator[Command]:
        """What gives one to marks that were made anew, without a piece."""
        for key, at in self._marks_lives.items():
            if self._lifetime and replies[at] < 0:
                yield expire(key, self._lifetime.of_traces)

    def known(self, replies: Sequence[Any]) -> set[int]:
        """Digests of the pieces that were there before."""
        return {
            digest for digest, at in self._summaries.items() if not replies[at]
        }

    def is_cut(self, replies: Sequence[Any]) -> bool:
        """Whether a part of a piece may have been deleted meanwhile.

        A piece whose names were there, and whose summary was not: between the
        two it was deleted, or whoever wrote it before did not get so far.
        """
        return any(
            not replies[at] and replies[self._summaries[piece.digest]]
            for piece, at in zip(self._pieces, self._names_added, strict=True)
        )

    def torn(self, replies: Sequence[Any]) -> list[str]:
        """The traces of which the marks had expired, or all but these."""
        return [
            base_id
            for base_id, at in self._existences.items()
            if replies[at] != replies[at + 1]
        ]

    def lives(self, replies: Sequence[Any]) -> Mapping[str, int]:
        """By trace, how many seconds its notifications live on at least."""
        return {base_id: replies[at] for base_id, at in self._lives.items()}

    def shared_lives(self, replies: Sequence[Any]) -> Mapping[str, int]:
        """The same, by their keys, of what belongs to many traces."""
        return {key: replies[at] for key, at in self._shared.items()}

    def is_short_lived(self, replies: Sequence[Any]) -> bool:
        """Whether names may have expired while they were added to."""
        return self._lifetime is not None and any(
            0 <= replies[at] <= self._lifetime.of_traces
            for at in self._lives_before
        )

    def places(self, replies: Sequence[Any]) -> dict[str, Place]:
        """By trace, what its marks tell, where enough of them were read."""
        read = replies[len(replies) - 2 * len(self.base_ids) :]
        places = {}
        marks = zip(read[::2], read[1::2], strict=True)
        for base_id, (first, last) in zip(self.base_ids, marks, strict=True):
            if place := layout.to_place([*first, *last]):
                places[base_id] = place
        return places


def removal_commands(
    keys: Keys, entries: Collection[Entry]
) -> Iterator[Command]:
    """What takes entries out of the index."""
    for key, members in _by_key(keys, entries):
        for some in chunks(members, TRIP_COMMANDS):
            yield "ZREM", key, *some


def _by_key(
    keys: Keys, entries: Collection[Entry]
) -> Iterator[tuple[str, list[str]]]:
    members: dict[str, list[str]] = {}
    for entry in entries:
        key = keys.index(entry.term, entry.base_id)
        member = layout.to_member(Position(*entry[1:]))
        members.setdefault(key, []).append(member)
    yield from members.items()
