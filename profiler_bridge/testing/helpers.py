# SPDX-License-Identifier: Apache-2.0

"""What tests of storages do: write, look, and compare."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import osprofiler
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import StoragePlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.summary import PartialSummary, TraceSummary
from profiler_bridge.testing.sample import Payload, notifications, seeded
from profiler_bridge.trace import Trace

T = TypeVar("T")

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
#: What users may ask for, and can be the id of no trace.
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


class StorageTests:
    """What the groups of tests share, of what a plugin's author overrides."""

    def raw_payloads(self, connection_string: str) -> list[Payload] | None:
        """See :class:`profiler_bridge.testing.storage.StorageConformance`."""
        raise NotImplementedError

    def assert_stored(
        self, connection_string: str, payloads: Sequence[Payload]
    ) -> None:
        """These are stored, once and unchanged, and no others."""
        raw = self.raw_payloads(connection_string)
        if raw is not None:
            assert as_texts(raw) == as_texts(payloads)
        with contextlib.closing(get_storage(connection_string)) as storage:
            for base_id, own in by_trace(payloads).items():
                assert stored(storage, base_id) == as_texts(own)


class Intermediary:
    """A plugin with something before it; tests override what they alter."""

    def __init__(self, plugin: StoragePlugin) -> None:
        self.plugin = plugin

    def __str__(self) -> str:
        return str(self.plugin)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plugin, name)


# Payloads


def as_text(value: object) -> str:
    """JSON that is equal for equal values, NaN included."""
    return json.dumps(value, sort_keys=True)


def as_texts(values: Iterable[object]) -> list[str]:
    return sorted(as_text(value) for value in values)


def by_trace(payloads: Iterable[Payload]) -> dict[str, list[Payload]]:
    traces: dict[str, list[Payload]] = {}
    for payload in payloads:
        traces.setdefault(payload["base_id"], []).append(payload)
    return traces


def shuffled(things: Sequence[T], seed: int) -> list[T]:
    return seeded(seed).sample(things, len(things))


def cut(things: Sequence[T], size: int) -> list[Sequence[T]]:
    """Parts of one size; the last may be smaller."""
    return [things[at : at + size] for at in range(0, len(things), size)]


# Storages


def write(storage: Storage, *batches: Sequence[Payload]) -> None:
    """Write one batch after the other."""
    for batch in batches:
        storage.write(notifications(batch))


def stored(storage: Storage, base_id: str) -> list[str]:
    """The payloads of a trace, as texts."""
    return as_texts(
        notification.payload for notification in storage.notifications(base_id)
    )


def listed(storage: Storage, **query: Any) -> list[str]:
    """The base_ids of a page."""
    return ids(storage.list_traces(TraceQuery(**query)))


def ids(summaries: Iterable[TraceSummary]) -> list[str]:
    return [summary.base_id for summary in summaries]


def paged(storage: Storage, size: int, **query: Any) -> list[str]:
    """The base_ids of all pages, one after the other."""
    base_ids: list[str] = []
    while page := listed(
        storage, limit=size, marker=base_ids[-1] if base_ids else None, **query
    ):
        assert not {*page} & {*base_ids}, "listed twice"
        base_ids += page
    return base_ids


def summary_of(storage: Storage, base_id: str) -> TraceSummary:
    (summary,) = (
        summary
        for summary in storage.list_traces(TraceQuery(limit=1000))
        if summary.base_id == base_id
    )
    return summary


def observed(storage: Storage, payloads: Iterable[Payload]) -> list[Any]:
    """All that a storage tells of the traces that these payloads are of."""
    return [
        (
            summary_of(storage, base_id),
            as_text(osprofiler.report(storage.trace(base_id))),
            stored(storage, base_id),
        )
        for base_id in by_trace(payloads)
    ]


def expected(payloads: Iterable[Payload]) -> list[Any]:
    """What :func:`observed` has to give, found out without a storage."""
    result = []
    for base_id, own in by_trace(payloads).items():
        valid = notifications(own)
        summary = PartialSummary.of(valid).summary(base_id)
        report = osprofiler.report(Trace.build(base_id, valid))
        result.append((summary, as_text(report), as_texts(own)))
    return result


# Errors


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
