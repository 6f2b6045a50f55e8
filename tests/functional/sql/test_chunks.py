# SPDX-License-Identifier: Apache-2.0

"""What is too large for one statement, or for one value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Kind, Mark, Place
from profiler_bridge.storage.sql import statements
from profiler_bridge.summary import ALL_TRACES, index_terms
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    new_id,
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    cut,
    expected,
    listed,
    observed,
    shuffled,
    write,
)
from tests import servers


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "_CHUNK", 5)
    monkeypatch.setattr(statements, "_WRITTEN_ROWS", 5)


@pytest.fixture
def purging_url(url: str, request: pytest.FixtureRequest) -> str:
    """A database, and a user who may delete."""
    if not url.startswith("mysql"):
        return url
    mariadb: servers.MariaDB = request.getfixturevalue("mariadb")
    return mariadb.database("CREATE, SELECT, INSERT, DELETE")


def test_purge_a_trace_of_many_pieces(purging_url: str) -> None:
    """Written newest first, so every piece adds an entry to the index."""
    storage = get_storage(purging_url)
    storage.prepare()
    payloads = request(seeded(1), calls=3)[::-1]
    write(storage, *cut(payloads, 1))
    (partials,) = storage.plugin.partials([payloads[0]["base_id"]]).values()
    terms = index_terms(partials.values())
    assert len(storage.plugin.index(ALL_TRACES, None, None, 100)) > 5
    assert storage.purge(STARTED + SECOND) == 1
    for term in terms:
        assert storage.plugin.index(term, None, None, 100) == []
    storage.close()


def test_purge_many_traces(purging_url: str) -> None:
    storage = get_storage(purging_url)
    storage.prepare()
    rng = seeded(1)
    payloads = [
        payload
        for number in range(36)
        for payload in request(rng, STARTED + number % 3 * SECOND, calls=0)
    ]
    write(storage, *cut(shuffled(payloads, 1), 20))
    assert storage.purge(STARTED + SECOND + 1) == 12
    assert len(listed(storage, limit=100)) == 24
    storage.close()


def test_write_many_traces_again(url: str) -> None:
    storage = get_storage(url)
    storage.prepare()
    rng = seeded(1)
    traces = [request(rng, STARTED + number * SECOND) for number in range(12)]
    first = [payload for trace in traces[:7] for payload in trace]
    everything = [payload for trace in traces for payload in trace]
    assert storage.write(notifications(first)) == len(first)
    new = len(everything) - len(first)
    assert storage.write(notifications(everything)) == new
    assert storage.write(notifications(everything)) == 0
    assert observed(storage, everything) == expected(everything)
    storage.close()


@pytest.fixture
def cut_short() -> Iterator[None]:
    """Servers that put no more together than two terms and a half."""

    def connect(connection: Any, _: object) -> None:
        if isinstance(connection, pymysql.Connection):
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION group_concat_max_len = 40")

    sa.event.listen(sa.Engine, "connect", connect)
    yield
    sa.event.remove(sa.Engine, "connect", connect)


@pytest.mark.usefixtures("cut_short")
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_terms_that_are_cut(url: str, count: int) -> None:
    storage = get_storage(url)
    storage.prepare()
    own = [ALL_TRACES, 0, -1, 5, 2**63 - 1, -(2**63), 1 << 40][:count]
    places = {
        new_id(seeded(number)): Place(
            STARTED, STARTED + number, frozenset(own[: count - number])
        )
        for number in range(min(count, 3))
    }
    marks = [
        Mark(base_id, kind, value)
        for base_id, place in places.items()
        for kind, values in (
            (Kind.START, [place.started, place.started + SECOND]),
            (Kind.TERM, place.terms),
            (Kind.FINISH, [place.finished, place.finished - SECOND]),
        )
        for value in values
    ]
    assert storage.plugin.insert((), sorted(marks), ()).places == places
    assert storage.plugin.insert((), marks[:1], ()).places.keys() == {
        marks[0].base_id
    }
    storage.close()
