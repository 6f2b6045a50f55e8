# SPDX-License-Identifier: Apache-2.0

"""The keys in Redis, and how what is in them is written. Pure.

Those of a server alone; in a cluster ``<base_id>`` is in braces, and each term
has several keys, see :mod:`.keys`.

A *piece* is what one write brought of one trace; digests and terms are 16 hex
digits::

    osprofiler:<base_id>_<trace_id>_<timestamp>_<digest>
        string: a notification. osprofiler's own command finds and reads it.
    profiler_bridge:keys:<base_id>
        hash: the names of those keys, packed, by the digest of the piece
    profiler_bridge:summary:<base_id>
        hash: the partial summaries, packed, by the digest of the piece
    profiler_bridge:marks:<base_id>
        sorted set: notes about the trace, then its terms, then its starts,
        then its finishes
    profiler_bridge:index:<term>
        sorted set: the positions of traces
    profiler_bridge:names
        sorted set: the names of terms, each after its week
    profiler_bridge:leases:<task>
        hash: until when each lease is whose, by its slot and attempt
    profiler_bridge:version
        sorted set: the versions of what is stored

All members of a sorted set have one score, so they are sorted as texts are:
microseconds have more digits than a score can hold.
"""

from __future__ import annotations

import contextlib
import functools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence

from profiler_bridge.storage.plugin import (
    Kind,
    Lease,
    Mark,
    Name,
    Piece,
    Place,
    Position,
)

_SIGN = 2**63
_MASK = 2**64 - 1
_HEX = 16
# Bytes of a text that needs little memory to be compressed.
_SHORT = 1024
# Of each mark the first character, by which they are sorted.
_KINDS = {
    Kind.NOTE: "/",
    Kind.TERM: "0",
    Kind.START: "1",
    Kind.FINISH: "2",
}
_TERM, _START, _FINISH = b"0", b"1", b"2"
#: Of a trace's marks, as ranges: all terms; the first start; and of both
#: together as many as a trace has, unless it has very many terms.
TERMS = ("[0", "(1")
LEAST_START = ("[1", "(2", "LIMIT", "0", "1")
TERMS_AND_START = ("[0", "(2", "LIMIT", "0", "16")
#: By ranks: the last of a trace's marks, its greatest finish.
GREATEST_FINISH = ("-1", "-1")

VERSIONS = "profiler_bridge:version"
NAMES = "profiler_bridge:names"
_WEEK_DIGITS = 8
_FIRST_WEEK = -(2**31)


def leases_key(task: str) -> str:
    """The key of a task's leases."""
    return f"profiler_bridge:leases:{task}"


#: Keys of nobody, one of each kind.
NO_STRING = "osprofiler:"
NO_NAMES = "profiler_bridge:keys:"
NO_SUMMARY = "profiler_bridge:summary:"
NO_MARKS = "profiler_bridge:marks:"
NO_INDEX = "profiler_bridge:index:"
NO_LEASES = leases_key("")


def to_hex(number: int) -> str:
    """64 bits, signed, as they stand in keys and in fields of hashes."""
    return f"{number & _MASK:016x}"


@functools.lru_cache(1024)
def from_hex(digits: bytes) -> int:
    """What :func:`to_hex` was given.

    :raises ValueError: it gave something else
    """
    number = int(digits, 16)
    if len(digits) != _HEX:
        raise ValueError(digits)
    return number - 2 * _SIGN if number >= _SIGN else number


def names(piece: Piece) -> list[str]:
    """How the keys of a piece's notifications end, in their order."""
    return [
        f"{notification.trace_id}_{notification.payload['timestamp']}"
        # 32 bits are enough for what happened in one span at one moment.
        f"_{notification.digest() & 0xFFFFFFFF:08x}"
        for notification in piece.notifications
    ]


def pack(text: str) -> bytes:
    """Compress what is ASCII."""
    encoded = text.encode("ascii")
    if len(encoded) > _SHORT:
        return zlib.compress(encoded)
    # As small, with a tenth of the memory, which costs more time than this
    # text does.
    compressing = zlib.compressobj(wbits=12, memLevel=4)
    return compressing.compress(encoded) + compressing.flush()


def unpack(values: Iterable[bytes]) -> Iterator[str]:
    """What :func:`pack` was given; other values are left out."""
    for value in values:
        with contextlib.suppress(zlib.error, UnicodeDecodeError):
            yield zlib.decompress(value).decode("ascii")


def unpack_names(values: Iterable[bytes]) -> set[str]:
    """The names that some fields of the hash of names hold."""
    return {name for text in unpack(values) for name in text.split()}


def to_member(position: Position) -> str:
    """A position as text that is sorted as positions are."""
    return f"{position.at + _SIGN:016x}{position.base_id}"


def to_position(member: bytes) -> Position:
    """What :func:`to_member` was given."""
    text = member.decode("ascii")
    return Position(int(text[:_HEX], 16) - _SIGN, text[_HEX:])


def to_marks_member(mark: Mark) -> str:
    """A mark as text: terms first, and the least start before others."""
    is_time = mark.kind in (Kind.START, Kind.FINISH)
    return _KINDS[mark.kind] + to_hex(mark.value + _SIGN * is_time)


def marks_of(kind: Kind) -> tuple[str, str]:
    """A trace's marks of one kind, as a range."""
    first = _KINDS[kind]
    return f"[{first}", f"({chr(ord(first) + 1)}"


def to_mark_value(member: bytes) -> int:
    """The value of the mark that :func:`to_marks_member` was given."""
    kind, value = chr(member[0]), from_hex(member[1:])
    if kind in (_KINDS[Kind.START], _KINDS[Kind.FINISH]):
        value = int(member[1:], 16) - _SIGN
    return value


def to_lease_field(slot: int, attempt: int) -> str:
    """A field of the hash of leases, sorted as slots and attempts are."""
    return f"{slot + _SIGN:016x}{attempt:08x}"


def to_lease_value(lease: Lease) -> str:
    """Whose a lease is, and until when."""
    return f"{lease.until:x} {lease.holder}"


def to_lease(task: str, field: bytes, value: bytes) -> Lease:
    """The lease that the two functions above were given."""
    until, holder = value.decode("ascii").split()
    return Lease(
        task,
        int(field[:_HEX], 16) - _SIGN,
        int(field[_HEX:], 16),
        holder,
        int(until, 16),
    )


def to_place(members: Sequence[bytes]) -> Place | None:
    """What a trace's marks tell.

    :param members: all of its terms and its least start, in their order; at
        last its greatest finish; what is between is not looked at
    :returns: None without a start or a finish
    """
    terms: list[int] = []
    for member in members:
        if member.startswith(_TERM):
            terms.append(from_hex(member[1:]))
        elif member.startswith(_START) and members[-1].startswith(_FINISH):
            started = int(member[1:], 16) - _SIGN
            finished = int(members[-1][1:], 16) - _SIGN
            return Place(started, finished, frozenset(terms))
        else:
            return None
    return None


def to_names_member(name: Name) -> str:
    """A name as text, sorted by its week; ASCII."""
    return from_week(name.week) + json.dumps(name.text)


def from_week(week: int) -> str:
    """What is sorted before the names of a week, and after those before."""
    return f"{week - _FIRST_WEEK:0{_WEEK_DIGITS}x}"


def to_name(member: bytes) -> str:
    """The text of the name that :func:`to_names_member` was given.

    :raises ValueError: it gave something else
    """
    return str(json.loads(member[_WEEK_DIGITS:]))
