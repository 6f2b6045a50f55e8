# SPDX-License-Identifier: Apache-2.0

"""One trace is read, in a storage that holds others."""

from __future__ import annotations

import pytest

from profiler_bridge import exceptions
from profiler_bridge.report import osprofiler
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import TraceSummary
from profiler_bridge.testing.helpers import (
    NO_IDS,
    UNKNOWN_ID,
    StorageTests,
    as_text,
    as_texts,
    cut,
    expected,
    observed,
    shuffled,
    stored,
    summary_of,
    write,
)
from profiler_bridge.testing.sample import (
    MILLISECOND,
    STARTED,
    Payload,
    new_id,
    one_span,
    request,
    seeded,
)


class Reading(StorageTests):
    """Reading one trace, and its summary."""

    @pytest.fixture
    def one_of_three(self, storage: Storage) -> list[Payload]:
        """A trace among others, two of which differ little in their ids."""
        payloads = request(seeded(1))
        base_id = payloads[0]["base_id"]
        others = [
            payload | {"base_id": other}
            for other in (
                base_id[:-1] + ("0" if base_id[-1] != "0" else "1"),
                ("0" if base_id[0] != "0" else "1") + base_id[1:],
            )
            for payload in payloads
        ]
        write(storage, shuffled([*others, *payloads], 1))
        return payloads

    def test_read_notifications_of_one_trace(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        base_id = one_of_three[0]["base_id"]
        assert stored(storage, base_id) == as_texts(one_of_three)

    def test_read_report_of_one_trace(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        assert observed(storage, one_of_three) == expected(one_of_three)

    def test_read_partials_of_one_trace(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        base_id = one_of_three[0]["base_id"]
        assert set(storage.plugin.partials([base_id])) == {base_id}

    def test_read_partials_of_many_traces(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        """More than databases take as parameters of one statement."""
        rng = seeded(2)
        unknown = [new_id(rng) for _ in range(3000)]
        base_id = one_of_three[0]["base_id"]
        assert set(storage.plugin.partials([*unknown, base_id])) == {base_id}

    def test_read_notifications_of_many_traces(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        others = [request(seeded(seed)) for seed in (2, 3)]
        write(storage, shuffled([*others[0], *others[1]], 1))
        wanted = {
            payloads[0]["base_id"]: as_texts(payloads)
            for payloads in (one_of_three, *others)
        }
        read = storage.plugin.notifications_of([*wanted, UNKNOWN_ID, *NO_IDS])
        assert {
            base_id: as_texts(one.payload for one in notifications)
            for base_id, notifications in read.items()
        } == wanted

    @pytest.mark.usefixtures("one_of_three")
    def test_read_unknown_trace(self, storage: Storage) -> None:
        assert storage.notifications(UNKNOWN_ID) == []
        assert storage.plugin.partials([UNKNOWN_ID]) == {}
        with pytest.raises(exceptions.TraceNotFound):
            storage.trace(UNKNOWN_ID)

    @pytest.mark.usefixtures("one_of_three")
    def test_read_what_can_be_no_trace(self, storage: Storage) -> None:
        """People mistype."""
        for base_id in NO_IDS:
            with pytest.raises(exceptions.TraceNotFound) as caught:
                storage.trace(base_id)
            assert str(caught.value).isprintable()

    def test_read_no_partials_asked_for(
        self, storage: Storage, one_of_three: list[Payload]
    ) -> None:
        assert storage.plugin.partials([]) == {}

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
                storage.trace(other)

    # Summaries

    def test_summary_of_what_a_trace_holds(self, storage: Storage) -> None:
        payloads = request(seeded(1), calls=3, error="DBDeadlock")
        write(storage, payloads)
        assert summary_of(storage, payloads[0]["base_id"]) == TraceSummary(
            base_id=payloads[0]["base_id"],
            started=STARTED,
            finished=STARTED + 25 * MILLISECOND,
            name="POST /v1/servers",
            requests=1,
            answered=25 * MILLISECOND,
            roots=("POST /v1/servers",),
            about=(),
            spans=10,
            unfinished=0,
            headless=0,
            missing_parents=0,
            errors=1,
            services=("shop:api", "shop:conductor"),
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
                payload
                for at, payload in enumerate(payloads)
                if at not in missing
            ]
            kept[-1]["info"] |= {"etype": "HTTPError"}
            write(storage, *cut(shuffled(kept, size), size))
            summary = summary_of(storage, payloads[0]["base_id"])
            assert (
                summary.spans,
                summary.unfinished,
                summary.headless,
                summary.missing_parents,
                summary.errors,
            ) == (6, 1, 1, 1, 2), size

    def test_summary_of_a_lone_stop(self, storage: Storage) -> None:
        _, stop = one_span()
        write(storage, [stop])
        summary = summary_of(storage, stop["base_id"])
        assert summary.name is None
        assert (summary.headless, summary.duration) == (1, 0)

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
        assert as_text(osprofiler.report(storage.trace(base_id))) == report
