# SPDX-License-Identifier: Apache-2.0

"""What a server has lost of traces: by evicting it, or by hand."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Collection, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.storage.redis import layout, reading
from profiler_bridge.storage.redis.client import TRIP_COMMANDS, RedisClient
from profiler_bridge.summary import PartialSummary

# Of so many notifications at least a list looks whether they are there.
_SOME_NAMES = 64
_LONGEST_NAME = 80
# So long it is believed that a server evicts nothing, in seconds: a page asks
# for each few traces.
_KNOWN_FOR = 10.0


def count_gone(
    client: RedisClient, base_ids: Sequence[str], *, exactly: bool
) -> dict[str, int]:
    """As :meth:`StoragePlugin.count_gone`."""
    traces = reading.names(client, base_ids)
    suspects: Collection[str] = base_ids
    if not exactly and not _evicts(client):
        suspects = _who_lost_some(
            client,
            {base_id: packed for base_id, (_, packed) in traces.items()},
        )
    counts = {}
    for base_id, (pieces, packed) in traces.items():
        count = 0
        if base_id in suspects:
            count = _count_strings(client, base_id, packed.values())
        if nameless := pieces - packed.keys():
            count += _count_ends(client, base_id, nameless)
        if count:
            counts[base_id] = count
    return counts


def _evicts(client: RedisClient) -> bool:
    """Whether the server may have evicted keys, as far as it tells."""
    # Who only reads may have no right to ask.
    with contextlib.suppress(exceptions.StorageMisconfigured):
        for server in client.servers():
            if time.monotonic() < server.evicts_nothing_until:
                continue
            memory, stats = server.run([("INFO", "memory"), ("INFO", "stats")])
            policy = memory.get("maxmemory_policy", "noeviction")
            if policy != "noeviction" or stats.get("evicted_keys"):
                return True
            server.evicts_nothing_until = time.monotonic() + _KNOWN_FOR
    return False


def _who_lost_some(
    client: RedisClient, names: Mapping[str, Mapping[bytes, bytes]]
) -> set[str]:
    """Those traces of which some of a few notifications are not there.

    Who lost many has lost some of few.

    :param names: by base_id, then by piece, packed
    """
    keys = {
        base_id: client.keys.strings(base_id, _some_names(packed))
        for base_id, packed in names.items()
        if packed
    }
    counts = client.run(("EXISTS", *some) for some in keys.values())
    return {
        base_id
        for (base_id, some), count in zip(keys.items(), counts, strict=True)
        if count < len(some)
    }


def _some_names(pieces: Mapping[bytes, bytes]) -> set[str]:
    """Some names of each piece; all of them where they are few."""
    count = _SOME_NAMES // len(pieces) + 1
    names: set[str] = set()
    for packed in pieces.values():
        unpacking = zlib.decompressobj()
        with contextlib.suppress(zlib.error, UnicodeDecodeError):
            text = unpacking.decompress(packed, count * _LONGEST_NAME)
            # The last is cut off, unless the end was reached.
            lines = text.decode("ascii").splitlines()
            names.update(lines if unpacking.eof else lines[:-1])
    return names


def _count_strings(
    client: RedisClient, base_id: str, packed: Collection[bytes]
) -> int:
    """How many notifications are named, and not there."""
    keys = client.keys.strings(base_id, layout.unpack_names(packed))
    there: list[int] = client.run(
        ("EXISTS", *some) for some in reading.chunks(keys, TRIP_COMMANDS)
    )
    return len(keys) - sum(there)


def _count_ends(
    client: RedisClient, base_id: str, pieces: Collection[bytes]
) -> int:
    """How many notifications only some pieces of a trace had.

    :param pieces: the fields of these
    """
    counted: list[PartialSummary] = []
    others: list[PartialSummary] = []
    partials = reading.partials(client, [base_id]).get(base_id, {})
    for digest, partial in partials.items():
        is_counted = layout.to_hex(digest).encode() in pieces
        (counted if is_counted else others).append(partial)
    count = 0
    for partial in counted:
        count += partial.count_beside(others)
        others.append(partial)
    return count
