# SPDX-License-Identifier: Apache-2.0

"""When something of traces arrived, and who sees to it.

Time is cut into slots. Whoever writes something of a trace adds the trace to
the slot of that moment, in the same transaction, where anything is to be set
off by it. Arrivals are entries of the index, under a term of their own, at the
slot's beginning.

Who has something set off goes through the slots, one after the other. To do
so alone it takes a lease of each, for a short time, and renews it. A lease is
never changed: to renew it is to insert the next attempt, which only one can
do. One that has no end says that the slot is done. Up to which slot all are
done stands under a task beside it.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence

from profiler_bridge import exceptions
from profiler_bridge.storage.plugin import (
    Entry,
    Lease,
    Position,
    StoragePlugin,
)
from profiler_bridge.summary import ARRIVALS

#: Of a slot, in microseconds.
SLOT = 10_000_000
# Of a lease, in microseconds; and after how many of its seconds it is renewed.
_LEASE = 30_000_000
_RENEW_AFTER = 10_000_000
_DONE = 2**63 - 1
# So many entries are read at a time.
_STRETCH = 5000
# So many slots are done before it is noted.
_NOTED = 6


def now() -> int:
    """Microseconds since 1970, by this host's clock."""
    return time.time_ns() // 1000


def slot_of(moment: int) -> int:
    """The slot of a moment in microseconds since 1970."""
    return moment // SLOT


class Arrivals:
    """What this process has added to the slot that is now."""

    def __init__(self) -> None:
        self._slot = 0
        self._known: set[str] = set()

    def due(self, base_ids: Iterable[str]) -> list[Entry]:
        """The entries that traces need of which something is written now."""
        slot = slot_of(now())
        if slot != self._slot:
            self._slot, self._known = slot, set()
        return [
            Entry(ARRIVALS, slot * SLOT, base_id)
            for base_id in base_ids
            if base_id not in self._known
        ]

    def remember(self, entries: Iterable[Entry]) -> None:
        """Be told that these have been inserted."""
        self._known.update(
            entry.base_id for entry in entries if entry.at == self._slot * SLOT
        )


def arrivals(
    plugin: StoragePlugin, first: int, last: int
) -> Mapping[int, Sequence[str]]:
    """The traces of which something arrived in some slots, by slot.

    Slots in which nothing arrived are left out.
    """
    slots: dict[int, list[str]] = {}
    before: Position | None = Position((last + 1) * SLOT, "")
    while before is not None:
        stretch = plugin.index(ARRIVALS, before, first * SLOT, _STRETCH)
        for position in stretch:
            slots.setdefault(slot_of(position.at), []).append(position.base_id)
        before = stretch[-1] if len(stretch) == _STRETCH else None
    return slots


def quiet_until(plugin: StoragePlugin, first: int, end: int, few: int) -> int:
    """The first slot in which something may have arrived.

    Found in a few steps, however long it was quiet.

    :param first: where to begin
    :param end: where to end at the latest
    :param few: it may be so many slots too early
    """
    # Nothing arrived from the first until there.
    quiet = first
    while end - quiet > few:
        middle = (quiet + end) // 2
        before = Position(middle * SLOT, "")
        if plugin.index(ARRIVALS, before, quiet * SLOT, 1):
            end = middle
        else:
            quiet = middle
    return quiet


def delete_arrivals(plugin: StoragePlugin, before: int) -> None:
    """Delete those of all slots before this one.

    :raises StorageError: as for deleting; some may be gone
    """
    end = Position(before * SLOT, "")
    while stretch := plugin.index(ARRIVALS, end, None, _STRETCH):
        plugin.delete(
            {}, sorted(Entry(ARRIVALS, *position) for position in stretch)
        )


class Leased(Exception):
    """Another has the lease."""


class Slots:
    """One way through the slots.

    :param task: names it; the same for all who share the work
    :param first: the slot to begin with where none is done yet
    """

    def __init__(self, plugin: StoragePlugin, task: str, first: int) -> None:
        self._plugin = plugin
        self.task = task
        self._done_task = f"{task}/done"
        self._holder = str(uuid.uuid4())
        self._may_delete = True
        #: The first that is not known to be done.
        self.next = done_before(plugin, task, first)
        self._noted = self.next
        self._states: dict[int, Lease] = {}
        self._own: Lease | None = None

    def read(self) -> None:
        """Find out what the others have done, and are doing."""
        self._states = {
            lease.slot: lease
            for lease in self._plugin.leases(self.task, self.next)
        }

    def is_done(self, slot: int) -> bool:
        """Whether it was, when that was read last."""
        lease = self._states.get(slot)
        return lease is not None and lease.until == _DONE

    def taken(self) -> list[int]:
        """Those that others have, as far as that was read."""
        moment = now()
        return [
            slot
            for slot, lease in self._states.items()
            if moment < lease.until < _DONE and lease.holder != self._holder
        ]

    def take(self, slot: int) -> bool:
        """Take a slot, unless it is done, or another has it."""
        last = self._states.get(slot)
        if last is not None and last.until > now():
            return False
        return self._insert(slot, 0 if last is None else last.attempt + 1)

    def _insert(
        self, slot: int, attempt: int, until: int | None = None
    ) -> bool:
        if until is None:
            until = now() + _LEASE
        lease = Lease(self.task, slot, attempt, self._holder, until)
        if not self._plugin.lease(lease):
            return False
        self._own = self._states[slot] = lease
        return True

    def renew(self) -> None:
        """Keep the slot that was taken, if it is time.

        :raises Leased: it was too late
        """
        own, moment = self._own, now()
        if own is None or moment < own.until - _LEASE + _RENEW_AFTER:
            return
        # Of a slot that another has done the leases may be deleted already.
        if moment >= own.until or not self._insert(own.slot, own.attempt + 1):
            raise Leased

    def finish(self) -> None:
        """Say that the slot that was taken is done."""
        if self._own is not None:
            self._insert(self._own.slot, self._own.attempt + 1, _DONE)
            self._own = None

    def give_back(self) -> None:
        """Let others have the slot that was taken."""
        if self._own is not None:
            self._insert(self._own.slot, self._own.attempt + 1, now())
            self._own = None

    def pass_by(self, slot: int) -> None:
        """Be told that all before this one are done, or nothing is in them."""
        self.next = max(self.next, slot)
        if self.next - self._noted < _NOTED:
            return
        self._plugin.lease(
            Lease(self._done_task, self.next, 0, self._holder, _DONE)
        )
        self._noted = self.next
        if self._may_delete:
            # Without the right to delete they stay.
            self._may_delete = False
            with contextlib.suppress(exceptions.StorageMisconfigured):
                self._plugin.delete_leases(self.task, self.next)
                self._plugin.delete_leases(self._done_task, self.next)
                self._may_delete = True


def done_before(plugin: StoragePlugin, task: str, first: int) -> int:
    """The slot before which all are done.

    :param first: where it begins, if nothing is done yet, or if that was
        twice as long ago
    """
    long_ago = 2 * first - slot_of(now())
    return max(
        (lease.slot for lease in plugin.leases(f"{task}/done", long_ago)),
        default=first,
    )
