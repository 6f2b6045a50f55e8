# SPDX-License-Identifier: Apache-2.0

"""Whatever comes, in whatever company, is stored once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    StorageTests,
    cut,
    expected,
    listed,
    observed,
    shuffled,
    write,
)
from profiler_bridge.testing.processes import (
    WRITERS,
    in_processes,
    in_threads,
)
from profiler_bridge.testing.sample import (
    Payload,
    notifications,
    one_span,
    request,
    seeded,
)


def _ten_traces() -> list[Payload]:
    rng = seeded(1)
    return [payload for _ in range(10) for payload in request(rng, calls=6)]


def _prepare_and_write(
    connection_string: str, batches: Sequence[Sequence[Payload]]
) -> None:
    """Be a worker, from its first start to its end."""
    with contextlib.closing(get_storage(connection_string)) as storage:
        storage.prepare()
        write(storage, *batches)


class Writing(StorageTests):
    """Writing, by one and by many."""

    def test_write_and_read(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        write(storage, payloads)
        self.assert_stored(connection_string, payloads)

    def test_write_no_notifications(
        self, connection_string: str, storage: Storage
    ) -> None:
        assert storage.write([]) == 0
        self.assert_stored(connection_string, [])

    def test_write_traces_mixed_in_a_batch(
        self, connection_string: str, storage: Storage
    ) -> None:
        rng = seeded(1)
        payloads = shuffled([*request(rng), *request(rng), *request(rng)], 1)
        write(storage, payloads)
        self.assert_stored(connection_string, payloads)
        assert observed(storage, payloads) == expected(payloads)

    def test_write_twice_in_a_batch(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        write(storage, payloads + payloads)
        self.assert_stored(connection_string, payloads)
        assert observed(storage, payloads) == expected(payloads)

    def test_write_batch_again(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        write(storage, payloads, payloads)
        self.assert_stored(connection_string, payloads)
        assert observed(storage, payloads) == expected(payloads)

    def test_write_tells_how_many_are_new(self, storage: Storage) -> None:
        one, two = request(seeded(1)), request(seeded(2))
        assert storage.write(notifications(one[:4])) == 4
        assert storage.write(notifications(one[:4])) == 0
        assert storage.write(notifications(one[:4] + two)) == len(two)
        assert storage.write(notifications(two[:2] * 2 + one[:4])) == 2

    def test_write_overlapping_batches(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        for batch in (payloads[:9], payloads[4:], payloads[2:11]):
            # What is there in other company is another piece.
            assert storage.write(notifications(batch)) == len(batch)
        self.assert_stored(connection_string, payloads)
        assert observed(storage, payloads) == expected(payloads)

    def test_write_redelivery_cut_differently(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        for size in (5, 3, len(payloads), 1):
            write(storage, *cut(shuffled(payloads, size), size))
        self.assert_stored(connection_string, payloads)
        assert observed(storage, payloads) == expected(payloads)

    def test_write_reversed(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        write(storage, payloads[::-1])
        assert observed(storage, payloads) == expected(payloads)

    def test_write_shuffled_in_pieces_of_every_size(
        self, storage: Storage
    ) -> None:
        rng = seeded(1)
        everything = []
        for size in range(1, 15):
            payloads = request(rng, error="DBDeadlock")
            write(storage, *cut(shuffled(payloads, size), size))
            everything += payloads
        assert observed(storage, everything) == expected(everything)

    def test_write_equal_but_for_one_field(
        self, connection_string: str, storage: Storage
    ) -> None:
        """What identifies a notification is all of it, not its ids."""
        start, _ = one_span()
        payloads = [start, start | {"more": 1}, start | {"more": 2}]
        write(storage, *cut(payloads, 1))
        self.assert_stored(connection_string, payloads)

    # Several writers, each with all of it, as after a redelivery to others

    def assert_stored_once(
        self, connection_string: str, payloads: list[Payload]
    ) -> None:
        self.assert_stored(connection_string, payloads)
        with contextlib.closing(get_storage(connection_string)) as storage:
            assert len(listed(storage, limit=100)) == 10
            assert observed(storage, payloads) == expected(payloads)

    @pytest.mark.usefixtures("storage")
    def test_writers_in_threads(self, connection_string: str) -> None:
        payloads = _ten_traces()

        def work(number: int) -> None:
            with contextlib.closing(get_storage(connection_string)) as own:
                write(own, *cut(shuffled(payloads, number), 40))

        in_threads(work)
        self.assert_stored_once(connection_string, payloads)

    def test_writers_in_processes(self, connection_string: str) -> None:
        payloads = _ten_traces()
        in_processes(
            _prepare_and_write,
            [
                (connection_string, cut(shuffled(payloads, seed), 40))
                for seed in range(WRITERS)
            ],
        )
        self.assert_stored_once(connection_string, payloads)

    @pytest.mark.usefixtures("storage")
    def test_writers_that_have_a_part(self, connection_string: str) -> None:
        """No writer sees the whole of a trace, in its own batches."""
        payloads = _ten_traces()

        def work(number: int) -> None:
            with contextlib.closing(get_storage(connection_string)) as own:
                write(own, *cut(shuffled(payloads, 0)[number::WRITERS], 20))

        in_threads(work)
        self.assert_stored_once(connection_string, payloads)
