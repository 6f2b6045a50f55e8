# SPDX-License-Identifier: Apache-2.0

"""How databases are reached: bounds, and when to connect anew."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline
from profiler_bridge.storage.sql import errors, options, pymysql, schema

# How a transaction is begun, where the client does not do it itself.
#
# Each of our statements names keys of a primary key. While PostgreSQL does not
# know how many rows a trace has, as in the first minute, it takes a list of
# keys for most of a table, and reads all of it. That is set here and not once
# for a connection, because the next transaction may be at another server
# connection of a pooler. And Pgpool-II has a transaction at the primary only
# after something in it that is no SELECT.
_BEGIN = {
    **dict.fromkeys(schema.MYSQL, ("BEGIN",)),
    "postgresql": ("BEGIN", "SET LOCAL enable_seqscan = off"),
}


@contextlib.contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """A transaction, committed at the end unless there was an error.

    It is begun in so many words: proxies that send reads to replicas have
    such a transaction where writes go. One that is begun without a word, as
    MySQL's clients do, not all of them see, and a statement alone may read
    what a replica had some seconds ago.
    """
    with connection.begin():
        for statement in _BEGIN.get(connection.dialect.name, ()):
            connection.exec_driver_sql(statement)
        yield


class Database:
    """A database, and its pool of connections.

    :param url: as it is configured
    :param name: the same, without passwords
    :param scrub: takes parts of passwords out of a client's words
    :raises ValueError: it cannot be used, and why
    :raises ModuleNotFoundError: its driver is not installed
    """

    def __init__(
        self, url: sa.URL, name: str, scrub: Callable[[str], str]
    ) -> None:
        self._name = name
        self._scrub = scrub
        url = options.complete(url)
        self._driver = url.get_dialect().driver
        self._files = options.files(self._driver, url)
        typed, url = options.split(self._driver, url)
        self._engine = sa.create_engine(
            url,
            connect_args=typed,
            # Rows are tuples, not dictionaries.
            paramstyle="format" if self._driver == "pymysql" else None,
            # Of so many threads as there are no connections for, each.
            pool_timeout=deadline.LONGEST_GREETING,
            # connect() ends every transaction itself; to have PyMySQL say
            # ROLLBACK once more would be a round trip for nothing.
            pool_reset_on_return=None,
        )
        self.dialect = self._engine.dialect
        # The call that each thread is at.
        self._thread = threading.local()
        if self.dialect.name != "sqlite":
            listen = sa.event.listen
            listen(self._engine, "do_connect", self._do_connect)
            listen(self._engine, "checkout", self._on_checkout)
            listen(self._engine, "handle_error", _on_error)

    @contextlib.contextmanager
    def connect(self, streaming: bool = False) -> Iterator[sa.Connection]:
        """A connection, on which the client's errors become ours.

        In PostgreSQL each statement is committed by itself. Elsewhere what is
        not committed when the connection ends is rolled back. Reads need a
        :func:`transaction`.

        :param streaming: it may take long, as long as bytes come; others end
            after :data:`deadline.LONGEST_CALL`
        """
        call = self._thread.call = _Call(streaming, self._interrupt)
        try:
            with (
                contextlib.nullcontext() if streaming else call,
                self._connect() as connection,
            ):
                yield connection
        except Exception as error:
            if call.passed:
                raise self._no_answer() from error
            if isinstance(error, sa.exc.DBAPIError):
                errors.translate(self._name, error, self._scrub)
            if isinstance(error, sa.exc.TimeoutError):
                # Its pool's: no server has said or heard anything.
                raise exceptions.StorageUnavailable(
                    f"{self._name}: all connections of this process are in"
                    " use: have fewer threads in it, and more processes"
                ) from error
            if isinstance(error, sa.exc.SQLAlchemyError):
                raise exceptions.StorageMisconfigured(
                    f"{self._name}: {self._line(error)}"
                ) from error
            raise
        finally:
            self._thread.call = None

    @contextlib.contextmanager
    def begin(self, streaming: bool = False) -> Iterator[sa.Connection]:
        """The same, with a transaction for all that is done with it."""
        with self.connect(streaming) as connection, transaction(connection):
            yield connection

    def _no_answer(self) -> exceptions.StorageUnavailable:
        return exceptions.StorageUnavailable(
            f"{self._name}: no answer within {deadline.LONGEST_CALL:g} s"
        )

    def _line(self, error: BaseException) -> str:
        return self._scrub(errors.line(error))

    def close(self) -> None:
        """Let go of connections."""
        self._engine.dispose()

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except (
            AttributeError,
            NotImplementedError,
            TypeError,
            ValueError,
        ) as error:
            # What clients make of options that they do not know, or of a
            # server that speaks another protocol.
            raise exceptions.StorageMisconfigured(
                f"{self._name}: {self._line(error)}: check the connection"
                " string"
            ) from error

    def _do_connect(
        self,
        dialect: sa.Dialect,
        record: object,
        arguments: Any,
        settings: dict[str, Any],
    ) -> Any:
        """Connect in SQLAlchemy's place, within a bound."""
        for option, path in self._files:
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError as error:
                raise exceptions.StorageMisconfigured(
                    f"{self._name}: {option} {path}: {error.strerror}"
                ) from error
        if self._driver == "psycopg":
            # Imported here, for psycopg need not be installed.
            from profiler_bridge.storage.sql import psycopg

            # Each of several hosts, which are tried in turn, has its share.
            hosts = str(settings.get("host", "")).count(",") + 1
            share = max(2, settings["connect_timeout"] // hosts)
            # The settings are those of the next connection, too.
            return psycopg.connect(
                *arguments, **settings | {"connect_timeout": share}
            )
        return self._connect_pymysql(dialect, arguments, settings)

    def _connect_pymysql(
        self, dialect: sa.Dialect, arguments: Any, settings: dict[str, Any]
    ) -> Any:
        try:
            connection = dialect.loaded_dbapi.connect(
                *arguments, **settings, defer_connect=True
            )
        except OSError as error:  # it loads certificates
            names = ", ".join(option for option, _ in self._files)
            raise exceptions.StorageMisconfigured(
                f"{self._name}: {names}: {self._line(error)}"
            ) from error
        self._use(connection)
        greeting = deadline.within(
            settings["connect_timeout"], lambda: self._interrupt(connection)
        )
        try:
            with greeting:
                connection.connect()
                pymysql.set_up(connection)
        except Exception as error:
            if greeting.passed:
                raise exceptions.StorageUnavailable(
                    f"{self._name}: no greeting within"
                    f" {settings['connect_timeout']} s from what listens"
                    " there: is it MySQL or MariaDB?"
                ) from error
            if isinstance(error, struct.error | IndexError):
                raise exceptions.StorageUnavailable(
                    f"{self._name}: what listens there does not speak as MySQL"
                    " or MariaDB do"
                ) from error
            raise
        return connection

    def _on_checkout(
        self, connection: Any, record: Any, _proxy: object
    ) -> None:
        """Connect anew where a pooled connection is over.

        A server that ends says goodbye, or its system does. To look for that
        costs no round trip, as to ask the server would.
        """
        if record.info.setdefault("used", False):
            waits = select.poll()
            waits.register(self._descriptor(connection), select.POLLIN)
            if waits.poll(0):
                raise sa.exc.InvalidatePoolError
        record.info["used"] = True
        self._use(connection)

    def _use(self, connection: Any) -> None:
        call: _Call | None = getattr(self._thread, "call", None)
        if call is not None:
            call.connection = connection
            if self._driver == "psycopg":
                connection.watches_silence = call.streaming
            if call.passed:  # before it was known what to interrupt
                raise self._no_answer()

    def _interrupt(self, connection: Any) -> None:
        if connection is not None:
            deadline.shut_down(self._descriptor(connection))

    def _descriptor(self, connection: Any) -> int:
        """Its socket's file descriptor; -1 where it has none."""
        if self._driver == "pymysql":
            return pymysql.descriptor(connection)
        return int(connection.fileno())


class _Call(deadline.within):
    """What one thread asks of the database, over which connection."""

    def __init__(
        self, streaming: bool, interrupt: Callable[[Any], None]
    ) -> None:
        self.streaming = streaming
        self.connection: Any = None
        super().__init__(
            deadline.LONGEST_CALL, lambda: interrupt(self.connection)
        )


def _on_error(context: sa.engine.ExceptionContext) -> None:
    """Have the whole pool connect anew where the server may be another's."""
    error = context.sqlalchemy_exception
    if isinstance(error, sa.exc.DBAPIError):
        context.is_disconnect = not errors.connection_is_good(error)
