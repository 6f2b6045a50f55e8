# SPDX-License-Identifier: Apache-2.0

"""How a Redis Cluster is asked: each command at the node that has its keys.

What is run together is sent to all nodes that it is for, and then their
replies are read. Only commands about keys of one slot are in order so.

Slots can be on their way from node to node. What a node answers then sends a
command elsewhere; after that all commands about this slot are run once more,
one by one, for those behind it may have been run already. Each may be run
twice.

Of redis-py its connections, errors and hash are used. Its cluster client takes
several times as long for each command, and could not be interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import AskError, MovedError, TryAgainError

from profiler_bridge import exceptions
from profiler_bridge.storage import deadline
from profiler_bridge.storage.redis import errors
from profiler_bridge.storage.redis.client import (
    RedisClient,
    checked,
    waiting,
)
from profiler_bridge.storage.redis.connections import receive, send
from profiler_bridge.storage.redis.keys import ClusterKeys, slot
from profiler_bridge.storage.redis.protocol import Command
from profiler_bridge.storage.redis.url import Target

# So long it is believed which node has which slots, and how many replicas, in
# seconds. A node that did not answer is asked last for longer.
_KNOWN_FOR = 10.0
_SILENT_FOR = 60.0
# How often a command may be sent elsewhere.
_REDIRECTIONS = 5

_Address = tuple[str, int]


class Node(RedisClient):
    """One of them.

    :param target: what the URL says of all
    """

    def __init__(
        self,
        target: Target,
        address: _Address,
        wait_replicas: int | None,
        descriptors: set[int],
    ) -> None:
        host, port = address
        #: How many replicas it has, as far as the others do not all miss them.
        self.replicas = 1
        self.address = address
        super().__init__(
            dataclasses.replace(
                target,
                name=f"{target.name} at {host}:{port}",
                addresses=[address],
            ),
            wait_replicas,
            descriptors=descriptors,
        )

    def _count_replicas(self) -> int:
        return self.replicas


class ClusterClient(RedisClient):
    """All nodes of a cluster that have slots.

    :param target: where some are
    """

    keys = ClusterKeys()

    def __init__(self, target: Target, wait_replicas: int | None) -> None:
        super().__init__(target, wait_replicas)
        self._nodes: Mapping[_Address, Node] = {}
        #: By slot.
        self._owners: list[Node | None] = []
        self._known_until = 0.0
        # When each was asked for this, or is to be asked again.
        self._asked: dict[_Address, float] = {}

    # Which node has what

    def servers(self) -> Sequence[RedisClient]:
        with self._errors(deadline.LONGEST_CALL):
            self._learn_if_due()
        return [*self._nodes.values()]

    def replicas_to_wait_for(self) -> int:
        if self._wait_replicas is not None:
            return self._wait_replicas
        return 1  # where there is one

    def _learn_if_due(self) -> None:
        if time.monotonic() >= self._known_until:
            self._learn()

    def _learn(self) -> None:
        """Ask a node which of them has which slots.

        Each time another one: one that is cut off does not know what the
        others have decided.
        """
        failures = []
        addresses = dict.fromkeys([*self._nodes, *self._target.addresses])
        for address in sorted(addresses, key=lambda a: self._asked.get(a, 0)):
            node = self._node(address)
            self._asked[address] = time.monotonic()
            try:
                (ranges,) = node.pool(0, 0).run([("CLUSTER", "SLOTS")])
                if isinstance(ranges, Exception):
                    raise ranges
            except redis.RedisError as error:
                node.forget()
                self._asked[address] += _SILENT_FOR
                failures.append(
                    errors.translated(error, str(node), self._target)
                )
            else:
                self._note(node, ranges)
                return
        for failure in failures:
            if isinstance(failure, exceptions.StorageMisconfigured):
                raise failure
        raise exceptions.StorageUnavailable(
            f"{self}: no node answers: {'; '.join(map(str, failures))}"
        )

    def _note(self, asked: Node, ranges: Sequence[Any]) -> None:
        nodes: dict[_Address, Node] = {}
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *replicas in ranges:
            # A node that does not know its own host leaves it out.
            address = (host or b"").decode() or asked.address[0], port
            node = nodes.setdefault(address, self._node(address))
            # Those that most masters miss are not among them.
            node.replicas = len(replicas)
            owners[first : last + 1] = [node] * (last + 1 - first)
        for address, node in self._nodes.items():
            if address not in nodes:
                node.forget()
        self._nodes, self._owners = nodes, owners
        self._known_until = time.monotonic() + _KNOWN_FOR

    def _node(self, address: _Address) -> Node:
        known = self._nodes.get(address)
        return known or Node(
            self._target, address, self._wait_replicas, self._descriptors
        )

    def _owner(self, number: int) -> Node:
        owner = self._owners[number]
        if owner is None:
            self._known_until = 0.0
            raise exceptions.StorageUnavailable(
                f"{self}: no node has slot {number}"
            )
        return owner

    # Running commands

    def run_in_turn(
        self, stages: Iterable[Iterable[Command]], *, confirmed: bool = False
    ) -> list[Any]:
        return [
            reply
            for stage in stages
            for reply in self.run(stage, confirmed=confirmed)
        ]

    def _trip(
        self, trip: Sequence[Command], size: int, replicas: int
    ) -> list[Any]:
        self._learn_if_due()
        slots = [slot(command[1]) for command in trip]
        by_node: dict[Node, list[int]] = {}
        for at, number in enumerate(slots):
            by_node.setdefault(self._owner(number), []).append(at)
        replies = self._exchange(
            {node: [trip[at] for at in own] for node, own in by_node.items()},
            size,
            replicas,
        )
        answers: list[Any] = [None] * len(trip)
        for node, own in by_node.items():
            for at, answer in zip(own, replies[node], strict=True):
                answers[at] = answer
        on_their_way = {
            number
            for number, answer in zip(slots, answers, strict=True)
            if isinstance(answer, AskError | TryAgainError)
        }
        if on_their_way:
            self._learn()
            for at, number in enumerate(slots):
                if number in on_their_way:
                    answers[at] = self._follow(trip[at], number, replicas)
        return checked(trip, answers)

    def _exchange(
        self,
        commands: Mapping[Node, Sequence[Command]],
        size: int,
        replicas: int,
    ) -> dict[Node, list[Any]]:
        """Run some commands at each of some nodes, at the same time.

        :returns: the replies, which may be errors
        """
        sent: list[tuple[Node, Any, Sequence[Command], int]] = []
        replies: dict[Node, list[Any]] = {}
        with contextlib.ExitStack() as connections:
            for node, own in commands.items():
                wait_for = replicas
                if self._wait_replicas is None:
                    wait_for = min(replicas, node.replicas)
                pool = node.pool(size, wait_for)
                more: Sequence[Command] = [*own, *waiting(pool, wait_for)]
                with self._naming(node):
                    connection = connections.enter_context(pool.connection())
                    send(connection, more)
                sent.append((node, connection, more, wait_for))
            for node, connection, more, wait_for in sent:
                with self._naming(node):
                    answers = receive(connection, more)
                    count = len(commands[node])
                    replies[node] = answers[:count]
                    # Who has nothing of it any more has nobody to confirm it.
                    if not all(
                        isinstance(answer, AskError)
                        for answer in replies[node]
                    ):
                        node.check_confirmed(answers[count:], wait_for)
        return replies

    @contextlib.contextmanager
    def _naming(self, node: Node) -> Iterator[None]:
        """Have errors say which node it is."""
        try:
            yield
        except redis.RedisError as error:
            raise errors.translated(error, str(node), self._target) from error

    def _follow(self, command: Command, number: int, replicas: int) -> Any:
        """Run a command wherever its keys are by now.

        :param number: their slot
        :returns: the reply, which may be an error
        """
        node = self._owner(number)
        asking: list[Command] = []
        answer: Any = None
        for _ in range(_REDIRECTIONS):
            replies = self._exchange({node: [*asking, command]}, 0, replicas)
            answer = replies[node][-1]
            if isinstance(answer, TryAgainError) and command[0] in _PARTS:
                # Its keys are not in one place; each of them is.
                parts, join = _PARTS[command[0]]
                answers = [
                    self._follow(part, number, replicas)
                    for part in parts(command)
                ]
                failed = (one for one in answers if isinstance(one, Exception))
                return next(failed, None) or join(answers)
            if not isinstance(answer, AskError):
                return answer
            address = answer.host or node.address[0], answer.port
            node = self._node(address)
            asking = [("ASKING",)]
            if isinstance(answer, MovedError):
                asking = []
        return answer

    @contextlib.contextmanager
    def watching(
        self, keys: Sequence[str]
    ) -> Iterator[Callable[[Iterable[Command]], bool]]:
        with self._errors(deadline.LONGEST_CALL):
            self._learn_if_due()
            node = self._owner(slot(keys[0]))
            with node.watching(keys) as run:
                yield run

    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        for server in self.servers():
            yield from server.scan(pattern)

    # Connections

    def forget(self) -> None:
        self._known_until = 0.0
        for node in self._nodes.values():
            node.forget()


_Parts = Callable[[Command], Sequence[Command]]
# Commands about several keys: those about one key that do the same, and what
# their replies are together.
_PARTS: Mapping[str | bytes, tuple[_Parts, Callable[[Any], Any]]] = {
    "MSET": (
        lambda command: [
            ("SET", *pair)
            for pair in zip(command[1::2], command[2::2], strict=True)
        ],
        lambda _: b"OK",
    ),
    "MGET": (lambda command: [("GET", key) for key in command[1:]], list),
    "EXISTS": (lambda command: [("EXISTS", key) for key in command[1:]], sum),
}
