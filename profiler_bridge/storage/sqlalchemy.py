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

"""Storage in a database that SQLAlchemy supports.

The bridge's user may only create tables, select and insert. So rows are
written once and never changed, and what several writers say of one trace
stands in several rows (see :mod:`profiler_bridge.query`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import sqlite3
import threading
import time
import urllib.parse
import uuid
import zlib
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification, is_id
from profiler_bridge.query import PartialSummary, index_terms
from profiler_bridge.storage import osprofiler_table
from profiler_bridge.storage.base import Piece, Position, Storage

SCHEMA_VERSION = "0001"
VERSION_TABLE = "bridge_version"

# Everything stored is ASCII, compared byte for byte: the same order and the
# same equality in every database, whatever its character set.
_ASCII = {"charset": "ascii", "collation": "ascii_bin"}
_BaseId = (
    sa.String(36)
    .with_variant(mysql.VARCHAR(36, **_ASCII), "mysql", "mariadb")
    .with_variant(sa.String(36, collation="C"), "postgresql")
)
_Ascii = sa.Text().with_variant(mysql.LONGTEXT(**_ASCII), "mysql", "mariadb")
_Blob = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")

METADATA = sa.MetaData()
PIECES = sa.Table(
    "bridge_pieces",
    METADATA,
    sa.Column("base_id", _BaseId, primary_key=True),
    sa.Column("digest", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("summary", _Ascii, nullable=False),
    # Their JSON, one a line, compressed with zlib.
    sa.Column("notifications", _Blob, nullable=False),
)
INDEX = sa.Table(
    "bridge_index",
    METADATA,
    # A digest of the term: services have names of any length and script.
    sa.Column("term", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("started", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("base_id", _BaseId, primary_key=True),
)

# The driver where the scheme names a database only.
_DEFAULT_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "postgresql": "postgresql+psycopg",
}
# Databases differ in how many parameters one statement takes; SQLite's least
# was 999.
_CHUNK = 500
# A server that hangs is away. None may keep a worker from SIGTERM for long
# while it only waits for another writer of SQLite. Seconds; libpq's last one
# milliseconds.
_TIMEOUTS: dict[str, dict[str, int]] = {
    "sqlite": {"timeout": 3},
    "mysql": {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60},
    "mariadb": {
        "connect_timeout": 10,
        "read_timeout": 60,
        "write_timeout": 60,
    },
    "postgresql": {"connect_timeout": 10, "tcp_user_timeout": 60_000},
}
# alembic keeps what it works on in a module.
_ALEMBIC = threading.Lock()
# Most of the gain for a third of the time that zlib takes by default.
_COMPRESSION = 1
# What a statement of one row needs beside that, generously.
_STATEMENT = 2048
_DEADLOCK_TRIES = 10


class SQLAlchemyStorage(Storage):
    """SQLite, MySQL, MariaDB or PostgreSQL.

    :param connection_string: a SQLAlchemy database URL
    :raises ConfigurationError: the URL or its driver cannot be used
    """

    def __init__(self, connection_string: str) -> None:
        try:
            self._url = sa.make_url(connection_string)
            url = _engine_url(self._url)
            self._engine = sa.create_engine(
                url,
                pool_pre_ping=True,
                connect_args=_TIMEOUTS[url.get_backend_name()],
            )
        except ModuleNotFoundError as error:
            raise exceptions.ConfigurationError(
                f"the database driver {error.name} is not installed; for"
                " PostgreSQL: pip install 'profiler_bridge[postgresql]'"
            ) from None
        except (sa.exc.ArgumentError, ValueError, TypeError) as error:
            raise exceptions.ConfigurationError(
                f"the connection string cannot be used: {_line(error)}"
            ) from None
        self._dialect = self._engine.dialect.name
        self._largest: int | None = None
        self._insert = {
            table: self._insert_if_new(table) for table in (PIECES, INDEX)
        }

    def _insert_if_new(self, table: sa.Table) -> sa.Insert:
        """An INSERT that leaves a row that is there as it is.

        It needs no right but INSERT. In MySQL, IGNORE would also cut values
        that are too long; none are: ids are checked, the rest is unbounded.
        """
        if self._dialect == "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        if self._dialect == "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        return sa.insert(table).prefix_with("IGNORE")

    def insert(self, pieces: Sequence[Piece]) -> Collection[bytes]:
        rows = [
            {
                "base_id": piece.base_id,
                "digest": _number(piece.digest),
                "summary": piece.summary.to_text(),
                "notifications": zlib.compress(
                    piece.text.encode("ascii"), _COMPRESSION
                ),
            }
            for piece in pieces
        ]
        self._refuse_too_large(rows)
        known = self._known(pieces)
        self._store(PIECES, rows)
        return known

    def _refuse_too_large(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Refuse what MySQL would answer by closing the connection."""
        for row in rows:
            blob = row["notifications"]
            size = len(row["summary"]) + len(blob)
            # Most are so small that nobody has to count what is escaped.
            if self._largest is not None and 2 * size > self._largest:
                size += sum(blob.count(byte) for byte in b"\0\n\r\x1a\"'\\")
                if size > self._largest:
                    raise exceptions.WriteRefused(
                        "the payload exceeds max_allowed_packet"
                    )

    def _known(self, pieces: Sequence[Piece]) -> set[bytes]:
        """The digests of those pieces that are stored."""
        digests: set[bytes] = set()
        with self._begin() as connection:
            for chunk in _chunks(pieces):
                found = connection.scalars(
                    sa.select(PIECES.c.digest).where(
                        PIECES.c.base_id.in_({each.base_id for each in chunk}),
                        PIECES.c.digest.in_(
                            [_number(each.digest) for each in chunk]
                        ),
                    )
                )
                digests.update(map(_digest_of, found))
        return digests

    def add_to_index(self, entries: Mapping[str, Sequence[Position]]) -> None:
        rows = sorted(
            (_number(_digest(term)), *position)
            for term, positions in entries.items()
            for position in positions
        )
        names = INDEX.columns.keys()
        self._store(INDEX, [dict(zip(names, r, strict=True)) for r in rows])

    def _store(self, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        for tries_left in reversed(range(_DEADLOCK_TRIES)):
            try:
                with self._begin() as connection:
                    connection.execute(self._insert[table], rows)
                return
            except _Deadlock:
                if not tries_left:
                    raise
                time.sleep(random.uniform(0.01, 0.1))  # noqa: S311

    def notifications(self, base_id: str) -> list[Notification]:
        if not is_id(base_id):
            return []  # some databases take a NUL amiss, some ignore a space
        with self._begin() as connection:
            pieces = connection.scalars(
                sa.select(PIECES.c.notifications).where(
                    PIECES.c.base_id == base_id
                )
            ).all()
        # What was delivered twice can be in two pieces.
        texts = {
            text: None
            for piece in pieces
            for text in zlib.decompress(piece).decode("ascii").split("\n")
        }
        return [Notification.from_text(text) for text in texts]

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[bytes, PartialSummary]]:
        found: dict[str, dict[bytes, PartialSummary]] = {}
        with self._begin() as connection:
            for chunk in _chunks(filter(is_id, base_ids)):
                rows = connection.execute(
                    sa.select(
                        PIECES.c.base_id, PIECES.c.digest, PIECES.c.summary
                    ).where(PIECES.c.base_id.in_(chunk))
                )
                for base_id, digest, text in rows:
                    found.setdefault(base_id, {})[_digest_of(digest)] = (
                        PartialSummary.from_text(text)
                    )
        return found

    def index(
        self, term: str, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        statement = (
            sa.select(INDEX.c.started, INDEX.c.base_id)
            .where(INDEX.c.term == _number(_digest(term)))
            .order_by(INDEX.c.started.desc(), INDEX.c.base_id.desc())
            .limit(count)
        )
        if before is not None:
            # Written out, for not every database uses an index for a
            # comparison of tuples.
            statement = statement.where(
                INDEX.c.started <= before.started,
                sa.or_(
                    INDEX.c.started < before.started,
                    INDEX.c.base_id < before.base_id,
                ),
            )
        if since is not None:
            statement = statement.where(INDEX.c.started >= since)
        with self._begin() as connection:
            return [Position(*row) for row in connection.execute(statement)]

    def delete(
        self, base_id: str, partials: Collection[PartialSummary]
    ) -> None:
        # The index has no rows by base_id: name every one there can be.
        starts = {piece.started for piece in partials}
        terms = [_number(_digest(each)) for each in index_terms(partials)]
        with self._begin() as connection:
            connection.execute(
                sa.delete(PIECES).where(PIECES.c.base_id == base_id)
            )
            for chunk in _chunks(starts):
                connection.execute(
                    sa.delete(INDEX).where(
                        INDEX.c.term.in_(terms),
                        INDEX.c.started.in_(chunk),
                        INDEX.c.base_id == base_id,
                    )
                )

    def prepare(self) -> None:
        if self._dialect == "sqlite":
            _again(self._make_file)
        if not self._has_schema():
            _again(self._create_tables)
        self.check()

    def _has_schema(self) -> bool:
        with self._begin() as connection:
            self._check_server(connection)
            return self._schema_version(connection) is not None

    def _make_file(self) -> None:
        """Make the file, for its owner only, where there is none."""
        path = str(self._url.database)
        # O_EXCL also so that a file that is there is not opened: to close it
        # again would take away the locks that this process has on it
        # (sqlite.org/howtocorrupt.html, 2.2).
        with contextlib.suppress(OSError):  # connecting says it better
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        with self._begin() as connection:
            # Readers do not wait for the writer then; kept in the file.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    def _create_tables(self) -> None:
        # It tells everybody about each of its own plugins.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # Imported here, for it is needed once in a database's life.
        import alembic.command
        import alembic.config

        config = alembic.config.Config()
        config.set_main_option(
            "script_location", str(Path(__file__).with_name("migrations"))
        )
        with _ALEMBIC, self._begin() as connection:
            if self._schema_version(connection) is None:
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")

    def check(self) -> list[str]:
        if self._dialect == "sqlite":
            self._check_file()
        with self._begin() as connection:
            self._check_server(connection)
            version = self._schema_version(connection)
            if version is None:
                self._check_rights_on_tables_to_come(connection)
                raise exceptions.StorageNotPrepared(
                    f"{self} has no tables yet: profiler-bridge makes them"
                    " when it starts"
                )
            if version != SCHEMA_VERSION:
                raise exceptions.StorageMisconfigured(
                    f"{self} has schema version {version}, this release works"
                    f" with {SCHEMA_VERSION}"
                )
            for table in METADATA.sorted_tables:
                connection.execute(sa.select(table).limit(1)).all()
            self._try_to_insert(connection)
            if self._dialect not in _CLOCKS:
                return []
            return self.check_clock(
                lambda: float(
                    connection.exec_driver_sql(
                        _CLOCKS[self._dialect]
                    ).scalar_one()
                )
            )

    def _check_file(self) -> None:
        path = Path(str(self._url.database))
        if not path.exists() and os.access(path.parent, os.W_OK | os.X_OK):
            raise exceptions.StorageNotPrepared(
                f"{self} is no file yet: profiler-bridge makes it when it"
                " starts"
            )

    def _check_rights_on_tables_to_come(
        self, connection: sa.Connection
    ) -> None:
        if self._dialect == "postgresql":
            # Who makes the tables owns them.
            if not connection.exec_driver_sql(
                "SELECT has_schema_privilege(current_schema(), 'CREATE')"
            ).scalar_one():
                raise exceptions.StorageMisconfigured(
                    f"{self}: no right to make tables: {_RIGHTS}"
                )
        elif self._dialect != "sqlite":
            for statement in (
                f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (id INT)",
                f"SELECT * FROM {VERSION_TABLE}",  # noqa: S608 - ours
                f"INSERT INTO {VERSION_TABLE} VALUES (1)",  # noqa: S608
            ):
                # Rights are looked at now, ahead of whether the table exists.
                try:
                    connection.exec_driver_sql(
                        f"PREPARE bridge_check FROM '{statement}'"
                    )
                except sa.exc.ProgrammingError as error:
                    if _code(error.orig) != _NO_SUCH_TABLE:
                        raise

    def _try_to_insert(self, connection: sa.Connection) -> None:
        """Insert into each table, and take it back."""
        # Others may be trying the same.
        base_id = str(uuid.uuid4())
        nobody: dict[sa.Table, dict[str, Any]] = {
            PIECES: {"digest": 0, "summary": "", "notifications": b""},
            INDEX: {"term": 0, "started": 0},
        }
        for table, row in nobody.items():
            with connection.begin_nested() as savepoint:
                connection.execute(
                    self._insert[table], row | {"base_id": base_id}
                )
                savepoint.rollback()

    def left_by_osprofiler(self) -> Iterator[tuple[str, list[object]]]:
        with self._begin() as connection:
            if not osprofiler_table.exists(connection):
                raise exceptions.StorageMisconfigured(
                    f"{self} has no table that osprofiler made"
                )
        return osprofiler_table.traces(self._begin)

    def close(self) -> None:
        self._engine.dispose()

    def __str__(self) -> str:
        query = {
            key: "***" if "pass" in key.lower() else value
            for key, value in self._url.query.items()
        }
        return self._url.set(query=query).render_as_string(hide_password=True)

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """A transaction, in which the client's errors become ours."""
        try:
            with self._connect() as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            self._raise(error)
        except sa.exc.SQLAlchemyError as error:
            raise exceptions.StorageMisconfigured(
                f"{self}: {_line(error)}"
            ) from error

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except (AttributeError, TypeError) as error:
            # What clients make of options that they do not know.
            raise exceptions.StorageMisconfigured(
                f"{self}: {_line(error)}: check the connection string"
            ) from error

    def _schema_version(self, connection: sa.Connection) -> str | None:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        version: str | None = connection.scalar(
            sa.select(sa.column("version_num")).select_from(
                sa.table(VERSION_TABLE)
            )
        )
        return version

    def _check_server(self, connection: sa.Connection) -> None:
        """Look what MySQL or MariaDB can do.

        Servers from before JSON are refused: they have been out of support
        for years, and nobody tests against them.
        """
        dialect = connection.dialect
        if not isinstance(dialect, mysql.base.MySQLDialect):
            return
        packet: int = connection.exec_driver_sql(
            "SELECT @@max_allowed_packet"
        ).scalar_one()
        self._largest = packet - _STATEMENT
        name, oldest = (
            ("MariaDB", (10, 2))
            if dialect.is_mariadb
            else ("MySQL", (5, 7, 8))
        )
        version = dialect.server_version_info or ()
        if tuple(version) < oldest:
            raise exceptions.StorageMisconfigured(
                f"{self} is {name} {'.'.join(map(str, version))}, without"
                " JSON support: use MariaDB 10.2, MySQL 5.7.8 or later"
            )

    def _raise(self, error: sa.exc.DBAPIError) -> NoReturn:
        what = _line(error.orig)
        code = _code(error.orig)
        if code in _DEADLOCKS:
            raise _Deadlock(f"{self}: {what}") from error
        if (
            isinstance(error, sa.exc.DataError | sa.exc.IntegrityError)
            or code in _REFUSALS
            or str(code)[:2] in _REFUSAL_CLASSES
        ):
            raise exceptions.WriteRefused(what) from error
        for known, advice in _ADVICE:
            if code in known or any(
                isinstance(each, re.Pattern) and each.search(what)
                for each in known
            ):
                raise exceptions.StorageMisconfigured(
                    f"{self}: {what}: {advice}"
                ) from error
        raise exceptions.StorageUnavailable(f"{self}: {what}") from error


class _Deadlock(exceptions.StorageUnavailable):
    """Two writers waited for each other, and this one gave way."""


# How to ask for the time, in seconds since 1970. SQLite has this host's.
_MYSQL_CLOCK = (
    "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"
)
_CLOCKS = {
    "mysql": _MYSQL_CLOCK,
    "mariadb": _MYSQL_CLOCK,
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
}

# MySQL's error numbers, PostgreSQL's SQLSTATEs, SQLite's error names. While
# it connects psycopg gives no SQLSTATE, so there the text has to do.
_DEADLOCKS = frozenset({1213, 1205, "40P01", "40001"})
# A packet too large, a trigger that objects, a value too large.
_REFUSALS = frozenset({1153, 1644, "P0001", "SQLITE_TOOBIG"})
# PostgreSQL: data exception, integrity violation, program limit exceeded.
_REFUSAL_CLASSES = ("22", "23", "54")
_NO_SUCH_TABLE = 1146
_RIGHTS = "the user needs CREATE, SELECT and INSERT, and DELETE for purging"
_ADVICE: tuple[tuple[frozenset[object], str], ...] = (
    (
        frozenset(
            {
                *(1045, 1698, "28P01", "28000"),
                re.compile("password authentication failed"),
                re.compile('role ".*" does not exist'),
                re.compile("no password supplied"),
                re.compile("invalid connection option"),
            }
        ),
        "check the connection string, its user and its password",
    ),
    (
        frozenset(
            {
                *(1044, 1046, 1049, "3D000"),
                re.compile('database ".*" does not exist'),
            }
        ),
        "create the database and give its user rights on it",
    ),
    (
        frozenset({1142, 1143, 1227, "42501"}),
        _RIGHTS,
    ),
    (
        frozenset({_NO_SUCH_TABLE, "42P01", re.compile("no such table")}),
        "profiler-bridge makes the tables when it starts",
    ),
    (
        frozenset(
            {
                *("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM"),
                "SQLITE_NOTADB",
            }
        ),
        "check that the path is right, and the file readable and writable",
    ),
)


def _again(action: Callable[[], None]) -> None:
    """Do what others may be doing, and undoing for us, at this moment."""
    for tries_left in reversed(range(_DEADLOCK_TRIES)):
        try:
            return action()
        except exceptions.StorageMisconfigured:
            raise
        except exceptions.StorageError:
            if not tries_left:
                raise
            time.sleep(random.uniform(0.05, 0.2))  # noqa: S311
    return None


def _engine_url(url: sa.URL) -> sa.URL:
    """The URL that reaches the database, where the given one is too short."""
    if "@" in (url.host or ""):
        # It is a part of the password: do not show it.
        raise ValueError("write %40 for @ in user and password")
    if url.get_backend_name() != "sqlite":
        return url.set(
            drivername=_DEFAULT_DRIVERS.get(url.drivername, url.drivername)
        )
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise ValueError("sqlite needs the path of a file")
    # Only prepare() makes a file: a report on a mistyped path must not.
    return url.set(
        database="file:" + urllib.parse.quote(url.database),
        query={**url.query, "mode": "rw", "uri": "true"},
    )


def _code(error: BaseException | None) -> object:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", None)
    sqlstate = getattr(error, "sqlstate", None)
    number = error.args[0] if error is not None and error.args else None
    return number if isinstance(number, int) else sqlstate


def _line(error: BaseException | None) -> str:
    """A client's error in one line, and without its code."""
    if error is None:
        return "unknown error"
    text = str(error.args[-1] if error.args else error)
    return (text.splitlines() or [type(error).__name__])[0]


def _digest(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return blake2b(encoded, digest_size=8).digest()


def _number(digest: bytes) -> int:
    """A digest as a BIGINT."""
    return int.from_bytes(digest, "big", signed=True)


def _digest_of(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    rest = list(values)
    for at in range(0, len(rest), _CHUNK):
        yield rest[at : at + _CHUNK]
