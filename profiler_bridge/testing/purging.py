# SPDX-License-Identifier: Apache-2.0

"""Old traces go, whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from profiler_bridge import exceptions
from profiler_bridge.notification import format_timestamp
from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.rules import parse
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.names import week_of
from profiler_bridge.storage.plugin import (
    Entry,
    Inserted,
    Mark,
    Name,
    Piece,
    StoragePlugin,
)
from profiler_bridge.storage.purging import Purge
from profiler_bridge.storage.retention import KeepRule, Retention
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import (
    ALL_TRACES,
    AT_LEAST,
    LONGEST,
    at_least_term,
    index_terms,
    root_name,
    service_name,
    service_term,
)
from profiler_bridge.testing.helpers import (
    Intermediary,
    StorageTests,
    cut,
    expected,
    listed,
    observed,
    write,
)
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    new_id,
    notifications,
    one_span,
    request,
    seeded,
    span,
)


class _Meanwhile(Intermediary):
    """Somebody writes just before anything is deleted."""

    def __init__(
        self, plugin: StoragePlugin, write_some: Callable[[], None]
    ) -> None:
        super().__init__(plugin)
        self._write_some = write_some

    def delete(
        self,
        pieces: Mapping[str, Collection[int]],
        entries: Collection[Entry],
    ) -> None:
        self._write_some()
        self.plugin.delete(pieces, entries)


class _Purged(Intermediary):
    """Somebody purges what was inserted just before it is read."""

    def __init__(self, plugin: StoragePlugin, other: Storage) -> None:
        super().__init__(plugin)
        self._other: Storage | None = other

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        inserted = self.plugin.insert(pieces, marks, entries, names)
        if not pieces or self._other is None:
            return inserted
        assert self._other.purge(STARTED + SECOND) == 1
        self._other = None  # once
        return Inserted(inserted.known, {})


class Purging(StorageTests):
    """Purging; and what is written meanwhile, or afterwards."""

    @pytest.fixture
    def old(self, purgeable: Storage) -> list[Payload]:
        """A trace that ended 11 ms after STARTED, written newest first.

        So it stood at several places of the index while it was written.
        """
        payloads = request(seeded(1), calls=1, error="DBDeadlock")
        write(purgeable, *cut(payloads[::-1], 1))
        return payloads

    @pytest.fixture
    def new(self, purgeable: Storage) -> list[Payload]:
        """A trace that started before the old one, and is not yet over."""
        payloads = request(seeded(2), STARTED - SECOND, calls=200)
        write(purgeable, payloads)
        return payloads

    def test_purge_old_traces_go(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
        new: list[Payload],
    ) -> None:
        assert purgeable.purge(STARTED + 12 * MILLISECOND) == 1
        assert purgeable.notifications(old[0]["base_id"]) == []
        assert purgeable.plugin.partials([old[0]["base_id"]]) == {}
        self.assert_stored(purging_connection_string, new)

    @pytest.mark.usefixtures("old")
    def test_purge_new_traces_stay(
        self, purgeable: Storage, new: list[Payload]
    ) -> None:
        purgeable.purge(STARTED + 12 * MILLISECOND)
        assert observed(purgeable, new) == expected(new)
        for query in ({}, {"services": ["api"]}, {"services": ["conductor"]}):
            assert listed(purgeable, **query) == [new[0]["base_id"]]

    def test_purge_only_what_ended_before(
        self, purgeable: Storage, old: list[Payload]
    ) -> None:
        assert purgeable.purge(STARTED + 11 * MILLISECOND) == 0
        assert observed(purgeable, old) == expected(old)
        assert purgeable.purge(STARTED + 11 * MILLISECOND + 1) == 1

    def test_purge_index_keeps_nothing(
        self, purgeable: Storage, old: list[Payload]
    ) -> None:
        base_id = old[0]["base_id"]
        terms = index_terms(
            purgeable.plugin.partials([base_id])[base_id].values()
        )
        assert terms >= {ALL_TRACES, service_term("shop:conductor")}
        terms |= {LONGEST, *map(at_least_term, AT_LEAST)}
        stood = [
            bool(purgeable.plugin.index(term, None, None, 100))
            for term in (LONGEST, at_least_term(AT_LEAST[0]))
        ]
        assert all(stood)
        purgeable.purge(STARTED + SECOND)
        for term in terms:
            assert purgeable.plugin.index(term, None, None, 100) == []

    def test_purge_while_a_writer_remembers_the_trace(
        self, purging_connection_string: str, purgeable: Storage
    ) -> None:
        """What it adds afterwards is found where it stands, and goes."""
        start, stop = one_span(seed=3)
        base_id = start["base_id"]
        late = span(
            *(base_id, new_id(seeded(4)), start["trace_id"]),
            STARTED + 60 * SECOND,
        )
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            write(other, [start, stop])
            assert purgeable.purge(STARTED + SECOND) == 1
            write(other, late)
        for query in ({}, {"sort": Sort.DURATION}, {"services": ["api"]}):
            assert listed(purgeable, **query) == [base_id], query
        assert purgeable.purge(STARTED + 100 * SECOND) == 1
        levels = map(at_least_term, AT_LEAST)
        for term in (ALL_TRACES, LONGEST, *levels):
            assert not purgeable.plugin.index(term, None, None, 10)

    def test_purge_keeps_the_names_of_traces_that_go_on(
        self, purgeable: Storage
    ) -> None:
        start, stop = one_span(
            info={"request": {"method": "GET", "path": "/v3"}}
        )
        later = format_timestamp(STARTED + 50_000_000 * SECOND)
        write(purgeable, [start], [stop | {"timestamp": later}])
        # As if they had been added when the trace began.
        purgeable.plugin.delete_names(2**31 - 1)
        texts = {service_name("shop:api"), root_name("GET /v3")}
        week = week_of(STARTED)
        names = [Name(week, text) for text in sorted(texts)]
        purgeable.plugin.insert((), (), (), names)
        assert purgeable.purge(STARTED + 40_000_000 * SECOND) == 0
        assert purgeable.plugin.names(week + 1) == texts
        assert listed(purgeable, roots=["GET*"]) == [start["base_id"]]

    def test_purge_number_of_traces(self, purgeable: Storage) -> None:
        rng = seeded(1)
        for number in range(5):
            write(purgeable, request(rng, STARTED + number * SECOND))
        assert purgeable.purge(STARTED + 3 * SECOND) == 3
        assert purgeable.purge(STARTED + 3 * SECOND) == 0

    def test_purge_by_rules(self, purgeable: Storage) -> None:
        """And what is held back stays, until it is not."""
        rng = seeded(1)
        traces = [
            request(rng, STARTED + number * SECOND, error=error)
            for number, error in enumerate((None, "DBDeadlock") * 3)
        ]
        for payloads in traces:
            write(purgeable, payloads)
        plain, failed = (
            [payloads[0]["base_id"] for payloads in traces[which::2]]
            for which in (0, 1)
        )
        rules = [KeepRule("errors", [parse("error")], 200)]
        purge = Purge(Retention(100, rules))
        held = STARTED + 2 * SECOND
        now = STARTED + 110 * SECOND
        assert purgeable.purge_by(purge, now, dry_run=True) == 3
        assert (purge.gone, purge.kept) == ({None: 3}, {"errors": 3})
        assert purgeable.purge_by(purge, now, held=held) == 1
        assert listed(purgeable)[::-1] == sorted(
            [*plain[1:], *failed],
            key=[payloads[0]["base_id"] for payloads in traces].index,
        )
        assert purgeable.purge_by(purge, now) == 2
        assert listed(purgeable)[::-1] == failed
        assert purgeable.purge_by(purge, now + 100 * SECOND) == 3
        assert purgeable.plugin.index(ALL_TRACES, None, None, 100) == []

    def test_purge_nothing_stored(self, purgeable: Storage) -> None:
        assert purgeable.purge(STARTED) == 0

    def test_purge_marker_is_gone(
        self, purgeable: Storage, old: list[Payload]
    ) -> None:
        purgeable.purge(STARTED + SECOND)
        with pytest.raises(exceptions.TraceNotFound):
            listed(purgeable, marker=old[0]["base_id"])

    def test_purge_write_again(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
    ) -> None:
        purgeable.purge(STARTED + SECOND)
        write(purgeable, *cut(old, 3))
        self.assert_stored(purging_connection_string, old)
        assert observed(purgeable, old) == expected(old)

    @pytest.mark.parametrize(
        "late",
        [slice(None), slice(0, 1), slice(3, None), slice(-1, None)],
        ids=["all", "the start", "what has the error", "the end"],
    )
    def test_purge_leaves_what_is_written_meanwhile(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
        late: slice,
    ) -> None:
        """After the purger has looked, and before it deletes."""
        more = one_span(seed=3, service="late")[0]
        written = [*old[late], more | {"base_id": old[0]["base_id"]}]
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            meanwhile: Any = _Meanwhile(
                purgeable.plugin, lambda: write(other, written)
            )
            assert Storage(meanwhile).purge(STARTED + SECOND) == 1
        self.assert_purged_but(purging_connection_string, written)

    def test_purge_leaves_what_is_written_meanwhile_again(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
    ) -> None:
        """By a writer that knows the place that the trace had."""
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            write(other, old[:3])
            meanwhile: Any = _Meanwhile(
                purgeable.plugin, lambda: write(other, old[1:])
            )
            assert Storage(meanwhile).purge(STARTED + SECOND) == 1
        self.assert_purged_but(purging_connection_string, old[1:])

    def test_purge_is_noticed_by_who_wrote_before(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
    ) -> None:
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            write(other, old[:3])
            assert purgeable.purge(STARTED + SECOND) == 1
            write(other, old[3:])
        self.assert_purged_but(purging_connection_string, old[3:])

    def test_purge_is_noticed_when_others_wrote_since(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
    ) -> None:
        """Marks are there, but not all that the first writer knew of."""
        start, _ = one_span(seed=3, started=STARTED + SECOND, service="late")
        late = start | {"base_id": old[0]["base_id"]}
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            write(other, old[:3])
            assert purgeable.purge(STARTED + SECOND) == 1
            write(purgeable, [late])
            write(other, old[3:])
        self.assert_purged_but(purging_connection_string, [*old[3:], late])

    def test_purge_of_what_is_being_written(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
    ) -> None:
        """What its writer was told is stored, is stored and found."""
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            purged: Any = _Purged(purgeable.plugin, other)
            write(Storage(purged), old[3:])
            self.assert_purged_but(purging_connection_string, old[3:])
            assert other.purge(STARTED + SECOND) == 1
        assert purgeable.plugin.index(ALL_TRACES, None, None, 100) == []

    def test_purge_that_died(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        old: list[Payload],
    ) -> None:
        """What came meanwhile has no marks: who comes next adds them."""
        base_id = old[0]["base_id"]
        plugin = purgeable.plugin
        pieces = plugin.partials([base_id])[base_id]
        late, later = (
            {**payload, "base_id": base_id}
            for payload in one_span(seed=3, service="late")
        )
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as other:
            write(other, old[:1], old[1:2], old[2:3])  # it knows the place
            plugin.insert([Piece.of(notifications([late]))], (), ())
            plugin.delete(
                {base_id: pieces.keys()},
                sorted(
                    Entry(term, piece.started, base_id)
                    for piece in pieces.values()
                    for term in index_terms(pieces.values())
                ),
            )
            write(other, [later])
        self.assert_purged_but(purging_connection_string, [late, later])

    def assert_purged_but(
        self, connection_string: str, rest: list[Payload]
    ) -> None:
        """There is this of one trace, and nothing else."""
        self.assert_stored(connection_string, rest)
        with contextlib.closing(get_storage(connection_string)) as storage:
            assert observed(storage, rest) == expected(rest)
            base_id = rest[0]["base_id"]
            (summary,) = storage.list_traces(TraceQuery())
            for service in summary.services:
                assert listed(storage, services=[service]) == [base_id]
            errors = [base_id] if summary.errors else []
            assert listed(storage, error=True) == errors
