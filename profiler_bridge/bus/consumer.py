# SPDX-License-Identifier: Apache-2.0

"""A channel of RabbitMQ that consumes: what it is sent, and verdicts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiler_bridge.bus.reader import HELD_BYTES, Message

# A consumer is sent so many messages at first, and then up to so many times
# more, and so on. Whoever comes first to a backlog of large messages would
# otherwise be sent all of it, and other workers nothing.
_FIRST_PREFETCH = 16
_RAISE = 4


class Consumer:
    """What is sent on the current channel, and which of it has a verdict.

    The receipt of a message is an opening of a channel, and a delivery tag.
    These begin anew with each opening.

    :param queues: names of queues
    :param limit: of the prefetch, in messages of each queue; 0 for none
    :param arguments: of each consumer
    :ivar channel: on which it consumes; None before :meth:`start`
    """

    def __init__(
        self, queues: Sequence[str], limit: int, arguments: dict[str, Any]
    ) -> None:
        self._queues = queues
        self._limit = limit
        self._arguments = arguments
        self.channel: Any = None
        self._opening = object()
        self._openings = 0
        self._tags: list[str] = []
        # Delivery tags without a verdict, in the order of their delivery.
        self._pending: dict[int, None] = {}
        self._arrived: list[Message] = []
        self._prefetch = 0
        # Since the prefetch is what it is.
        self._count = self._bytes = 0

    def start(self, channel: Any) -> None:
        """Consume on a channel that is new, or was opened again.

        RabbitMQ delivers again what it delivered before.

        :param channel: of :meth:`profiler_bridge.bus.link.Link.channel`
        """
        self.channel = channel
        self._openings = channel.openings
        self._opening = object()
        self._tags = []
        self._pending.clear()
        self._prefetch = min(_FIRST_PREFETCH, self._limit)
        self._count = self._bytes = 0
        self.consume()

    @property
    def reopened(self) -> bool:
        """Whether the broker has closed the channel meanwhile."""
        return bool(self._openings != self.channel.openings)

    def deliver(self, tag: int, body: bytes) -> None:
        """Take what the broker has sent."""
        self._pending[tag] = None
        self._arrived.append(Message(body, len(body), (self._opening, tag)))

    def collect(self) -> list[Message]:
        """What was delivered since the last time."""
        arrived, self._arrived = self._arrived, []
        self._count += len(arrived)
        self._bytes += sum(message.size for message in arrived)
        return arrived

    @property
    def cancelled(self) -> bool:
        """Whether the broker was told to send no more."""
        return not self._tags

    def consume(self) -> None:
        """Have the broker send, with the prefetch of now."""
        # It is of consumers that begin after it.
        self.channel.basic_qos(0, self._prefetch, False)
        before, self._tags = self._tags, []
        for queue in self._queues:
            self._tags.append(
                self.channel.basic_consume(queue, arguments=self._arguments)
            )
        # Not earlier: a queue may go with its last consumer.
        self._cancel(before)

    def cancel(self) -> None:
        """Have the broker send no more."""
        tags, self._tags = self._tags, []
        self._cancel(tags)

    def _cancel(self, tags: Sequence[str]) -> None:
        for tag in tags:
            self.channel.basic_cancel(tag, nowait=True)

    def raise_prefetch(self) -> None:
        """Have the broker send more at once, if what it sends is small.

        As many messages as make what a worker holds, by their bytes. Messages
        that were delivered stay where they are.
        """
        if self._count < self._prefetch or self.cancelled:
            return
        fitting = HELD_BYTES * self._count // max(1, self._bytes)
        wanted = min(self._limit, self._prefetch * _RAISE, fitting)
        self._count = self._bytes = 0
        if wanted >= min(self._limit, 2 * self._prefetch) > self._prefetch:
            self._prefetch = wanted
            self.consume()

    def settle(
        self, acknowledged: Sequence[Message], given_back: Sequence[Message]
    ) -> None:
        """Tell the broker verdicts, but on messages of an earlier opening."""
        if self.channel is None or self.reopened:
            return
        for tag in self._settled_tags(given_back):
            self.channel.basic_reject(tag, requeue=True)
        tags = self._settled_tags(acknowledged)
        if not tags:
            return
        # One acknowledgement for all before the oldest that has no verdict.
        oldest = next(iter(self._pending), None)
        before = [tag for tag in tags if oldest is None or tag < oldest]
        if before:
            self.channel.basic_ack(max(before), multiple=True)
        for tag in tags:
            if oldest is not None and tag > oldest:
                self.channel.basic_ack(tag)

    def _settled_tags(self, messages: Sequence[Message]) -> list[int]:
        """Delivery tags that the broker still knows; not pending any more."""
        tags = []
        for message in messages:
            opening, tag = message.receipt
            if opening is self._opening and tag in self._pending:
                del self._pending[tag]
                tags.append(tag)
        return tags
