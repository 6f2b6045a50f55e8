# SPDX-License-Identifier: Apache-2.0

"""What is read of traces, each in as few round trips as it takes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping

from profiler_bridge.storage.plugin import Kind, Place
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.summary import PartialSummary

_TRACES_AT_ONCE = 100
_STRINGS_AT_ONCE = 100


def chunks(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """The same in lists of at most so many."""
    rest = iter(values)
    while some := [*itertools.islice(rest, size)]:
        yield some


def names(
    client: RedisClient, base_ids: Iterable[str], *, bounded: bool = True
) -> dict[str, tuple[set[bytes], dict[bytes, bytes]]]:
    """Which pieces there are of traces, and their names.

    :param bounded: as for :meth:`RedisClient.run`
    :returns: by base_id, the fields of all pieces that have a summary; and by
        these, as far as there are any, the names, packed
    """
    base_ids = [*base_ids]
    # What is written last is read first, so it is all of a piece.
    replies = client.run(
        (
            command
            for base_id in base_ids
            for command in (
                ("HKEYS", client.keys.summary(base_id)),
                ("HGETALL", client.keys.names(base_id)),
            )
        ),
        bounded=bounded,
    )
    traces = {}
    pairs = zip(replies[::2], replies[1::2], strict=True)
    for base_id, (keys, packed) in zip(base_ids, pairs, strict=True):
        fields = set(keys)
        own = {field: packed[field] for field in fields.intersection(packed)}
        traces[base_id] = fields, own
    return traces


def string_keys(client: RedisClient, base_id: str) -> list[str]:
    """The keys of a trace's notifications; some may not be there any more."""
    (keys,) = _string_keys(client, [base_id]).values()
    return keys


def _string_keys(
    client: RedisClient, base_ids: Iterable[str]
) -> dict[str, list[str]]:
    return {
        base_id: client.keys.strings(
            base_id, sorted(layout.unpack_names(packed.values()))
        )
        for base_id, (_, packed) in names(
            client, base_ids, bounded=False
        ).items()
    }


def strings(
    client: RedisClient, base_ids: Iterable[str]
) -> Iterator[tuple[str, list[bytes]]]:
    """Traces' notifications, as far as they are there; may take long.

    :returns: each base_id, with what its keys have
    """
    for some in chunks(base_ids, _TRACES_AT_ONCE):
        read = [
            (base_id, few)
            for base_id, keys in _string_keys(client, some).items()
            for few in chunks(keys, _STRINGS_AT_ONCE)
        ]
        replies = client.run(
            (("MGET", *few) for _, few in read), bounded=False
        )
        values: dict[str, list[bytes]] = {}
        for (base_id, _), answers in zip(read, replies, strict=True):
            values.setdefault(base_id, []).extend(
                value for value in answers if value is not None
            )
        yield from values.items()


def partials(
    client: RedisClient, base_ids: Iterable[str]
) -> dict[str, dict[int, PartialSummary]]:
    """As :meth:`StoragePlugin.partials` gives them."""
    traces = {}
    for some in chunks(base_ids, _TRACES_AT_ONCE):
        hashes = client.run(
            ("HGETALL", client.keys.summary(base_id)) for base_id in some
        )
        for base_id, fields in zip(some, hashes, strict=True):
            if pieces := dict(_partials(fields or {})):
                traces[base_id] = pieces
    return traces


def _partials(
    fields: Mapping[bytes, bytes],
) -> Iterator[tuple[int, PartialSummary]]:
    for digits, packed in fields.items():
        for text in layout.unpack([packed]):
            # What decoding somebody else's JSON raises.
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                partial = PartialSummary.from_text(text)
                yield layout.from_hex(digits), partial


def places(client: RedisClient, base_ids: Iterable[str]) -> dict[str, Place]:
    """What the marks of traces tell, however many terms they have.

    :returns: by base_id; without those that have no start
    """
    base_ids = [*base_ids]
    replies = client.run(
        command
        for base_id in base_ids
        for command in (
            ("ZRANGEBYLEX", client.keys.marks(base_id), *layout.TERMS),
            ("ZRANGEBYLEX", client.keys.marks(base_id), *layout.LEAST_START),
            ("ZRANGE", client.keys.marks(base_id), *layout.GREATEST_FINISH),
        )
    )
    marked = {}
    marks = zip(replies[::3], replies[1::3], replies[2::3], strict=True)
    for base_id, (terms, starts, last) in zip(base_ids, marks, strict=True):
        if place := layout.to_place([*terms, *starts, *last]):
            marked[base_id] = place
    return marked


def marks(
    client: RedisClient, base_ids: Iterable[str], kind: Kind
) -> dict[str, list[int]]:
    """The values of the traces' marks of one kind, by base_id."""
    base_ids = [*base_ids]
    replies = client.run(
        ("ZRANGEBYLEX", client.keys.marks(base_id), *layout.marks_of(kind))
        for base_id in base_ids
    )
    return {
        base_id: [*map(layout.to_mark_value, members)]
        for base_id, members in zip(base_ids, replies, strict=True)
    }


def index_names(client: RedisClient, week: int) -> set[str]:
    """The names of this week and of all after."""
    (members,) = client.run(
        [("ZRANGEBYLEX", layout.NAMES, f"[{layout.from_week(week)}", "+")]
    )
    texts = set()
    for member in members:
        # Somebody else's.
        with contextlib.suppress(ValueError):
            texts.add(layout.to_name(member))
    return texts
