# SPDX-License-Identifier: Apache-2.0

"""Pages of traces, in a storage that holds others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from profiler_bridge import exceptions
from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Position
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import (
    ALL_TRACES,
    PartialSummary,
    TraceSummary,
)
from profiler_bridge.testing.helpers import (
    NO_IDS,
    UNKNOWN_ID,
    StorageTests,
    by_trace,
    cut,
    ids,
    listed,
    paged,
    shuffled,
    write,
)
from profiler_bridge.testing.processes import WRITERS, in_threads
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    SERVER,
    STARTED,
    Payload,
    assorted_traces,
    crossing_traces,
    notifications,
)

Matches = Callable[[TraceSummary], object]

# What can be asked of the traces below, and which of them it is true of.
QUERIES: list[tuple[dict[str, Any], Matches]] = [
    ({}, lambda summary: True),
    ({"services": ["api"]}, lambda summary: _has(summary, "api")),
    (
        {"services": ["shop:💥-ümlaut"]},
        lambda summary: "shop:💥-ümlaut" in summary.services,
    ),
    ({"services": ["bank"]}, lambda summary: _is_of(summary, "bank")),
    ({"services": ["!bank"]}, lambda summary: not _is_of(summary, "bank")),
    (
        {"services": ["shop", "conductor"]},
        lambda summary: _is_of(summary, "shop") and _has(summary, "conductor"),
    ),
    ({"projects": ["bank"]}, lambda summary: _is_of(summary, "bank")),
    ({"hosts": ["node-2"]}, lambda summary: "node-2" in summary.hosts),
    ({"names": ["rpc"]}, lambda summary: "rpc" in summary.names),
    (
        {"names": ["!rpc"], "hosts": ["node-1"]},
        lambda summary: (
            "rpc" not in summary.names and "node-1" in summary.hosts
        ),
    ),
    ({"roots": ["POST*"]}, lambda summary: _began(summary, "POST")),
    ({"roots": ["!POST*"]}, lambda summary: not _began(summary, "POST")),
    (
        {"roots": ["*/v1/servers*", "!POST*"]},
        lambda summary: summary.name == "GET /v1/servers/{id}/tags",
    ),
    (
        {"roots": ["GET /v1/servers/{id}/tags"]},
        lambda summary: summary.name == "GET /v1/servers/{id}/tags",
    ),
    ({"about": [SERVER.upper()]}, lambda summary: SERVER in summary.about),
    ({"about": [f"!{SERVER}"]}, lambda summary: SERVER not in summary.about),
    (
        {"operations": ["UPDATE*"], "about": [SERVER]},
        lambda summary: SERVER in summary.about and "db" in summary.names,
    ),
    (
        {"operations": ["!UPDATE servers"], "services": ["bank"]},
        lambda summary: _is_of(summary, "bank") and "db" not in summary.names,
    ),
    ({"error": True}, lambda summary: summary.errors),
    ({"incomplete": True}, lambda summary: summary.unfinished),
    (
        {"min_duration": 11 * MILLISECOND},
        lambda summary: summary.duration >= 11 * MILLISECOND,
    ),
    (
        {"max_duration": 11 * MILLISECOND},
        lambda summary: summary.duration <= 11 * MILLISECOND,
    ),
    (
        {"since": STARTED + SECOND, "until": STARTED + 4 * SECOND},
        lambda summary: 1 <= (summary.started - STARTED) / SECOND < 4,
    ),
    (
        {"services": ["images", "!bank"], "error": True},
        lambda summary: (
            _has(summary, "images")
            and summary.errors
            and not _is_of(summary, "bank")
        ),
    ),
    (
        {
            "services": ["api"],
            "incomplete": True,
            "since": STARTED + SECOND,
        },
        lambda summary: (
            _has(summary, "api")
            and summary.unfinished
            and summary.started >= STARTED + SECOND
        ),
    ),
]


def _is_of(summary: TraceSummary, project: str) -> bool:
    return any(
        service.startswith(f"{project}:") for service in summary.services
    )


def _has(summary: TraceSummary, service: str) -> bool:
    return any(
        qualified.endswith(f":{service}") for qualified in summary.services
    )


def _began(summary: TraceSummary, method: str) -> bool:
    return any(root.startswith(f"{method} ") for root in summary.roots)


class Listing(StorageTests):
    """Lists: their order, their bounds, their pages."""

    def test_list_when_earliest_notification_arrives_last(
        self, storage: Storage
    ) -> None:
        """The trace stands where it really started, and only there."""
        early, late, between = crossing_traces()
        write(storage, between, late, *cut(early[::-1], 1))
        self.assert_listed(storage, late, between, early)

    def test_list_when_writers_had_parts_of_it(
        self, connection_string: str, storage: Storage
    ) -> None:
        early, late, between = crossing_traces()
        write(storage, between, late)

        def work(number: int) -> None:
            with contextlib.closing(get_storage(connection_string)) as own:
                write(own, early[number::WRITERS])

        in_threads(work)
        self.assert_listed(storage, late, between, early)

    @staticmethod
    def assert_listed(storage: Storage, *traces: list[Payload]) -> None:
        """In this order, under all of their terms."""
        base_ids = [trace[0]["base_id"] for trace in traces]
        for query in ({}, {"services": ["api"]}, {"error": True}):
            assert listed(storage, **query) == base_ids, query
            assert paged(storage, 1, **query) == base_ids, query

    # Pages of traces, in a storage that holds others

    @pytest.fixture
    def known(self, storage: Storage) -> list[TraceSummary]:
        """What is stored; of those that started together, the greatest
        base_id first.
        """
        traces = assorted_traces()
        payloads = [payload for trace in traces for payload in trace]
        write(storage, *cut(shuffled(payloads, 1), 50))
        summaries = (
            PartialSummary.of(notifications(own)).summary(base_id)
            for base_id, own in by_trace(payloads).items()
        )
        return sorted(
            summaries,
            key=lambda summary: (summary.started, summary.base_id),
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
        for at, summary in enumerate(known):
            assert listed(storage, limit=4, marker=summary.base_id) == ids(
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
            base_ids = ids(filter(matches, known))
            assert base_ids
            for size in (1, 2, 3, 7, 100):
                assert paged(storage, size, **query) == base_ids, query

    def test_list_longest_first(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        for query, matches in QUERIES:
            base_ids = ids(
                sorted(
                    filter(matches, known),
                    key=lambda summary: (summary.duration, summary.base_id),
                    reverse=True,
                )
            )
            for size in (2, 100):
                by_duration = query | {"sort": Sort.DURATION}
                assert paged(storage, size, **by_duration) == base_ids, query

    def test_list_error_traces(
        self, storage: Storage, known: list[TraceSummary]
    ) -> None:
        assert storage.list_error_traces(TraceQuery(limit=100)) == [
            summary for summary in known if summary.errors
        ]

    @pytest.mark.usefixtures("known")
    def test_list_unknown_service(self, storage: Storage) -> None:
        for service in ("ap", "API", "api ", "", "%", "*", "nul\0", "\udc80"):
            assert listed(storage, services=[service]) == []

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
            summary for summary in known if summary.started < until
        )
        assert listed(storage, since=until, marker=oldest) == []

    def test_index_stretches(self, storage: Storage) -> None:
        """What paging is made of; its bounds are not looked at again."""
        write(
            storage,
            [payload for trace in assorted_traces() for payload in trace],
        )
        plugin = storage.plugin
        stretch = list(plugin.index(ALL_TRACES, None, None, 100))
        assert len(stretch) == 24
        assert stretch == sorted(stretch, reverse=True)
        for at, before in enumerate(stretch):
            following = plugin.index(ALL_TRACES, before, None, 5)
            assert list(following) == stretch[at + 1 : at + 6]
            until = Position(before.at, "")
            assert list(plugin.index(ALL_TRACES, until, None, 100)) == [
                position for position in stretch if position.at < before.at
            ]
            since = before.at
            assert list(plugin.index(ALL_TRACES, None, since, 100)) == [
                position for position in stretch if position.at >= since
            ]

    def test_list_nothing_stored(self, storage: Storage) -> None:
        assert listed(storage) == []
