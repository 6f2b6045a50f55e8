# SPDX-License-Identifier: Apache-2.0

"""Storage in a database that SQLAlchemy supports.

The bridge's user may only create tables, select and insert. So rows are
written once and never changed, and what several writers say of one trace
stands in several rows.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
import zlib
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from profiler_bridge import exceptions, retry
from profiler_bridge.notification import Notification, is_id
from profiler_bridge.storage import deadline
from profiler_bridge.storage.plugin import (
    Entry,
    Inserted,
    Kind,
    Lease,
    Mark,
    Name,
    Piece,
    Position,
    StoragePlugin,
)
from profiler_bridge.storage.sql import check, errors, osprofiler_table, schema
from profiler_bridge.storage.sql.engine import Database, transaction
from profiler_bridge.storage.sql.schema import (
    INDEX,
    LEASES,
    MARKS,
    NAMES,
    PIECES,
)
from profiler_bridge.storage.sql.statements import (
    Row,
    Rows,
    Statements,
    statements_for,
)
from profiler_bridge.summary import PartialSummary, digest
from profiler_bridge.url import check as check_url
from profiler_bridge.url import scrub, without_secret_option

T = TypeVar("T")

# Most of the gain for a third of the time that zlib takes by default.
_COMPRESSION = 1
# What a statement of one row needs beside that, generously.
_STATEMENT = 2048
# So many traces at a time, where all are gone through.
_PAGE = 500
# Seconds in which others may be making the same tables.
_PREPARATION = 3.0
# Seconds at most until those who waited for each other try again.
_PAUSE = 0.2


class SQLPlugin(StoragePlugin):
    """SQLite, MySQL, MariaDB or PostgreSQL.

    :param connection_string: a SQLAlchemy database URL
    :raises ConfigurationError: the URL or its driver cannot be used
    """

    def __init__(self, connection_string: str) -> None:
        check_url(connection_string, "the connection string", plain="/?#[],")
        # A client's words may have parts of the password.
        scrub_line = functools.partial(scrub, url=connection_string)
        left, rest = without_secret_option(connection_string)
        try:
            self._url = sa.make_url(connection_string)
            shown = sa.make_url(left).render_as_string(hide_password=True)
            self._name = f"{shown}{rest}"
            self._database = Database(self._url, self._name, scrub_line)
        except ModuleNotFoundError as error:
            raise exceptions.ConfigurationError(
                f"the database driver {error.name} is not installed; for"
                " PostgreSQL install profiler_bridge[postgresql], from a"
                " checkout with pip install '.[postgresql]'"
            ) from None
        except (sa.exc.ArgumentError, ValueError, TypeError) as error:
            raise exceptions.ConfigurationError(
                "the connection string cannot be used:"
                f" {scrub_line(errors.line(error))}"
            ) from None
        dialect = self._database.dialect.name
        if dialect in schema.MYSQL and not self._url.database:
            raise exceptions.ConfigurationError(
                "the connection string cannot be used: it names no database,"
                " as in mysql+pymysql://user:password@host/database"
            )
        self._is_sqlite = dialect == "sqlite"
        self._largest: int | None = None
        self._has_names = False

    def __str__(self) -> str:
        return self._name

    @functools.cached_property
    def _statements(self) -> Statements:
        return statements_for(self._database.dialect)

    # Writing

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        # In the same order in all writers, so that few wait for each other.
        rows: dict[sa.Table, list[Row]] = {
            PIECES: sorted(map(_piece_row, pieces)),
            MARKS: sorted(
                (base_id, int(kind), value) for base_id, kind, value in marks
            ),
            INDEX: sorted(entries),
            NAMES: sorted(
                (week, digest(text), json.dumps(text)) for week, text in names
            ),
        }
        self._refuse_too_large(rows[PIECES])
        return _without_deadlock(lambda: self._insert(rows))

    def _refuse_too_large(self, rows: Iterable[Row]) -> None:
        """Refuse what MySQL would answer by closing the connection."""
        if self._largest is None:
            return
        for _, _, summary, blob in rows:
            size = len(summary) + len(blob)
            # Most are so small that nobody has to count what is escaped.
            if 2 * size > self._largest:
                size += sum(blob.count(byte) for byte in b"\0\n\r\x1a\"'\\")
                if size > self._largest:
                    raise exceptions.WriteRefused(
                        "the payload exceeds max_allowed_packet"
                    )

    def _insert(self, rows: Rows) -> Inserted:
        base_ids = {row[0] for row in (*rows[PIECES], *rows[MARKS])}
        with self._database.connect() as connection:
            known = self._statements.insert(connection, rows)
            # After the commit: a trace is found by what others wrote, too.
            with transaction(connection):
                places = self._statements.places(connection, base_ids)
            return Inserted(known, places)

    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        keys = sorted(
            (base_id, digest)
            for base_id, digests in pieces.items()
            for digest in digests
        )

        def delete() -> None:
            with self._database.begin() as connection:
                self._statements.delete(
                    connection, keys, sorted(pieces), sorted(entries)
                )

        _without_deadlock(delete)

    # Reading

    def notifications(self, base_id: str) -> list[Notification]:
        return self.notifications_of([base_id]).get(base_id, [])

    def notifications_of(
        self, base_ids: Collection[str]
    ) -> dict[str, list[Notification]]:
        # What was delivered twice can be in two pieces.
        texts: dict[str, dict[str, None]] = {}
        with self._database.begin(streaming=True) as connection:
            # Some databases take a NUL amiss, some ignore a space.
            rows = self._statements.texts(connection, filter(is_id, base_ids))
            for base_id, piece in rows:
                lines = zlib.decompress(piece).decode("ascii").split("\n")
                texts.setdefault(base_id, {}).update(dict.fromkeys(lines))
        return {
            base_id: [*map(Notification.from_text, own)]
            for base_id, own in texts.items()
        }

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        partials: dict[str, dict[int, PartialSummary]] = {}
        with self._database.begin() as connection:
            rows = self._statements.partials(
                connection, filter(is_id, base_ids)
            )
            for base_id, digest, text in rows:
                partials.setdefault(base_id, {})[digest] = (
                    PartialSummary.from_text(text)
                )
        return partials

    def marks(
        self, base_ids: Iterable[str], kind: Kind
    ) -> Mapping[str, Collection[int]]:
        marks: dict[str, list[int]] = {}
        with self._database.begin() as connection:
            for base_id, value in self._statements.marks(
                connection, base_ids, kind
            ):
                marks.setdefault(base_id, []).append(value)
        return marks

    def lease(self, lease: Lease) -> bool:
        key = LEASES.primary_key.columns
        statement = sa.select(LEASES.c.holder).where(
            *(column == getattr(lease, column.name) for column in key)
        )

        def insert() -> bool:
            with self._database.begin() as connection:
                self._statements.insert_lease(connection, lease)
            with self._database.begin() as connection:
                holder = connection.scalars(statement).one_or_none()
            return bool(holder == lease.holder)

        return _without_deadlock(insert)

    def leases(self, task: str, slot: int) -> Sequence[Lease]:
        statement = (
            sa.select(LEASES)
            .where(LEASES.c.task == task, LEASES.c.slot >= slot)
            .order_by(LEASES.c.slot, LEASES.c.attempt)
        )
        with self._database.begin() as connection:
            return [Lease(*row) for row in connection.execute(statement)]

    def delete_leases(self, task: str, slot: int) -> None:
        statement = sa.delete(LEASES).where(
            LEASES.c.task == task, LEASES.c.slot < slot
        )

        def delete() -> None:
            with self._database.begin() as connection:
                connection.execute(statement)

        _without_deadlock(delete)

    def index(
        self, term: int, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        statement = (
            sa.select(INDEX.c.started, INDEX.c.base_id)
            .where(INDEX.c.term == term)
            .order_by(INDEX.c.started.desc(), INDEX.c.base_id.desc())
            .limit(count)
        )
        if before is not None:
            # Written out, for not every database uses an index for a
            # comparison of tuples.
            statement = statement.where(
                INDEX.c.started <= before.at,
                sa.or_(
                    INDEX.c.started < before.at,
                    INDEX.c.base_id < before.base_id,
                ),
            )
        if since is not None:
            statement = statement.where(INDEX.c.started >= since)
        with self._database.begin() as connection:
            return [Position(*row) for row in connection.execute(statement)]

    def names(self, week: int) -> set[str]:
        # Reports read what an older release has stored, before it is upgraded.
        if not self._has_names:
            with self._database.begin() as connection:
                self._has_names = sa.inspect(connection).has_table(NAMES.name)
            if not self._has_names:
                return set()
        statement = sa.select(NAMES.c.name).where(NAMES.c.week >= week)
        return {*map(json.loads, {*self._scalars(statement)})}

    def delete_names(self, before: int) -> None:
        statement = sa.delete(NAMES).where(NAMES.c.week < before)

        def delete() -> None:
            with self._database.begin() as connection:
                connection.execute(statement)

        _without_deadlock(delete)

    def base_ids(self) -> Iterator[Sequence[str]]:
        base_id = PIECES.c.base_id
        statement = (
            sa.select(base_id).distinct().order_by(base_id).limit(_PAGE)
        )
        last = ""
        while page := self._scalars(statement.where(base_id > last)):
            yield page
            last = page[-1]

    def _scalars(self, statement: sa.Select[Any]) -> Sequence[Any]:
        with self._database.begin() as connection:
            return connection.scalars(statement).all()

    def left_by_osprofiler(self) -> Iterator[tuple[str, list[object]]]:
        with self._database.begin() as connection:
            if not osprofiler_table.exists(connection):
                raise exceptions.StorageMisconfigured(
                    f"{self} has no table that osprofiler made"
                )
        return osprofiler_table.traces(
            functools.partial(self._database.begin, streaming=True)
        )

    # Preparing and checking

    def prepare(self) -> list[str]:
        if self._is_sqlite:
            _with_others(self._make_file)
        with self._database.begin() as connection:
            check.check_server(self._name, connection)
            versions = schema.versions(connection)
            check.check_versions(self._name, versions)
        if schema.CURRENT not in versions:
            _with_others(self._make_tables)
        return self.check()

    def _make_file(self) -> None:
        """Make the file, for its owner only, where there is none."""
        path = str(self._url.database)
        # O_EXCL also so that a file that is there is not opened: to close it
        # again would take away the locks that this process has on it
        # (sqlite.org/howtocorrupt.html, 2.2).
        with contextlib.suppress(OSError):  # connecting says it better
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        with self._database.connect() as connection:
            # Readers do not wait for the writer then; kept in the file.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    def _make_tables(self) -> None:
        with self._database.begin() as connection:
            schema.make_tables(connection)

    def check(self) -> list[str]:
        if self._is_sqlite:
            check.check_file(self._name, Path(str(self._url.database)))
        with self._database.begin() as connection:
            check.check_server(self._name, connection)
            versions = schema.versions(connection)
            warnings = check.check_versions(self._name, versions)
            check.check_prepared(self._name, connection, versions)
            packet = check.largest_packet(connection)
            self._largest = packet and packet - _STATEMENT
            warnings += check.check_encoding(self._name, connection)
            if check.has_clock(connection):
                warnings += self.compare_clocks(
                    lambda: check.read_clock(connection)
                )
            check.check_tables(connection, self._statements)
            # All of it. Galera sends the other nodes what was inserted before
            # a savepoint that it then goes back to, if anything is committed
            # after two of them.
            connection.rollback()
        return warnings

    def note_reindexed(self) -> None:
        with self._database.begin() as connection:
            if schema.OLDER & schema.versions(connection):
                schema.add_version(connection, schema.REINDEXED)

    def close(self) -> None:
        self._database.close()


def _piece_row(piece: Piece) -> Row:
    return (
        piece.base_id,
        piece.digest,
        piece.summary.to_text(),
        zlib.compress(piece.text.encode("ascii"), _COMPRESSION),
    )


def _without_deadlock(action: Callable[[], T]) -> T:
    """Do what other writers may stand in the way of, until it succeeds."""
    for pause in retry.pauses(deadline.LONGEST_CALL, last=_PAUSE):
        try:
            return action()
        except errors.Deadlock as error:
            latest = error
            time.sleep(pause)
    raise latest


def _with_others(action: Callable[[], None]) -> None:
    """Do what others may be doing, and undoing for us, at this moment."""
    for pause in retry.pauses(_PREPARATION, last=_PAUSE):
        try:
            return action()
        except exceptions.StorageMisconfigured:
            raise
        except exceptions.StorageError as error:
            latest = error
            time.sleep(pause)
    raise latest
