# SPDX-License-Identifier: Apache-2.0

"""The version of what is stored.

Each release adds its own to those that are noted, and "-reindexed" to it when
all that older ones stored has been indexed anew. Release 0.1 noted none.
"""

from __future__ import annotations

from collections.abc import Collection

from profiler_bridge import exceptions
from profiler_bridge.storage.redis import layout
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.summary import ALL_TRACES

_FIRST = "0001"
_OWN = "0003"
_REINDEXED = "0003-reindexed"
# What they stored is found by fewer filters until it is indexed anew.
_OLDER = frozenset({_FIRST, "0002"})


def note(client: RedisClient) -> None:
    """Note this release's version, and 0.1's if it has stored anything.

    :raises StorageMisconfigured: a newer release's is noted
    """
    versions = _stored(client)
    _refuse_newer(client, versions)
    _add(client, {*versions, _OWN})


def note_reindexed(client: RedisClient) -> None:
    """Note that what 0.1 stored has been indexed anew, if there is any."""
    versions = _stored(client)
    if _OLDER & versions:
        _add(client, {*versions, _REINDEXED})


def check(client: RedisClient) -> list[str]:
    """Find out whether this release can go on with what is stored.

    :returns: a warning, where there is something to do
    :raises StorageMisconfigured: a newer release has stored something
    """
    versions = _stored(client)
    _refuse_newer(client, versions)
    if _OLDER & versions and _REINDEXED not in versions:
        return [
            f"{client} has traces of an older release: run"
            " 'profiler-bridge-manage reindex' once, so that all filters find"
            " them, and those that went on being written since"
        ]
    return []


def _stored(client: RedisClient) -> set[str]:
    # In this order: who writes what is indexed has noted its version before.
    *indexed, noted = client.run_in_turn(
        [
            [("EXISTS", key) for key in client.keys.index_parts(ALL_TRACES)],
            [("ZRANGE", layout.VERSIONS, "0", "-1")],
        ]
    )
    if noted or not any(indexed):
        return {version.decode("ascii", "replace") for version in noted}
    return {_FIRST}


def _refuse_newer(client: RedisClient, versions: Collection[str]) -> None:
    newer = [
        version
        for version in versions
        if version > _OWN and version != _REINDEXED
    ]
    if newer:
        raise exceptions.StorageMisconfigured(
            f"{client}: what is stored has version {max(newer)}, this release"
            f" works with {_OWN}"
        )


def _add(client: RedisClient, versions: Collection[str]) -> None:
    scored = (part for version in versions for part in ("0", version))
    client.run([("ZADD", layout.VERSIONS, *scored)], confirmed=True)
