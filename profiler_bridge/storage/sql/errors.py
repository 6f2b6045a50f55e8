# SPDX-License-Identifier: Apache-2.0

"""What databases' errors mean, whichever client brings them.

Codes are MySQL's error numbers, PostgreSQL's SQLSTATEs and SQLite's error
names. While it connects psycopg gives no SQLSTATE, so there the text has to
do.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import NoReturn

import sqlalchemy as sa

from profiler_bridge import exceptions


class Deadlock(exceptions.StorageUnavailable):
    """Two writers waited for each other, and this one gave way.

    Galera says the same at COMMIT, of writers on two nodes.
    """


# And those who waited too long for another's lock.
_DEADLOCKS = frozenset({1213, 1205, "40P01", "40001", "55P03"})
# A packet too large, a trigger that objects, a value too large.
_REFUSALS = frozenset({1153, 1644, "P0001", "SQLITE_TOOBIG"})
# PostgreSQL: data exception, integrity violation, program limit exceeded.
_REFUSAL_CLASSES = ("22", "23", "54")
NO_SUCH_TABLE = 1146
RIGHTS = "the user needs CREATE, SELECT and INSERT, and DELETE for purging"
_ADVICE: tuple[tuple[frozenset[object], str], ...] = (
    (
        frozenset(
            {
                *(1045, 1698, "28P01", "28000"),
                re.compile("password authentication failed"),
                re.compile('role ".*" does not exist'),
                re.compile("no password supplied"),
                re.compile("no such user"),  # PgBouncer
                re.compile("invalid connection option"),
                re.compile("invalid .*value"),
                re.compile("definition of service"),
            }
        ),
        "check the connection string, its user and its password",
    ),
    (
        frozenset(
            {
                *(1044, 1046, 1049, "3D000"),
                re.compile('database ".*" does not exist'),
                re.compile("no such database"),  # PgBouncer
            }
        ),
        "create the database and give its user rights on it",
    ),
    (
        frozenset({1142, 1143, 1227, "42501"}),
        RIGHTS,
    ),
    (
        frozenset({NO_SUCH_TABLE, "42P01", re.compile("no such table")}),
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
    (
        frozenset({re.compile("in statement pooling mode")}),
        "there are no transactions in this mode of PgBouncer: set pool_mode"
        " to transaction or session",
    ),
)


def translate(
    name: str, error: sa.exc.DBAPIError, scrub: Callable[[str], str]
) -> NoReturn:
    """Raise ours in place of a client's.

    :param name: the storage's, without its password
    :param scrub: takes parts of passwords out of a client's words
    :raises WriteRefused: for what is written, not for the database's sake
    :raises StorageMisconfigured: somebody has to change something first
    :raises Deadlock: the same may be tried at once
    :raises StorageUnavailable: it may succeed later
    """
    what = scrub(line(error.orig))
    code = _code(error.orig)
    if code in _DEADLOCKS:
        raise Deadlock(f"{name}: {what}") from error
    if _is_refusal(error):
        raise exceptions.WriteRefused(what) from error
    for known, advice in _ADVICE:
        if code in known or any(
            isinstance(pattern, re.Pattern) and pattern.search(what)
            for pattern in known
        ):
            raise exceptions.StorageMisconfigured(
                f"{name}: {what}: {advice}"
            ) from error
    raise exceptions.StorageUnavailable(f"{name}: {what}") from error


def connection_is_good(error: sa.exc.DBAPIError) -> bool:
    """Whether the same connection may succeed with something else, or later.

    Only where that is known. Otherwise the server at its other end may be the
    trouble: one that is read-only since another took over its address (1290,
    1792 and 1836, or 25006), that is cut off from its cluster (1047), or that
    is about to end. Then a new connection may reach a better one.
    """
    code = _code(error.orig)
    return code in _DEADLOCKS or code == NO_SUCH_TABLE or _is_refusal(error)


def is_no_such_table(error: sa.exc.DBAPIError) -> bool:
    return _code(error.orig) == NO_SUCH_TABLE


def line(error: BaseException | None) -> str:
    """A client's error in one line, and without its code."""
    if error is None:
        return "unknown error"
    text = str(error.args[-1] if error.args else error)
    return (text.splitlines() or [type(error).__name__])[0]


def _is_refusal(error: sa.exc.DBAPIError) -> bool:
    code = _code(error.orig)
    return (
        isinstance(error, sa.exc.DataError | sa.exc.IntegrityError)
        or code in _REFUSALS
        or (isinstance(code, str) and code[:2] in _REFUSAL_CLASSES)
    )


def _code(error: BaseException | None) -> object:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", None)
    sqlstate = getattr(error, "sqlstate", None)
    number = error.args[0] if error is not None and error.args else None
    return number if isinstance(number, int) else sqlstate
