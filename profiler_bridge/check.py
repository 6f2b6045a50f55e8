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

"""What will go wrong: found out before the bridge goes live.

A check disturbs nobody: it takes no message, and makes and changes nothing.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from oslo_config import cfg

from profiler_bridge import config, exceptions, listener, queue
from profiler_bridge import storage as storages
from profiler_bridge.report.text import printable
from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage.base import Storage

#: Where the options stand that a configuration file may have, as entry points.
NAMESPACES = frozenset(
    {
        "profiler_bridge",
        "profiler_bridge.storage.redis",
        "oslo.log",
        "oslo.messaging",
    }
)


class Result(enum.StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    :param check: what was looked at
    :param detail: one line, without passwords
    """

    check: str
    result: Result
    detail: str


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when all is well, 1 with warnings, 2 with failures."""
    return max(([*Result].index(each.result) for each in findings), default=0)


def check(
    config_files: Sequence[str],
    connection_string: str | None = None,
    bridges: int = 0,
) -> Iterator[Finding]:
    """Look at everything that the daemon would use, always in this order.

    :param config_files: those of the daemon; empty for the usual places
    :param connection_string: a storage in place of the configured
    :param bridges: how many daemons with this configuration run now, on all
        hosts
    """
    try:
        conf = config.prepare(
            [f"--config-file={path}" for path in config_files],
            *config.modules(),
        )
    except exceptions.ConfigurationError as error:
        yield _finding("configuration", Result.FAILURE, error)
        return
    stores: list[Storage] = []
    not_found: exceptions.ConfigurationError | None = None
    try:
        stores = _storages(conf, connection_string)
    except exceptions.ConfigurationError as error:
        not_found = error
    yield _check_names(conf, stores)
    yield from _check_bus(conf, listener.get_pools(conf, stores), bridges)
    if not_found:
        yield _finding("storage", Result.FAILURE, not_found)
    for storage in stores:
        with contextlib.closing(storage):
            yield from _check_storage(storage)
    yield _check_set_aside(conf)


def _storages(
    conf: cfg.ConfigOpts, connection_string: str | None
) -> list[Storage]:
    if connection_string:
        return [storages.get_storage(connection_string, conf)]
    return storages.get_storages(conf)


def _check_names(conf: cfg.ConfigOpts, stores: Sequence[Storage]) -> Finding:
    """Whether all that stands in the files is an option of anything."""
    files = [
        *conf.config_file,
        *(
            str(path)
            for folder in conf.config_dir
            for path in sorted(Path(folder).glob("*.conf"))
        ),
    ]
    if not files:
        return _finding(
            "configuration",
            Result.WARNING,
            "there is no configuration file: give --config-file",
        )
    known = _known_options(stores)
    unknown = []
    for path in files:
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(path, sections).parse()
        unknown += [
            f"{name} in [{section}] of {path}"
            for section, options in sections.items()
            for name in options
            if (section, name.replace("-", "_")) not in known
        ]
    if unknown:
        return _finding(
            "configuration",
            Result.WARNING,
            f"no option, so without effect: {'; '.join(unknown)}",
        )
    return _finding("configuration", Result.OK, f"read {', '.join(files)}")


def _known_options(stores: Sequence[Storage]) -> set[tuple[str, str]]:
    """Section and name of each option that may be in the files."""
    found: list[tuple[object, Sequence[cfg.Opt]]] = [
        (storages.GROUP, storage.OPTS) for storage in stores
    ]
    for entry in metadata.entry_points(group="oslo.config.opts"):
        if entry.name in NAMESPACES:
            found += entry.load()()
    known = set()
    for group, options in found:
        section = str(group or "DEFAULT")
        for option in options:
            known.add((section, option.dest))
            for old in option.deprecated_opts:
                name = (old.name or option.dest).replace("-", "_")
                known.add((old.group or section, name))
    return known


def _check_bus(
    conf: cfg.ConfigOpts, pools: Sequence[str | None], bridges: int
) -> Iterator[Finding]:
    try:
        transport = listener.get_transport(conf)
    except (exceptions.ConfigurationError, cfg.Error, ValueError) as error:
        yield _finding("bus", Result.FAILURE, error)
        return
    with contextlib.closing(_Bus(conf, transport, pools, bridges)) as bus:
        yield from bus.check()


class _Bus:
    """RabbitMQ, as far as AMQP lets everybody look into it.

    :param transport: of oslo.messaging
    :param pools: of each storage, None for the plain queue
    :param bridges: how many run
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: Any,
        pools: Sequence[str | None],
        bridges: int,
    ) -> None:
        self._pools = pools
        self._options = conf[listener.GROUP]
        self._transport = transport
        self._driver = transport._driver
        self._bridges = bridges

    def close(self) -> None:
        self._transport.cleanup()

    def check(self) -> Iterator[Finding]:
        try:
            queues = [
                (is_ours, self._inspect(topic, pool))
                for topic, pool, is_ours in self._queues()
            ]
        # The last is the driver's, for options that exclude each other.
        except (exceptions.BusUnavailable, RuntimeError) as error:
            yield _finding("bus", Result.FAILURE, f"{self}: {error}")
            return
        found = [(is_ours, each) for is_ours, each in queues if each]
        if not found:
            yield _finding(
                "bus",
                Result.WARNING,
                f"{self} is no RabbitMQ: nothing of it can be looked at",
            )
            return
        yield _finding("bus", Result.OK, f"{self} answers")
        yield self._check_durability()
        yield self._check_prefetch()
        for is_ours, each in found:
            if is_ours:
                yield self._check_queue(each)
            if each.exists and is_ours:
                yield self._check_consumers(each)
            if each.exists:
                yield self._check_messages(each)

    def __str__(self) -> str:
        url = self._driver._url
        # Sorted, for the driver shuffles them.
        hosts = sorted(f"{each.hostname}:{each.port}" for each in url.hosts)
        return f"{url.transport}://{','.join(hosts)}/{url.virtual_host or ''}"

    def _queues(self) -> Iterator[tuple[str, str | None, bool]]:
        """Topic and pool of each queue, and whether the bridge drains it."""
        for pool in self._pools:
            if pool:
                yield self._options.topics[0], pool, True
        for topic in self._options.topics:
            # It fills beside a pool's, too.
            yield topic, None, not all(self._pools)

    def _inspect(self, topic: str, pool: str | None) -> queue.Queue | None:
        exchange = self._options.exchanges[0] if pool else None
        return queue.inspect(self._transport, topic, exchange, pool)

    def _check_durability(self) -> Finding:
        options = self._driver.conf.oslo_messaging_rabbit
        if options.amqp_durable_queues or options.rabbit_quorum_queue:
            return _finding(
                "durability", Result.OK, "queues survive a restart of RabbitMQ"
            )
        return _finding(
            "durability",
            Result.WARNING,
            "queues, and what is in them, do not survive a restart of"
            " RabbitMQ: set amqp_durable_queues = true in"
            " [oslo_messaging_rabbit], here and in the services",
        )

    def _check_prefetch(self) -> Finding:
        prefetch = self._driver.prefetch_size
        if not prefetch:
            return _finding(
                "prefetch",
                Result.WARNING,
                "rabbit_qos_prefetch_count = 0 hands a worker all that waits,"
                " and the others nothing: take it out, prefetch in [bridge]"
                " says how much it takes",
            )
        if prefetch < self._options.batch_size:
            return _finding(
                "prefetch",
                Result.WARNING,
                f"a worker takes {prefetch} messages, so no batch is ever"
                f" full with {self._options.batch_size}, and each waits for"
                " batch_timeout: set prefetch in [bridge] to twice batch_size",
            )
        return _finding(
            "prefetch",
            Result.OK,
            f"a worker takes at most {prefetch} messages at once",
        )

    def _check_queue(self, found: queue.Queue) -> Finding:
        if found.problem:
            return _finding(
                "queue",
                Result.WARNING if found.usable else Result.FAILURE,
                found.problem,
            )
        if not found.exists:
            return _finding(
                "queue",
                Result.OK,
                f"{found.name} is not there yet: it is made when"
                " profiler-bridge starts, or at the first notification",
            )
        return _finding("queue", Result.OK, f"{found.name} is {found.kind}")

    def _check_consumers(self, found: queue.Queue) -> Finding:
        workers = self._options.workers
        expected = self._bridges * workers
        seen = (
            f"{found.name} has {found.consumers} consumer(s), expected are"
            f" {expected}: {self._bridges} bridge(s), {workers} worker(s) each"
        )
        if found.consumers > expected:
            return _finding(
                "consumers",
                Result.WARNING,
                f"{seen}; another reader, such as 'osprofiler trace show' with"
                " messaging://, takes notifications away; or a bridge runs"
                " that --bridges does not count",
            )
        if found.consumers < expected:
            return _finding(
                "consumers",
                Result.WARNING,
                f"{seen}; some of them do not listen",
            )
        return _finding("consumers", Result.OK, seen)

    def _check_messages(self, found: queue.Queue) -> Finding:
        waiting = f"{found.messages} message(s) wait in {found.name}"
        if found.messages and not found.consumers:
            return _finding(
                "messages",
                Result.WARNING,
                f"{waiting}, and nobody drains it: it grows until somebody"
                " does",
            )
        return _finding("messages", Result.OK, waiting)


def _check_storage(storage: Storage) -> Iterator[Finding]:
    try:
        warnings = storage.check()
    except exceptions.StorageNotPrepared as error:
        yield _finding("storage", Result.OK, error)
    except exceptions.StorageError as error:
        yield _finding("storage", Result.FAILURE, error)
    else:
        for warning in warnings:
            yield _finding("storage", Result.WARNING, warning)
        if not warnings:
            yield _finding(
                "storage",
                Result.OK,
                f"{storage}: it answers, can be written and read, and its"
                " settings are right",
            )


def _check_set_aside(conf: cfg.ConfigOpts) -> Finding:
    try:
        SetAside.from_conf(conf).check()
    except exceptions.ConfigurationError as error:
        return _finding("set-aside", Result.FAILURE, error)
    return _finding(
        "set-aside",
        Result.OK,
        f"{conf.bridge.set_aside}: messages that cannot be stored can be kept",
    )


def _finding(name: str, result: Result, what: object) -> Finding:
    """One line, whatever a server or a file has put into it."""
    text = printable(" ".join(str(what).split()))
    # Ours are masked; a library's error may quote a line of a file.
    return Finding(name, result, _mask(r"\1:***@", text))


_mask = re.compile(r"(://[^:/?#\s]*):\S*@").sub
