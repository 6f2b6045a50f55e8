# SPDX-License-Identifier: Apache-2.0

"""Deleting traces, while others write."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.storage.plugin import Entry
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.storage.redis.keys import Keys
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.redis.reading import chunks
from profiler_bridge.storage.redis.writing import removal_commands
from profiler_bridge.summary import ALL_TRACES

# So many notifications are deleted in one transaction, and as many more as one
# piece has; the server does nothing else meanwhile.
_STRINGS = 10_000
# Of one command.
_WORDS = 1000
# How often it is tried to delete what somebody else is writing.
_TRIES = 100

# By base_id, the fields of pieces in the trace's hashes.
_Fields = Mapping[str, Sequence[str]]


def delete(
    client: RedisClient,
    pieces: Mapping[str, Collection[int]],
    entries: Collection[Entry],
) -> None:
    """As :meth:`StoragePlugin.delete`.

    Several pieces of a trace may have one notification in common, which stays
    until the last of them goes. So the names are watched: of what a writer
    adds, those of its piece come first.
    """
    fields: _Fields = {
        base_id: [layout.to_hex(digest) for digest in digests]
        for base_id, digests in pieces.items()
    }
    if not fields:
        client.run(removal_commands(client.keys, entries))
    elif client.keys.are_together:
        _delete(client, fields, entries)
    else:
        # A transaction is about one trace. By its entry among all traces
        # another purge finds it, if this one is interrupted.
        last = [entry for entry in entries if entry.term == ALL_TRACES]
        others = [entry for entry in entries if entry.term != ALL_TRACES]
        client.run(removal_commands(client.keys, others))
        for base_id, own in fields.items():
            _delete(client, {base_id: own}, ())
        client.run(removal_commands(client.keys, last))


def _delete(
    client: RedisClient, fields: _Fields, entries: Collection[Entry]
) -> None:
    """Delete pieces and, with the last of them, entries."""
    for _ in range(_TRIES):
        # More than once where there is much to delete.
        while True:
            keys = [client.keys.names(base_id) for base_id in fields]
            with client.watching(keys) as run:
                commands, rest = _step(client, fields)
                if not rest:
                    commands += removal_commands(client.keys, entries)
                if not run(commands):
                    break
            if not rest:
                return
            fields = rest
    raise exceptions.StorageUnavailable(
        f"{client}: what is to be deleted is being written all the time"
    )


def delete_names(client: RedisClient, before: int) -> None:
    """As :meth:`StoragePlugin.delete_names`."""
    while True:
        (members,) = client.run(
            [
                (
                    *("ZRANGEBYLEX", layout.NAMES, "-"),
                    f"({layout.from_week(before)}",
                    *("LIMIT", "0", str(_WORDS)),
                )
            ]
        )
        if not members:
            return
        client.run([("ZREM", layout.NAMES, *members)])


def _step(
    client: RedisClient, fields: _Fields
) -> tuple[list[Command], _Fields]:
    """Some pieces, whole ones, with the marks of their traces.

    :returns: what deletes these, and the fields of those that are left
    """
    hashes = client.run(
        ("HGETALL", client.keys.names(base_id)) for base_id in fields
    )
    commands: list[Command] = []
    left: dict[str, Sequence[str]] = {}
    count = 0
    for (base_id, own), packed in zip(fields.items(), hashes, strict=True):
        others = dict(packed or {})
        names: set[str] = set()
        taken: list[str] = []
        for field in own:
            if count + len(names) >= _STRINGS:
                break
            names |= layout.unpack_names([others.pop(field.encode(), b"")])
            taken.append(field)
        names -= layout.unpack_names(others.values())
        count += len(names)
        if len(taken) < len(own):
            left[base_id] = own[len(taken) :]
        commands += _commands(client.keys, base_id, taken, names)
    return commands, left


def _commands(
    keys: Keys, base_id: str, fields: Sequence[str], names: Collection[str]
) -> Sequence[Command]:
    strings = keys.strings(base_id, names)
    return [
        *(("UNLINK", *some) for some in chunks(strings, _WORDS)),
        *(
            ("HDEL", key, *some)
            for key in (keys.names(base_id), keys.summary(base_id))
            for some in chunks(fields, _WORDS)
        ),
        ("UNLINK", keys.marks(base_id)),
    ]
