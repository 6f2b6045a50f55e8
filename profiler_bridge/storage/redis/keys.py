# SPDX-License-Identifier: Apache-2.0

"""The keys of traces and of their index, on a server and in a cluster. Pure.

In a cluster a key's place follows from what stands in its braces, so all keys
of one trace are in one place: what is written there is written in its order.
A term's entries are in twelve parts, which stand apart, each for the traces of
a twelfth of all places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from profiler_bridge.storage.redis.layout import to_hex

# Each is in the middle of its twelfth of the slots. What is stored depends on
# them: they never change.
_PARTS = (
    *("18e", "96e", "c43", "8a7", "3db", "670"),
    *("cd9", "bfa", "faa", "996", "0cd", "506"),
)


def slot(key: str | bytes) -> int:
    """In which of a cluster's 16384 slots a key is."""
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")
    return key_slot(key)


class Keys:
    """Those of a server alone; osprofiler's own command knows strings'."""

    #: Whether one command may be about keys of several traces.
    are_together = True
    #: Into how many parts each term's entries are divided.
    parts = 1

    def _of(self, base_id: str) -> str:
        return base_id

    def strings(self, base_id: str, names: Iterable[str]) -> list[str]:
        """The keys of notifications, by how they end."""
        beginning = f"osprofiler:{self._of(base_id)}_"
        return [beginning + name for name in names]

    def names(self, base_id: str) -> str:
        """The key of the names of a trace's notifications."""
        return f"profiler_bridge:keys:{self._of(base_id)}"

    def summary(self, base_id: str) -> str:
        """The key of a trace's partial summaries."""
        return f"profiler_bridge:summary:{self._of(base_id)}"

    def marks(self, base_id: str) -> str:
        """The key of a trace's marks."""
        return f"profiler_bridge:marks:{self._of(base_id)}"

    def base_id(self, summary: bytes) -> str:
        """Whose partial summaries have this key."""
        return summary.decode("ascii", "replace").split(":", 2)[2]

    def index(self, term: int, base_id: str) -> str:
        """The key of the term's entries that a trace's are among."""
        return f"profiler_bridge:index:{to_hex(term)}"

    def index_parts(self, term: int) -> Sequence[str]:
        """The keys of all entries of a term."""
        return [f"profiler_bridge:index:{to_hex(term)}"]


class ClusterKeys(Keys):
    """Those in a cluster."""

    are_together = False
    parts = len(_PARTS)

    def _of(self, base_id: str) -> str:
        return f"{{{base_id}}}"

    def base_id(self, summary: bytes) -> str:
        return super().base_id(summary).strip("{}")

    def index(self, term: int, base_id: str) -> str:
        part = slot(base_id) * len(_PARTS) // REDIS_CLUSTER_HASH_SLOTS
        return f"profiler_bridge:index:{to_hex(term)}:{{{_PARTS[part]}}}"

    def index_parts(self, term: int) -> Sequence[str]:
        return [
            f"profiler_bridge:index:{to_hex(term)}:{{{part}}}"
            for part in _PARTS
        ]
