# SPDX-License-Identifier: Apache-2.0

"""A backlog in RabbitMQ, and the processes that drain it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import amqp

from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.benchmarks import listener, payloads
from tests.benchmarks.bench import Bench

_EXCHANGE = "openstack"
# The last messages are not counted: they may not fill a batch, and then wait
# for its timeout.
_COUNTED = 0.9
# Nobody may take longer, for one backlog.
_SECONDS = 900.0


@dataclass(frozen=True)
class Drain:
    """How a backlog was drained.

    :param rate: messages per second, of all processes together
    :param cpu: seconds of user and system time per message
    :param memory: the peak of the largest process, in bytes
    :param largest_share: of the CPU time, that of the busiest process
    """

    rate: float
    cpu: float
    memory: int
    largest_share: float


def publish(rabbitmq: servers.RabbitMQ, bodies: Iterable[bytes]) -> int:
    """Put message bodies on the queue that nobody listens on.

    Without the broker's confirmation, to be fast; waits until it has all.

    :returns: how many there are
    """
    count = 0
    with amqp.Connection(f"127.0.0.1:{rabbitmq.port}") as connection:
        channel = connection.channel()
        channel.exchange_declare(
            _EXCHANGE, "topic", durable=False, auto_delete=False
        )
        channel.queue_declare(bus.QUEUE, durable=False, auto_delete=False)
        channel.queue_bind(bus.QUEUE, _EXCHANGE, bus.QUEUE)
        channel.queue_purge(bus.QUEUE)
        for body in bodies:
            count += 1
            message = amqp.Message(
                body,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=1,
            )
            channel.basic_publish(message, _EXCHANGE, bus.QUEUE)
    if not servers.wait_until(
        lambda: rabbitmq.queue_depth(bus.QUEUE) == count, 60
    ):
        raise RuntimeError("RabbitMQ does not have all messages")
    return count


def drain(
    bench: Bench,
    bodies: Sequence[bytes],
    kind: str,
    url: str = "sqlite:///nowhere",
    processes: int = 1,
    options: str = "",
) -> Drain:
    """Publish a backlog and have processes of their own drain it.

    :param kind: see :class:`listener.Task`
    :param url: where the messages go
    :param options: further lines of the configuration file
    """
    folder = bench.folder()
    config_file = folder / "bridge.conf"
    config_file.write_text(
        f"[DEFAULT]\ntransport_url = {bench.rabbitmq.transport_url}\n"
        f"[osprofiler]\nconnection_string = {url}\n"
        f"[bridge]\nset_aside = {folder}/set-aside.sqlite\n"
        f"{options}"
    )
    published = publish(bench.rabbitmq, bodies)
    task = listener.Task(kind, str(config_file), published, _SECONDS)
    results = _run(task, processes)
    began = min(result.began for result in results)
    done = sorted(moment for result in results for moment in result.done)
    total = sum(count for _, count in done)
    if total < published:
        raise RuntimeError(f"{kind}: {total} of {published} messages done")
    if not servers.wait_until(
        lambda: not bench.rabbitmq.queue_depth(bus.QUEUE), 10
    ):
        raise RuntimeError(f"{kind} did not acknowledge all")
    counted = 0
    end = began
    for moment, count in done:
        counted += count
        end = moment
        if counted >= _COUNTED * published:
            break
    cpu = sum(result.cpu for result in results)
    return Drain(
        counted / (end - began),
        cpu / total,
        max(result.memory for result in results),
        max(result.cpu for result in results) / cpu,
    )


def _run(task: listener.Task, processes: int) -> list[listener.Result]:
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", listener.__name__),
                        json.dumps(asdict(task)),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=Path(__file__).parents[2],
                )
            )
            for _ in range(processes)
        ]
        for process in running:
            stack.callback(process.kill)
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        end = time.monotonic() + task.seconds + 60
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = []
        for process in running:
            output, _ = process.communicate(timeout=end - time.monotonic())
            if process.returncode:
                raise RuntimeError(f"{task} ended with {process.returncode}")
            results.append(listener.Result(**json.loads(output)))
        return results


def make(count: int) -> list[bytes]:
    """The bodies of a backlog, made once for many drains."""
    return [*payloads.bodies(count)]


def stored_points(url: str, traces: int = 1_000_000) -> int:
    """How many points a storage has, of so many traces at most."""
    with contextlib.closing(get_storage(url)) as storage:
        return sum(
            2 * row.spans - row.unfinished - row.headless
            for row in storage.list_traces(TraceQuery(limit=traces))
        )
