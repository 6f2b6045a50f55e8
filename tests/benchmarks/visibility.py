# SPDX-License-Identifier: Apache-2.0

"""How long after osprofiler's notify() a point can be queried."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator

from osprofiler import profiler

from profiler_bridge.notification import Notification
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from tests import bus
from tests.benchmarks.bench import Bench
from tests.benchmarks.payloads import TRACE
from tests.benchmarks.table import Row, single
from tests.daemon import Daemon, wait_for

_PER_SECOND = 200
# So often is looked.
_EVERY = 0.01
_AT_LAST = 30.0


def run(bench: Bench) -> Iterator[Row]:
    traces = bench.size(20, 3)
    for name in ("SQLite", "Redis"):
        with bench.database(name) as url:
            milliseconds = sorted(_measure(bench, url, traces))
        shares = statistics.quantiles(milliseconds, n=100)
        for share in (50, 99):
            yield single(
                f"notify to query at {_PER_SECOND}/s, {name}, p{share}",
                "ms",
                [shares[share - 1]],
            )


def _measure(bench: Bench, url: str, traces: int) -> list[float]:
    transport_url = bench.rabbitmq.transport_url
    daemon = Daemon(
        bench.folder(),
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": url},
        },
    )
    storage = get_storage(url)
    with daemon, bus.osprofiler_to(transport_url):
        wait_for(
            lambda: "Listening" in daemon.log,
            "the daemon listening",
        )
        base_ids: list[str] = []
        # The first one is not looked at: connections are made then.
        source = threading.Thread(target=_send, args=(traces + 1, base_ids))
        source.start()
        taken = _watch(storage, source, base_ids, traces + 1)
        source.join()
        daemon.terminate()
    storage.close()
    return taken


def _send(traces: int, base_ids: list[str]) -> None:
    """Profile as fast as wanted, in the thread that osprofiler knows."""
    due = time.monotonic()

    def wait() -> None:
        nonlocal due
        due += 1 / _PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))

    for _ in range(traces):
        profiler.clean()
        base_ids.append(profiler.init("key").get_base_id())
        for number in range(TRACE // 2):
            wait()
            profiler.start("db", {"db": {"statement": f"SELECT {number}"}})
            wait()
            profiler.stop()
    profiler.clean()


def _watch(
    storage: Storage,
    source: threading.Thread,
    base_ids: list[str],
    traces: int,
) -> list[float]:
    """Look for every point until all are there; milliseconds that it took."""
    taken: list[float] = []
    seen: dict[str, set[str]] = {}
    complete = 0
    end: float | None = None
    while complete < traces:
        time.sleep(_EVERY)
        if not source.is_alive():
            end = end or time.monotonic() + _AT_LAST
            if time.monotonic() > end:
                raise RuntimeError("not every point can be queried")
        for base_id in base_ids[complete:]:
            known = seen.setdefault(base_id, set())
            stored: list[Notification] = storage.notifications(base_id)
            now = time.time()
            for notification in stored:
                if notification.text not in known:
                    known.add(notification.text)
                    if base_id != base_ids[0]:
                        taken.append(now * 1e3 - notification.timestamp / 1e3)
            if base_id == base_ids[complete] and len(known) == TRACE:
                complete += 1
    return taken
