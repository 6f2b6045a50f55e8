# SPDX-License-Identifier: Apache-2.0

"""The tables, and which release made them.

What is stored has versions, one row each in ``bridge_version``. Rows are only
added, because the bridge's user may not change any: a new release makes the
tables that it needs beside the old ones, and adds its version.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

#: Release 0.1: pieces and index, without marks.
FIRST = "0001"
#: Before releases, with marks, without finishes and names.
SECOND = "0002"
#: This release.
CURRENT = "0003"
#: All traces that others wrote before have what this release writes.
REINDEXED = "0003-reindexed"
#: Those of which it is not so until then.
OLDER = frozenset({FIRST, SECOND})
KNOWN = OLDER | {f"{SECOND}-reindexed", CURRENT, REINDEXED}

#: What SQLAlchemy calls the dialects of MySQL and MariaDB.
MYSQL = ("mysql", "mariadb")

# Everything stored is ASCII, compared byte for byte: the same order and the
# same equality in every database, whatever its character set. In MySQL and
# MariaDB the collation implies the character set, and the length a LONGTEXT
# or LONGBLOB: so no database's types are imported here, only to be left.
_COLLATION = "ascii_bin"
_LONG = 2**32 - 1
_BaseId = (
    sa.String(36)
    .with_variant(sa.String(36, _COLLATION), *MYSQL)
    .with_variant(sa.String(36, "C"), "postgresql")
)
_Ascii = sa.Text().with_variant(sa.Text(_LONG, _COLLATION), *MYSQL)
_Blob = sa.LargeBinary().with_variant(sa.LargeBinary(_LONG), *MYSQL)

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
MARKS = sa.Table(
    "bridge_marks",
    METADATA,
    sa.Column("base_id", _BaseId, primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, primary_key=True, autoincrement=False),
    # Its primary key is all that there is in it.
    sqlite_with_rowid=False,
)
INDEX = sa.Table(
    "bridge_index",
    METADATA,
    # A digest of the term: services have names of any length and script.
    sa.Column("term", sa.BigInteger, primary_key=True, autoincrement=False),
    # Where the trace stands: when it started, but for the term of durations.
    sa.Column("started", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("base_id", _BaseId, primary_key=True),
)
NAMES = sa.Table(
    "bridge_names",
    METADATA,
    sa.Column("week", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("term", sa.BigInteger, primary_key=True, autoincrement=False),
    # As JSON, so ASCII.
    sa.Column("name", _Ascii, nullable=False),
)
LEASES = sa.Table(
    "bridge_leases",
    METADATA,
    sa.Column(
        "task",
        sa.String(128)
        .with_variant(sa.String(128, _COLLATION), *MYSQL)
        .with_variant(sa.String(128, "C"), "postgresql"),
        primary_key=True,
    ),
    sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("holder", _BaseId, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
)
VERSION = sa.Table(
    "bridge_version",
    METADATA,
    sa.Column("version_num", sa.String(32), primary_key=True),
)


def insert_if_new(table: sa.Table, dialect: str) -> sa.Insert:
    """An INSERT that leaves a row that is there as it is.

    It needs no right but INSERT. In MySQL, IGNORE would also cut values that
    are too long; none are: ids are checked, the rest is unbounded.

    :param dialect: SQLAlchemy's name of it
    """
    # Each is imported by whoever uses its database, and by nobody else.
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).on_conflict_do_nothing()
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table).on_conflict_do_nothing()
    return sa.insert(table).prefix_with("IGNORE")


def versions(connection: sa.Connection) -> set[str]:
    """What was made or done here; empty where there are no tables yet."""
    if not sa.inspect(connection).has_table(VERSION.name):
        return set()
    return {*connection.scalars(sa.select(VERSION.c.version_num))}


def make_tables(connection: sa.Connection) -> None:
    """Make the tables that are not there, and add this release's version.

    Several processes may do this at once; then one may fail, and has to try
    again. In MySQL and MariaDB what it had made so far stays.
    """
    for table in METADATA.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
    add_version(connection, CURRENT)


def add_version(connection: sa.Connection, version: str) -> None:
    """Note that something was made or done here; nothing if it is noted."""
    connection.execute(
        insert_if_new(VERSION, connection.dialect.name),
        {"version_num": version},
    )
