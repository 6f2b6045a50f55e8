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

Begin = Callable[[], AbstractContextManager[sa.Connection]]


def exists(connection: sa.Connection) -> bool:
    """Whether osprofiler made its table in this database."""
    inspector = sa.inspect(connection)
    return inspector.has_table(_TABLE.name) and {
        each["name"] for each in inspector.get_columns(_TABLE.name)
    } >= set(_TABLE.c.keys())


def traces(begin: Begin) -> Iterator[tuple[str, list[object]]]:
    """See :meth:`profiler_bridge.storage.base.Storage.left_by_osprofiler`."""
    base_id = _TABLE.c.base_id
    page = sa.select(base_id).group_by(base_id).order_by(base_id).limit(_PAGE)
    found = _scalars(begin, page.where(base_id.is_not(None)))
    while found:
        for each in found:
            yield each, _payloads(begin, _ROWS.where(base_id == each))
        found = _scalars(begin, page.where(base_id > found[-1]))
    yield from _without_base_id(begin)


def _without_base_id(begin: Begin) -> Iterator[tuple[str, list[object]]]:
    identity = _TABLE.c.id
    rows = _ROWS.where(_TABLE.c.base_id.is_(None)).limit(_PAGE)
    page = rows
    while True:
        with begin() as connection:
            found = connection.execute(page).all()
        if not found:
            return
        yield "", [_payload(row) for row in found]
        page = rows.where(identity > found[-1].id)


def _scalars(begin: Begin, statement: sa.Select[Any]) -> list[Any]:
    with begin() as connection:
        return [*connection.scalars(statement)]


def _payloads(begin: Begin, statement: sa.Select[Any]) -> list[object]:
    with begin() as connection:
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
