# SPDX-License-Identifier: Apache-2.0

"""Statements about many rows at a time, as each database is fastest.

PyMySQL writes the rows of an INSERT into one statement, but sends a DELETE for
each row; there the keys stand in a list. It is in Python, and takes longer for
each value, there and back, than all the rest: so ids and numbers are written
here. SQLite is in this process, and runs
one prepared statement for row after row; a list of keys it would compare with
each row of the table. PostgreSQL gets every column as an array, for psycopg
sends a message for each row; and it inserts into all tables in one statement,
which tells what was new, so that it needs no transaction around it. From all
of them what the marks of a trace tell comes in one row.

Writers hand the client texts, because what SQLAlchemy does with each value on
its way costs more than all the rest, and changes none.
"""

from __future__ import annotations

import struct
from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, TypeVar

import sqlalchemy as sa

from profiler_bridge.notification import is_id
from profiler_bridge.storage.plugin import Kind, Place
from profiler_bridge.storage.sql.engine import transaction
from profiler_bridge.storage.sql.schema import (
    INDEX,
    LEASES,
    MARKS,
    NAMES,
    PIECES,
    insert_if_new,
)

T = TypeVar("T")
Row = tuple[Any, ...]
#: Of each table, in the order of its columns.
Rows = Mapping[sa.Table, Sequence[Row]]

# Databases differ in how many parameters one statement takes; SQLite's least
# was 999.
_CHUNK = 500
# So many rows of ids and numbers are less than half of what MySQL takes.
_WRITTEN_ROWS = 5000
# How these are written, and where in them the id is.
_WRITTEN = {MARKS: "('{}',{:d},{:d})", INDEX: "({:d},{:d},'{}')"}
_BASE_ID = {MARKS: 0, INDEX: 2}
# How many digits a term has.
_HEX = 16


class Statements:
    """What most databases have in common."""

    _parameter = "%s"

    def __init__(self, dialect: sa.Dialect) -> None:
        def about_traces(statement: sa.Select[Any] | sa.Delete) -> str:
            text = statement.compile(
                dialect=dialect, compile_kwargs={"literal_binds": True}
            )
            return str(text)

        self._insert = self._insertion(dialect)
        marks = self._is_among(MARKS.c.base_id)
        pieces = self._is_among(PIECES.c.base_id)
        self._select_places = about_traces(self._places())
        self._select_marks = about_traces(
            sa.select(MARKS.c.base_id, MARKS.c.value).where(
                marks, MARKS.c.kind == sa.literal_column("{kind}")
            )
        )
        self._insert_lease = insert_if_new(LEASES, dialect.name)
        self._delete_marks = about_traces(sa.delete(MARKS).where(marks))
        self._select_partials = about_traces(
            sa.select(
                PIECES.c.base_id, PIECES.c.digest, PIECES.c.summary
            ).where(pieces)
        )
        self._select_texts = about_traces(
            sa.select(PIECES.c.base_id, PIECES.c.notifications).where(pieces)
        )
        self._select_stored = sa.select(*PIECES.primary_key).where(
            self._has_key(PIECES)
        )
        self._delete = {
            table: sa.delete(table).where(self._has_key(table))
            for table in (PIECES, INDEX)
        }

    def insert(self, connection: sa.Connection, rows: Rows) -> Collection[int]:
        """Insert rows, and commit; what is there already stays as it is.

        :param rows: of all four tables, each of them may have none
        :returns: digests of the pieces that were there
        """
        known: Collection[int] = ()
        if self.add(connection, rows) < len(rows[PIECES]):
            # It is not told which were there.
            connection.rollback()
            keys = [row[:2] for row in rows[PIECES]]
            with transaction(connection):
                known = {row.digest for row in self._stored(connection, keys)}
            self.add(connection, rows)
        connection.commit()
        return known

    def add(self, connection: sa.Connection, rows: Rows) -> int:
        """The same as a part of a transaction.

        :returns: how many of the pieces were not there
        """
        new = {
            table: self._add_to(connection, table, own)
            for table, own in rows.items()
            if own
        }
        return new.get(PIECES, 0)

    def _add_to(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Row]
    ) -> int:
        return connection.exec_driver_sql(
            self._insert[table], [*rows]
        ).rowcount

    def places(
        self, connection: sa.Connection, base_ids: Iterable[str]
    ) -> dict[str, Place]:
        """What marks tell of traces, of those that have all kinds of them."""
        places: dict[str, Place] = {}
        cut: dict[str, list[int]] = {}
        for base_id, count, digits, started, finished in self._run(
            connection, self._select_places, base_ids
        ):
            if not count or started is None or finished is None:
                continue
            terms: Sequence[int] = ()
            if len(digits) == _HEX * count:
                terms = struct.unpack(f">{count}q", bytes.fromhex(digits))
            else:
                # What is longer than group_concat_max_len MySQL cuts.
                cut[base_id] = []
            places[base_id] = Place(started, finished, frozenset(terms))
        for base_id, term in self.marks(connection, cut, Kind.TERM):
            cut[base_id].append(term)
        for base_id, own in cut.items():
            places[base_id] = places[base_id]._replace(terms=frozenset(own))
        return places

    def marks(
        self, connection: sa.Connection, base_ids: Iterable[str], kind: Kind
    ) -> Iterator[Any]:
        """The marks of one kind.

        :returns: in each row a base_id and a value
        """
        statement = self._select_marks.replace("{kind}", str(int(kind)))
        return self._run(connection, statement, base_ids)

    def insert_lease(self, connection: sa.Connection, row: Row) -> None:
        """Insert a lease, if none of its key is there."""
        connection.execute(
            self._insert_lease,
            dict(zip(LEASES.columns.keys(), row, strict=True)),
        )

    def partials(
        self, connection: sa.Connection, base_ids: Iterable[str]
    ) -> Iterator[Any]:
        """The pieces of traces.

        :returns: in each row a base_id, a digest, and the piece's summary
        """
        return self._run(connection, self._select_partials, base_ids)

    def texts(
        self, connection: sa.Connection, base_ids: Iterable[str]
    ) -> Iterator[Any]:
        """The pieces of traces.

        :returns: in each row a base_id, and notifications as they are stored
        """
        return self._run(connection, self._select_texts, base_ids)

    def delete(
        self,
        connection: sa.Connection,
        pieces: Iterable[Row],
        traces: Iterable[str],
        entries: Iterable[Row],
    ) -> None:
        """Delete rows, those that are there, as a part of a transaction.

        :param pieces: the keys of those that go
        :param traces: those of which all marks go
        :param entries: those that go
        """
        self._delete_keys(connection, PIECES, pieces)
        for text, parameters in self._about(self._delete_marks, traces):
            connection.exec_driver_sql(text, parameters)
        self._delete_keys(connection, INDEX, entries)

    def _run(
        self, connection: sa.Connection, statement: str, traces: Iterable[str]
    ) -> Iterator[Any]:
        for text, parameters in self._about(statement, traces):
            yield from connection.exec_driver_sql(text, parameters).all()

    def _delete_keys(
        self, connection: sa.Connection, table: sa.Table, keys: Iterable[Row]
    ) -> None:
        for chunk in chunks(keys):
            connection.execute(self._delete[table], self._named(table, chunk))

    def _stored(
        self, connection: sa.Connection, keys: Iterable[Row]
    ) -> Iterator[Any]:
        """Those of the keys under which there is a piece."""
        for chunk in chunks(keys):
            yield from connection.execute(
                self._select_stored, self._named(PIECES, chunk)
            )

    # How they are worded

    #: What puts the terms of a trace together, each as so many digits.
    _terms_together = (
        f"GROUP_CONCAT(LPAD(HEX(value), {_HEX}, '0') SEPARATOR '')"
    )

    def _insertion(self, dialect: sa.Dialect) -> Any:
        return {
            table: str(
                insert_if_new(table, dialect.name).compile(dialect=dialect)
            )
            for table in (PIECES, MARKS, INDEX, NAMES)
        }

    def _places(self) -> sa.Select[Any]:
        """Of each trace that has terms, how many and which, and its ends."""
        return (
            sa.select(
                MARKS.c.base_id,
                sa.func.count(),
                sa.literal_column(self._terms_together),
                *_ends(MARKS.c.base_id),
            )
            .where(
                MARKS.c.kind == int(Kind.TERM),
                self._is_among(MARKS.c.base_id),
            )
            .group_by(MARKS.c.base_id)
        )

    def _is_among(self, column: sa.Column[Any]) -> sa.ColumnElement[bool]:
        return column.in_([sa.literal_column("{values}")])

    def _about(
        self, statement: str, base_ids: Iterable[str]
    ) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Put values into a statement that has :meth:`_is_among`."""
        for chunk in chunks(base_ids):
            values = ", ".join([self._parameter] * len(chunk))
            yield statement.format(values=values), tuple(chunk)

    def _has_key(self, table: sa.Table) -> sa.ColumnElement[bool]:
        keys: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
        return sa.tuple_(*table.primary_key).in_(keys)

    def _named(self, table: sa.Table, keys: list[Row]) -> Any:
        """The parameters of a statement that has :meth:`_has_key`."""
        # Of one key alone MariaDB makes no range, and a DELETE reads and locks
        # the whole table.
        return {"keys": keys if len(keys) > 1 else keys * 2}


class MySQLStatements(Statements):
    """Those for MySQL and MariaDB."""

    def _add_to(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Row]
    ) -> int:
        at = _BASE_ID.get(table)
        # Of ids and numbers nothing can end a literal.
        if at is None or not all(is_id(row[at]) for row in rows):
            return super()._add_to(connection, table, rows)
        insertion = self._insert[table].partition(" VALUES ")[0]
        write = _WRITTEN[table].format
        new = 0
        for first in range(0, len(rows), _WRITTEN_ROWS):
            some = rows[first : first + _WRITTEN_ROWS]
            values = ",".join([write(*row) for row in some])
            new += connection.exec_driver_sql(
                f"{insertion} VALUES {values}"
            ).rowcount
        return new


class SQLiteStatements(Statements):
    """Those for SQLite."""

    _parameter = "?"
    _terms_together = f"GROUP_CONCAT(PRINTF('%0{_HEX}x', value), '')"

    def _stored(
        self, connection: sa.Connection, keys: Iterable[Row]
    ) -> Iterator[Any]:
        for named in self._named(PIECES, [*keys]):
            yield from connection.execute(self._select_stored, named)

    def _has_key(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.and_(
            *(
                column == sa.bindparam(column.name)
                for column in table.primary_key
            )
        )

    def _named(self, table: sa.Table, keys: list[Row]) -> list[dict[str, Any]]:
        names = table.primary_key.columns.keys()
        return [dict(zip(names, key, strict=True)) for key in keys]


class PostgreSQLStatements(Statements):
    """Those for PostgreSQL."""

    _terms_together = f"STRING_AGG(LPAD(TO_HEX(value), {_HEX}, '0'), '')"

    def insert(self, connection: sa.Connection, rows: Rows) -> Collection[int]:
        new = self._add(connection, rows)
        connection.commit()
        if len(new) == len(rows[PIECES]):
            return ()
        return {row[1] for row in rows[PIECES]}.difference(new)

    def add(self, connection: sa.Connection, rows: Rows) -> int:
        return len(self._add(connection, rows))

    def _add(self, connection: sa.Connection, rows: Rows) -> Sequence[int]:
        """Insert rows; the digests of the pieces that were not there."""
        arrays = {
            name: array
            for table, own in rows.items()
            for name, array in _arrays(table, table.columns, own)
        }
        return connection.exec_driver_sql(self._insert, arrays).scalars().all()

    def _insertion(self, dialect: sa.Dialect) -> str:
        pieces, marks, entries, names = (
            insert_if_new(table, dialect.name).from_select(
                table.columns.keys(), _rows_of_arrays(table, table.columns)
            )
            for table in (PIECES, MARKS, INDEX, NAMES)
        )
        new = pieces.returning(PIECES.c.digest).cte("new")
        statement = sa.select(new.c.digest).add_cte(
            marks.cte("marks"), entries.cte("entries"), names.cte("names")
        )
        return str(statement.compile(dialect=dialect))

    def _places(self) -> sa.Select[Any]:
        # It would sort the marks to group them.
        traces = (
            sa.func.unnest(sa.literal_column("{values}"))
            .table_valued("base_id", name="traces")
            .render_derived()
        )
        base_id = traces.c.base_id
        terms = (
            sa.select(
                sa.func.count().label("count"),
                sa.literal_column(self._terms_together).label("digits"),
            )
            .where(
                MARKS.c.base_id == base_id,
                MARKS.c.kind == int(Kind.TERM),
            )
            .lateral("terms")
        )
        return sa.select(
            base_id, terms.c.count, terms.c.digits, *_ends(base_id)
        ).join_from(traces, terms, sa.true())

    def _is_among(self, column: sa.Column[Any]) -> sa.ColumnElement[bool]:
        return column == sa.func.any(sa.literal_column("{values}"))

    def _about(
        self, statement: str, base_ids: Iterable[str]
    ) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for chunk in chunks(base_ids):
            yield statement.format(values="%s::TEXT[]"), (_write(chunk),)

    def _has_key(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.tuple_(*table.primary_key).in_(
            _rows_of_arrays(table, table.primary_key)
        )

    def _named(self, table: sa.Table, keys: list[Row]) -> dict[str, Any]:
        return dict(_arrays(table, table.primary_key, keys))


def _rows_of_arrays(
    table: sa.Table, columns: Iterable[sa.Column[Any]]
) -> sa.Select[Any]:
    """Rows of which each column is an array, a parameter."""
    return sa.select(
        *(
            sa.func.unnest(
                sa.cast(
                    sa.bindparam(f"{table.name}_{column.name}"),
                    sa.ARRAY(column.type),
                )
            )
            for column in columns
        )
    )


def _arrays(
    table: sa.Table, columns: Iterable[sa.Column[Any]], rows: Sequence[Row]
) -> Iterator[tuple[str, Any]]:
    """The parameters of :func:`_rows_of_arrays`."""
    for at, column in enumerate(columns):
        values = [row[at] for row in rows]
        yield (
            f"{table.name}_{column.name}",
            values
            if isinstance(column.type, sa.LargeBinary)
            else _write(values),
        )


def _write(values: Iterable[object]) -> str:
    """An array of texts or numbers, as PostgreSQL reads it.

    psycopg writes lists, too, but that takes it longer than all the rest.
    """
    texts = [*map(str, values)]
    together = '","'.join(texts)
    if "\\" in together or together.count('"') != 2 * max(len(texts) - 1, 0):
        together = '","'.join(
            text.replace("\\", r"\\").replace('"', r"\"") for text in texts
        )
    return f'{{"{together}"}}' if texts else "{}"


def _ends(base_id: sa.ColumnElement[str]) -> Sequence[Any]:
    """The least start and the greatest finish of a trace.

    They are looked up by themselves, because to find them among all marks of
    a large trace some databases read them all.
    """
    return [_outermost(base_id, kind) for kind in (Kind.START, Kind.FINISH)]


def _outermost(base_id: sa.ColumnElement[str], kind: Kind) -> Any:
    others = MARKS.alias()
    value = others.c.value
    return (
        sa.select(value)
        .where(
            others.c.base_id == base_id,
            others.c.kind == int(kind),
        )
        .order_by(value.desc() if kind == Kind.FINISH else value)
        .limit(1)
        .scalar_subquery()
    )


def statements_for(dialect: sa.Dialect) -> Statements:
    """Those for such a database."""
    kinds = {"sqlite": SQLiteStatements, "postgresql": PostgreSQLStatements}
    return kinds.get(dialect.name, MySQLStatements)(dialect)


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, as many at a time as a statement may name."""
    rest = list(values)
    for at in range(0, len(rest), _CHUNK):
        yield rest[at : at + _CHUNK]
