# SPDX-License-Identifier: Apache-2.0

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
from typing import Any

from oslo_config import cfg
from oslo_utils import timeutils

from profiler_bridge import exceptions
from profiler_bridge.daemon import deep_json
from profiler_bridge.exceptions import Reason

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.StrOpt(
        "set_aside",
        default="/var/lib/profiler_bridge/set-aside.sqlite",
        help="File that keeps messages that cannot be stored, with the"
        " reason. If it is missing it is made, readable for its owner only."
        " See 'profiler-bridge-manage set-aside list'.",
    ),
    cfg.IntOpt(
        "set_aside_limit",
        default=256,
        min=1,
        help="Largest size of that file in MiB. When it is full the oldest"
        " messages in it are dropped, which is logged as an error.",
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
    body BLOB NOT NULL
)
"""
_INSERT = """
INSERT OR IGNORE INTO set_aside (digest, time, reason, detail, source, body)
VALUES (?, ?, ?, ?, ?, ?)
"""
_INSERT_LARGE = """
INSERT OR IGNORE INTO set_aside (digest, time, reason, detail, source, body)
VALUES (?, ?, ?, ?, ?, zeroblob(?))
"""
# Seconds to wait for others who use the file, which they do for an instant.
_BUSY_TIMEOUT = 3.0
# What is read at once; the last body may be larger.
_PAGE_ROWS = 1000
_PAGE_BYTES = 1 << 20
# A larger body, in bytes, is written in parts of so many.
_LARGE = 1 << 20
# A file system with less than this left is full, in bytes: the journal of a
# write takes some pages too.
_LEAST_SPACE = 1 << 20


@dataclass(frozen=True, slots=True)
class SetAsideMessage:
    """A message that could not be stored.

    :param reason: what kind of wrong
    :param detail: what exactly is wrong, in one line
    :param source: where it came from, such as publisher and event type
    :param body: the message as it came off the bus, whatever that is; where
        only the decoded message is at hand, its JSON. Bytes when it comes out
        of the file
    :param id: its number in the file; 0 before it is in
    :param time: when it was set aside, ISO 8601, UTC
    """

    reason: Reason
    detail: str
    source: str
    body: bytes | str
    id: int = 0
    time: str = ""

    def to_bytes(self) -> bytes:
        """The body, whatever it is."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode("utf-8", "surrogatepass")


class SetAside:
    """The file. Any number of processes may use it.

    Readers do not keep others from writing: the file is read a page at a
    time, and between two pages nothing is locked. So SQLite's plain journal
    will do, which is gone after each write, belongs to the file's owner
    whoever writes, and lets the file be read where nothing can be written.

    Methods raise :class:`SetAsideUnavailable` when the file or its disk
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
            for message in messages:
                _insert(connection, message, now)
            return self._make_room(connection)

    def sizes(self) -> Iterator[tuple[SetAsideMessage, int]]:
        """All messages without their bodies, and the bytes of these.

        The oldest first.
        """
        # The length of a blob is known without reading it.
        size = (
            "CASE typeof(body) WHEN 'blob' THEN length(body)"
            " ELSE length(CAST(body AS BLOB)) END"
        )
        for *row, length in self._rows(size):
            yield _message(row, b""), length

    def messages(
        self, ids: Iterable[int] | None = None
    ) -> Iterator[SetAsideMessage]:
        """Messages, the oldest first.

        What is removed or added meanwhile may be among them or not.

        :param ids: of those that are wanted, all when None; there may be none
            of some
        """
        for *row, body in self._rows("body", ids):
            # An older release wrote strings.
            yield _message(
                row, body.encode() if isinstance(body, str) else body
            )

    def remove(self, ids: Iterable[int]) -> list[int]:
        """Drop messages.

        :returns: the numbers of those that were there
        """
        with self._open() as connection:
            return [
                number
                for number in _numbers(ids)
                if connection.execute(
                    "DELETE FROM set_aside WHERE id = ?", (number,)
                ).rowcount
            ]

    def remove_all(self) -> int:
        """Drop all messages.

        :returns: how many there were
        """
        with self._open() as connection:
            return connection.execute("DELETE FROM set_aside").rowcount

    def _rows(
        self, last: str, ids: Iterable[int] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """The rows with these numbers, or all.

        :param last: the last column
        """
        select = f"SELECT id, time, reason, detail, source, {last} FROM set_aside WHERE id"  # noqa: E501, S608 - ours
        if ids is not None:
            for number in _numbers(ids):
                yield from self._page(f"{select} = ?", number)
            return
        number = -1
        while page := self._page(f"{select} > ? ORDER BY id", number):
            yield from page
            number = page[-1][0]

    def _page(self, select: str, number: int) -> list[tuple[Any, ...]]:
        """The first of the rows that a statement selects, at most a page."""
        page: list[tuple[Any, ...]] = []
        size = 0
        with self._open() as connection:
            for row in connection.execute(select, (number,)):
                page.append(row)
                size += len(row[-1]) if isinstance(row[-1], bytes | str) else 0
                if size >= _PAGE_BYTES or len(page) == _PAGE_ROWS:
                    break
        return page

    def prepare(self) -> None:
        """Make the file where it is missing.

        :raises ConfigurationError: it cannot be made or written there
        """
        with self._advice(), self._open(create=True) as connection:
            self._make_room(connection)

    def check(self) -> int:
        """Find out whether messages can be kept, but make nothing.

        :returns: how many are kept
        :raises ConfigurationError: none can be kept
        """
        path = Path(self._path).absolute()
        with self._advice():
            # A journal stands beside the file while it is written.
            if not os.access(path.parent, os.W_OK | os.X_OK):
                is_there = path.parent.is_dir()
                raise _unavailable(
                    str(path.parent),
                    errno.EACCES if is_there else errno.ENOENT,
                )
            disk = os.statvfs(path.parent)
            if disk.f_bavail * disk.f_frsize < _LEAST_SPACE:
                raise _unavailable(self._path, errno.ENOSPC)
            if not path.exists():
                return 0
            with self._open() as connection:
                connection.execute("BEGIN IMMEDIATE")
                counted = connection.execute("SELECT count(*) FROM set_aside")
                number: int = counted.fetchone()[0]
                return number

    @contextlib.contextmanager
    def _advice(self) -> Iterator[None]:
        """Say what to do about errors."""
        try:
            yield
        except exceptions.SetAsideUnavailable as error:
            raise exceptions.ConfigurationError(
                f"{error}: set set_aside in [bridge] to a file that"
                " profiler-bridge may write"
            ) from None

    @contextlib.contextmanager
    def _open(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction on the file."""
        try:
            if create:
                # With O_EXCL, as in profiler_bridge.storage.sql.plugin.
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
            raise exceptions.SetAsideUnavailable(
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


def _insert(
    connection: sqlite3.Connection, message: SetAsideMessage, now: str
) -> None:
    body = message.to_bytes()
    is_large = len(body) > _LARGE
    done = connection.execute(
        _INSERT_LARGE if is_large else _INSERT,
        (
            blake2b(body, digest_size=16).digest(),
            now,
            message.reason,
            _storable(message.detail),
            _storable(message.source),
            len(body) if is_large else body,
        ),
    )
    if is_large and done.rowcount:
        # A part at a time: it may be here for want of memory.
        rest = memoryview(body)
        with connection.blobopen(
            "set_aside", "body", done.lastrowid or 0
        ) as blob:
            for at in range(0, len(body), _LARGE):
                blob.write(rest[at : at + _LARGE])


def body_of(message: object) -> str:
    """A message's JSON, for :attr:`SetAsideMessage.body`.

    What JSON has no type for, and so never came from a bus, is a string in it.
    """
    try:
        return json.dumps(message)
    except (TypeError, ValueError, RecursionError):
        # Nested so deep that it was only just decoded, on a smaller stack.
        return "".join(deep_json.pieces(message))


def _message(row: Sequence[Any], body: bytes) -> SetAsideMessage:
    number, time, reason, detail, source = row
    return SetAsideMessage(Reason(reason), detail, source, body, number, time)


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _numbers(ids: Iterable[int]) -> list[int]:
    """Those that a row can have, in order."""
    return sorted({number for number in ids if 0 < number < 2**63})


def _unavailable(path: str, number: int) -> exceptions.SetAsideUnavailable:
    return exceptions.SetAsideUnavailable(f"{path}: {os.strerror(number)}")
