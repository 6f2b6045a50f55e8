# SPDX-License-Identifier: Apache-2.0

"""Which of the simulated traces were whole, before they were purged."""

from __future__ import annotations

import contextlib
import time

from profiler_bridge.query import TraceQuery
from profiler_bridge.simulation import shapes
from profiler_bridge.storage import get_storage
from profiler_bridge.summary import TraceSummary

# Of one trace in so many every notification is counted.
_COUNTED = 20
_MICRO = 1_000_000


class Ledger:
    """What was seen of each trace.

    :param url: of the storage
    :param after: traces are looked at so many seconds after they began, and
        this often
    """

    def __init__(self, url: str, after: int) -> None:
        self._url = url
        self._after = after
        self._sizes = {
            len(shape.spans)
            for shape in (shapes.keystone(), shapes.server_create())
        }
        self._since = 0
        self._looked = 0.0
        self.whole: set[str] = set()
        self.missing: set[str] = set()
        self.doubled = 0
        self.counted = 0

    def look(self, *, all_of_it: bool = False) -> None:
        """Look at what came since the last time, if that is long enough ago.

        :raises StorageError: it cannot be read now
        """
        if time.monotonic() < self._looked + self._after and not all_of_it:
            return
        after = 0 if all_of_it else self._after
        until = time.time_ns() // 1000 - after * _MICRO
        with contextlib.closing(get_storage(self._url)) as storage:
            seen = storage.list_traces(
                TraceQuery(
                    since=self._since,
                    until=until,
                    projects=[shapes.PROJECT],
                    limit=None,
                )
            )
            for trace in seen:
                self._note(trace)
            for trace in seen[::_COUNTED]:
                if trace.base_id in self.whole:
                    stored = len(storage.notifications(trace.base_id))
                    if stored:  # or it was purged meanwhile
                        self.counted += 1
                        self.doubled += stored - 2 * trace.spans
        # Those that were not whole are looked at again, until they are purged.
        self._since = min(
            [until]
            + [
                trace.started
                for trace in seen
                if trace.base_id in self.missing
            ]
        )
        self._looked = time.monotonic()

    def _note(self, trace: TraceSummary) -> None:
        if trace.complete and trace.spans in self._sizes:
            self.whole.add(trace.base_id)
            self.missing.discard(trace.base_id)
        elif trace.base_id not in self.whole:
            self.missing.add(trace.base_id)

    def __str__(self) -> str:
        return (
            f"traces seen whole {len(self.whole)}, never whole"
            f" {len(self.missing)}; of {self.counted} every notification"
            f" counted, {self.doubled} too many"
        )
