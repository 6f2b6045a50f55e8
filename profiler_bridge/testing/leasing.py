# SPDX-License-Identifier: Apache-2.0

"""Leases, of which several who want one get one; and notes about traces."""

from __future__ import annotations

import threading
import uuid

from profiler_bridge.storage.plugin import Kind, Lease, Mark
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import summary_of, write
from profiler_bridge.testing.sample import request, seeded

_HOLDERS = [str(uuid.UUID(int=number)) for number in range(4)]


def _lease(slot: int, attempt: int = 0, holder: int = 0) -> Lease:
    return Lease("export:x/settled", slot, attempt, _HOLDERS[holder], 2**62)


class Leasing:
    """The tests."""

    def test_a_lease_is_of_one_holder(self, purgeable: Storage) -> None:
        plugin = purgeable.plugin
        assert plugin.leases("export:x/settled", -1) == []
        assert plugin.lease(_lease(7))
        assert not plugin.lease(_lease(7, holder=1))
        # Who got no answer asks again.
        assert plugin.lease(_lease(7))
        assert plugin.lease(_lease(7, attempt=1, holder=1))
        assert plugin.lease(_lease(8, holder=1))
        assert plugin.lease(_lease(7)._replace(task="other"))
        assert [*plugin.leases("export:x/settled", 7)] == [
            _lease(7),
            _lease(7, attempt=1, holder=1),
            _lease(8, holder=1),
        ]
        assert [*plugin.leases("export:x/settled", 8)] == [_lease(8, holder=1)]
        plugin.delete_leases("export:x/settled", 8)
        assert [*plugin.leases("export:x/settled", 0)] == [_lease(8, holder=1)]
        assert len(plugin.leases("other", 0)) == 1

    def test_of_several_at_once_one_has_the_lease(
        self, storage: Storage
    ) -> None:
        won: list[int] = []
        start = threading.Barrier(len(_HOLDERS))

        def take(holder: int) -> None:
            start.wait()
            for slot in range(20):
                if storage.plugin.lease(_lease(slot, holder=holder)):
                    won.append(slot)

        threads = [
            threading.Thread(target=take, args=[holder])
            for holder in range(len(_HOLDERS))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [*range(20)]

    def test_notes_change_nothing_else(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        base_id = payloads[0]["base_id"]
        write(storage, payloads[1:])
        before = summary_of(storage, base_id)
        values = {5, -(2**63), 2**63 - 1}
        notes = [Mark(base_id, Kind.NOTE, value) for value in values]
        (place,) = storage.plugin.insert((), notes, ()).places.values()
        assert {*storage.plugin.marks([base_id], Kind.NOTE)[base_id]} == values
        assert storage.plugin.marks([base_id], Kind.START)[base_id] == [
            place.started
        ]
        terms = storage.plugin.marks([base_id], Kind.TERM)[base_id]
        assert {*terms} == place.terms
        assert summary_of(storage, base_id) == before
        # An earlier start is found among them all.
        write(storage, payloads)
        after = summary_of(storage, base_id)
        assert after.started < before.started
