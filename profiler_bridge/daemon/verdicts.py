# SPDX-License-Identifier: Apache-2.0

"""Verdicts: what becomes of a message, and who is to blame when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from oslo_log import log as logging

from profiler_bridge.bus.reader import Message
from profiler_bridge.daemon.activity import Activity

LOG = logging.getLogger(__name__)

#: Seconds for which a message may be held without a verdict. RabbitMQ closes
#: a channel whose delivery is unacknowledged for 30 minutes
#: (consumer_timeout); messages go back to the queue long before.
HOLD = 600.0
# A process that cannot get this much memory, in bytes, is short of it
# whatever a message is like.
_SPARE = 16 << 20


class Verdicts(Protocol):
    """Where verdicts go: see :class:`profiler_bridge.bus.reader.Reader`."""

    def acknowledge(self, messages: Sequence[Message]) -> None: ...
    def give_back(self, messages: Sequence[Message]) -> None: ...
    def lay_by(self, messages: Sequence[Message]) -> None: ...


def give_back(
    messages: Sequence[Message],
    notifications: int,
    verdicts: Verdicts,
    activity: Activity,
) -> None:
    """Give messages back to the queue, log and count it.

    :param notifications: how many of them are neither stored nor set aside
    """
    LOG.warning(
        "Giving %d notifications back to the queue, not stored", notifications
    )
    activity.count_requeued(notifications)
    verdicts.give_back(messages)


def check_memory(error: Exception) -> None:
    """Make sure that a message may be blamed for an error.

    :raises MemoryError: the error is one, and the process has no memory left
        for any message
    """
    if isinstance(error, MemoryError):
        bytearray(_SPARE)
