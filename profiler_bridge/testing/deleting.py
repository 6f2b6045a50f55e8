# SPDX-License-Identifier: Apache-2.0

"""What a plugin's ``delete`` takes, and what it leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from profiler_bridge.storage.plugin import (
    Entry,
    Piece,
    Place,
    Position,
    StoragePlugin,
)
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    UNKNOWN_ID,
    StorageTests,
    as_texts,
    stored,
)
from profiler_bridge.testing.inserting import (
    everything,
    in_order,
    marks_of,
    pieces_of,
    place,
    places,
    single_points,
)
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    request,
    seeded,
)

PLACE = place(STARTED, 1, 2)


def insert(plugin: StoragePlugin, pieces: Sequence[Piece]) -> None:
    """Insert them with marks and entries at :data:`PLACE`."""
    base_ids = sorted({piece.base_id for piece in pieces})
    plugin.insert(
        pieces,
        [mark for base_id in base_ids for mark in marks_of(base_id, PLACE)],
        entries_of(base_ids, 1, 2),
    )


def entries_of(base_ids: Sequence[str], *terms: int) -> list[Entry]:
    return [
        Entry(term, STARTED, base_id) for term in terms for base_id in base_ids
    ]


def marked(plugin: StoragePlugin, piece: Piece) -> Place | None:
    """What the marks of its trace tell; the piece is there afterwards."""
    return places(plugin.insert([piece], (), ())).get(piece.base_id)


def all_base_ids(plugin: StoragePlugin) -> set[str]:
    base_ids: set[str] = set()
    for count, stretch in enumerate(plugin.base_ids()):
        assert count < 10_000, "there is no end of them"
        base_ids.update(stretch)
    return base_ids


class Deleting(StorageTests):
    """What was inserted goes when it is named, and not otherwise."""

    @pytest.fixture
    def payloads(self) -> list[Payload]:
        return request(seeded(1))

    @pytest.fixture
    def three(self, payloads: list[Payload]) -> list[Piece]:
        """Pieces of one trace, none of which has anything of another."""
        return pieces_of(payloads[:5], payloads[5:9], payloads[9:])

    def test_delete_a_trace(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        payloads: list[Payload],
        three: list[Piece],
    ) -> None:
        plugin = purgeable.plugin
        other = request(seeded(2))
        (other_piece,) = pieces_of(other)
        insert(plugin, in_order([*three, other_piece]))
        base_id = three[0].base_id
        plugin.delete(
            {base_id: [piece.digest for piece in three]},
            entries_of([base_id], 1, 2),
        )
        assert plugin.notifications(base_id) == []
        assert set(plugin.partials([base_id, other_piece.base_id])) == {
            other_piece.base_id
        }
        for term in (1, 2):
            assert everything(plugin, term) == [
                Position(STARTED, other_piece.base_id)
            ]
        self.assert_stored(purging_connection_string, other)
        assert marked(plugin, other_piece) == PLACE
        assert marked(plugin, three[0]) is None

    def test_delete_some_pieces(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        three: list[Piece],
    ) -> None:
        plugin = purgeable.plugin
        insert(plugin, three)
        gone, kept, gone_too = three
        plugin.delete({kept.base_id: [gone.digest, gone_too.digest]}, ())
        assert plugin.partials([kept.base_id]) == {
            kept.base_id: {kept.digest: kept.summary}
        }
        self.assert_stored(
            purging_connection_string,
            [dict(point.payload) for point in kept.notifications],
        )

    def test_delete_pieces_that_overlap(
        self, purgeable: Storage, payloads: list[Payload]
    ) -> None:
        """What stays has all of its notifications."""
        plugin = purgeable.plugin
        first, second = payloads[:9], payloads[4:]
        (gone,), (kept,) = pieces_of(first), pieces_of(second)
        insert(plugin, in_order([gone, kept]))
        plugin.delete({gone.base_id: [gone.digest]}, ())
        assert stored(purgeable, kept.base_id) == as_texts(second)

    def test_delete_takes_all_marks(
        self, purgeable: Storage, three: list[Piece]
    ) -> None:
        """Even if a piece stays: whoever brought it will bring them again."""
        plugin = purgeable.plugin
        insert(plugin, three)
        plugin.insert((), marks_of(three[0].base_id, place(-1, 3, 4)), ())
        plugin.delete({three[0].base_id: [three[0].digest]}, ())
        assert marked(plugin, three[1]) is None

    def test_delete_takes_the_named_entries(
        self, purgeable: Storage, three: list[Piece]
    ) -> None:
        plugin = purgeable.plugin
        insert(plugin, three)
        base_id = three[0].base_id
        beside = [
            Position(STARTED + 1, base_id),
            Position(STARTED, UNKNOWN_ID),
            Position(STARTED - 1, base_id),
        ]
        plugin.insert(
            (), (), sorted(Entry(1, *position) for position in beside)
        )
        plugin.delete({base_id: [0]}, [Entry(1, STARTED, base_id)])
        assert everything(plugin, 1) == beside
        assert everything(plugin, 2) == [Position(STARTED, base_id)]

    def test_delete_many_traces_at_once(
        self, purging_connection_string: str, purgeable: Storage
    ) -> None:
        """More than databases take as parameters of one statement."""
        plugin = purgeable.plugin
        pieces = single_points(1200)
        insert(plugin, pieces)
        kept, gone = (
            pieces[::100],
            [piece for at, piece in enumerate(pieces) if at % 100],
        )
        base_ids = [piece.base_id for piece in gone]
        plugin.delete(
            {piece.base_id: [piece.digest] for piece in gone},
            entries_of(base_ids, 1, 2),
        )
        self.assert_stored(
            purging_connection_string,
            [dict(piece.notifications[0].payload) for piece in kept],
        )
        for term in (1, 2):
            assert everything(plugin, term) == [
                Position(STARTED, piece.base_id) for piece in reversed(kept)
            ]
        inserted = plugin.insert(pieces, (), ())
        assert places(inserted) == {piece.base_id: PLACE for piece in kept}

    def test_delete_a_trace_of_many_pieces(self, purgeable: Storage) -> None:
        plugin = purgeable.plugin
        payloads = request(seeded(1), calls=333)
        pieces = pieces_of(*([payload] for payload in payloads))
        insert(plugin, pieces)
        base_id = pieces[0].base_id
        plugin.delete({base_id: [piece.digest for piece in pieces[1:]]}, ())
        assert plugin.partials([base_id]) == {
            base_id: {pieces[0].digest: pieces[0].summary}
        }
        assert len(plugin.notifications(base_id)) == 1

    def test_delete_what_is_gone(
        self, purgeable: Storage, three: list[Piece]
    ) -> None:
        plugin = purgeable.plugin
        insert(plugin, three)
        base_id = three[0].base_id
        for _ in range(2):
            plugin.delete(
                {base_id: [three[0].digest]}, entries_of([base_id], 1)
            )
        assert set(plugin.partials([base_id])[base_id]) == {
            piece.digest for piece in three[1:]
        }

    def test_delete_nothing(
        self, purgeable: Storage, three: list[Piece]
    ) -> None:
        insert(purgeable.plugin, three)
        purgeable.plugin.delete({}, ())
        assert marked(purgeable.plugin, three[0]) == PLACE

    def test_delete_check_deletes_nothing(
        self, purgeable: Storage, three: list[Piece]
    ) -> None:
        insert(purgeable.plugin, three)
        purgeable.plugin.check_deletion()
        assert marked(purgeable.plugin, three[0]) == PLACE
        assert everything(purgeable.plugin, 1) == [
            Position(STARTED, three[0].base_id)
        ]

    def test_delete_and_insert_again(
        self,
        purging_connection_string: str,
        purgeable: Storage,
        payloads: list[Payload],
        three: list[Piece],
    ) -> None:
        plugin = purgeable.plugin
        base_id = three[0].base_id
        digests = [piece.digest for piece in three]
        insert(plugin, three)
        plugin.delete({base_id: digests}, entries_of([base_id], 1))
        inserted = plugin.insert(three, marks_of(base_id, place(7, 8)), ())
        assert set(inserted.known) == set()
        assert places(inserted) == {base_id: place(7, 8)}
        self.assert_stored(purging_connection_string, payloads)

    # All traces

    def test_base_ids_of_nothing(self, storage: Storage) -> None:
        assert all_base_ids(storage.plugin) == set()

    def test_base_ids_of_all_traces(self, storage: Storage) -> None:
        pieces = single_points(1200)
        storage.write_pieces(pieces)
        assert all_base_ids(storage.plugin) == {
            piece.base_id for piece in pieces
        }

    def test_base_ids_after_purge(
        self, purgeable: Storage, three: list[Piece]
    ) -> None:
        old, new = single_points(2)
        purgeable.write_pieces(in_order([*three, old]))
        purgeable.purge(STARTED + 10 * SECOND)
        purgeable.write_pieces([new])
        assert all_base_ids(purgeable.plugin) == {new.base_id}
