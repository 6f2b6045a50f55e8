# SPDX-License-Identifier: Apache-2.0

"""What a database's URL says to its driver."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from profiler_bridge.storage import deadline

# The driver where the scheme names a database only.
_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "postgresql": "postgresql+psycopg",
}
_GREETING = int(deadline.LONGEST_GREETING)
# Seconds that a statement waits for others' locks, so that the server says
# what it waits for before we give up.
_LOCK_WAIT = 10
_DEFAULTS: dict[str, dict[str, Any]] = {
    # None may keep a worker from SIGTERM for long.
    "pysqlite": {"timeout": 3},
    "pymysql": {
        "connect_timeout": _GREETING,
        "read_timeout": int(deadline.LONGEST_SILENCE),
        "write_timeout": int(deadline.LONGEST_SILENCE),
        "init_command": f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT}"
        f", lock_wait_timeout = {_LOCK_WAIT}",
    },
    "psycopg": {
        "connect_timeout": _GREETING,
        # A database in SQL_ASCII would send bytes in place of text.
        "client_encoding": "utf8",
        # PgBouncer's transaction mode gives the next transaction another
        # server connection, which has not what was prepared on this one.
        "prepare_threshold": None,
    },
}


def _whole(text: str) -> int:
    return int(text)


def _whole_or_none(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


# What drivers do not take as a text, as which it stands in a URL.
_TYPES: dict[str, dict[str, Callable[[str], object]]] = {
    "pymysql": {
        **dict.fromkeys(
            ("connect_timeout", "read_timeout", "write_timeout"), _whole
        ),
        "max_allowed_packet": _whole,
        **dict.fromkeys(
            (
                *("autocommit", "binary_prefix", "compress", "local_infile"),
                *("ssl_check_hostname", "ssl_disabled", "ssl_verify_cert"),
                *("ssl_verify_identity", "use_unicode"),
            ),
            _yes_or_no,
        ),
    },
    "psycopg": {
        "autocommit": _yes_or_no,
        "connect_timeout": _whole,
        "prepare_threshold": _whole_or_none,
    },
}
_TYPE_NAMES: dict[Callable[[str], object], str] = {
    _whole: "a whole number",
    _whole_or_none: "a whole number, or none",
    _yes_or_no: "true or false",
}
# Options that name a file, or a folder.
_FILES: dict[str, tuple[str, ...]] = {
    "pymysql": ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"),
    "psycopg": ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"),
}


def complete(url: sa.URL) -> sa.URL:
    """The URL that reaches the database, where the given one is too short.

    :raises ValueError: it names no database, and how it would
    """
    if url.get_backend_name() != "sqlite":
        return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise ValueError("sqlite needs the path of a file")
    # Only prepare() makes a file: a report on a mistyped path must not.
    return url.set(
        database="file:" + urllib.parse.quote(url.database),
        query={**url.query, "mode": "rw", "uri": "true"},
    )


def files(driver: str, url: sa.URL) -> list[tuple[str, str]]:
    """The options of a URL that name files, each with its file's path."""
    return [
        (option, str(url.query[option]))
        for option in _FILES.get(driver, ())
        if url.query.get(option, "system") != "system"
    ]


def split(driver: str, url: sa.URL) -> tuple[dict[str, Any], sa.URL]:
    """Take out of a URL what its driver wants as no text.

    :returns: options for the driver, those that the URL leaves to us among
        them, and the URL without them
    :raises ValueError: an option is of the wrong type
    """
    options: dict[str, Any] = {}
    query = dict(url.query)
    for option, convert in _TYPES.get(driver, {}).items():
        if option in query:
            value = query.pop(option)
            try:
                options[option] = convert(str(value))
            except ValueError:
                raise ValueError(
                    f"{option} is {_TYPE_NAMES[convert]}, not {value!r}"
                ) from None
    if driver == "pymysql":
        _join_tls(options, query)
    for option, default in _DEFAULTS[driver].items():
        if option not in query:
            options.setdefault(option, default)
    if "autocommit" in options:
        options["autocommit"] = False  # transactions are begun and ended here
    return options, url.set(query=query)


def _join_tls(options: dict[str, Any], query: dict[str, Any]) -> None:
    """Hand PyMySQL its TLS options all in one way.

    It forgets those that SQLAlchemy gives it in a dictionary where there are
    others, such as ssl_verify_cert, beside it.
    """
    tls: dict[str, Any] = {
        option.removeprefix("ssl_"): query.pop(option)
        for option in (*_FILES["pymysql"], "ssl_cipher", "ssl_key_password")
        if option in query
    }
    if "key_password" in tls:
        tls["password"] = tls.pop("key_password")
    if "ssl_check_hostname" in options:
        tls["check_hostname"] = options.pop("ssl_check_hostname")
    if "ssl_verify_cert" in options:
        tls["verify_mode"] = options.pop("ssl_verify_cert")
        if not tls["verify_mode"]:
            tls["check_hostname"] = False
    if "ssl_verify_identity" in options:
        tls["check_hostname"] = options.pop("ssl_verify_identity")
        if tls["check_hostname"]:
            tls["verify_mode"] = True
    if tls:
        options["ssl"] = tls
