# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Messages that can never be stored, kept with the reason.

They stand in a SQLite file of this host, apart from the storages: it has to
work when a storage is what refuses them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from oslo_config import cfg
from oslo_utils import timeutils

from profiler_bridge import exceptions
from profiler_bridge.exceptions import Reason

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.StrOpt(
        "set_aside",
        default="/var/lib/profiler_bridge/set-aside.sqlite",
        help="File in which messages that cannot be stored are kept, with"
        " the reason. It is made, readable for its owner only, where it is"
        " missing. See 'profiler-bridge-manage set-aside list'.",
    ),
    cfg.IntOpt(
        "set_aside_limit",
        default=256,
        min=1,
        help="Size of that file in MiB. When it is full the oldest messages"
        " in it are given up, which is logged as an error.",
    ),
]

_TABLE = """
CREATE TABLE IF NOT EXISTS set_aside (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    time TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    source TEXT NOT NULL,
    body TEXT NOT NULL
)
"""
_COLUMNS = "id, time, reason, detail, source, body"
# Other workers write to the file too, but each for an instant only.
_BUSY_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class SetAsideMessage:
    """A message that could not be stored.

    :param reason: what kind of wrong
    :param detail: what exactly is wrong, in one line
    :param source: where it came from, such as publisher and event type
    :param body: the message, verbatim, as JSON in ASCII
    :param id: its number in the file; 0 before it is in
    :param time: when it was set aside, ISO 8601, UTC
    """

    reason: Reason
    detail: str
    source: str
    body: str
    id: int = 0
    time: str = ""


class SetAside:
    """The file. Any number of processes may use it.

    Methods raise :class:`StorageUnavailable` where the file or its disk
    cannot be used now.

    :param path: made at the first use
    :param limit: bytes
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> SetAside:
        options = conf[GROUP]
        return cls(options.set_aside, options.set_aside_limit * 2**20)

    def add(self, messages: Iterable[SetAsideMessage]) -> int:
        """Keep messages; one that is there already is left as it is.

        :returns: how many of the oldest had to go to make room
        """
        now = timeutils.utcnow().isoformat(timespec="seconds")
        with self._open(create=True) as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO set_aside"
                " (digest, time, reason, detail, source, body)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (
                        blake2b(each.body.encode(), digest_size=16).digest(),
                        now,
                        each.reason,
                        each.detail,
                        each.source,
                        each.body,
                    )
                    for each in messages
                ),
            )
            return self._make_room(connection)

    def messages(
        self, ids: Sequence[int] | None = None
    ) -> Iterator[SetAsideMessage]:
        """The messages with these numbers, or all, oldest first."""
        where, values = _where(ids)
        with self._open() as connection:
            for row in connection.execute(
                f"SELECT {_COLUMNS} FROM set_aside{where} ORDER BY id",  # noqa: S608 - ours
                values,
            ):
                number, time, reason, detail, source, body = row
                yield SetAsideMessage(
                    Reason(reason), detail, source, body, number, time
                )

    def remove(self, ids: Sequence[int] | None = None) -> int:
        """Drop the messages with these numbers, or all; how many went."""
        where, values = _where(ids)
        with self._open() as connection:
            return connection.execute(
                f"DELETE FROM set_aside{where}",  # noqa: S608 - ours
                values,
            ).rowcount

    def prepare(self) -> None:
        """Make the file where it is missing.

        :raises ConfigurationError: it cannot be made or written there
        """
        with self._advice(), self._open(create=True) as connection:
            self._make_room(connection)

    def check(self) -> None:
        """Find out whether messages can be kept, but make nothing.

        :raises ConfigurationError: they cannot
        """
        path = Path(self._path).absolute()
        with self._advice():
            # A journal stands beside the file while it is written.
            if not os.access(path.parent, os.W_OK | os.X_OK):
                is_there = path.parent.is_dir()
                why = os.strerror(errno.EACCES if is_there else errno.ENOENT)
                raise exceptions.StorageUnavailable(f"{path.parent}: {why}")
            if path.exists():
                with self._open() as connection:
                    connection.execute("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _advice(self) -> Iterator[None]:
        try:
            yield
        except exceptions.StorageUnavailable as error:
            raise exceptions.ConfigurationError(
                f"{error}: set set_aside in [bridge] to a file that"
                " profiler-bridge may write"
            ) from None

    @contextlib.contextmanager
    def _open(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction on the file."""
        try:
            if create:
                # With O_EXCL, as in profiler_bridge.storage.sqlalchemy.
                with contextlib.suppress(FileExistsError):
                    flags = os.O_CREAT | os.O_EXCL
                    os.close(os.open(self._path, flags, 0o600))
            connection = sqlite3.connect(
                f"{Path(self._path).absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=_BUSY_TIMEOUT,
            )
            with contextlib.closing(connection), connection:
                if create:
                    connection.execute(_TABLE)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise exceptions.StorageUnavailable(
                f"{self._path}: {getattr(error, 'strerror', None) or error}"
            ) from error

    def _make_room(self, connection: sqlite3.Connection) -> int:
        gone = 0
        while self._used(connection) > self._limit:
            oldest = connection.execute(
                "DELETE FROM set_aside WHERE id IN"
                " (SELECT id FROM set_aside ORDER BY id LIMIT 10)"
            ).rowcount
            if not oldest:
                break
            gone += oldest
        return gone

    def _used(self, connection: sqlite3.Connection) -> int:
        """Bytes of the file that hold something; the rest is used again."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        used: int = (pages - free) * size
        return used


def body_of(message: object) -> str:
    """A message's JSON, for :attr:`SetAsideMessage.body`.

    What is no JSON, and so never came from a bus, stands in it as a text.
    """
    try:
        return json.dumps(message)
    except (TypeError, ValueError, RecursionError):
        # Nested so deep that it was only just decoded, on a smaller stack.
        return "".join(_pieces(message))


class _Text(str):
    """A piece of JSON that is done."""


def _pieces(message: object) -> Iterator[str]:
    """JSON without recursion."""
    waiting = [message]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Text):
            yield value
        elif isinstance(value, dict):
            parts: list[object] = [_Text("{")]
            for number, (key, each) in enumerate(value.items()):
                comma = ", " if number else ""
                parts += [_Text(f"{comma}{json.dumps(str(key))}: "), each]
            waiting += [_Text("}"), *reversed(parts)]
        elif isinstance(value, list):
            parts = [_Text("[")]
            for number, each in enumerate(value):
                parts += [_Text(", " if number else ""), each]
            waiting += [_Text("]"), *reversed(parts)]
        else:
            yield json.dumps(value, default=repr)


def _where(ids: Sequence[int] | None) -> tuple[str, Sequence[int]]:
    if ids is None:
        return "", ()
    return f" WHERE id IN ({','.join('?' * len(ids))})", ids
