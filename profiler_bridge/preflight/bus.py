# SPDX-License-Identifier: Apache-2.0

"""Whether the bus can be used, and who else reads our queues."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.bus import broker
from profiler_bridge.bus.management import BRIDGE, Management, Reader
from profiler_bridge.bus.rabbit_options import check_options
from profiler_bridge.bus.transport import (
    GROUP,
    Bus,
    get_buses,
    get_transport,
)
from profiler_bridge.daemon.manager import is_master
from profiler_bridge.preflight.findings import Finding, Result, finding


def check_bus(
    conf: cfg.ConfigOpts,
    pools: Sequence[str | None],
    bridges: int | None,
) -> Iterator[Finding]:
    """Look at each bus, and at each queue of it that the bridge drains.

    :param pools: of each storage, None for the plain queue
    :param bridges: how many daemons with this configuration run now, on all
        hosts; None to count those of this one
    """
    try:
        buses = get_buses(conf)
    except exceptions.ConfigurationError as error:
        yield finding("bus", Result.FAILURE, error)
        return
    for bus in buses:
        for result in _check(conf, bus, pools, bridges):
            yield (
                replace(result, detail=f"{bus}: {result.detail}")
                if len(buses) > 1 and not result.detail.startswith(bus.name)
                else result
            )


def _check(
    conf: cfg.ConfigOpts,
    bus: Bus,
    pools: Sequence[str | None],
    bridges: int | None,
) -> Iterator[Finding]:
    with contextlib.ExitStack() as ending:
        try:
            transport = get_transport(conf, bus)
            ending.callback(transport.cleanup)
            management = Management(conf, transport)
            check_options(transport)
        except exceptions.ConfigurationError as error:
            yield finding("bus", Result.FAILURE, error)
            return
        yield from _Bus(
            conf, bus, transport, pools, bridges, management
        ).check()


class _Bus:
    """RabbitMQ, as far as AMQP lets everybody look into it, and its plugin.

    :param bus: which it is
    :param transport: of oslo.messaging
    :param pools: of each storage, None for the plain queue
    :param bridges: how many run; None where nobody has said
    :param management: the plugin
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        bus: Bus,
        transport: Any,
        pools: Sequence[str | None],
        bridges: int | None,
        management: Management,
    ) -> None:
        self._bus = bus
        self._pools = pools
        self._options = conf[GROUP]
        self._transport = transport
        self._bridges = bridges
        self._config_files = conf.config_file
        self._management = management

    def check(self) -> Iterator[Finding]:
        try:
            queues = [
                (queue, is_ours)
                for topic, pool, is_ours in self._queues()
                if (
                    queue := broker.inspect(
                        self._transport, topic, self._options.exchanges, pool
                    )
                )
            ]
        except exceptions.BusUnavailable as error:
            yield finding("bus", Result.FAILURE, f"{self._bus}: {error}")
            return
        if not queues:
            yield finding(
                "bus",
                Result.WARNING,
                f"{self._bus} is no RabbitMQ: nothing of it can be looked at",
            )
            return
        yield finding("bus", Result.OK, f"{self._bus} answers")
        yield self._check_durability([queue for queue, _ in queues])
        yield self._check_prefetch()
        for queue, is_ours in queues:
            if is_ours:
                yield self._check_queue(queue)
            if queue.exists and is_ours:
                yield from self._check_details(queue)
            if queue.exists:
                yield self._check_messages(queue)

    def _queues(self) -> Iterator[tuple[str, str | None, bool]]:
        """Topic and pool of each queue, and whether the bridge drains it."""
        for pool in self._pools:
            if pool:
                yield self._options.topics[0], pool, True
        for topic in self._options.topics:
            # It fills beside a pool's, too.
            yield topic, None, not all(self._pools)

    def _check_durability(self, queues: Sequence[broker.Queue]) -> Finding:
        options = self._transport.conf.oslo_messaging_rabbit
        if options.amqp_durable_queues or options.rabbit_quorum_queue:
            return finding(
                "durability", Result.OK, "queues survive a restart of RabbitMQ"
            )
        make_durable = (
            "set amqp_durable_queues = true, or rabbit_quorum_queue = true, in"
            " [oslo_messaging_rabbit], here and in the services"
        )
        version = queues[0].version
        if broker.refuses_transient(version):
            # Where it was told to take them, there may be one.
            all_there = all(
                queue.exists and not queue.problem for queue in queues
            )
            return finding(
                "durability",
                Result.WARNING if all_there else Result.FAILURE,
                f"RabbitMQ {version} takes no queues that are neither durable"
                f" nor exclusive, unless it is told to: {make_durable}",
            )
        return finding(
            "durability",
            Result.WARNING,
            "queues, and what is in them, do not survive a restart of"
            " RabbitMQ, and RabbitMQ from 4.3 takes none such:"
            f" {make_durable}",
        )

    def _check_prefetch(self) -> Finding:
        options = self._transport.conf.oslo_messaging_rabbit
        prefetch = options.rabbit_qos_prefetch_count
        if not prefetch:
            return finding(
                "prefetch",
                Result.WARNING,
                "rabbit_qos_prefetch_count = 0 hands a worker all that waits,"
                " and the others nothing: take it out, prefetch in [bridge]"
                " says how much it takes",
            )
        if prefetch < self._options.batch_size:
            return finding(
                "prefetch",
                Result.WARNING,
                f"a worker takes {prefetch} messages, so no batch is ever"
                f" full with {self._options.batch_size}, and each waits for"
                " batch_timeout: set prefetch in [bridge] to twice batch_size",
            )
        return finding(
            "prefetch",
            Result.OK,
            f"a worker takes at most {prefetch} messages at once",
        )

    def _check_queue(self, queue: broker.Queue) -> Finding:
        if queue.problem:
            return finding(
                "queue",
                Result.WARNING if queue.usable else Result.FAILURE,
                queue.problem,
            )
        if not queue.exists:
            return finding(
                "queue",
                Result.OK,
                f"{queue.name} is not there yet: it is made when"
                " profiler-bridge starts, or at the first notification",
            )
        return finding("queue", Result.OK, f"{queue.name} is {queue.kind}")

    def _check_details(self, queue: broker.Queue) -> Iterator[Finding]:
        """What the plugin says of a queue, or the little that AMQP does."""
        try:
            losses = self._management.losses(queue.name)
            readers = self._management.readers(queue.name)
        except exceptions.BusUnavailable as error:
            yield self._count_consumers(
                queue,
                "who they are, and the queue's policy, only RabbitMQ's"
                f" management plugin could say ({error})",
            )
            return
        for loss in losses:
            yield finding("queue", Result.WARNING, f"{queue.name}: {loss}")
        others = [reader for reader in readers if not reader.is_bridge]
        for reader in others:
            yield finding(
                "consumers",
                Result.WARNING,
                f"{queue.name} is read by {reader} too, which takes"
                f" notifications away{_remedy(reader)}",
            )
        ours = len(readers) - len(others)
        workers = self._options.workers
        seen = f"{ours} worker(s) of bridges read {queue.name}"
        expected = ours if self._bridges is None else self._bridges * workers
        if ours != expected:
            yield finding(
                "consumers",
                Result.WARNING,
                f"{seen}, expected are {expected}",
            )
        elif not others:
            yield finding("consumers", Result.OK, seen)

    def _count_consumers(self, queue: broker.Queue, unknown: str) -> Finding:
        """Compare how many read a queue with how many of ours there are.

        :param unknown: what could not be looked at, and why
        """
        workers = self._options.workers
        bridges, where = self._bridges, ""
        if bridges is None:
            bridges, where = _bridges_here(self._config_files), " on this host"
        expected = bridges * workers
        seen = (
            f"{queue.name} has {queue.consumers} consumer(s), expected are"
            f" {expected}: {bridges} bridge(s){where}, {workers} worker(s)"
            " each"
        )
        if queue.consumers > expected:
            return finding(
                "consumers",
                Result.WARNING,
                f"{seen}; another reader, such as 'osprofiler trace show' with"
                " messaging://, or ceilometer with the topic profiler as in"
                " openstack-helm, takes notifications away; or a bridge runs"
                f" that --bridges does not count; {unknown}",
            )
        if queue.consumers < expected:
            return finding(
                "consumers",
                Result.WARNING,
                f"{seen}; some of them do not listen",
            )
        return finding("consumers", Result.OK, f"{seen}; {unknown}")

    def _check_messages(self, queue: broker.Queue) -> Finding:
        waiting = f"{queue.messages} message(s) wait in {queue.name}"
        if queue.messages and not queue.consumers:
            return finding(
                "messages",
                Result.WARNING,
                f"{waiting}, and nobody drains it: it grows until somebody"
                " does",
            )
        return finding("messages", Result.OK, waiting)


def _remedy(reader: Reader) -> str:
    """What to do about a reader, if that is known."""
    if "ceilometer" in reader.name:
        return (
            ": take profiler out of topics in [oslo_messaging_notifications]"
            " of ceilometer.conf, where openstack-helm has it"
        )
    if reader.name.startswith("osprofiler:"):
        return ": with messaging:// its reports read and drop all there is"
    return ""


def _bridges_here(config_files: Sequence[str]) -> int:
    """How many daemons with these files run on this host, as far as seen."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = (
                path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            continue  # it has ended, or is hidden
        if is_master(title, BRIDGE) and (
            "--config-" not in title
            or all(file in title for file in config_files)
        ):
            count += 1
    return count
