# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What every storage must do, as tests.

A plugin's own tests make a subclass, say how a fresh storage is had, and get
all of it::

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def connection_string(self, tmp_path):
            return f"mystorage://{tmp_path}"

The plugin must be installed, for storages are made with
:func:`profiler_bridge.storage.get_storage`. What else can be overridden
stands above the tests; tests that need what a subclass does not have are
skipped. What is expected comes from :mod:`profiler_bridge.trace` and
:mod:`profiler_bridge.query`: a storage adds nothing to what was written, and
loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from profiler_bridge import exceptions
from profiler_bridge.query import (
    ALL_TRACES,
    PartialSummary,
    Sort,
    TraceQuery,
    TraceSummary,
    index_terms,
    service_term,
)
from profiler_bridge.report import osprofiler
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.base import Position, Storage
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
from profiler_bridge.trace import Trace

WRITERS = 4

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
NO_IDS = (
    "",
    "%",
    "*",
    "[0-9a-f-]*",
    "' OR '1'='1",
    "nul\0",
    "surrogate\udc80",
    "escape\x1b[2J",
    "é",
    "💥",
    "x" * 10_000,
)


# Helpers


def as_text(value: object) -> str:
    """JSON that is equal for equal values, NaN included."""
    return json.dumps(value, sort_keys=True)


def as_texts(payloads: Iterable[object]) -> list[str]:
    return sorted(as_text(each) for each in payloads)


def by_trace(payloads: Iterable[Payload]) -> dict[str, list[Payload]]:
    traces: dict[str, list[Payload]] = {}
    for each in payloads:
        traces.setdefault(each["base_id"], []).append(each)
    return traces


def shuffled(payloads: Sequence[Payload], seed: int) -> list[Payload]:
    return seeded(seed).sample(payloads, len(payloads))


def cut(payloads: Sequence[Payload], size: int) -> list[Sequence[Payload]]:
    """Pieces of one size; the last may be smaller."""
    return [payloads[at : at + size] for at in range(0, len(payloads), size)]


def write(storage: Storage, *pieces: Sequence[Payload]) -> None:
    """Write each piece as a batch of its own."""
    for piece in pieces:
        storage.write(notifications(piece))


def listed(storage: Storage, **query: Any) -> list[str]:
    """The base_ids of a page."""
    return ids(storage.list_traces(TraceQuery(**query)))


def ids(summaries: Iterable[TraceSummary]) -> list[str]:
    return [each.base_id for each in summaries]


def paged(storage: Storage, size: int, **query: Any) -> list[str]:
    """The base_ids of all pages, one after the other."""
    found: list[str] = []
    while page := listed(
        storage, limit=size, marker=found[-1] if found else None, **query
    ):
        found += page
    return found


def summary_of(storage: Storage, base_id: str) -> TraceSummary:
    (found,) = (
        each
        for each in storage.list_traces(TraceQuery(limit=1000))
        if each.base_id == base_id
    )
    return found


def observed(storage: Storage, payloads: Iterable[Payload]) -> list[Any]:
    """All that a storage tells of the traces that these payloads are of."""
    return [
        (
            summary_of(storage, base_id),
            as_text(storage.report(base_id)),
            as_texts(each.payload for each in storage.notifications(base_id)),
        )
        for base_id in by_trace(payloads)
    ]


def expected(payloads: Iterable[Payload]) -> list[Any]:
    """What :func:`observed` has to give, found without a storage."""
    result = []
    for base_id, own in by_trace(payloads).items():
        valid = notifications(own)
        summary = PartialSummary.of(valid).summary(base_id)
        report = osprofiler.report(Trace.build(base_id, valid))
        result.append((summary, as_text(report), as_texts(own)))
    return result


def assert_presentable(
    error: exceptions.BridgeError, connection_string: str
) -> None:
    """A user can be shown the error: one line, and no password in it."""
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1
    assert_no_password(message, connection_string)


def assert_no_password(text: str, connection_string: str) -> None:
    password = urlsplit(connection_string).password
    if password:
        assert password not in text
        assert unquote(password) not in text


def in_threads(work: Callable[[int], object]) -> None:
    """Call ``work`` with 0, 1, ... at the same time; raise what it raises."""
    barrier = threading.Barrier(WRITERS)

    def together(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(together, range(WRITERS)))


_barrier: threading.Barrier | None = None


def _set_barrier(barrier: threading.Barrier) -> None:
    global _barrier
    _barrier = barrier


def _prepare_and_write(
    connection_string: str, batches: Sequence[Sequence[Payload]]
) -> None:
    """Be a worker, from its first start to its end."""
    storage = get_storage(connection_string)
    if _barrier is not None:
        _barrier.wait()
    storage.prepare()
    write(storage, *batches)
    storage.close()


def in_processes(
    connection_string: str, work: Sequence[Sequence[Sequence[Payload]]]
) -> None:
    """Prepare the storage and write in :data:`WRITERS` processes at once."""
    # Not forked: nobody knows which threads and connections pytest has.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(
        WRITERS,
        mp_context=context,
        initializer=_set_barrier,
        initargs=(context.Barrier(WRITERS),),
    ) as pool:
        list(pool.map(_prepare_and_write, [connection_string] * WRITERS, work))


# What is stored


def one_span(*, seed: int = 1, **fields: Any) -> list[Payload]:
    """The start and the stop of a trace that is one span."""
    rng = seeded(seed)
    base_id = new_id(rng)
    return span(base_id, new_id(rng), base_id, **fields)


def _ten_traces() -> list[Payload]:
    rng = seeded(1)
    return [each for _ in range(10) for each in request(rng, calls=6)]


def _crossing_traces() -> tuple[list[Payload], list[Payload], list[Payload]]:
    """Three traces: the first begins first, and ends last."""
    rng = seeded(1)
    starts = (STARTED, STARTED + 15 * MILLISECOND, STARTED + 10 * MILLISECOND)
    early, late, between = (
        request(rng, start, calls=calls, error="DBDeadlock")
        for start, calls in zip(starts, (6, 1, 1), strict=True)
    )
    return early, late, between


Matches = Callable[[TraceSummary], object]

# What can be asked of the traces below, and which of them it is true of.
QUERIES: list[tuple[dict[str, Any], Matches]] = [
    ({}, lambda each: True),
    ({"service": "api"}, lambda each: "api" in each.services),
    ({"service": "💥-ümlaut"}, lambda each: "💥-ümlaut" in each.services),
    ({"service": "conductor"}, lambda each: "conductor" in each.services),
    ({"project": "bank"}, lambda each: "bank" in each.projects),
    ({"host": "node-2"}, lambda each: "node-2" in each.hosts),
    ({"name": "rpc"}, lambda each: "rpc" in each.names),
    ({"error": True}, lambda each: each.errors),
    ({"incomplete": True}, lambda each: each.unfinished),
    (
        {"min_duration": 11 * MILLISECOND},
        lambda each: each.duration >= 11 * MILLISECOND,
    ),
    (
        {"max_duration": 11 * MILLISECOND},
        lambda each: each.duration <= 11 * MILLISECOND,
    ),
    (
        {"since": STARTED + SECOND, "until": STARTED + 4 * SECOND},
        lambda each: 1 <= (each.started - STARTED) / SECOND < 4,
    ),
    (
        {"service": "images", "error": True, "project": "shop"},
        lambda each: (
            "images" in each.services
            and each.errors
            and each.projects == ("shop",)
        ),
    ),
    (
        {"service": "api", "incomplete": True, "since": STARTED + SECOND},
        lambda each: (
            "api" in each.services
            and each.unfinished
            and each.started >= STARTED + SECOND
        ),
    ),
]


def _assorted_traces() -> list[list[Payload]]:
    """Traces of which three start at each moment."""
    rng = seeded(1)
    traces = []
    for number in range(24):
        payloads = request(
            rng,
            STARTED + number // 3 * SECOND,
            calls=number % 5,
            service=("api", "images", "💥-ümlaut")[number % 3],
            project=("shop", "bank")[number % 2],
            error="DBDeadlock" if number % 4 == 0 else None,
        )
        if number % 7 == 0:
            payloads = payloads[:-1]
        traces.append(payloads)
    return traces


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


TEXTS = {
    "four bytes": "\U0001d4b3💥👩🏽\u200d💻",
    "combining": "e\u0301 é ﷽ \u202eabc",
    "NUL": "a\0b\0",
    "lone surrogates": "\udc80 a\ud800",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028",
    "quotes": "'\"`''\"\"",
    "backslashes": "\\ \\\\ \\n \\u0000 \\' \\",
    "placeholders": "%s %(name)s %% :name ? $1 {} {0}",
    "patterns": "*?[a-z]^%_.",
    "markup": "</script><script>alert(1)</script><!-- ]]> &amp;",
    "terminal": "\x1b[2J\x1b]0;title\x07\r\n\t",
    "SQL": "'); DROP TABLE bridge_notifications; --",
    "spaces": "  both ends  ",
    "long": "x" * 10_000,
    "long and wide": "💥" * 10_000,
}

VALUES: dict[str, Any] = {
    "not a number": [float("nan"), float("inf"), float("-inf")],
    "beyond 64 bits": [2**64, -(2**64), 10**400],
    "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22],
    "nested": _nested(200),
    "5 MB": "x" * 5_000_000,
    "many keys": {str(number): number for number in range(5000)},
    "not true": [None, False, 0, 0.0, "", [], {}],
}


# The suite


class StorageConformance:
    """All of it: make a subclass, and override what stands above the tests."""

    @pytest.fixture
    def connection_string(self) -> str:
        """A storage that is empty, and nobody's but this test's.

        Nothing was prepared in it yet.
        """
        raise NotImplementedError

    @pytest.fixture
    def purging_connection_string(self, connection_string: str) -> str:
        """The same, where purging needs rights that writing does not."""
        return connection_string

    @pytest.fixture
    def absent_connection_string(self) -> str:
        """A storage that is not there: a port on which nobody listens."""
        pytest.skip("no connection string of an absent storage was given")

    @pytest.fixture
    def outage(
        self, connection_string: str
    ) -> contextlib.AbstractContextManager[None]:
        """A context in which nothing can be written to the storage."""
        pytest.skip("no way to make an outage of this storage was given")

    def raw_payloads(self, connection_string: str) -> list[Payload] | None:
        """Every stored payload once, in any order.

        Read without the plugin's code, so that a fault in writing does not
        hide behind the same fault in reading. None where that is impossible.
        """
        return None

    @pytest.fixture
    def storage(self, connection_string: str) -> Iterator[Storage]:
        with contextlib.closing(get_storage(connection_string)) as storage:
            storage.prepare()
            yield storage

    def assert_stored(
        self, connection_string: str, payloads: Sequence[Payload]
    ) -> None:
        """These are stored: each of them, once, unchanged, and no others."""
        raw = self.raw_payloads(connection_string)
        if raw is not None:
            assert as_texts(raw) == as_texts(payloads)
        with contextlib.closing(get_storage(connection_string)) as storage:
            for base_id, own in by_trace(payloads).items():
                assert as_texts(
                    each.payload for each in storage.notifications(base_id)
                ) == as_texts(own)

    # Lifecycle

    def test_constructor_does_no_io(
        self, absent_connection_string: str
    ) -> None:
        get_storage(absent_connection_string).close()

    def test_absent_storage_is_an_error_for_a_user(
        self, absent_connection_string: str
    ) -> None:
        storage = get_storage(absent_connection_string)
        with pytest.raises(exceptions.StorageError) as caught:
            storage.check()
        assert_presentable(caught.value, absent_connection_string)

    def test_str_has_no_password(self, connection_string: str) -> None:
        storage = get_storage(connection_string)
        assert_no_password(str(storage), connection_string)
        assert_no_password(repr(storage), connection_string)

    def test_prepare_again(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        write(storage, payloads)
        storage.prepare()
        assert observed(storage, payloads) == expected(payloads)

    def test_prepare_in_threads_at_first_start(
        self, connection_string: str
    ) -> None:
        def prepare(_: int) -> None:
            with contextlib.closing(get_storage(connection_string)) as storage:
                storage.prepare()

        in_threads(prepare)
        assert get_storage(connection_string).check() == []

    def test_prepare_in_processes_at_first_start(
        self, connection_string: str
    ) -> None:
        in_processes(connection_string, [[]] * WRITERS)
        assert get_storage(connection_string).check() == []

    def test_check_of_a_healthy_storage(self, storage: Storage) -> None:
        assert storage.check() == []

    def test_check_writes_nothing(
        self, connection_string: str, storage: Storage
    ) -> None:
        storage.check()
        self.assert_stored(connection_string, [])
        assert listed(storage) == []

    def test_use_after_close(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        storage.close()
        write(storage, payloads)
        storage.close()
        assert observed(storage, payloads) == expected(payloads)

    # Writing

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
        assert storage.write(notifications(one[2:] + two)) == len(
            one[4:] + two
        )
        assert storage.write(notifications(two[:2] * 2 + one)) == 0

    def test_write_overlapping_batches(
        self, connection_string: str, storage: Storage
    ) -> None:
        payloads = request(seeded(1))
        write(storage, payloads[:9], payloads[4:], payloads[2:11])
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
        work = [cut(shuffled(payloads, seed), 40) for seed in range(WRITERS)]
        in_processes(connection_string, work)
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

    # Reading one trace, in a storage that holds others

    @pytest.fixture
    def one_of_three(self, storage: Storage) -> list[Payload]:
        """A trace among others, two of which differ little in their ids."""
        payloads = request(seeded(1))
        base_id = payloads[0]["base_id"]
        others = [
            each | {"base_id": other}
            for other in (
                base_id[:-1] + ("0" if base_id[-1] != "0" else "1"),
                ("0" if base_id[0] != "0" else "1") + base_id[1:],
            )
            for each in payloads
        ]
        write(storage, shuffled([*others, *payloads], 1))
        return payloads

    def test_read_notifications_of_one_trace(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        found = storage.notifications(one_of_three[0]["base_id"])
        assert as_texts(each.payload for each in found) == as_texts(
            one_of_three
        )

    def test_read_report_of_one_trace(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        assert observed(storage, one_of_three) == expected(one_of_three)

    def test_read_partials_of_one_trace(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        base_id = one_of_three[0]["base_id"]
        assert set(storage.partials([base_id])) == {base_id}

    def test_read_partials_of_many_traces(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        """More than databases take as parameters of one statement."""
        rng = seeded(2)
        unknown = [new_id(rng) for _ in range(3000)]
        base_id = one_of_three[0]["base_id"]
        assert set(storage.partials([*unknown, base_id])) == {base_id}

    @pytest.mark.usefixtures("one_of_three")
    def test_read_unknown_trace(self, storage: Storage) -> None:
        assert storage.notifications(UNKNOWN_ID) == []
        assert storage.partials([UNKNOWN_ID]) == {}
        with pytest.raises(exceptions.TraceNotFound):
            storage.trace(UNKNOWN_ID)
        with pytest.raises(exceptions.TraceNotFound):
            storage.report(UNKNOWN_ID)

    @pytest.mark.usefixtures("one_of_three")
    def test_read_what_can_be_no_trace(self, storage: Storage) -> None:
        """People mistype."""
        for base_id in NO_IDS:
            with pytest.raises(exceptions.TraceNotFound) as caught:
                storage.report(base_id)
            assert str(caught.value).isprintable()

    def test_read_no_partials_asked_for(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        assert storage.partials([]) == {}

    def test_read_an_id_is_compared_exactly(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        base_id = one_of_three[0]["base_id"]
        assert storage.notifications(base_id.upper()) == []
        assert storage.notifications(base_id.replace("-", "")) == []

    def test_read_an_id_is_compared_whole(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        base_id = one_of_three[0]["base_id"]
        for other in (base_id[:-1], base_id + " ", base_id + "0"):
            with pytest.raises(exceptions.TraceNotFound):
                storage.report(other)

    # Summaries

    def test_summary_of_what_a_trace_holds(self, storage: Storage) -> None:
        payloads = request(seeded(1), calls=3, error="DBDeadlock")
        write(storage, payloads)
        assert summary_of(storage, payloads[0]["base_id"]) == TraceSummary(
            base_id=payloads[0]["base_id"],
            started=STARTED,
            finished=STARTED + 25 * MILLISECOND,
            root="POST /v1/servers",
            spans=10,
            unfinished=0,
            headless=0,
            missing_parents=0,
            errors=1,
            projects=("shop",),
            services=("api", "conductor"),
            hosts=("node-1", "node-2"),
            names=("db", "rpc", "wsgi"),
        )

    def test_summary_of_what_is_missing(self, storage: Storage) -> None:
        """The same, however the pieces were written."""
        missing = {
            1: "the start of an rpc: headless",
            5: "the stop of its second query: unfinished",
            7: "the start of the other rpc, and ...",
            12: "... its stop: both queries are orphans of one parent",
        }
        for size in (1, 2, 3, 5, 100):
            # wsgi, rpc, db, db, db, db, rpc, rpc, db, db, db, db, rpc, wsgi
            payloads = request(seeded(size), error="DBDeadlock")
            kept = [
                each for at, each in enumerate(payloads) if at not in missing
            ]
            kept[-1]["info"] |= {"etype": "HTTPError"}
            write(storage, *cut(shuffled(kept, size), size))
            found = summary_of(storage, payloads[0]["base_id"])
            assert (
                found.spans,
                found.unfinished,
                found.headless,
                found.missing_parents,
                found.errors,
            ) == (6, 1, 1, 1, 2), size

    def test_summary_of_a_lone_stop(self, storage: Storage) -> None:
        _, stop = one_span()
        write(storage, [stop])
        found = summary_of(storage, stop["base_id"])
        assert (found.root, found.headless, found.duration) == (None, 1, 0)

    def test_list_when_earliest_notification_arrives_last(
        self, storage: Storage
    ) -> None:
        """The trace stands where it really started, and only there."""
        early, late, between = _crossing_traces()
        write(storage, between, late, *cut(early[::-1], 1))
        self.assert_listed(storage, late, between, early)

    def test_list_when_writers_had_parts_of_it(
        self, connection_string: str, storage: Storage
    ) -> None:
        early, late, between = _crossing_traces()
        write(storage, between, late)

        def work(number: int) -> None:
            with contextlib.closing(get_storage(connection_string)) as own:
                write(own, early[number::WRITERS])

        in_threads(work)
        self.assert_listed(storage, late, between, early)

    @staticmethod
    def assert_listed(storage: Storage, *traces: list[Payload]) -> None:
        """In this order, under each of their terms."""
        found = [each[0]["base_id"] for each in traces]
        for query in ({}, {"service": "api"}, {"error": True}):
            assert listed(storage, **query) == found, query
            assert paged(storage, 1, **query) == found, query

    # Pages of traces, in a storage that holds others

    @pytest.fixture
    def known(self, storage: Storage) -> list[TraceSummary]:
        """What is stored; of those that started together, the greatest
        base_id first.
        """
        traces = _assorted_traces()
        payloads = [each for trace in traces for each in trace]
        write(storage, *cut(shuffled(payloads, 1), 50))
        summaries = (
            PartialSummary.of(notifications(own)).summary(base_id)
            for base_id, own in by_trace(payloads).items()
        )
        return sorted(
            summaries,
            key=lambda each: (each.started, each.base_id),
            reverse=True,
        )

    def test_list_newest_first(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        assert storage.list_traces(TraceQuery(limit=100)) == known

    def test_list_limit(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        for limit in range(len(known) + 2):
            assert listed(storage, limit=limit) == ids(known[:limit])

    def test_list_marker(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        for at, each in enumerate(known):
            assert listed(storage, limit=4, marker=each.base_id) == ids(
                known[at + 1 : at + 5]
            )

    @pytest.mark.usefixtures("known")
    def test_list_unknown_marker(self, storage: Storage) -> None:
        for marker in (UNKNOWN_ID, *NO_IDS):
            with pytest.raises(exceptions.TraceNotFound) as caught:
                listed(storage, marker=marker)
            assert str(caught.value).isprintable()

    def test_list_pages_add_up(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        """To everything that matches once, and to nothing else."""
        for query, matches in QUERIES:
            found = ids(filter(matches, known))
            assert found
            for size in (1, 2, 3, 7, 100):
                assert paged(storage, size, **query) == found, query

    def test_list_longest_first(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        for query, matches in QUERIES:
            found = ids(
                sorted(
                    filter(matches, known),
                    key=lambda each: (each.duration, each.base_id),
                    reverse=True,
                )
            )
            for size in (2, 100):
                by_duration = query | {"sort": Sort.DURATION}
                assert paged(storage, size, **by_duration) == found, query

    def test_list_error_traces(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        assert storage.list_error_traces(TraceQuery(limit=100)) == [
            each for each in known if each.errors
        ]

    @pytest.mark.usefixtures("known")
    def test_list_unknown_service(self, storage: Storage) -> None:
        for service in ("ap", "API", "api ", "", "%", "*", "nul\0", "\udc80"):
            assert listed(storage, service=service) == []

    @pytest.mark.usefixtures("known")
    def test_list_since_is_inclusive(self, storage: Storage) -> None:
        since = STARTED + 6 * SECOND
        assert len(listed(storage, since=since, limit=100)) == 6
        assert len(listed(storage, since=since + 1, limit=100)) == 3

    @pytest.mark.usefixtures("known")
    def test_list_until_is_exclusive(self, storage: Storage) -> None:
        until = STARTED + SECOND
        assert len(listed(storage, until=until, limit=100)) == 3
        assert len(listed(storage, until=until + 1, limit=100)) == 6

    @pytest.mark.usefixtures("known")
    def test_list_nothing_between_two_moments(self, storage: Storage) -> None:
        moment = STARTED + SECOND
        assert listed(storage, since=moment, until=moment) == []

    def test_list_marker_outside_the_bounds(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        until = STARTED + SECOND
        newest, oldest = known[0].base_id, known[-1].base_id
        assert listed(storage, until=until, marker=newest) == ids(
            each for each in known if each.started < until
        )
        assert listed(storage, since=until, marker=oldest) == []

    def test_index_stretches(self, storage: Storage) -> None:
        """What paging is made of; its bounds are not looked at again."""
        write(
            storage, [each for trace in _assorted_traces() for each in trace]
        )
        found = storage.index(ALL_TRACES, None, None, 100)
        assert len(found) == 24
        assert list(found) == sorted(found, reverse=True)
        for at, before in enumerate(found):
            assert list(storage.index(ALL_TRACES, before, None, 5)) == list(
                found[at + 1 : at + 6]
            )
            until = Position(before.started, "")
            assert list(storage.index(ALL_TRACES, until, None, 100)) == [
                each for each in found if each.started < before.started
            ]
            since = before.started
            assert list(storage.index(ALL_TRACES, None, since, 100)) == [
                each for each in found if each.started >= before.started
            ]

    def test_list_nothing_stored(self, storage: Storage) -> None:
        assert listed(storage) == []

    # What somebody's parameter is one day: stored, and read, unchanged

    @staticmethod
    def assert_whole(storage: Storage, payloads: list[Payload]) -> None:
        assert observed(storage, payloads) == expected(payloads)

    def test_hostile_text_in_every_field(
        self, connection_string: str, storage: Storage
    ) -> None:
        everything: list[Payload] = []
        for seed, (kind, text) in enumerate(TEXTS.items()):
            payloads = one_span(
                seed=seed,
                name=text,
                info={
                    "db": {"statement": text, "params": [text, {text: text}]},
                    text: {"params": {text: text}},
                },
                service=text,
                project=text,
                host=text,
                error=text,
            )
            write(storage, payloads)
            assert observed(storage, payloads) == expected(payloads), kind
            assert listed(storage, service=text) == [payloads[0]["base_id"]]
            everything += payloads
        self.assert_stored(connection_string, everything)

    def test_hostile_values(
        self, connection_string: str, storage: Storage
    ) -> None:
        everything: list[Payload] = []
        for seed, (kind, value) in enumerate(VALUES.items()):
            payloads = one_span(
                seed=seed,
                info={"db": {"statement": "SELECT 1", "params": value}},
            )
            write(storage, payloads)
            assert observed(storage, payloads) == expected(payloads), kind
            everything += payloads
        self.assert_stored(connection_string, everything)

    def test_hostile_fields_missing_and_fields_added(
        self, connection_string: str, storage: Storage
    ) -> None:
        start, stop = one_span()
        for field in ("info", "project", "service"):
            del start[field]
        stop |= {"project": None, "service": None, "later": {"new": []}}
        write(storage, [start, stop])
        self.assert_stored(connection_string, [start, stop])
        assert observed(storage, [start]) == expected([start, stop])

    def test_hostile_ids_without_dashes(
        self, connection_string: str, storage: Storage
    ) -> None:
        base_id, trace_id = (
            new_id(seeded(seed)).replace("-", "") for seed in (1, 2)
        )
        payloads = span(base_id, trace_id, base_id)
        write(storage, payloads)
        self.assert_stored(connection_string, payloads)

    @pytest.mark.parametrize(
        "timestamp",
        ["0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.999999"],
    )
    def test_hostile_far_moments(
        self, storage: Storage, timestamp: str
    ) -> None:
        start, _ = one_span()
        write(storage, request(seeded(2)), [start | {"timestamp": timestamp}])
        found = listed(storage)
        assert len(found) == 2
        at = 0 if timestamp.startswith("9") else -1
        assert found[at] == start["base_id"]

    # A large trace

    def test_large_trace(
        self, connection_string: str, storage: Storage
    ) -> None:
        rng = seeded(1)
        payloads = request(rng, calls=3333)
        others = request(rng)
        write(storage, others, *cut(shuffled(payloads, 1), 1000))
        self.assert_stored(connection_string, [*others, *payloads])
        ((summary, report, _),) = expected(payloads)
        base_id = payloads[0]["base_id"]
        assert summary_of(storage, base_id) == summary
        assert as_text(storage.report(base_id)) == report

    # Purging

    @pytest.fixture
    def purgeable(self, purging_connection_string: str) -> Iterator[Storage]:
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as purgeable:
            purgeable.prepare()
            yield purgeable

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
        assert purgeable.partials([old[0]["base_id"]]) == {}
        self.assert_stored(purging_connection_string, new)

    @pytest.mark.usefixtures("old")
    def test_purge_new_traces_stay(
        self, purgeable: Storage, new: list[Payload]
    ) -> None:
        purgeable.purge(STARTED + 12 * MILLISECOND)
        assert observed(purgeable, new) == expected(new)
        for query in ({}, {"service": "api"}, {"service": "conductor"}):
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
        terms = index_terms(purgeable.partials([base_id])[base_id].values())
        assert terms >= {ALL_TRACES, service_term("conductor")}
        purgeable.purge(STARTED + SECOND)
        for term in terms:
            assert purgeable.index(term, None, None, 100) == []

    def test_purge_number_of_traces(self, purgeable: Storage) -> None:
        rng = seeded(1)
        for number in range(5):
            write(purgeable, request(rng, STARTED + number * SECOND))
        assert purgeable.purge(STARTED + 3 * SECOND) == 3
        assert purgeable.purge(STARTED + 3 * SECOND) == 0

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

    # Outage

    def test_outage_meanwhile_and_afterwards(
        self,
        connection_string: str,
        storage: Storage,
        outage: contextlib.AbstractContextManager[None],
    ) -> None:
        before, after = request(seeded(1)), request(seeded(2))
        write(storage, before)
        with outage:
            with pytest.raises(exceptions.StorageUnavailable) as caught:
                write(storage, after)
            assert_presentable(caught.value, connection_string)
        write(storage, after)
        self.assert_stored(connection_string, [*before, *after])
