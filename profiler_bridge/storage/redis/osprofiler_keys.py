# SPDX-License-Identifier: Apache-2.0

"""What osprofiler's own drivers stored in Redis, as lists and as values."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.storage.redis.client import RedisClient

_READ_KEYS = 100
# Our keys have one more part.
_ID = "([0-9a-fA-F-]{32,36})"
_is_theirs = re.compile(
    f"osprofiler_opt:{_ID}|osprofiler:{_ID}_[^_]+_[^_]+"
).fullmatch
_may_be_theirs = re.compile(
    "osprofiler_opt:(.*)|osprofiler:([^_]*)_[^_]+_[^_]+", re.DOTALL
).fullmatch


def find(client: RedisClient, base_id: str) -> dict[str, set[str]]:
    """Look at every key for traces whose ids begin like this.

    :returns: their keys, by base_id
    """
    keys: dict[str, set[str]] = {}
    for whole_id, key in _scan(client, base_id, _is_theirs):
        keys.setdefault(whole_id, set()).add(key)
    return keys


def notifications(
    client: RedisClient, base_id: str, keys: Iterable[str]
) -> list[Notification]:
    """Those of a trace, from its keys; encoded as ours, for comparison."""
    return [
        Notification.from_payload(notification.payload)
        for notification in decoded(_values(client, {*keys}), base_id)
    ]


def traces(client: RedisClient) -> Iterator[tuple[str, list[object]]]:
    """As :meth:`StoragePlugin.left_by_osprofiler` has it."""
    # In a file, for there may be more keys than fit into memory.
    with contextlib.closing(sqlite3.connect("")) as file:
        file.execute("CREATE TABLE keys (base_id, name UNIQUE)")
        file.executemany(
            "INSERT OR IGNORE INTO keys VALUES (?, ?)",
            _scan(client, "", _may_be_theirs),
        )
        rows = file.execute("SELECT * FROM keys ORDER BY base_id")
        for base_id, keys in itertools.groupby(rows, lambda row: row[0]):
            values = _values(client, {key for _, key in keys})
            yield base_id, [*map(_json, values)]


def decoded(values: Iterable[bytes], base_id: str) -> Iterator[Notification]:
    """The notifications of a trace that are among values."""
    for value in values:
        with contextlib.suppress(
            UnicodeDecodeError, exceptions.InvalidNotification
        ):
            notification = Notification.from_text(value.decode("ascii"))
            if notification.base_id == base_id:
                yield notification


def _scan(
    client: RedisClient,
    base_id: str,
    match: Callable[[str], re.Match[str] | None],
) -> Iterator[tuple[str, str]]:
    """Whole id and key of what begins like this."""
    literally = re.sub(r"([*?\[\]\\])", r"\\\1", base_id)
    for keys in client.scan(f"osprofiler*:{literally}*"):
        for key in keys:
            text = key.decode("ascii", "replace")
            if parts := match(text):
                yield parts[1] or parts[2] or "", text


def _values(client: RedisClient, keys: set[str]) -> list[bytes]:
    lists = {key for key in keys if key.startswith("osprofiler_opt:")}
    values = client.strings([*(keys - lists)])
    for key in lists:
        for at in itertools.count(0, _READ_KEYS):
            end = str(at + _READ_KEYS - 1)
            command = ("LRANGE", key, str(at), end)
            (items,) = client.run([command], bounded=False)
            values += items
            if len(items) < _READ_KEYS:
                break
    return values


def _json(value: bytes) -> object:
    try:
        payload: object = json.loads(value)
    except (ValueError, RecursionError):
        return value.decode("utf-8", "replace")
    return payload
