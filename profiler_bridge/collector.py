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

"""From bus messages to storage, with a verdict for each message."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.storage.base import Storage

LOG = logging.getLogger(__name__)

# Between tries to store a batch, in seconds: doubling from the first to the
# last, each cut at random so that workers do not come back all at once.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
# RabbitMQ closes a channel whose delivery is unacknowledged for 30 minutes
# (consumer_timeout). Messages go back to the queue long before.
HOLD = 600.0


class Incoming(Protocol):
    """What oslo.messaging's drivers hand over: one message."""

    message: dict[str, Any]


class Collector:
    """A dispatcher for oslo.messaging's batch listener.

    A message is acknowledged when what it says is stored, or can never be
    stored; it goes back to the queue when the storage stays away.

    :param storage: where notifications go
    """

    # osprofiler calls the notifier's info() and nothing else.
    supported_priorities = ("info",)

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._prepared = False
        self._stopping = threading.Event()

    def dispatch(self, incoming: Sequence[Incoming]) -> set[Incoming]:
        """Store a batch; wait for the storage if need be.

        :returns: the messages to give back to the queue
        """
        valid = []
        notifications = []
        for each in incoming:
            try:
                notifications.append(
                    Notification.from_payload(each.message.get("payload"))
                )
            except exceptions.InvalidNotification as error:
                LOG.warning("Refused a notification: %s", error)
            else:
                valid.append(each)
        if notifications and not self._store(notifications):
            return set(valid)
        return set()

    def stop(self) -> None:
        """Wait for an unavailable storage no longer."""
        self._stopping.set()

    def _store(self, notifications: Sequence[Notification]) -> bool:
        """Write until it succeeds; False when it is time to give up."""
        waiting = False
        for pause in _pauses():
            try:
                if not self._prepared:
                    self._storage.prepare()
                    self._prepared = True
                self._storage.write(notifications)
            except exceptions.NotificationsRejected as error:
                for _, reason in error.rejected:
                    LOG.warning("Refused a notification: %s", reason)
            except exceptions.StorageError as error:
                self._prepared = False
                if not waiting:
                    LOG.error("Waiting for the storage: %s", error)
                    waiting = True
                if self._stopping.wait(pause):
                    return False
                continue
            if waiting:
                LOG.info("The storage is back")
            return True
        LOG.warning(
            "Giving %d messages back to the queue: the storage was away for"
            " %d s",
            len(notifications),
            HOLD,
        )
        return False


def _pauses() -> Iterator[float]:
    """Seconds to wait after each failure, until HOLD has gone by."""
    end = time.monotonic() + HOLD
    pause = FIRST_PAUSE
    while time.monotonic() < end:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        pause = min(pause * 2, LAST_PAUSE)
