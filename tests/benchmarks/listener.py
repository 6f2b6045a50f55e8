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

"""One process that drains a backlog: the bridge, or what it is compared with.

Run by :mod:`tests.benchmarks.backlog` with a :class:`Task` as JSON. Prints a
line when it is ready, waits for a line, and prints a :class:`Result` as JSON.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from profiler_bridge import config, service, storage
from profiler_bridge import listener as bus

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_messaging

OURS = "ours"
NO_OP = "no-op"
NAIVE = "naive"

# Without a message for so long, a listener that shares the backlog with
# others is done.
_IDLE = 3.0


@dataclass(frozen=True)
class Task:
    """What to run.

    :param kind: OURS, NO_OP or NAIVE
    :param config_file: with transport and connection string
    :param messages: to end after; or earlier when no more come
    :param seconds: to end after in any case
    """

    kind: str
    config_file: str
    messages: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What happened.

    :param began: when it listened, by the clock of all processes
    :param done: when how many messages were done with
    :param cpu: seconds of user and system time until all was acknowledged
    :param memory: the process's peak, in bytes
    """

    began: float
    done: list[tuple[float, int]]
    cpu: float
    memory: int


class Progress:
    """Counts messages, from any thread."""

    def __init__(self) -> None:
        self.done: list[tuple[float, int]] = []
        self.count = 0
        self.busy = 0
        self.last = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.busy += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self.busy -= 1

    def add(self, count: int) -> None:
        with self._lock:
            self.last = time.monotonic()
            self.count += count
            self.done.append((self.last, count))

    @property
    def idle(self) -> bool:
        return not self.busy and time.monotonic() - self.last > _IDLE


Listener = tuple[Callable[[], None], Callable[[], None]]


def ours(conf: cfg.ConfigOpts, progress: Progress) -> Listener:
    storage.get_storages(conf)[0].prepare()
    worker = service.Worker(0, conf, 0)
    collector = worker._bridge._collector
    dispatch = collector.dispatch

    def dispatch_and_count(incoming: Any) -> Any:
        with progress:
            back = dispatch(incoming)
        progress.add(len(incoming) - len(back))
        return back

    vars(collector)["dispatch"] = dispatch_and_count
    return worker.run, worker.terminate


class _NoOp:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def info(self, messages: list[Any]) -> None:
        self._progress.add(len(messages))


def no_op(conf: cfg.ConfigOpts, progress: Progress) -> Listener:
    listener = oslo_messaging.get_batch_notification_listener(
        bus.get_transport(conf),
        _targets(conf),
        [_NoOp(progress)],
        batch_size=conf[bus.GROUP].batch_size,
        batch_timeout=conf[bus.GROUP].batch_timeout,
    )
    return _pair(listener)


class _Naive:
    def __init__(
        self, notify: Callable[[Any], None], progress: Progress
    ) -> None:
        self._notify = notify
        self._progress = progress

    def info(
        self,
        ctxt: object,
        publisher_id: object,
        event_type: object,
        payload: Any,
        metadata: object,
    ) -> None:
        with self._progress:
            self._notify(payload)
        self._progress.add(1)


def naive(conf: cfg.ConfigOpts, progress: Progress) -> Listener:
    # Only here: what it imports would count as the others' memory.
    from tests.benchmarks import layouts

    url = storage.connection_strings(conf)[0]
    driver = (
        layouts.redis_driver(url)
        if url.startswith("redis://")
        else layouts.sqlalchemy_driver(url)
    )
    listener = oslo_messaging.get_notification_listener(
        bus.get_transport(conf),
        _targets(conf),
        [_Naive(driver.notify, progress)],
    )
    return _pair(listener)


def _targets(conf: cfg.ConfigOpts) -> list[Any]:
    return [
        oslo_messaging.Target(topic=topic) for topic in conf[bus.GROUP].topics
    ]


def _pair(listener: Any) -> Listener:
    def stop() -> None:
        listener.stop()
        # As the bridge does, so that everybody's last messages count.
        time.sleep(bus._ACKNOWLEDGE_WITHIN)
        listener.wait()

    # One thread: the driver has one connection, which no two can share.
    return lambda: listener.start(override_pool_size=1), stop


KINDS = {OURS: ours, NO_OP: no_op, NAIVE: naive}


def run(task: Task) -> Result:
    conf = config.prepare(
        [f"--config-file={task.config_file}"],
        *config.modules(),
    )
    progress = Progress()
    start, stop = KINDS[task.kind](conf, progress)
    print("ready", flush=True)
    sys.stdin.readline()
    start()
    began, cpu = time.monotonic(), _cpu()
    while progress.count < task.messages:
        if progress.idle or time.monotonic() - began > task.seconds:
            break
        time.sleep(0.05)
    stop()
    return Result(began, progress.done, _cpu() - cpu, peak_memory("self"))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_memory(process: int | str) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    print(json.dumps(asdict(run(Task(**json.loads(sys.argv[1]))))))
