# SPDX-License-Identifier: Apache-2.0

"""One process that drains a backlog: the bridge, or what it is compared with.

Run by :mod:`tests.benchmarks.backlog` with a :class:`Task` as JSON. Prints a
line when it is ready, waits for a line, and prints a :class:`Result` as JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import amqp
from oslo_config import cfg

from profiler_bridge import config, storage
from profiler_bridge.bus import transport as bus
from profiler_bridge.bus.reader import Reader
from profiler_bridge.daemon.liveness import Liveness
from profiler_bridge.daemon.worker import Worker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_messaging
    from oslo_messaging import TransportURL

OURS = "ours"
NO_OP = "no-op"
NAIVE = "naive"
# Read, decode and acknowledge; store nothing.
READER = "reader"
PY_AMQP = "py-amqp"

# Without a message for so long, a listener that shares the backlog with
# others is done.
_IDLE = 3.0
_ACKNOWLEDGE_WITHIN = 0.3


@dataclass(frozen=True)
class Task:
    """What to run.

    :param kind: one of :data:`KINDS`
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
    worker = Worker(0, conf, 0, Liveness(1))
    collector = worker._bridge._collector
    collect = collector.collect

    def collect_and_count(batch: Any, reader: Any) -> None:
        with progress:
            collect(batch, reader)
        if batch:
            progress.add(len(batch))

    vars(collector)["collect"] = collect_and_count
    return worker.run, worker.terminate


def reader(conf: cfg.ConfigOpts, progress: Progress) -> Listener:
    """Our reader alone."""
    transport = bus.get_transport(conf)
    made = Reader(
        partial(
            bus.get_source_class(transport),
            transport,
            bus.get_targets(conf, None),
            None,
        ),
        conf[bus.GROUP].batch_size,
        conf[bus.GROUP].batch_timeout,
    )

    def take() -> None:
        while not made.ended:
            batch = made.take(1.0)
            for message in batch:
                message.decode()
            made.acknowledge(batch)
            progress.add(len(batch))
        made.finish()

    threads = [
        threading.Thread(target=loop, daemon=True) for loop in (made.run, take)
    ]

    def start() -> None:
        gc.freeze()
        for thread in threads:
            thread.start()

    def stop() -> None:
        made.stop()
        for thread in threads:
            thread.join()

    return start, stop


def py_amqp(conf: cfg.ConfigOpts, progress: Progress) -> Listener:
    """The least that one can do with the library as it is."""
    options = conf[bus.GROUP]
    host = TransportURL.parse(conf).hosts[0]
    connection = amqp.Connection(f"{host.hostname}:{host.port}")
    waiting = 0

    def receive(message: Any) -> None:
        nonlocal waiting
        json.loads(message.body)
        waiting += 1
        if waiting == options.batch_size:
            acknowledge(message)

    def acknowledge(message: Any) -> None:
        nonlocal waiting
        message.channel.basic_ack(message.delivery_tag, multiple=True)
        progress.add(waiting)
        waiting = 0

    def run() -> None:
        connection.connect()
        channel = connection.channel()
        channel.basic_qos(0, options.prefetch, False)
        channel.basic_consume("profiler.info", callback=receive)
        with contextlib.suppress(OSError):
            while True:
                connection.drain_events(timeout=1.0)

    thread = threading.Thread(target=run, daemon=True)

    def stop() -> None:
        thread.join()
        connection.close()

    return thread.start, stop


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
        # The driver leaves the last acknowledgements to a thread, and closes
        # the connection without asking whether that had its turn.
        time.sleep(_ACKNOWLEDGE_WITHIN)
        listener.wait()

    # One thread: the driver has one connection, which no two can share.
    return lambda: listener.start(override_pool_size=1), stop


KINDS = {
    OURS: ours,
    NO_OP: no_op,
    NAIVE: naive,
    READER: reader,
    PY_AMQP: py_amqp,
}


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
    progress.last = began
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
    return _status(process, "VmHWM")


def memory(process: int | str) -> int:
    """The memory that a process has now, in bytes."""
    return _status(process, "VmRSS")


def _status(process: int | str, name: str) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    match = re.search(rf"{name}:\s*(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0


if __name__ == "__main__":
    print(json.dumps(asdict(run(Task(**json.loads(sys.argv[1]))))))
