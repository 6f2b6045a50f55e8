# SPDX-License-Identifier: Apache-2.0

"""Gives settled traces to a consumer, once each, beside others who do it too.

There are two ways through the slots of arrivals. The first is close behind the
present: it takes a trace to which nothing came since, and whose spans all have
their ends. The second is as far behind as anybody waits for an end. It takes
whatever the first has left; and what it did not see, because it was written
slowly or by a clock that is wrong.

What keeps a trace from being taken by two at once: whoever has a slot leaves
out a trace that another has in a later slot, and waits for one that another
has in an earlier slot.

A trace that goes on for ever is left by slot after slot. So some slots of each
``settle_at_most`` are not: from these those of its spans go that have ended.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from typing import NamedTuple

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.retry import pauses
from profiler_bridge.settled import Consumer, Settled
from profiler_bridge.storage import slots
from profiler_bridge.storage.plugin import Kind, Mark, StoragePlugin
from profiler_bridge.storage.portions import portions
from profiler_bridge.storage.settling import Due, due, notes_of
from profiler_bridge.storage.slots import SLOT, Leased, Slots
from profiler_bridge.summary import short_id
from profiler_bridge.trace import Trace

# Microseconds in which a write is over, but for a few.
_WRITE = 2_000_000
# So many slots are looked at together.
_SLOTS = 60
# The late way leaves a trace to which something came in so many slots. Whether
# anything came after these it finds out only where it matters.
_LATE_FOLLOWING = 6
# Traces of so many spans are read and given at once, if there are several; and
# so many traces.
_SPANS = 2000
_TRACES = 200
# So many traces are kept longer at once.
_KEPT = 50
# What ended so long before it arrived is history that somebody sends again,
# and sets off nothing; in microseconds.
_HISTORY = 24 * 3600 * 1_000_000
# Seconds until it is looked again whether others are done with a trace.
_PAUSE = 0.5


class Interrupted(Exception):
    """The process is to end."""


class _HeldTooLong(Exception):
    """The consumer has not taken it in all the time that it is kept for it."""


class Waiting(NamedTuple):
    """How long what is waited for; all in microseconds.

    :param quiet: nothing came for so long to a trace that has settled
    :param at_most: so long at most
    :param hold: how long traces are kept for a consumer that takes none
    :param life: after how long they expire by themselves; 0 where they do not
    """

    quiet: int
    at_most: int
    hold: int
    life: int = 0


class _Way:
    """One way through the slots.

    :param age: how long ago a slot has ended when it is looked at
    :param following: so many slots after it are looked at, whether a trace
        goes on
    """

    def __init__(
        self,
        plugin: StoragePlugin,
        task: str,
        age: int,
        following: int,
        hold: int,
    ) -> None:
        self.age = age
        self.following = following
        first = slots.slot_of(slots.now() - hold)
        self.slots = Slots(plugin, task, first)

    def last(self) -> int:
        """The last slot that is old enough."""
        return slots.slot_of(slots.now() - self.age) - 1


def tasks(consumer: str) -> tuple[str, str]:
    """What the two ways of a consumer are called in a storage."""
    return f"{consumer}/settled", f"{consumer}/late"


class Settler:
    """What one process does for one consumer.

    :param stopping: set when the process is to end
    :param lose: told how many traces the consumer has not taken in time
    :param report: told now and then how many it has taken since the last
        time; how many of the oldest ten minutes' wait for it; and up to when
        all that arrived has been seen to, in seconds since 1970
    """

    def __init__(
        self,
        plugin: StoragePlugin,
        consumer: Consumer,
        waiting: Waiting,
        stopping: threading.Event,
        lose: Callable[[int], object],
        report: Callable[[int, int, float], object] = lambda *_: None,
    ) -> None:
        self._plugin = plugin
        self._consumer = consumer
        self._waiting = waiting
        self._stopping = stopping
        self._lose = lose
        self._tell = report
        first, late = tasks(consumer.name)
        quiet = waiting.quiet + _WRITE
        following = -(-waiting.quiet // SLOT)
        self._first = _Way(plugin, first, quiet, following, waiting.hold)
        self._late = _Way(
            plugin,
            late,
            max(quiet, waiting.at_most),
            _LATE_FOLLOWING,
            waiting.hold,
        )
        self._every = max(1, waiting.at_most // SLOT)
        self._slot = 0
        # The slots before this one need not be kept any more.
        self._kept = 0
        self._noted: set[str] = set()
        self._taken = 0
        self._backlog = 0

    def _report(self) -> None:
        seen = min(
            way.slots.next * SLOT + way.age
            for way in (self._first, self._late)
        )
        self._tell(self._taken, self._backlog, seen / 1e6)
        self._taken = 0

    def turn(self) -> bool:
        """Give to the consumer what is due, as far as others do not.

        :returns: whether there is more to be done at once
        :raises Interrupted: what has been taken is noted
        :raises StorageError: it is to be tried again
        """
        goes_on = self._go_on(self._first)
        goes_on = self._go_on(self._late) or goes_on
        self._report()
        return goes_on

    def _go_on(self, way: _Way) -> bool:
        last = way.last()
        # At the first start, or after a rest, mostly nothing came for long.
        way.slots.pass_by(
            slots.quiet_until(self._plugin, way.slots.next, last + 1, _SLOTS)
        )
        begin = way.slots.next
        end = min(last + 1, begin + _SLOTS)
        if begin >= end:
            return False
        way.slots.read()
        following = way.following
        arrived = slots.arrivals(self._plugin, begin, end - 1 + following)
        if way is self._first:
            self._backlog = sum(
                len(base_ids)
                for slot, base_ids in arrived.items()
                if slot < end and not way.slots.is_done(slot)
            )
        for slot in range(begin, end):
            if slot not in arrived or way.slots.is_done(slot):
                continue
            if self._stopping.is_set():
                raise Interrupted
            if way.slots.take(slot):
                later = {
                    base_id
                    for after in range(slot + 1, slot + 1 + following)
                    for base_id in arrived.get(after, ())
                }
                self._see_to(way, slot, arrived[slot], later)
        way.slots.read()
        done = begin
        while done < end and (done not in arrived or way.slots.is_done(done)):
            done += 1
        way.slots.pass_by(done)
        if way is self._first and done == end:
            self._backlog = 0
        if way is self._late and done > begin:
            self._forget_arrivals()
        return done > begin and end <= last

    def _see_to(
        self,
        way: _Way,
        slot: int,
        base_ids: Collection[str],
        later: Collection[str],
    ) -> None:
        """Do what is due in a slot that was taken."""
        self._slot = slot
        self._noted = set()
        lost = 0
        try:
            with contextlib.suppress(_HeldTooLong):
                lost = len(base_ids)
                self._take(way, {*base_ids}, {*later})
                lost = 0
            way.slots.finish()
        except Leased:
            return
        except BaseException:
            # Otherwise it is waited for until the lease runs out.
            with contextlib.suppress(exceptions.StorageError):
                way.slots.give_back()
            raise
        # The first way leaves them to the other.
        if lost and way is self._late:
            self._lose(lost - len(self._noted))

    def _take(self, way: _Way, base_ids: set[str], later: set[str]) -> None:
        going_on = base_ids & later
        quiet = base_ids - later
        if way is self._first and self._slot % self._every <= way.following:
            self._give(way, going_on, is_quiet=False)
        while True:
            waiting = self._beside_others(way, quiet)
            self._give(way, quiet - waiting, is_quiet=True)
            quiet &= waiting
            if not quiet:
                return
            self._wait(way, _PAUSE)

    def _beside_others(self, way: _Way, base_ids: set[str]) -> set[str]:
        """Take out of them those that another has in a later slot.

        :returns: those that another has in an earlier slot
        """
        earlier: set[str] = set()
        for other in (self._first, self._late):
            other.slots.read()
            for slot in other.slots.taken():
                if slot == self._slot and other is way:
                    continue
                theirs = slots.arrivals(self._plugin, slot, slot).get(slot, ())
                # Of the same slot the one that looks closer comes first.
                if slot < self._slot or (
                    slot == self._slot and way is self._late
                ):
                    earlier.update(base_ids.intersection(theirs))
                else:
                    base_ids.difference_update(theirs)
        return earlier

    def _give(
        self, way: _Way, base_ids: Collection[str], *, is_quiet: bool
    ) -> None:
        batch: list[Due] = []
        spans = 0
        for taken in self._due(way, base_ids, is_quiet=is_quiet):
            size = taken.summary.spans
            if batch and (spans + size > _SPANS or len(batch) == _TRACES):
                self._hand_over(way, batch)
                batch, spans = [], 0
            batch.append(taken)
            spans += size
        if batch:
            self._hand_over(way, batch)

    def _due(
        self, way: _Way, base_ids: Collection[str], *, is_quiet: bool
    ) -> Iterator[Due]:
        name = self._consumer.name
        oldest = self._slot * SLOT - _HISTORY
        since = slots.now() - self._waiting.at_most
        going_on: Collection[str] | None = None
        for traces in portions(self._plugin, sorted(base_ids)):
            self._wait(way, 0)
            notes = self._plugin.marks(traces, Kind.NOTE)
            for base_id, pieces in traces.items():
                wanted = due(
                    name,
                    base_id,
                    pieces,
                    notes.get(base_id, ()),
                    is_quiet=is_quiet,
                    gives_up=way is self._late,
                )
                if wanted is None or wanted.summary.finished < oldest:
                    continue
                if not is_quiet and wanted.summary.started > since:
                    continue
                if wanted.is_given_up:
                    # It may go on all the same: this is looked for only here.
                    if going_on is None:
                        going_on = self._going_on()
                    if base_id in going_on:
                        continue
                if self._consumer.wants(wanted.summary):
                    yield wanted

    def _going_on(self) -> Collection[str]:
        """The traces of which something came since the slot."""
        now = slots.slot_of(slots.now())
        later = slots.arrivals(self._plugin, self._slot + 1, now)
        return {base_id for own in later.values() for base_id in own}

    def _read(self, batch: Sequence[Due]) -> Iterator[tuple[Due, Settled]]:
        """Read some traces; those that have been purged are left out."""
        read = self._plugin.notifications_of(
            [wanted.base_id for wanted in batch]
        )
        for wanted in batch:
            if notifications := read.get(wanted.base_id):
                yield wanted, self._settled(wanted, notifications)

    def _settled(
        self, wanted: Due, notifications: Sequence[Notification]
    ) -> Settled:
        trace = Trace.build(wanted.base_id, notifications)
        new = {
            span.trace_id
            for span in trace.spans
            if short_id(span.trace_id) in wanted.spans
        }
        return Settled(trace, wanted.summary, new)

    def _hand_over(self, way: _Way, batch: Sequence[Due]) -> None:
        """Give some traces to the consumer, and note that it has them."""
        given = [*self._read(batch)]
        if not given:
            return
        self._wait(way, 0)
        self._consumer.take(
            [settled for _, settled in given],
            lambda seconds: self._wait(way, seconds),
        )
        self._taken += len(given)
        notes = sorted(
            note
            for taken, _ in given
            for note in notes_of(self._consumer.name, taken)
        )
        base_ids = {taken.base_id for taken, _ in given}
        gone = base_ids - self._insert(notes)
        if gone:
            # Who has purged these meanwhile does not know of the notes.
            self._plugin.delete(dict.fromkeys(gone, ()), ())
        self._noted |= base_ids

    def _insert(self, notes: Sequence[Mark]) -> Set[str]:
        """Insert notes, whatever it takes, for what they say is done.

        :returns: the traces that are there
        """
        for pause in pauses():
            try:
                return self._plugin.insert((), notes, ()).places.keys()
            except exceptions.StorageUnavailable:
                if self._stopping.wait(pause):
                    raise
        raise AssertionError  # there is no last pause

    def _wait(self, way: _Way, seconds: float) -> None:
        """Wait, and keep the slot meanwhile.

        :raises Interrupted: the process is to end
        :raises Leased: another has the slot now
        :raises _HeldTooLong: it is too late for it
        """
        while True:
            way.slots.renew()
            self._keep()
            self._report()
            if slots.now() - self._slot * SLOT > self._waiting.hold:
                raise _HeldTooLong
            pause = min(seconds, 5.0)
            if pause <= 0:
                return
            if self._stopping.wait(pause):
                raise Interrupted
            seconds -= pause

    def _keep(self) -> None:
        """Have what waits not expire; at the half of its life, and once."""
        if not self._waiting.life:
            return
        last = slots.slot_of(slots.now() - self._waiting.life // 2)
        begin = max(self._first.slots.next, self._kept)
        while begin <= last:
            end = min(begin + _SLOTS, last + 1)
            arrived = slots.arrivals(self._plugin, begin, end - 1)
            for slot, base_ids in arrived.items():
                until = slot * SLOT + self._waiting.hold
                seconds = (until - slots.now()) // 1_000_000
                for at in range(0, len(base_ids), _KEPT):
                    some = base_ids[at : at + _KEPT]
                    self._plugin.keep(dict.fromkeys(some, seconds))
            begin = self._kept = end

    def _forget_arrivals(self) -> None:
        """Delete arrivals that nobody will look at any more."""
        # Twice, for a bridge whose clock is behind.
        before = slots.now() - 2 * self._waiting.hold
        try:
            slots.delete_arrivals(self._plugin, slots.slot_of(before))
        except exceptions.StorageMisconfigured:
            return  # without the right to delete they stay
