# SPDX-License-Identifier: Apache-2.0

"""What a plugin's ``insert`` adds, and what it answers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import (
    LONGEST_NAME,
    Entry,
    Inserted,
    Kind,
    Mark,
    Name,
    Piece,
    Place,
    Position,
    StoragePlugin,
)
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import ALL_TRACES
from profiler_bridge.testing.helpers import (
    StorageTests,
    as_texts,
    cut,
    shuffled,
    stored,
)
from profiler_bridge.testing.processes import in_processes, wait_for_others
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    TEXTS,
    Payload,
    new_id,
    notifications,
    one_span,
    request,
    seeded,
)

# The first and the last of 64 bits, and what is about zero.
EXTREMES = (-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 2, 2**63 - 1)


def pieces_of(*parts: Sequence[Payload]) -> list[Piece]:
    """A piece of each part, which is of one trace."""
    return in_order([Piece.of(notifications(part)) for part in parts])


def in_order(pieces: Sequence[Piece]) -> list[Piece]:
    """As :meth:`Storage.write` brings them."""
    return sorted(pieces, key=lambda piece: (piece.base_id, piece.digest))


# Of all traces here that have a finish.
FINISHED = STARTED + 1000 * SECOND


def single_points(count: int) -> list[Piece]:
    """Pieces of as many traces."""
    seeds = range(1000, 1000 + count)
    return pieces_of(*(one_span(seed=seed)[:1] for seed in seeds))


def marks_of(base_id: str, place: Place) -> list[Mark]:
    return sorted(
        [
            Mark(base_id, Kind.START, place.started),
            Mark(base_id, Kind.FINISH, place.finished),
            *(Mark(base_id, Kind.TERM, term) for term in place.terms),
        ]
    )


def place(started: int, *terms: int) -> Place:
    """A place as traces have it, for all are under one term."""
    return Place(started, FINISHED, frozenset({ALL_TRACES, *terms}))


def places(inserted: Inserted) -> dict[str, Place]:
    """What was answered, whatever sets and mappings a plugin has."""
    return {
        base_id: Place(started, finished, frozenset(terms))
        for base_id, (started, finished, terms) in inserted.places.items()
    }


def everything(plugin: StoragePlugin, term: int) -> list[Position]:
    return list(plugin.index(term, None, None, 10_000))


def _race(
    connection_string: str, number: int, base_ids: Sequence[str]
) -> list[Place]:
    """Mark traces, each at the moment when another process does it."""
    answers = []
    with contextlib.closing(get_storage(connection_string)) as storage:
        storage.check()
        for base_id in base_ids:
            marks = marks_of(base_id, place(number, number))
            wait_for_others()
            inserted = storage.plugin.insert((), marks, ())
            answers.append(places(inserted)[base_id])
    return answers


class Inserting(StorageTests):
    """Three sets, to which a writer adds."""

    def test_insert_nothing(self, storage: Storage) -> None:
        inserted = storage.plugin.insert((), (), ())
        assert not inserted.known
        assert not inserted.places

    # Pieces, and which of them were known

    def test_insert_pieces_again(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        pieces = pieces_of(payloads[:6], payloads[6:])
        base_id = payloads[0]["base_id"]
        storage.plugin.insert(pieces, (), ())
        once = storage.plugin.partials([base_id])
        assert once == {
            base_id: {piece.digest: piece.summary for piece in pieces}
        }
        storage.plugin.insert(pieces, (), ())
        assert storage.plugin.partials([base_id]) == once
        self.assert_stored(connection_string, payloads)

    def test_insert_known_pieces(self, storage: Storage) -> None:
        pieces = single_points(6)
        digests = [piece.digest for piece in pieces]
        old, new = pieces[::2], pieces[1::2]
        insert = storage.plugin.insert
        assert set(insert(old, (), ()).known) == set()
        assert set(insert(old, (), ()).known) == set(digests[::2])
        assert set(insert(pieces, (), ()).known) == set(digests[::2])
        assert set(insert(new, (), ()).known) == set(digests[1::2])

    def test_insert_known_pieces_of_one_trace(self, storage: Storage) -> None:
        """A part of a known piece is another, and so is it with one more."""
        payloads = request(seeded(1))
        (known,) = pieces_of(payloads[:4])
        others = pieces_of(payloads[:3], payloads[:5], payloads[4:])
        storage.plugin.insert([known], (), ())
        inserted = storage.plugin.insert([known, *others], (), ())
        assert set(inserted.known) == {known.digest}

    def test_insert_known_pieces_among_many(self, storage: Storage) -> None:
        """More than databases take as parameters of one statement."""
        pieces = single_points(1500)
        storage.plugin.insert(pieces[::2], (), ())
        inserted = storage.plugin.insert(pieces, (), ())
        assert set(inserted.known) == {piece.digest for piece in pieces[::2]}

    # Marks, and the places that they tell

    def test_insert_marks_again(self, storage: Storage) -> None:
        base_id = new_id(seeded(1))
        marks = marks_of(base_id, place(STARTED, 1, 2))
        for _ in range(2):
            inserted = storage.plugin.insert((), marks, ())
            assert places(inserted) == {base_id: place(STARTED, 1, 2)}

    def test_insert_tells_the_least_start_and_all_terms(
        self, connection_string: str, storage: Storage
    ) -> None:
        """Of what was there, what came now, and what others wrote."""
        one, two, unmarked = single_points(3)
        storage.plugin.insert(
            (),
            sorted(
                marks_of(one.base_id, place(20, 1, 2))
                + marks_of(two.base_id, place(5, 7))
            ),
            (),
        )
        with contextlib.closing(get_storage(connection_string)) as other:
            other.plugin.insert((), marks_of(one.base_id, place(10, 3)), ())
        inserted = storage.plugin.insert(
            [one, two, unmarked],
            sorted(
                marks_of(one.base_id, place(30, 2, 4))
                + marks_of(two.base_id, place(4, 7))
            ),
            (),
        )
        assert places(inserted) == {
            one.base_id: place(10, 1, 2, 3, 4),
            two.base_id: place(4, 7),
        }

    def test_insert_tells_the_greatest_finish(self, storage: Storage) -> None:
        base_id = new_id(seeded(1))
        told = []
        for finished in (3, 1, 4, -5, 2):
            marks = marks_of(base_id, Place(0, finished, frozenset({1})))
            inserted = storage.plugin.insert((), marks, ())
            told.append(places(inserted)[base_id].finished)
        assert told == [3, 3, 4, 4, 4]

    def test_insert_tells_places_of_traces_with_a_piece(
        self, storage: Storage
    ) -> None:
        """A writer brings no marks that it knows to be there."""
        marked, unmarked = single_points(2)
        marks = marks_of(marked.base_id, place(1, 2))
        storage.plugin.insert((), marks, ())
        inserted = storage.plugin.insert([marked, unmarked], (), ())
        assert places(inserted) == {marked.base_id: place(1, 2)}

    def test_insert_tells_no_place_without_a_start(
        self, storage: Storage
    ) -> None:
        """As after a purge, when a writer brings what is new to it."""
        base_id = new_id(seeded(1))
        terms = [Mark(base_id, Kind.TERM, term) for term in (1, ALL_TRACES)]
        insert = storage.plugin.insert
        assert not insert((), sorted(terms), ()).places
        start = Mark(base_id, Kind.START, 2)
        assert not insert((), [start], ()).places
        finish = Mark(base_id, Kind.FINISH, FINISHED)
        inserted = insert((), [finish], ())
        assert places(inserted) == {base_id: place(2, 1)}

    def test_insert_tells_no_terms_that_are_not_there(
        self, storage: Storage
    ) -> None:
        """Without terms, as after a purge, a trace may have no place."""
        base_id = new_id(seeded(1))
        marks = [Mark(base_id, Kind.START, 2), Mark(base_id, Kind.FINISH, 3)]
        inserted = storage.plugin.insert((), marks, ())
        assert places(inserted) in ({}, {base_id: Place(2, 3, frozenset())})

    def test_insert_tells_no_places_of_entries(self, storage: Storage) -> None:
        base_id = new_id(seeded(1))
        storage.plugin.insert((), marks_of(base_id, place(1, 2)), ())
        inserted = storage.plugin.insert((), (), [Entry(2, 1, base_id)])
        assert not inserted.places

    def test_insert_marks_of_one_trace_a_thousand_times(
        self, storage: Storage
    ) -> None:
        base_id = new_id(seeded(1))
        marks = [
            *marks_of(base_id, place(500, 1)),
            *(Mark(base_id, Kind.START, start) for start in range(-500, 500)),
        ]
        for some in cut(shuffled(marks, 1), 100):
            inserted = storage.plugin.insert((), sorted(some), ())
        assert places(inserted) == {base_id: place(-500, 1)}

    def test_insert_marks_of_a_thousand_traces(self, storage: Storage) -> None:
        pieces = single_points(1000)
        wanted = {
            piece.base_id: place(at, at, -at)
            for at, piece in enumerate(pieces, 1)
        }
        marks = [
            mark
            for base_id, its_place in wanted.items()
            for mark in marks_of(base_id, its_place)
        ]
        inserted = storage.plugin.insert(pieces, sorted(marks), ())
        assert places(inserted) == wanted

    def test_insert_marks_of_64_bits(self, storage: Storage) -> None:
        rng = seeded(1)
        wanted = {new_id(rng): place(start, *EXTREMES) for start in EXTREMES}
        for base_id, its_place in wanted.items():
            storage.plugin.insert((), marks_of(base_id, its_place), ())
        more = [Mark(base_id, Kind.START, 2**63 - 1) for base_id in wanted]
        inserted = storage.plugin.insert((), sorted(more), ())
        assert places(inserted) == wanted

    @pytest.mark.usefixtures("storage")
    def test_insert_in_processes_that_see_each_other(
        self, connection_string: str
    ) -> None:
        """Of two writers of a trace one sees the marks of both."""
        rng = seeded(1)
        base_ids = [new_id(rng) for _ in range(100)]
        answers = in_processes(
            _race,
            [(connection_string, number, base_ids) for number in (1, 2)],
        )
        assert [
            base_id
            for base_id, *its_places in zip(base_ids, *answers, strict=True)
            if place(1, 1, 2) not in its_places
        ] == []

    # Entries

    def test_insert_entries_again(self, storage: Storage) -> None:
        entry = Entry(1, STARTED, new_id(seeded(1)))
        for _ in range(2):
            storage.plugin.insert((), (), [entry])
            assert everything(storage.plugin, 1) == [entry[1:]]

    def test_insert_entries_of_64_bits(self, storage: Storage) -> None:
        base_id = new_id(seeded(1))
        storage.plugin.insert(
            (),
            (),
            [
                Entry(term, started, base_id)
                for term in EXTREMES
                for started in EXTREMES
            ],
        )
        latest_first = [
            Position(started, base_id) for started in reversed(EXTREMES)
        ]
        index = storage.plugin.index
        for term in EXTREMES:
            assert list(index(term, None, None, 100)) == latest_first
            for at, position in enumerate(latest_first):
                before = index(term, position, None, 100)
                assert list(before) == latest_first[at + 1 :]
                since = index(term, None, position.at, 100)
                assert list(since) == latest_first[: at + 1]

    # All of it

    def test_insert_all_at_once_and_again(self, storage: Storage) -> None:
        pieces = single_points(20)
        marks = [
            mark
            for piece in pieces
            for mark in marks_of(piece.base_id, place(STARTED, 1, 2))
        ]
        entries = [
            Entry(term, STARTED, piece.base_id)
            for term in (1, 2)
            for piece in pieces
        ]
        for known in ([], pieces):
            inserted = storage.plugin.insert(pieces, marks, entries)
            assert set(inserted.known) == {piece.digest for piece in known}
            assert places(inserted) == {
                piece.base_id: place(STARTED, 1, 2) for piece in pieces
            }
            for term in (1, 2):
                assert everything(storage.plugin, term) == [
                    Position(STARTED, piece.base_id)
                    for piece in reversed(pieces)
                ]

    def test_insert_overlapping_pieces(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        pieces = pieces_of(payloads[:9], payloads[4:], payloads[2:11])
        storage.plugin.insert(pieces, (), ())
        base_id = payloads[0]["base_id"]
        assert stored(storage, base_id) == as_texts(payloads)

    def test_insert_two_thousand_pieces_of_one_trace(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1), calls=333)
        base_id = payloads[0]["base_id"]
        pieces = pieces_of(*cut(payloads, 1))
        assert len(pieces) == 2000
        for some in cut(shuffled(pieces, 1), 500):
            storage.plugin.insert(some, (), ())
        self.assert_stored(connection_string, payloads)
        assert storage.plugin.partials([base_id]) == {
            base_id: {piece.digest: piece.summary for piece in pieces}
        }

    # Names

    def test_names(self, connection_string: str, storage: Storage) -> None:
        """Of a week and of those after it, each once, whatever is in them."""
        names = [
            Name(week, f"{kind}:{text}")
            for week in (-3, 0, 2900, 2901)
            for kind, text in [*TEXTS.items()][:-1]
        ]
        names = [name for name in names if len(name.text) <= LONGEST_NAME]
        for _ in range(2):
            storage.plugin.insert((), (), (), sorted(names))
        texts = {name.text for name in names}
        with contextlib.closing(get_storage(connection_string)) as other:
            assert other.plugin.names(-(2**31)) == texts
        assert storage.plugin.names(2901) == texts
        assert storage.plugin.names(2902) == set()

    def test_names_that_are_old(self, purgeable: Storage) -> None:
        plugin = purgeable.plugin
        plugin.insert((), (), (), [Name(3, "a"), Name(4, "b"), Name(5, "c")])
        plugin.delete_names(4)
        assert plugin.names(-(2**31)) == {"b", "c"}
        plugin.delete_names(4)
        plugin.delete_names(6)
        assert plugin.names(-(2**31)) == set()
