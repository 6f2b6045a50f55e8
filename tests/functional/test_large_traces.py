# SPDX-License-Identifier: Apache-2.0

"""Traces of very many pieces, which stand at very many starts.

A piece comes with each write, and a start with each that begins earlier than
all before it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, cast

import pytest

from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage import get_storage, portions, purging
from profiler_bridge.storage.pages import LONGEST_STRETCH
from profiler_bridge.storage.plugin import Entry, StoragePlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import (
    ALL_TRACES,
    PartialSummary,
    index_terms,
)
from profiler_bridge.testing.helpers import Intermediary, listed, paged
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    new_id,
    notifications,
    request,
    seeded,
    span,
)

# Notifications of the trace; more than one stretch of the index has.
_POINTS = LONGEST_STRETCH + 102


class _Counting(Intermediary):
    """Counts what is read and deleted, and can be away."""

    def __init__(self, plugin: StoragePlugin) -> None:
        super().__init__(plugin)
        self.read: Counter[str] = Counter()
        self.most_read = 0
        self.deleted: list[int] = []
        self.left = 1000

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        base_ids = [*base_ids]
        self.read.update(base_ids)
        partials = self.plugin.partials(base_ids)
        self.most_read = max(self.most_read, sum(map(len, partials.values())))
        return partials

    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        if not self.left:
            raise _AwayError
        self.left -= 1
        self.deleted.append(sum(map(len, pieces.values())) + len(entries))
        self.plugin.delete(pieces, entries)


class _AwayError(Exception):
    pass


@pytest.fixture
def plugin(sqlite_url: str) -> Iterator[_Counting]:
    with contextlib.closing(get_storage(sqlite_url)) as storage:
        storage.prepare()
        yield _Counting(storage.plugin)


@pytest.fixture
def storage(plugin: Any) -> Storage:
    return Storage(plugin)


@pytest.fixture
def large(storage: Storage) -> list[Payload]:
    """A trace that arrives one notification at a time, newest first."""
    payloads = request(seeded(1), calls=_POINTS // 6)
    payloads.sort(key=lambda payload: payload["timestamp"], reverse=True)
    for notification in notifications(payloads):
        storage.write([notification])
    return payloads


@pytest.fixture
def beside(storage: Storage) -> str:
    """A trace that starts while the large one goes on, and ends before it."""
    payloads = request(seeded(2), STARTED + 100 * MILLISECOND, calls=1)
    storage.write(notifications(payloads))
    base_id: str = payloads[0]["base_id"]
    return base_id


def test_a_list_reads_it_once(
    plugin: _Counting, storage: Storage, large: list[Payload], beside: str
) -> None:
    base_id = large[0]["base_id"]
    assert len(plugin.index(ALL_TRACES, None, None, 9999)) > LONGEST_STRETCH
    plugin.read.clear()
    assert listed(storage) == [beside, base_id]
    assert plugin.read == {base_id: 1, beside: 1}
    assert paged(storage, 1) == [beside, base_id]
    assert listed(storage, since=STARTED + 1) == [beside]
    assert listed(storage, until=STARTED + MILLISECOND) == [base_id]


def test_a_dry_run_counts_it_once(
    storage: Storage, large: list[Payload], beside: str
) -> None:
    assert storage.purge(STARTED + 100 * SECOND, dry_run=True) == 2
    assert listed(storage) == [beside, large[0]["base_id"]]


def test_a_purge_reads_what_stays_once(
    plugin: _Counting, storage: Storage, large: list[Payload], beside: str
) -> None:
    base_id = large[0]["base_id"]
    plugin.read.clear()
    # The large one goes on for longer.
    assert storage.purge(STARTED + 150 * MILLISECOND) == 1
    assert plugin.read[base_id] == 1
    assert listed(storage) == [base_id]
    assert beside not in plugin.partials([beside])


def test_a_purge_is_many_transactions(
    plugin: _Counting,
    storage: Storage,
    large: list[Payload],
    beside: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of so many rows at most, and nothing is left."""
    monkeypatch.setattr(purging, "_ROWS", 100)
    terms = index_terms(
        part
        for pieces in plugin.partials([large[0]["base_id"], beside]).values()
        for part in pieces.values()
    )
    assert storage.purge(STARTED + 100 * SECOND) == 2
    assert max(plugin.deleted) <= 100
    for term in terms:
        assert plugin.index(term, None, None, 10) == []
    assert list(plugin.base_ids()) == []


@pytest.mark.parametrize("left", [0, 1, 10, 18, 22])
def test_a_purge_that_was_interrupted_is_done_again(
    plugin: _Counting,
    storage: Storage,
    large: list[Payload],
    monkeypatch: pytest.MonkeyPatch,
    left: int,
) -> None:
    monkeypatch.setattr(purging, "_ROWS", 100)
    base_id = large[0]["base_id"]
    terms = index_terms(plugin.partials([base_id])[base_id].values())
    plugin.left = left
    with pytest.raises(_AwayError):
        storage.purge(STARTED + 100 * SECOND)
    plugin.left = 1000
    assert storage.purge(STARTED + 100 * SECOND) == 1
    for term in terms:
        assert plugin.index(term, None, None, 10) == []
    assert list(plugin.base_ids()) == []


class _Moving(Intermediary):
    """A trace becomes longer, or begins earlier, while a list is read."""

    move: Callable[[], object] | None = None

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[int, PartialSummary]]:
        if self.move:
            move, self.move = self.move, None
            move()
        return self.plugin.partials(base_ids)


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("seconds", [-100, 100])
def test_what_moves_while_a_list_is_read(
    sqlite_url: str, sort: Sort, limit: int, seconds: int
) -> None:
    """It is there, once; where it stands by then, or did."""
    own = get_storage(sqlite_url)
    own.prepare()
    traces = [
        request(seeded(number), STARTED + number * SECOND)
        for number in range(5)
    ]
    for trace in traces:
        own.write(notifications(trace))
    moved = traces[2][0]
    moment = STARTED + seconds * SECOND
    more = span(moved["base_id"], new_id(seeded(9)), new_id(seeded(8)), moment)
    plugin = _Moving(get_storage(sqlite_url).plugin)
    plugin.move = lambda: own.write(notifications(more))
    storage = Storage(cast(StoragePlugin, plugin))
    page = storage.list_traces(TraceQuery(sort=sort, limit=limit))
    base_ids = [summary.base_id for summary in page]
    assert len(base_ids) == len({*base_ids}) == min(limit, 5)
    if limit == 100:
        assert {*base_ids} == {trace[0]["base_id"] for trace in traces}


def test_how_much_is_read_at_a_time(
    plugin: _Counting,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many traces as have some pieces; and of lists, and of purges."""
    monkeypatch.setattr(portions, "_FIRST", 2)
    monkeypatch.setattr(portions, "_PIECES", 60)
    rng = seeded(3)
    for number in range(20):
        for notification in notifications(
            request(rng, STARTED + number * SECOND)
        ):
            storage.write([notification])
    for read in (
        lambda: storage.list_traces(TraceQuery(hosts=["nowhere"])),
        lambda: list(storage.reindex()),
        lambda: storage.purge(STARTED + 100 * SECOND, dry_run=True),
    ):
        plugin.most_read = 0
        read()
        assert 0 < plugin.most_read <= 60


def test_what_stands_in_the_index_only_goes(
    plugin: _Counting, storage: Storage
) -> None:
    """As what a writer adds of a trace that is purged at that moment."""
    base_id = request(seeded(1))[0]["base_id"]
    plugin.insert((), (), [Entry(ALL_TRACES, STARTED, base_id)])
    assert storage.purge(STARTED + SECOND, dry_run=True) == 0
    assert len(plugin.index(ALL_TRACES, None, None, 10)) == 1
    assert storage.purge(STARTED + SECOND) == 0
    assert plugin.index(ALL_TRACES, None, None, 10) == []
