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

"""A storage plugin: traces in one file, with Python's own sqlite3."""

import contextlib
import itertools
import sqlite3
from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import ClassVar
from urllib.parse import quote, urlsplit

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.query import PartialSummary, index_terms
from profiler_bridge.storage.base import Piece, Position, Storage

TABLES = [
    """CREATE TABLE IF NOT EXISTS pieces (
        trace BLOB, digest BLOB, text TEXT, summary TEXT,
        PRIMARY KEY (trace, digest)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS entries (
        term BLOB, started INTEGER, trace BLOB,
        PRIMARY KEY (term, started, trace)) WITHOUT ROWID""",
]


def blob(text: str) -> bytes:
    """Any text, with NUL and lone surrogates, so that it compares exactly."""
    return text.encode("utf-8", "surrogatepass")


class ShelfStorage(Storage):
    """shelf:///path/to/file"""

    OPTS: ClassVar = [
        cfg.FloatOpt(
            "shelf_timeout",
            default=3.0,
            help="How many seconds to wait while somebody else writes.",
        ),
    ]

    def __init__(self, connection_string: str, *, shelf_timeout: float):
        self._path = urlsplit(connection_string).path
        self._timeout = shelf_timeout
        if not self._path:
            raise exceptions.ConfigurationError(
                "the connection string is not like shelf:///path/to/file"
            )

    def __str__(self) -> str:
        return f"shelf://{self._path}"

    @contextlib.contextmanager
    def _open(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        """A transaction: all that is done in it is kept, or nothing."""
        try:
            opened = sqlite3.connect(
                f"file:{quote(self._path)}?mode={mode}",
                timeout=self._timeout,
                uri=True,
            )
            with contextlib.closing(opened), opened:
                yield opened
        except sqlite3.Error as error:
            raise exceptions.StorageUnavailable(f"{self}: {error}") from None

    def prepare(self) -> None:
        with self._open("rwc") as connection:
            for table in TABLES:
                connection.execute(table)

    def insert(self, pieces: Sequence[Piece]) -> Collection[bytes]:
        known = set()
        with self._open() as connection:
            for piece in pieces:
                inserted = connection.execute(
                    "INSERT OR IGNORE INTO pieces VALUES (?, ?, ?, ?)",
                    (
                        blob(piece.base_id),
                        piece.digest,
                        piece.text,
                        piece.summary.to_text(),
                    ),
                )
                if not inserted.rowcount:
                    known.add(piece.digest)
        return known

    def add_to_index(self, entries: Mapping[str, Sequence[Position]]) -> None:
        with self._open() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO entries VALUES (?, ?, ?)",
                [
                    (blob(term), each.started, blob(each.base_id))
                    for term, positions in entries.items()
                    for each in positions
                ],
            )

    def notifications(self, base_id: str) -> list[Notification]:
        with self._open() as connection:
            found = connection.execute(
                "SELECT text FROM pieces WHERE trace = ?", (blob(base_id),)
            ).fetchall()
        # Two pieces can have some in common.
        lines = {line for (text,) in found for line in text.split("\n")}
        return [Notification.from_text(line) for line in lines]

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[bytes, PartialSummary]]:
        partials: dict[str, dict[bytes, PartialSummary]] = {}
        with self._open() as connection:
            for base_id in base_ids:
                for digest, text in connection.execute(
                    "SELECT digest, summary FROM pieces WHERE trace = ?",
                    (blob(base_id),),
                ):
                    partials.setdefault(base_id, {})[digest] = (
                        PartialSummary.from_text(text)
                    )
        return partials

    def index(
        self, term: str, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        started, trace = before or (2**63 - 1, "")
        with self._open() as connection:
            return [
                Position(started, trace.decode())
                for started, trace in connection.execute(
                    "SELECT started, trace FROM entries WHERE term = ?"
                    " AND (started, trace) < (?, ?) AND started >= ?"
                    " ORDER BY started DESC, trace DESC LIMIT ?",
                    (
                        blob(term),
                        *(started, blob(trace)),
                        -(2**63) if since is None else since,
                        count,
                    ),
                )
            ]

    def delete(
        self, base_id: str, partials: Collection[PartialSummary]
    ) -> None:
        terms = index_terms(partials)
        starts = {each.started for each in partials}
        with self._open() as connection:
            connection.execute(
                "DELETE FROM pieces WHERE trace = ?", (blob(base_id),)
            )
            connection.executemany(
                "DELETE FROM entries"
                " WHERE term = ? AND started = ? AND trace = ?",
                [
                    (blob(term), started, blob(base_id))
                    for term, started in itertools.product(terms, starts)
                ],
            )

    def check(self) -> list[str]:
        with self._open() as connection:
            connection.execute("SELECT 1 FROM pieces, entries LIMIT 1")
        return []

    def close(self) -> None:
        """Nothing stays open between two calls."""
