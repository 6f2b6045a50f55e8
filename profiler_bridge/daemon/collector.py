# SPDX-License-Identifier: Apache-2.0

"""From bus messages to storage, with a verdict for each message."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.bus.reader import Message
from profiler_bridge.daemon.activity import Activity
from profiler_bridge.daemon.refused import (
    RefusedMessages,
    refuse_point,
    refuse_whole,
)
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.daemon.verdicts import (
    HOLD,
    Verdicts,
    check_memory,
    give_back,
)
from profiler_bridge.exceptions import Reason
from profiler_bridge.masking import Masker
from profiler_bridge.notification import Notification, points
from profiler_bridge.retry import pauses
from profiler_bridge.storage.traces import Storage

if TYPE_CHECKING:
    # Imported where metrics are on.
    from profiler_bridge.daemon.metrics import Metrics

LOG = logging.getLogger(__name__)

# How often a message that fails alone is tried.
TRIES = 3
# Of messages that are set aside after that, one traceback in so many seconds.
TRACEBACK_EVERY = 30.0
# Within so many seconds this loop reports that it goes on: while it waits or
# decodes, and while a storage writes, which takes several calls of 30 seconds
# at most.
TURN = 30.0
WRITE = 150.0


class Reader(Verdicts, Protocol):
    """Where messages come from, and verdicts go to.

    See :class:`profiler_bridge.bus.reader.Reader`.
    """

    def take(self, seconds: float) -> Sequence[Message]: ...
    def finish(self) -> None: ...

    @property
    def ended(self) -> bool: ...


class _Point(NamedTuple):
    """A valid notification, and what it came in.

    :param value: the message, decoded
    """

    notification: Notification
    message: Message
    value: object


# By message, what of it can never be stored.
_Refused = defaultdict[Message, list[SetAsideMessage]]


class Collector:
    """Stores what a reader takes off the bus.

    A message is acknowledged when what it says is stored or set aside; it
    goes back to the queue when the storage stays away. Whatever happens in
    between, each message of a batch gets its verdict: after an exception that
    nobody expected a batch is halved until the message that fails stands
    alone, and what fails alone again and again is set aside.

    :param storage: where notifications go
    :param set_aside: where messages go that can never be stored
    :param masker: takes out secrets; None lets them be
    :param metrics: what is counted, a batch at a time; None where they are off
    :param waiting_limit: how many messages may wait for the set-aside file
        while others are stored
    :param expect: called with the seconds within which this loop calls it
        again
    """

    def __init__(
        self,
        storage: Storage,
        set_aside: SetAside,
        masker: Masker | None = None,
        metrics: Metrics | None = None,
        waiting_limit: int = 0,
        expect: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        self._storage = storage
        self._decode = masker.decode if masker else Notification.from_payload
        self._activity = Activity(str(storage), metrics)
        self._expect = expect
        self._stopping = threading.Event()
        self._refused = RefusedMessages(
            set_aside,
            self._activity,
            waiting_limit,
            self._stopping,
            partial(expect, TURN),
        )
        self._prepared = False
        self._storage_away = False
        self._writing_since: float | None = None
        self._traceback_at = 0.0

    def run(self, reader: Reader) -> None:
        """Store until the reader has ended.

        :raises Exception: what leaves a batch without verdicts, such as no
            memory for them: the process should end, and another begin. What
            it has goes back to the queue with its connection.
        """
        while not reader.ended:
            self._expect(TURN)
            self.collect(reader.take(1.0), reader)
            self._activity.log()
        self._refused.give_back_all(reader)
        self._refused.report(at_once=True)
        self._activity.log_total()
        reader.finish()

    def stop(self) -> None:
        """Wait for an unavailable storage no longer."""
        self._stopping.set()

    def writing(self) -> float:
        """Seconds for which the storage has been writing; 0 when it is not."""
        since = self._writing_since
        return 0.0 if since is None else time.monotonic() - since

    def collect(self, batch: Sequence[Message], reader: Reader) -> None:
        """Give each message of a batch its verdict.

        :param batch: messages; none, to see after those that wait
        :raises MemoryError: there is none even for messages that need little
        """
        self._refused.set_aside(reader)
        parts = [batch] if batch else []
        while parts:
            part = parts.pop()
            error = self._try(part, reader)
            if error is None:
                continue
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                self._collect_alone(part[0], error, reader)
        self._refused.report()

    def _try(
        self, messages: Sequence[Message], reader: Reader
    ) -> Exception | None:
        """Collect messages.

        :returns: what went wrong, to be dealt with outside of its handler:
            within it oslo.log adds the error to every line
        """
        try:
            self._collect(messages, reader)
        except Exception as error:  # noqa: BLE001 - a verdict for all
            self._prepared = False
            return error
        return None

    def _collect_alone(
        self, message: Message, error: Exception, reader: Reader
    ) -> None:
        """Try again what has failed alone; set it aside if it goes on."""
        for pause in islice(pauses(), TRIES - 1):
            if self._stopping.wait(pause):
                reader.give_back([message])
                return
            again = self._try([message], reader)
            if again is None:
                return
            error = again
        check_memory(error)
        now = time.monotonic()
        if now >= self._traceback_at:
            self._traceback_at = now + TRACEBACK_EVERY
            LOG.error(
                "A message fails again and again, and is set aside",
                exc_info=error,
            )
        detail = ascii(f"{type(error).__name__}: {error}")[1:200]
        self._refused.add(
            {message: [refuse_whole(message, Reason.FAILED, detail)]}
        )
        self._refused.set_aside(reader)

    def _collect(self, messages: Sequence[Message], reader: Reader) -> None:
        """Decode, store, then give verdicts."""
        self._expect(TURN)
        valid: list[_Point] = []
        refused: _Refused = defaultdict(list)
        for message in messages:
            for item in self._read(message):
                if isinstance(item, _Point):
                    valid.append(item)
                else:
                    refused[message].append(item)
        if valid and not self._store(valid, refused):
            give_back(
                messages,
                len(valid) + sum(map(len, refused.values())),
                reader,
                self._activity,
            )
            return
        reader.acknowledge(
            [message for message in messages if message not in refused]
        )
        if refused:
            self._refused.add(refused)
            self._refused.set_aside(reader)

    def _read(self, message: Message) -> Iterator[_Point | SetAsideMessage]:
        """The points of a message: each valid, or to be set aside."""
        try:
            value = message.decode()
        except exceptions.InvalidNotification as error:
            yield refuse_whole(message, error.reason, str(error))
            return
        whole = value.get("payload") if isinstance(value, dict) else value
        for payload in points(whole):
            try:
                notification = self._decode(payload)
            except exceptions.InvalidNotification as error:
                yield refuse_point(
                    message, value, payload, error.reason, str(error)
                )
            else:
                yield _Point(notification, message, value)

    def _store(self, valid: Sequence[_Point], refused: _Refused) -> bool:
        """Try until it succeeds; False when it is time to give up.

        :param refused: gets what the storage refuses
        """
        if self._storage_away and self._stopping.is_set():
            return False
        waiting = False
        for pause in pauses(HOLD):
            problem = self._write(valid, refused)
            self._storage_away = problem is not None
            if problem is None:
                if waiting:
                    LOG.info("The storage is back: %s", self._storage)
                return True
            self._prepared = False
            if not waiting:
                LOG.error("Waiting for the storage: %s", problem)
                waiting = True
            self._activity.count_retry()
            if self._stopping.wait(pause):
                break
        return False

    def _write(self, valid: Sequence[_Point], refused: _Refused) -> str | None:
        """Write once.

        :returns: why the storage takes nothing now; None when it has it
        """
        self._writing_since = time.monotonic()
        self._expect(WRITE)
        try:
            if not self._prepared:
                self._prepare()
            self._write_now(valid, refused)
        except exceptions.StorageError as error:
            return str(error)
        finally:
            self._writing_since = None
            self._expect(TURN)
        return None

    def _prepare(self) -> None:
        """Whatever fails here is no message's fault.

        :raises StorageError: it may succeed later
        """
        try:
            self._storage.prepare()
        except (exceptions.StorageError, MemoryError):
            raise
        except Exception as error:
            raise exceptions.StorageUnavailable(
                f"{self._storage}: {type(error).__name__}: {error}"
            ) from error
        self._prepared = True

    def _write_now(self, valid: Sequence[_Point], refused: _Refused) -> None:
        rejected: Sequence[tuple[Notification, str]] = ()
        begun = time.monotonic()
        try:
            stored = self._storage.write(
                [point.notification for point in valid]
            )
        except exceptions.NotificationsRejected as error:
            stored = error.stored
            rejected = error.rejected
        self._activity.count_stored(
            received=len(valid) - len(rejected),
            stored=stored,
            seconds=time.monotonic() - begun,
            newest=max(point.notification.timestamp for point in valid),
        )
        if rejected:
            origins = {id(point.notification): point for point in valid}
            for notification, problem in rejected:
                _, message, value = origins[id(notification)]
                refused[message].append(
                    refuse_point(
                        message,
                        value,
                        notification.payload,
                        Reason.STORAGE_REFUSED,
                        problem,
                    )
                )
