# SPDX-License-Identifier: Apache-2.0

"""What databases read for each statement."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Entry, Kind, Mark, Position
from profiler_bridge.storage.sql import schema
from profiler_bridge.storage.sql.plugin import SQLPlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import ALL_TRACES
from profiler_bridge.testing import sample
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    new_id,
    seeded,
)
from profiler_bridge.testing.storage import (
    listed,
    write,
)
from tests.functional.sql.databases import execute


def plans(storage: Storage, call: Callable[[], object]) -> list[str]:
    """What the database would do for each read or deletion of a call.

    Of an INSERT it tells nothing, and which tables there are, asked once
    in a connection's life, is no statement that it could explain.
    """
    statements: list[tuple[str, Any]] = []

    def record(*args: Any) -> None:
        _, _, statement, parameters, _, several = args
        if "bridge_" in statement and statement.startswith(
            ("SELECT", "DELETE", "(SELECT")
        ):
            first = parameters[0] if several else parameters
            statements.append((statement, first))

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        call()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)
    # In a transaction as the plugin has it, with what is set there.
    plugin = storage.plugin
    assert isinstance(plugin, SQLPlugin)
    with plugin._database.begin() as connection:
        explain = EXPLAIN[connection.dialect.name]
        return [
            "\n".join(
                " ".join(map(str, row))
                for row in connection.exec_driver_sql(
                    explain + statement, parameters
                )
            )
            for statement, parameters in statements
        ]


def assert_reads_ranges(storage: Storage, call: Callable[[], object]) -> None:
    """Only ranges of primary keys are read, and nothing is sorted."""
    answers = plans(storage, call)
    assert answers
    assert isinstance(storage.plugin, SQLPlugin)
    wanted, unwanted = WORDS[storage.plugin._database.dialect.name]
    for plan in answers:
        assert any(word in plan for word in wanted), plan
        assert not any(word in plan for word in unwanted), plan


EXPLAIN = {
    "sqlite": "EXPLAIN QUERY PLAN ",
    "mysql": "EXPLAIN FORMAT=JSON ",
    "postgresql": "EXPLAIN ",
}
# One of the first, and none of the others.
WORDS = {
    "sqlite": (
        [f"SEARCH {table} USING" for table in schema.METADATA.tables],
        ["SCAN", "TEMP B-TREE"],
    ),
    "postgresql": (["_pkey"], ["Seq Scan", "Sort"]),
    "mysql": (
        ['"key": "PRIMARY"'],
        ["filesort", "temporary", '"ALL"', '"access_type": "index"'],
    ),
}


@pytest.fixture
def full(url: str, request: pytest.FixtureRequest) -> str:
    """A database with 2000 traces, and statistics about them."""
    storage = get_storage(url)
    storage.prepare()
    rng = seeded(1)
    payloads = [
        payload
        for number in range(2000)
        for payload in sample.request(rng, STARTED + number * SECOND, calls=0)
    ]
    write(storage, payloads)
    storage.close()
    tables = ", ".join(schema.METADATA.tables)
    table = "TABLE " if url.startswith("mysql") else ""
    if not url.startswith("sqlite"):
        execute(url, request, f"ANALYZE {table}{tables}")
    return url


def test_plan_of_a_trace(full: str) -> None:
    """One trace is one range, however many others there are."""
    storage = get_storage(full)
    (base_id,) = listed(storage, limit=1)
    assert_reads_ranges(storage, lambda: storage.notifications(base_id))


def test_plan_of_a_page(full: str) -> None:
    """A page reads one range of the index, and the summaries in it."""
    storage = get_storage(full)
    middle = STARTED + 1000 * SECOND
    (marker,) = listed(storage, limit=1, until=middle)
    for query in (
        TraceQuery(),
        TraceQuery(marker=marker),
        TraceQuery(
            services=["shop:api"], since=STARTED + 10 * SECOND, until=middle
        ),
        TraceQuery(error=True),
    ):
        assert_reads_ranges(
            storage, functools.partial(storage.list_traces, query)
        )


def test_plan_of_all_traces(full: str) -> None:
    """Iterating over all traces reads no row twice."""
    storage = get_storage(full)
    base_ids = storage.plugin.base_ids()
    assert_reads_ranges(storage, lambda: next(base_ids))
    assert_reads_ranges(storage, lambda: next(base_ids))


def test_plan_of_writing(url: str) -> None:
    """Few marks are read, even if one of the traces has most of them.

    The databases have no statistics yet. For so many keys some would guess
    that it is best to read all marks.
    """
    storage = get_storage(url)
    storage.prepare()
    rng = seeded(2)
    large, *others = (new_id(rng) for _ in range(300))
    storage.plugin.insert(
        (),
        [
            *(Mark(large, Kind.START, start) for start in range(10_000)),
            *(
                mark
                for base_id in (large, *others)
                for mark in (
                    Mark(base_id, Kind.START, STARTED),
                    Mark(base_id, Kind.TERM, ALL_TRACES),
                )
            ),
        ],
        (),
    )
    marks = [Mark(base_id, Kind.TERM, 1) for base_id in (large, *others)]
    assert_reads_ranges(storage, lambda: storage.plugin.insert((), marks, ()))
    storage.close()


@pytest.mark.parametrize("traces", [1, 3])
def test_plan_of_deletion(
    full: str, traces: int, request: pytest.FixtureRequest
) -> None:
    if full.startswith("mysql"):
        parts = sa.make_url(full)
        execute(
            full,
            request,
            f"GRANT DELETE ON {parts.database}.* TO {parts.username}@'%'",
        )
    storage = get_storage(full)
    plugin = storage.plugin
    base_ids = listed(storage, limit=traces)
    partials = plugin.partials(base_ids)
    assert_reads_ranges(
        storage,
        lambda: plugin.delete(
            {base_id: pieces.keys() for base_id, pieces in partials.items()},
            [
                Entry(ALL_TRACES, piece.started, base_id)
                for base_id, pieces in partials.items()
                for piece in pieces.values()
            ],
        ),
    )
    assert plugin.partials(base_ids) == {}
    assert_reads_ranges(storage, lambda: plugin.delete_leases("purge", 3))
    assert_reads_ranges(storage, lambda: plugin.delete_names(3))


def test_plan_of_a_page_in_numbers(full: str) -> None:
    """Statements ask for no more than a page."""
    storage = get_storage(full)
    asked: list[int] = []
    index = storage.plugin.index

    def count(*args: Any) -> Sequence[Position]:
        stretch = index(*args)
        asked.append(len(stretch))
        return stretch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.plugin, "index", count)
        assert len(listed(storage, limit=5)) == 5
    assert sum(asked) <= 12
