# SPDX-License-Identifier: Apache-2.0

"""What has settled is given to a consumer, once, whoever else does it too."""

from __future__ import annotations

import collections
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from profiler_bridge import exceptions
from profiler_bridge.daemon.settler import (
    Interrupted,
    Settler,
    Waiting,
    tasks,
)
from profiler_bridge.notification import Notification, parse_timestamp
from profiler_bridge.settled import Consumer, Settled
from profiler_bridge.storage import get_storage, slots
from profiler_bridge.storage.plugin import Entry, Kind
from profiler_bridge.storage.redis.plugin import RedisPlugin
from profiler_bridge.storage.slots import SLOT, Arrivals
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import ARRIVALS, TraceSummary
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    request,
    seeded,
    span,
)
from tests import servers
from tests.servers import wait_until

MINUTE = 60 * SECOND
WAITING = Waiting(10 * SECOND, 15 * MINUTE, 4 * 3600 * SECOND)


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.moment = STARTED + 3 * SECOND

    def __call__(self) -> int:
        return self.moment

    def advance(self, microseconds: int) -> None:
        self.moment += microseconds


class Target(Consumer):
    """Remembers what it gets."""

    name = "target"

    def __init__(self) -> None:
        self.spans: collections.Counter[str] = collections.Counter()
        self.traces: list[str] = []
        self.before: Callable[[Callable[[float], None]], None] | None = None

    def wants(self, summary: TraceSummary) -> bool:
        return "other" not in summary.hosts

    def take(
        self, traces: Sequence[Settled], wait: Callable[[float], None]
    ) -> None:
        if self.before:
            self.before(wait)
        for trace in traces:
            self.traces.append(trace.trace.base_id)
            self.spans.update(trace.new)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(slots, "now", clock)
    return clock


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def open_storage(url: str) -> Storage:
    storage = get_storage(url)
    storage.prepare()
    storage.arrivals = Arrivals()
    return storage


@pytest.fixture
def storage(url: str, clock: Clock) -> Iterator[Storage]:
    storage = open_storage(url)
    yield storage
    storage.close()


def store(storage: Storage, payloads: Sequence[Payload]) -> None:
    storage.write([*map(Notification.from_payload, payloads)])


def settler(
    storage: Storage,
    target: Consumer,
    lose: Any = lambda traces: None,
    waiting: Waiting = WAITING,
) -> Settler:
    return Settler(storage.plugin, target, waiting, threading.Event(), lose)


def turn(settler: Settler) -> None:
    while settler.turn():
        pass


def ids(payloads: Sequence[Payload]) -> dict[str, int]:
    return dict.fromkeys((payload["trace_id"] for payload in payloads), 1)


def test_a_whole_trace_is_given_once(storage: Storage, clock: Clock) -> None:
    target, other = Target(), Target()
    one, another = settler(storage, target), settler(storage, other)
    payloads = request(seeded(1))
    store(storage, payloads)
    turn(one)
    clock.advance(11 * SECOND)
    turn(one)
    assert target.traces == []  # it is not quiet for long enough
    clock.advance(5 * SECOND)
    turn(one)
    assert target.spans == ids(payloads)
    # Nor is it after a restart, by another, or when all has been waited for.
    for restarted in (one, another, settler(storage, target)):
        turn(restarted)
        clock.advance(20 * MINUTE)
        turn(restarted)
    assert target.spans == ids(payloads)
    assert other.traces == []


def test_another_consumer_gets_it_too(storage: Storage, clock: Clock) -> None:
    target, other = Target(), Target()
    other.name = "other"
    payloads = request(seeded(1))
    store(storage, payloads)
    clock.advance(MINUTE)
    turn(settler(storage, target))
    turn(settler(storage, other))
    assert target.spans == other.spans == ids(payloads)


def test_what_is_not_wanted_is_not_given(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    base_id = "6b0e2d97-0000-4000-8000-000000000001"
    own = "6b0e2d97-0000-4000-8000-000000000002"
    store(storage, span(base_id, own, base_id, host="other"))
    clock.advance(MINUTE)
    turn(settler(storage, target))
    assert target.traces == []


def test_an_end_is_waited_for(storage: Storage, clock: Clock) -> None:
    target = Target()
    one = settler(storage, target)
    *payloads, stop = request(seeded(1))
    store(storage, payloads)
    clock.advance(MINUTE)
    turn(one)
    assert target.traces == []
    store(storage, [stop])
    clock.advance(MINUTE)
    turn(one)
    assert target.spans == ids([*payloads, stop])


def test_an_end_is_given_up(storage: Storage, clock: Clock) -> None:
    target = Target()
    one = settler(storage, target)
    *payloads, stop = request(seeded(1))
    store(storage, payloads)
    clock.advance(14 * MINUTE)
    turn(one)
    assert target.traces == []
    clock.advance(2 * MINUTE)
    turn(one)
    assert target.spans == ids(payloads)
    # When it comes all the same, the span is not given a second time; others
    # of the trace are.
    base_id = stop["base_id"]
    store(storage, [stop])
    clock.advance(MINUTE)
    turn(one)
    later = span(base_id, base_id[:-4] + "abcd", base_id)
    store(storage, later)
    clock.advance(MINUTE)
    turn(one)
    clock.advance(20 * MINUTE)
    turn(one)
    assert target.spans == ids([*payloads, stop, *later])


def test_a_trace_that_goes_on_is_left_until_it_is_quiet(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    one = settler(storage, target)
    rng = seeded(1)
    payloads = request(rng)
    base_id = payloads[0]["base_id"]
    store(storage, payloads)
    for number in range(60):
        clock.advance(7 * SECOND)
        more = span(base_id, f"00000000-0000-4000-8000-{number:012}", base_id)
        payloads += more
        store(storage, more)
        turn(one)
    assert target.traces == []
    clock.advance(MINUTE)
    turn(one)
    assert target.traces == [base_id]
    assert target.spans == ids(payloads)


def test_a_trace_that_never_ends_is_given_in_parts(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    waiting = WAITING._replace(at_most=3 * MINUTE)
    one = settler(storage, target, waiting=waiting)
    payloads = request(seeded(1))
    base_id = payloads[0]["base_id"]
    # Its thread never lets go, and one span never ends.
    payloads.remove(payloads[-1])
    store(storage, payloads)
    for number in range(100):
        clock.advance(8 * SECOND)
        more = span(
            base_id,
            f"00000000-0000-4000-8000-{number:012}",
            base_id,
            clock.moment - SECOND,
        )
        payloads += more
        store(storage, more)
        turn(one)
    assert 3 <= len(target.traces) <= 8
    assert len(target.spans) > 60
    assert {*target.spans.values()} == {1}
    clock.advance(20 * MINUTE)
    turn(one)
    assert target.spans == ids(payloads)


def test_what_was_committed_late_is_given(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    one = settler(storage, target)
    store(storage, request(seeded(2)))
    payloads = request(seeded(1))
    slot = clock.moment // SLOT * SLOT
    clock.advance(MINUTE)
    turn(one)
    storage.arrivals = None
    store(storage, payloads)
    storage.plugin.insert(
        (), (), [Entry(ARRIVALS, slot, payloads[0]["base_id"])]
    )
    clock.advance(MINUTE)
    turn(one)
    assert payloads[0]["base_id"] not in target.traces
    clock.advance(16 * MINUTE)
    turn(one)
    assert payloads[0]["base_id"] in target.traces


def test_history_sets_off_nothing(storage: Storage, clock: Clock) -> None:
    target = Target()
    one = settler(storage, target)
    old = parse_timestamp("2026-02-01T04:05:06.000007")
    store(storage, request(seeded(1), old))
    storage.arrivals = None
    store(storage, request(seeded(2)))  # a copy, for example
    for _ in range(3):
        clock.advance(16 * MINUTE)
        turn(one)
    assert target.traces == []


def test_a_long_rest_is_passed_by(storage: Storage, clock: Clock) -> None:
    """At the first start, and when nothing came for hours."""
    target = Target()
    one = settler(storage, target)
    for number, hours in enumerate((0, 1, 30)):
        clock.advance(hours * 60 * MINUTE)
        payloads = request(seeded(number), clock.moment)
        store(storage, payloads)
        clock.advance(20 * SECOND)
        turns = 1
        while one.turn():
            turns += 1
        assert target.spans.total() == (number + 1) * len(ids(payloads))
        assert turns <= 4


def test_what_nobody_takes_in_time_is_counted(
    storage: Storage, clock: Clock
) -> None:
    target = Target()

    def is_away(wait: Callable[[float], None]) -> None:
        while True:
            clock.advance(25 * SECOND)
            wait(0.0)

    target.before = is_away
    lost: list[int] = []
    waiting = WAITING._replace(hold=20 * MINUTE)
    one = settler(storage, target, lost.append, waiting)
    for seed in range(3):
        store(storage, request(seeded(seed)))
    clock.advance(MINUTE)
    turn(one)
    assert sum(lost) == 3
    # What comes then is given.
    target.before = None
    now = clock.moment
    payloads = request(seeded(7), now)
    store(storage, payloads)
    clock.advance(MINUTE)
    turn(one)
    assert target.spans == ids(payloads)


def test_a_new_consumer_begins_with_what_is_held(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    lost: list[int] = []
    store(storage, request(seeded(1)))
    clock.advance(5 * 3600 * SECOND)
    payloads = request(seeded(2), clock.moment)
    store(storage, payloads)
    clock.advance(3600 * SECOND)
    turn(settler(storage, target, lost.append))
    assert target.spans == ids(payloads)
    assert lost == []


def test_how_far_a_consumer_is_is_told_while_it_waits(
    storage: Storage, clock: Clock
) -> None:
    reports: list[tuple[int, int, float]] = []
    target = Target()

    def is_away(wait: Callable[[float], None]) -> None:
        for _ in range(20):
            clock.advance(20 * SECOND)
            wait(0.0)

    target.before = is_away
    one = Settler(
        storage.plugin,
        target,
        WAITING,
        threading.Event(),
        lambda traces: None,
        lambda *report: reports.append(report),
    )
    arrived = clock.moment / 1e6
    store(storage, request(seeded(1)))
    store(storage, request(seeded(2)))
    clock.advance(MINUTE)
    turn(one)
    assert max(waiting for _, waiting, _ in reports) == 2
    assert min(seen for *_, seen in reports) <= arrived + 22
    assert sum(taken for taken, *_ in reports) == 2
    clock.advance(MINUTE)
    turn(one)
    _, waiting, seen = reports[-1]
    assert waiting == 0
    assert abs(clock.moment / 1e6 - seen) < 11


def test_notes_live_as_long_as_the_trace(
    redis_server: servers.Redis, redis_url: str, clock: Clock
) -> None:
    storage = Storage(RedisPlugin(redis_url, retention=3600))
    storage.prepare()
    storage.arrivals = Arrivals()
    payloads = request(seeded(1))
    base_id = payloads[0]["base_id"]
    store(storage, payloads)
    storage.plugin.keep({base_id: 30 * 24 * 3600})
    target = Target()
    clock.advance(MINUTE)
    turn(settler(storage, target))
    assert target.spans == ids(payloads)
    for key in ("summary", "marks"):
        life = redis_server.execute("TTL", f"profiler_bridge:{key}:{base_id}")
        assert life > 29 * 24 * 3600
    storage.close()


def test_what_waits_does_not_expire(
    redis_server: servers.Redis, redis_url: str, clock: Clock
) -> None:
    storage = Storage(RedisPlugin(redis_url, retention=3600))
    storage.prepare()
    storage.arrivals = Arrivals()
    target = Target()
    waiting = WAITING._replace(life=3600 * SECOND)
    payloads = request(seeded(1))
    key = f"profiler_bridge:summary:{payloads[0]['base_id']}"
    store(storage, payloads)
    lives: list[int] = []

    def is_away(wait: Callable[[float], None]) -> None:
        for _ in range(80):
            clock.advance(25 * SECOND)
            wait(0.0)
            lives.append(redis_server.execute("TTL", key))

    target.before = is_away
    clock.advance(MINUTE)
    turn(settler(storage, target, waiting=waiting))
    assert target.spans == ids(payloads)
    assert lives[0] <= 3600
    assert 2 * 3600 < lives[-1] <= 4 * 3600
    storage.close()


def test_who_is_interrupted_gives_the_slot_back(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    stopping = threading.Event()
    one = Settler(
        storage.plugin, target, WAITING, stopping, lambda traces: None
    )

    def stop(wait: Callable[[float], None]) -> None:
        stopping.set()
        wait(5.0)

    target.before = stop
    payloads = request(seeded(1))
    store(storage, payloads)
    clock.advance(MINUTE)
    with pytest.raises(Interrupted):
        turn(one)
    assert target.traces == []
    target.before = None
    clock.advance(1)
    turn(settler(storage, target))
    assert target.spans == ids(payloads)


def test_who_comes_too_late_leaves_it_to_the_other(
    storage: Storage, clock: Clock
) -> None:
    slow, fast = Target(), Target()

    def is_slow(wait: Callable[[float], None]) -> None:
        # Its process was stopped, say, for longer than its lease.
        clock.advance(MINUTE)
        turn(settler(storage, fast))
        wait(0.0)

    slow.before = is_slow
    payloads = request(seeded(1))
    store(storage, payloads)
    clock.advance(MINUTE)
    turn(settler(storage, slow))
    assert slow.traces == []
    assert fast.spans == ids(payloads)


def test_notes_go_with_the_trace(storage: Storage, clock: Clock) -> None:
    target = Target()
    payloads = request(seeded(1))
    base_id = payloads[0]["base_id"]

    def purge(wait: Callable[[float], None]) -> None:
        storage.purge(clock.moment)

    target.before = purge
    store(storage, payloads)
    clock.advance(MINUTE)
    turn(settler(storage, target))
    assert target.spans == ids(payloads)
    notes = storage.plugin.marks([base_id], Kind.NOTE)
    assert not notes.get(base_id)


def test_old_leases_and_arrivals_are_deleted(
    storage: Storage, clock: Clock
) -> None:
    target = Target()
    one = settler(storage, target)
    for _ in range(13):
        clock.advance(3 * 3600 * SECOND)
        store(storage, request(seeded(clock.moment), clock.moment))
        turn(one)
    assert len(target.traces) == 12
    arrived = storage.plugin.index(ARRIVALS, None, None, 1000)
    # Of eight hours: twice as long as they are held.
    assert len(arrived) <= 4
    for task in tasks(target.name):
        assert len(storage.plugin.leases(task, 0)) <= 5
        assert len(storage.plugin.leases(f"{task}/done", 0)) == 1


def test_several_at_once_give_each_span_once(
    url: str, storage: Storage, clock: Clock
) -> None:
    """Some fail in the middle, and begin anew; none is given twice for it."""
    rng = random.Random(5)
    target = Target()
    lock = threading.Lock()
    expected: dict[str, int] = {}
    parts: list[tuple[int, list[Payload]]] = []
    for seed in range(30):
        begin = clock.moment + rng.randrange(100) * SECOND
        payloads = request(seeded(seed), begin, calls=1)
        expected |= ids(payloads)
        for payload in payloads:
            parts.append((begin + rng.randrange(90) * SECOND, [payload]))
    parts.sort(key=lambda part: part[0])

    class Failing(Target):
        def take(
            self, traces: Sequence[Settled], wait: Callable[[float], None]
        ) -> None:
            if rng.random() < 0.1:
                raise exceptions.StorageUnavailable("made up")
            wait(rng.random() / 50)
            with lock:
                target.take(traces, wait)

    end = threading.Event()
    errors: list[BaseException] = []

    turns = [0, 0, 0]

    def each_has_a_turn() -> None:
        """Time goes on, but not faster than they do."""
        before = [*turns]
        wait_until(
            lambda: (
                errors
                or all(
                    now >= then + 2
                    for now, then in zip(turns, before, strict=True)
                )
            ),
            30,
        )

    def work(number: int) -> None:
        own = open_storage(url)
        try:
            one = settler(own, Failing())
            while not end.is_set():
                try:
                    one.turn()
                except exceptions.StorageUnavailable:
                    one = settler(own, Failing())
                turns[number] += 1
                end.wait(0.001)
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            own.close()

    threads = [
        threading.Thread(target=work, args=[number])
        for number in range(len(turns))
    ]
    for thread in threads:
        thread.start()
    for number, (moment, payloads) in enumerate(parts):
        clock.moment = max(clock.moment, moment)
        store(storage, payloads)
        # A lease does not run out in a turn.
        if number % 8 == 0:
            each_has_a_turn()
    for _ in range(100):
        clock.advance(9 * SECOND)
        each_has_a_turn()
        if errors or len(target.spans) == len(expected):
            break
    end.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert target.spans == expected
