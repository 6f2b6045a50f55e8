# SPDX-License-Identifier: Apache-2.0

"""The keys in a cluster: together of a trace, apart of the index."""

from __future__ import annotations

import uuid
from collections import Counter

from profiler_bridge.storage.redis.keys import ClusterKeys, slot

SLOTS = 16384
KEYS = ClusterKeys()


def test_all_of_a_trace_is_in_one_slot() -> None:
    base_id = str(uuid.uuid4())
    own = {
        *KEYS.strings(base_id, ["a", "b{c}"]),
        KEYS.names(base_id),
        KEYS.summary(base_id),
        KEYS.marks(base_id),
    }
    assert len(own) == 5
    assert {*map(slot, own)} == {slot(base_id)}
    assert KEYS.base_id(KEYS.summary(base_id).encode()) == base_id


def test_parts_are_in_the_middle_of_their_slots() -> None:
    """So that as many are at each of a few masters."""
    width = SLOTS / KEYS.parts
    for at, key in enumerate(KEYS.index_parts(-1)):
        assert abs(slot(key) - (at + 0.5) * width) < width / 100


def test_traces_are_in_all_parts_near_their_keys() -> None:
    base_ids = [str(uuid.UUID(int=at << 64)) for at in range(12_000)]
    parts = Counter(KEYS.index(7, base_id) for base_id in base_ids)
    assert {*parts} == {*KEYS.index_parts(7)}
    assert min(parts.values()) > 800
    for base_id in base_ids[:100]:
        apart = abs(slot(KEYS.index(7, base_id)) - slot(base_id))
        assert apart <= SLOTS / KEYS.parts
