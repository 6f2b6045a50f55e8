# SPDX-License-Identifier: Apache-2.0

"""Whether a database can be used: what stands there, and the user's rights.

Each function looks at one thing, and writes nothing. ``name`` is the
storage's, for what is said of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage.sql import errors, schema
from profiler_bridge.storage.sql.statements import Statements

# A week in which nothing happens.
_NEVER = -(2**31)

# How to ask for the time, in seconds since 1970. SQLite has this host's.
_MYSQL_CLOCK = (
    "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"
)
_CLOCKS = {
    **dict.fromkeys(schema.MYSQL, _MYSQL_CLOCK),
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
}


def check_file(name: str, path: Path) -> None:
    """Look whether there is SQLite's file.

    :raises StorageNotPrepared: there is none, and it can be made
    """
    if not path.exists() and os.access(path.parent, os.W_OK | os.X_OK):
        raise exceptions.StorageNotPrepared(
            f"{name} is no file yet: profiler-bridge makes it when it starts"
        )


def check_server(name: str, connection: sa.Connection) -> None:
    """Look what MySQL or MariaDB can do.

    Servers from before JSON are refused: they have been out of support for
    years, and nobody tests against them.

    :raises StorageMisconfigured: it is too old
    """
    dialect: Any = connection.dialect
    if dialect.name not in schema.MYSQL:
        return
    server, oldest = (
        ("MariaDB", (10, 2)) if dialect.is_mariadb else ("MySQL", (5, 7, 8))
    )
    version = dialect.server_version_info or ()
    if tuple(version) < oldest:
        raise exceptions.StorageMisconfigured(
            f"{name} is {server} {'.'.join(map(str, version))}, without JSON"
            " support: use MariaDB 10.2, MySQL 5.7.8 or later"
        )


def check_versions(name: str, versions: Collection[str]) -> list[str]:
    """Look whether this release works with what is stored.

    :param versions: what :func:`schema.versions` gave
    :returns: a warning of what an older release stored
    :raises StorageMisconfigured: a newer release has stored something
    """
    if newer := {*versions} - schema.KNOWN:
        raise exceptions.StorageMisconfigured(
            f"{name} has schema version {max(newer)}, this release works with"
            f" {schema.CURRENT}"
        )
    if schema.OLDER & {*versions} and schema.REINDEXED not in versions:
        return [
            f"{name} has traces of an older release: run"
            " 'profiler-bridge-manage reindex' once, so that all filters find"
            " them, and those that went on being written since"
        ]
    return []


def check_prepared(
    name: str, connection: sa.Connection, versions: Collection[str]
) -> None:
    """Look whether there are this release's tables.

    :raises StorageNotPrepared: there are not, and the user may make them
    :raises StorageMisconfigured: there are not, and the user may not
    """
    if schema.CURRENT in versions:
        return
    _check_rights_on_tables_to_come(name, connection)
    raise exceptions.StorageNotPrepared(
        f"{name} has the tables of an older release: profiler-bridge adds the"
        " new ones when it starts"
        if schema.OLDER & {*versions}
        else f"{name} has no tables yet: profiler-bridge makes them when it"
        " starts"
    )


def _check_rights_on_tables_to_come(
    name: str, connection: sa.Connection
) -> None:
    if connection.dialect.name == "postgresql":
        # Who makes the tables owns them.
        if not connection.exec_driver_sql(
            "SELECT has_schema_privilege(current_schema(), 'CREATE')"
        ).scalar_one():
            raise exceptions.StorageMisconfigured(
                f"{name}: no right to make tables: {errors.RIGHTS}"
            )
    elif connection.dialect.name != "sqlite":
        # Some may be there, and rights may be given for each by itself.
        for statement in (
            statement
            for table in map(str, schema.METADATA.sorted_tables)
            for statement in (
                f"CREATE TABLE IF NOT EXISTS {table} (id INT)",
                f"SELECT * FROM {table}",  # noqa: S608 - ours
                f"INSERT INTO {table} SELECT * FROM {table}",  # noqa: S608
            )
        ):
            # Rights are looked at now, ahead of whether the table exists.
            try:
                connection.exec_driver_sql(
                    f"PREPARE bridge_check FROM '{statement}'"
                )
            except sa.exc.ProgrammingError as error:
                if not errors.is_no_such_table(error):
                    raise


def check_tables(connection: sa.Connection, statements: Statements) -> None:
    """Select from each table, and insert into it.

    The connection's transaction must be rolled back.

    :raises sqlalchemy.exc.DBAPIError: there is no table, or no right
    """
    for table in schema.METADATA.sorted_tables:
        connection.execute(sa.select(table).limit(1)).all()
    # Others may be trying the same, so it is nobody's trace, name and lease:
    # of three who insert the same and roll back two are in a deadlock.
    nobody = uuid.uuid4()
    base_id = str(nobody)
    statements.add(
        connection,
        {
            schema.PIECES: [(base_id, 0, "", b"")],
            schema.MARKS: [(base_id, 0, 0)],
            schema.INDEX: [(0, 0, base_id)],
            schema.NAMES: [(_NEVER, nobody.int >> 65, "")],
        },
    )
    statements.insert_lease(connection, (base_id, 0, 0, base_id, 0))


def check_encoding(name: str, connection: sa.Connection) -> list[str]:
    """Look whether other programs read PostgreSQL's texts rightly.

    :returns: a warning, if they may not
    """
    if connection.dialect.name != "postgresql":
        return []
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding == "UTF8":
        return []
    return [
        f"{name}: the database's encoding is {encoding}: what the bridge"
        " stores is ASCII and safe there, but other programs may read the"
        " rest wrongly: better make the database with ENCODING 'UTF8'"
    ]


def has_clock(connection: sa.Connection) -> bool:
    """Whether the time that the database has is not this host's."""
    return connection.dialect.name in _CLOCKS


def read_clock(connection: sa.Connection) -> float:
    """The database's time, in seconds since 1970."""
    clock = _CLOCKS[connection.dialect.name]
    return float(connection.exec_driver_sql(clock).scalar_one())


def largest_packet(connection: sa.Connection) -> int | None:
    """How many bytes of one statement the server takes; None for any.

    What is larger MySQL and MariaDB answer by closing the connection.
    """
    if connection.dialect.name not in schema.MYSQL:
        return None
    size: int = connection.exec_driver_sql(
        "SELECT @@max_allowed_packet"
    ).scalar_one()
    return size
