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

"""The most memory that a worker of the daemon has under a large backlog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from tests.benchmarks import notifier, payloads
from tests.benchmarks.backlog import publish
from tests.benchmarks.bench import Bench
from tests.benchmarks.listener import peak_memory
from tests.benchmarks.table import Row, single
from tests.daemon import Daemon, wait_for

_MIB = 1 << 20
_SECONDS = 900


def run(bench: Bench) -> Iterator[Row]:
    count = bench.size(500_000, 5_000)
    for kind, bodies in (
        ("messages of one point", payloads.bodies),
        ("many-point messages", notifier.messages_of_many),
    ):
        publish(bench.rabbitmq, bodies(count))
        yield single(
            f"peak memory of a worker, {kind}, backlog of {count:,} points",
            "MiB",
            [_peak(bench, count) / _MIB],
            at_most=bench.wanted(200),
        )


def _peak(bench: Bench, count: int) -> int:
    """Bytes, of the worker that stores a backlog of so many points."""
    with bench.database("SQLite") as url:
        daemon = Daemon(
            bench.folder(),
            {
                "DEFAULT": {"transport_url": bench.rabbitmq.transport_url},
                "osprofiler": {"connection_string": url},
            },
        )
        storage = get_storage(url)

        def all_stored() -> bool:
            time.sleep(0.5)
            with contextlib.suppress(exceptions.StorageError):
                stored = storage.list_traces(TraceQuery(limit=count))
                return count == sum(
                    2 * each.spans - each.unfinished - each.headless
                    for each in stored
                )
            return False

        with daemon:
            wait_for(all_stored, "the backlog in the database", _SECONDS)
            peak = max(map(peak_memory, daemon.workers()))
            daemon.terminate()
    return peak
