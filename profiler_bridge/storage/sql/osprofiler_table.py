# SPDX-License-Identifier: Apache-2.0

"""The SQL table of osprofiler's own driver, read only.

Its columns are those of osprofiler 4.4.0. A row is a notification: the
columns are some fields of the payload, and ``data`` has the others, as JSON
within a JSON string.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

_FIELDS = ("name", "base_id", "trace_id", "parent_id", "timestamp")
_TABLE = sa.table(
    "data",
    *(
        sa.column(name)
        for name in ("id", *_FIELDS, "project", "service", "data")
    ),
)
# As a text, for one that is no JSON must not spoil the others.
_ROWS = sa.select(
    *(_TABLE.c[name] for name in ("id", *_FIELDS, "project", "service")),
    sa.cast(_TABLE.c.data, sa.Text).label("data"),
).order_by(_TABLE.c.id)
_PAGE = 500

Connect = Callable[[], AbstractContextManager[sa.Connection]]


def exists(connection: sa.Connection) -> bool:
    """Whether osprofiler made its table in this database."""
    inspector = sa.inspect(connection)
    return inspector.has_table(_TABLE.name) and {
        column["name"] for column in inspector.get_columns(_TABLE.name)
    } >= set(_TABLE.c.keys())


def traces(connect: Connect) -> Iterator[tuple[str, list[object]]]:
    """See :meth:`StoragePlugin.left_by_osprofiler`."""
    column = _TABLE.c.base_id
    page = sa.select(column).group_by(column).order_by(column).limit(_PAGE)
    base_ids = _scalars(connect, page.where(column.is_not(None)))
    while base_ids:
        for base_id in base_ids:
            yield base_id, _payloads(connect, _ROWS.where(column == base_id))
        base_ids = _scalars(connect, page.where(column > base_ids[-1]))
    yield from _without_base_id(connect)


def _without_base_id(connect: Connect) -> Iterator[tuple[str, list[object]]]:
    identity = _TABLE.c.id
    select = _ROWS.where(_TABLE.c.base_id.is_(None)).limit(_PAGE)
    page = select
    while True:
        with connect() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        yield "", [_payload(row) for row in rows]
        page = select.where(identity > rows[-1].id)


def _scalars(connect: Connect, statement: sa.Select[Any]) -> list[Any]:
    with connect() as connection:
        return [*connection.scalars(statement)]


def _payloads(connect: Connect, statement: sa.Select[Any]) -> list[object]:
    with connect() as connection:
        return [_payload(row) for row in connection.execute(statement)]


def _payload(row: Any) -> object:
    fields = row._asdict()
    del fields["id"]
    data: Any = fields.pop("data")
    try:
        while isinstance(data, str):
            data = json.loads(data)
    except (ValueError, RecursionError):
        pass
    if data is None:
        return fields
    # What is no object makes a notification that is refused, with this in it.
    return {**(data if isinstance(data, dict) else {"info": data}), **fields}
