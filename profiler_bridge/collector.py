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
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.exceptions import Reason
from profiler_bridge.masking import Masker
from profiler_bridge.notification import Notification, points
from profiler_bridge.set_aside import SetAside, SetAsideMessage, body_of
from profiler_bridge.storage.base import Storage

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.metrics import Metrics

LOG = logging.getLogger(__name__)

# Between tries to store a batch, in seconds: doubling from the first to the
# last, each cut at random so that workers do not come back all at once.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
# RabbitMQ closes a channel whose delivery is unacknowledged for 30 minutes
# (consumer_timeout). Messages go back to the queue long before.
HOLD = 600.0
# Whoever sends nonsense sends a lot of it: say so every so many seconds.
LOG_EVERY = 30.0


class Incoming(Protocol):
    """What oslo.messaging's drivers hand over: one message."""

    message: dict[str, Any]


class Collector:
    """A dispatcher for oslo.messaging's batch listener.

    A message is acknowledged when what it says is stored or set aside; it
    goes back to the queue when the storage stays away.

    :param storage: where notifications go
    :param set_aside: where messages go that can never be stored
    :param masker: takes out secrets; None lets them be
    :param metrics: what is counted, a batch at a time; None counts nothing
    """

    # osprofiler calls the notifier's info() and nothing else.
    supported_priorities = ("info",)

    def __init__(
        self,
        storage: Storage,
        set_aside: SetAside,
        masker: Masker | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        self._decode = masker.decode if masker else Notification.from_payload
        self._set_aside = set_aside
        self._prepared = False
        self._stopping = threading.Event()
        self._unsaid: Counter[Reason] = Counter()
        self._said = -LOG_EVERY
        self._writing_since: float | None = None

    def dispatch(self, incoming: Sequence[Incoming]) -> set[Incoming]:
        """Store a batch; wait for the storage if need be.

        :returns: the messages to give back to the queue: none, or all
        """
        valid = []
        refused = []
        for each in incoming:
            for payload in points(_payload(each.message)):
                try:
                    valid.append((self._decode(payload), each.message))
                except exceptions.InvalidNotification as error:
                    refused.append(
                        _refusal(
                            each.message, payload, error.reason, str(error)
                        )
                    )
        if self._store(valid, refused):
            return set()
        return set(incoming)

    def stop(self) -> None:
        """Wait for an unavailable storage no longer."""
        self._stopping.set()

    def writing(self) -> float:
        """For how many seconds the storage has been at work; 0: it is not."""
        since = self._writing_since
        return 0.0 if since is None else time.monotonic() - since

    def _store(
        self,
        valid: Sequence[tuple[Notification, object]],
        refused: list[SetAsideMessage],
    ) -> bool:
        """Try until it succeeds; False when it is time to give up."""
        waiting = False
        for pause in _pauses():
            try:
                self._writing_since = time.monotonic()
                self._write(valid, refused)
            except exceptions.StorageError as error:
                problem = str(error)
            except Exception as error:
                # A plugin's bug, perhaps met by one message only. To raise
                # would send the batch round and round without a pause.
                problem = f"{type(error).__name__}: {error}"
                if not waiting:
                    LOG.exception("The storage plugin failed")
            else:
                if waiting:
                    LOG.info("The storage is back: %s", self._storage)
                return True
            finally:
                self._writing_since = None
            self._prepared = False
            if not waiting:
                LOG.error("Waiting for the storage: %s", problem)
                waiting = True
            if self._metrics:
                self._metrics.retried()
            if self._stopping.wait(pause):
                break
        LOG.warning(
            "Giving %d notifications back to the queue, not stored",
            len(valid) + len(refused),
        )
        if self._metrics:
            self._metrics.requeued(len(valid) + len(refused))
        return False

    def _write(
        self,
        valid: Sequence[tuple[Notification, object]],
        refused: list[SetAsideMessage],
    ) -> None:
        if not self._prepared:
            self._storage.prepare()
            self._prepared = True
        rejected: list[SetAsideMessage] = []
        stored = 0
        begun = time.monotonic()
        try:
            if valid:
                stored = self._storage.write([each for each, _ in valid])
        except exceptions.NotificationsRejected as error:
            stored = error.stored
            messages = {id(each): message for each, message in valid}
            rejected.extend(
                _refusal(
                    messages[id(each)],
                    each.payload,
                    Reason.STORAGE_REFUSED,
                    reason,
                )
                for each, reason in error.rejected
            )
        seconds = time.monotonic() - begun
        if refused or rejected:
            gone = self._set_aside.add([*refused, *rejected])
            self._say([*refused, *rejected], gone)
        if self._metrics:
            self._metrics.verdict(
                received=len(valid) + len(refused),
                stored=stored,
                set_aside=Counter(
                    each.reason for each in (*refused, *rejected)
                ),
                seconds=seconds,
                newest=max(
                    (each.timestamp for each, _ in valid), default=None
                ),
            )

    def _say(self, messages: list[SetAsideMessage], gone: int) -> None:
        self._unsaid.update(each.reason for each in messages)
        if gone:
            LOG.error(
                "The set-aside file is full: its %d oldest messages are lost",
                gone,
            )
        now = time.monotonic()
        if now - self._said >= LOG_EVERY:
            LOG.warning(
                "Set aside %d messages (%s); see"
                " 'profiler-bridge-manage set-aside list'",
                self._unsaid.total(),
                ", ".join(f"{key}: {n}" for key, n in self._unsaid.items()),
            )
            self._unsaid.clear()
            self._said = now


def _payload(message: object) -> object:
    return message.get("payload") if isinstance(message, dict) else message


def _refusal(
    message: object, payload: object, reason: Reason, detail: str
) -> SetAsideMessage:
    """What is set aside: the message, with no other points than this."""
    source: list[object] = []
    if isinstance(message, dict):
        source = [message.get("publisher_id"), message.get("event_type")]
        if message.get("payload") is not payload:
            message = {**message, "payload": payload}
    return SetAsideMessage(
        reason,
        detail,
        " ".join(
            ascii(each)[1:-1] for each in source if isinstance(each, str)
        ),
        body_of(message),
    )


def _pauses() -> Iterator[float]:
    """Seconds to wait after each failure, until HOLD has gone by."""
    end = time.monotonic() + HOLD
    pause = FIRST_PAUSE
    while time.monotonic() < end:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        pause = min(pause * 2, LAST_PAUSE)
