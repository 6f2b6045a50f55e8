# SPDX-License-Identifier: Apache-2.0

"""A storage plugin: traces in one file, with Python's own sqlite3."""

import contextlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote, urlsplit

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.storage import plugin
from profiler_bridge.summary import PartialSummary

# Rows of all but the first are the tuples Mark, Entry, Name and Lease.
TABLES = """
CREATE TABLE IF NOT EXISTS pieces (base_id, digest, text, summary,
    PRIMARY KEY (base_id, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (base_id, kind, value,
    PRIMARY KEY (base_id, kind, value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (term, at, base_id,
    PRIMARY KEY (term, at, base_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (week, name,
    PRIMARY KEY (week, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (task, slot, attempt, holder, until,
    PRIMARY KEY (task, slot, attempt)) WITHOUT ROWID;
"""
INSERT_PIECE = "INSERT OR IGNORE INTO pieces VALUES (?, ?, ?, ?)"
INSERT_MARK = "INSERT OR IGNORE INTO marks VALUES (?, ?, ?)"
INSERT_ENTRY = "INSERT OR IGNORE INTO entries VALUES (?, ?, ?)"
INSERT_NAME = "INSERT OR IGNORE INTO names VALUES (?, ?)"
# The least of a trace's starts, its greatest finish, and all of its terms.
PLACES = """
SELECT trace.value,
    (SELECT min(value) FROM marks WHERE (base_id, kind) = (trace.value, 0)),
    (SELECT max(value) FROM marks WHERE (base_id, kind) = (trace.value, 2)),
    (SELECT json_group_array(value) FROM marks
        WHERE (base_id, kind) = (trace.value, 1))
FROM json_each(?) AS trace
"""
LAST = plugin.Position(2**63 - 1, "~")  # a base_id is a UUID


class ShelfPlugin(plugin.StoragePlugin):
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
        url = f"file:{quote(self._path)}?mode={mode}"
        try:
            db = sqlite3.connect(url, timeout=self._timeout, uri=True)
            with contextlib.closing(db), db:
                yield db
        except sqlite3.Error as error:
            raise exceptions.StorageUnavailable(f"{self}: {error}") from None

    def prepare(self) -> list[str]:
        with self._open("rwc") as db:
            db.executescript(TABLES)
        return self.check()

    def insert(
        self,
        pieces: Sequence[plugin.Piece],
        marks: Collection[plugin.Mark],
        entries: Collection[plugin.Entry],
        names: Collection[plugin.Name] = (),
    ) -> plugin.Inserted:
        with self._open() as db:
            known = set()
            for piece in pieces:
                summary = piece.summary.to_text()
                row = (piece.base_id, piece.digest, piece.text, summary)
                if not db.execute(INSERT_PIECE, row).rowcount:
                    known.add(piece.digest)
            db.executemany(INSERT_MARK, marks)
            db.executemany(INSERT_ENTRY, entries)
            db.executemany(
                INSERT_NAME, [(week, json.dumps(text)) for week, text in names]
            )
        base_ids = {written.base_id for written in (*pieces, *marks)}
        with self._open() as db:
            rows = db.execute(PLACES, [json.dumps([*base_ids])])
            places = {
                base_id: plugin.Place(
                    started, finished, frozenset(json.loads(terms))
                )
                for base_id, started, finished, terms in rows
                if started is not None and finished is not None
            }
        return plugin.Inserted(known, places)

    def notifications(self, base_id: str) -> list[Notification]:
        rows = self._pieces(base_id)
        # Two pieces can have some in common.
        lines = {line for _, text, _ in rows for line in text.split("\n")}
        return [Notification.from_text(line) for line in lines]

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        partials: dict[str, dict[int, PartialSummary]] = {}
        for base_id in base_ids:
            for digest, _, summary in self._pieces(base_id):
                pieces = partials.setdefault(base_id, {})
                pieces[digest] = PartialSummary.from_text(summary)
        return partials

    def _pieces(self, base_id: str) -> list[tuple[int, str, str]]:
        # Users ask for any text; what is stored is ASCII.
        base_id = base_id.encode("ascii", "replace").decode()
        with self._open() as db:
            return db.execute(
                "SELECT digest, text, summary FROM pieces WHERE base_id = ?",
                [base_id],
            ).fetchall()

    def index(
        self,
        term: int,
        before: plugin.Position | None,
        since: int | None,
        count: int,
    ) -> Sequence[plugin.Position]:
        earliest = -(2**63) if since is None else since
        with self._open() as db:
            rows = db.execute(
                "SELECT at, base_id FROM entries WHERE term = ?"
                " AND (at, base_id) < (?, ?) AND at >= ?"
                " ORDER BY at DESC, base_id DESC LIMIT ?",
                (term, *(before or LAST), earliest, count),
            )
            return [plugin.Position(*row) for row in rows]

    def names(self, week: int) -> set[str]:
        with self._open() as db:
            rows = db.execute("SELECT name FROM names WHERE week >= ?", [week])
            return {json.loads(text) for (text,) in rows}

    def delete_names(self, before: int) -> None:
        with self._open() as db:
            db.execute("DELETE FROM names WHERE week < ?", [before])

    def marks(
        self, base_ids: Iterable[str], kind: plugin.Kind
    ) -> Mapping[str, Collection[int]]:
        marks: dict[str, list[int]] = {}
        with self._open() as db:
            for base_id, value in db.execute(
                "SELECT base_id, marks.value FROM json_each(?) AS trace"
                " JOIN marks ON base_id = trace.value AND kind = ?",
                [json.dumps([*base_ids]), kind],
            ):
                marks.setdefault(base_id, []).append(value)
        return marks

    def lease(self, lease: plugin.Lease) -> bool:
        with self._open() as db:
            db.execute(
                "INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?, ?)", lease
            )
            (holder,) = db.execute(
                "SELECT holder FROM leases"
                " WHERE task = ? AND slot = ? AND attempt = ?",
                lease[:3],
            ).fetchone()
        return bool(holder == lease.holder)

    def leases(self, task: str, slot: int) -> Sequence[plugin.Lease]:
        with self._open() as db:
            rows = db.execute(
                "SELECT * FROM leases WHERE task = ? AND slot >= ?"
                " ORDER BY slot, attempt",
                [task, slot],
            )
            return [plugin.Lease(*row) for row in rows]

    def delete_leases(self, task: str, slot: int) -> None:
        with self._open() as db:
            db.execute(
                "DELETE FROM leases WHERE task = ? AND slot < ?", [task, slot]
            )

    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[plugin.Entry],
    ) -> None:
        with self._open() as db:
            db.executemany(
                "DELETE FROM pieces WHERE base_id = ? AND digest = ?",
                [
                    (trace, digest)
                    for trace in pieces
                    for digest in pieces[trace]
                ],
            )
            db.executemany(
                "DELETE FROM marks WHERE base_id = ?",
                [(base_id,) for base_id in pieces],
            )
            db.executemany(
                "DELETE FROM entries"
                " WHERE term = ? AND at = ? AND base_id = ?",
                entries,
            )

    def check(self) -> list[str]:
        with self._open() as db:
            db.execute(
                "SELECT 1 FROM pieces, marks, entries, names, leases LIMIT 1"
            )
        return []

    def close(self) -> None:
        """Nothing stays open between two calls."""
