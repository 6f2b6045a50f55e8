# SPDX-License-Identifier: Apache-2.0

"""What somebody's parameter is one day is stored, and read, unchanged."""

from __future__ import annotations

import pytest

from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    StorageTests,
    expected,
    listed,
    observed,
    write,
)
from profiler_bridge.testing.sample import (
    TEXTS,
    VALUES,
    Payload,
    new_id,
    one_span,
    request,
    seeded,
    span,
)


class Hostile(StorageTests):
    """Texts, numbers and moments that a storage may stumble over."""

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
            assert listed(storage, services=[f"{text}:{text}"]) == [
                payloads[0]["base_id"]
            ]
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
        base_ids = listed(storage)
        assert len(base_ids) == 2
        at = 0 if timestamp.startswith("9") else -1
        assert base_ids[at] == start["base_id"]
