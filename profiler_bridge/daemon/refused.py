# SPDX-License-Identifier: Apache-2.0

"""What can never be stored, until the set-aside file has it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from oslo_log import log as logging

from profiler_bridge import exceptions
from profiler_bridge.bus.reader import Message
from profiler_bridge.daemon.activity import Activity
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage, body_of
from profiler_bridge.daemon.verdicts import (
    HOLD,
    Verdicts,
    check_memory,
    give_back,
)
from profiler_bridge.exceptions import Reason
from profiler_bridge.retry import pauses

LOG = logging.getLogger(__name__)

# Bodies of so many bytes may wait for the set-aside file while other messages
# are stored; a single message may have more.
WAITING_BYTES = 4 << 20
# Whoever sends nonsense sends a lot of it: what is set aside is logged some
# seconds after the first, and then at most once in so many.
LOG_AFTER = 2.0
LOG_EVERY = 30.0


class _Waiting(NamedTuple):
    """A message that waits for the set-aside file.

    :param refused: what of it can never be stored
    :param until: monotonic time at which it goes back to the queue
    """

    message: Message
    refused: Sequence[SetAsideMessage]
    until: float


class RefusedMessages:
    """Sets aside what is refused, and holds it while the file is away.

    Messages that wait are laid by, and others are stored meanwhile. When too
    many wait, :meth:`set_aside` returns only when the file can be used again.
    Those that have waited for too long go back to the queue.

    :param set_aside: the file
    :param activity: what is counted
    :param limit: how many messages may wait while others are stored
    :param stopping: when it is set, the file is waited for no longer
    :param report_alive: called before each step
    """

    def __init__(
        self,
        set_aside: SetAside,
        activity: Activity,
        limit: int,
        stopping: threading.Event,
        report_alive: Callable[[], object],
    ) -> None:
        self._set_aside = set_aside
        self._activity = activity
        self._limit = max(1, limit)
        self._stopping = stopping
        self._report_alive = report_alive
        # The oldest first.
        self._waiting: list[_Waiting] = []
        # Between tries while the file cannot be used; None while it can.
        self._pauses: Iterator[float] | None = None
        self._try_at = 0.0
        self._unreported: Counter[Reason] = Counter()
        self._report_at = 0.0

    def add(
        self, refused: Mapping[Message, Sequence[SetAsideMessage]]
    ) -> None:
        """Take over messages, each with what of it can never be stored.

        They get their verdict by :meth:`set_aside`.
        """
        until = time.monotonic() + HOLD
        self._waiting += (
            _Waiting(message, parts, until)
            for message, parts in refused.items()
        )

    def set_aside(self, verdicts: Verdicts) -> None:
        """Set aside all that waits; what cannot be now is laid by.

        :raises MemoryError: there is none even for messages that need little
        """
        while self._waiting:
            now = time.monotonic()
            if now >= self._try_at:
                self._try_all(verdicts)
            if not self._waiting:
                return
            self._give_back_late(now, verdicts)
            if not self._too_much_waits() or self._stopping.wait(
                max(0.0, self._try_at - time.monotonic())
            ):
                break
            self._report_alive()
        if self._waiting:
            verdicts.lay_by([waiting.message for waiting in self._waiting])

    def give_back_all(self, verdicts: Verdicts) -> None:
        """Give back to the queue all that waits: the worker ends."""
        verdicts.give_back([waiting.message for waiting in self._waiting])

    def report(self, at_once: bool = False) -> None:
        """Log how much was set aside since the last time, if it is due."""
        now = time.monotonic()
        if self._unreported and (at_once or now >= self._report_at):
            LOG.warning(
                "Set aside %d messages (%s); see"
                " 'profiler-bridge-manage set-aside list'",
                self._unreported.total(),
                ", ".join(
                    f"{reason}: {count}"
                    for reason, count in self._unreported.items()
                ),
            )
            self._unreported.clear()
            self._report_at = now + LOG_EVERY

    def _try_all(self, verdicts: Verdicts) -> None:
        """Set aside all that waits, or as much of it as can be now."""
        error = self._try(self._waiting, verdicts)
        if error and not isinstance(error, exceptions.SetAsideUnavailable):
            # One may be too much for the memory that there is.
            for waiting in [*self._waiting]:
                self._try([waiting], verdicts)
            if self._waiting:
                check_memory(error)
        if self._waiting:
            if self._pauses is None:
                LOG.error(
                    "Waiting for the set-aside file: %s",
                    str(error) or type(error).__name__,
                )
                self._pauses = pauses()
            self._try_at = time.monotonic() + next(self._pauses)
        elif self._pauses:
            LOG.info("The set-aside file is back")
            self._pauses = None
        self._activity.report_set_aside_waiting(len(self._waiting))

    def _try(
        self, some: Sequence[_Waiting], verdicts: Verdicts
    ) -> Exception | None:
        """Set aside some of what waits.

        :returns: what went wrong, to be dealt with outside of its handler:
            within it oslo.log adds the error to every line
        """
        try:
            self._set_aside_now(some, verdicts)
        except Exception as error:  # noqa: BLE001 - they wait on
            return error
        return None

    def _set_aside_now(
        self, some: Sequence[_Waiting], verdicts: Verdicts
    ) -> None:
        self._report_alive()
        refused = [part for waiting in some for part in waiting.refused]
        lost = self._set_aside.add(refused)
        verdicts.acknowledge([waiting.message for waiting in some])
        done = {id(waiting) for waiting in some}
        self._waiting = [
            waiting for waiting in self._waiting if id(waiting) not in done
        ]
        self._count(Counter(part.reason for part in refused))
        if lost:
            LOG.error(
                "The set-aside file is full: its %d oldest messages are lost",
                lost,
            )

    def _count(self, reasons: Counter[Reason]) -> None:
        if not self._unreported:
            self._report_at = max(
                self._report_at, time.monotonic() + LOG_AFTER
            )
        self._unreported.update(reasons)
        self._activity.count_set_aside(reasons)

    def _give_back_late(self, now: float, verdicts: Verdicts) -> None:
        late = [waiting for waiting in self._waiting if waiting.until <= now]
        if late:
            # They are the oldest.
            self._waiting = self._waiting[len(late) :]
            give_back(
                [waiting.message for waiting in late],
                sum(len(waiting.refused) for waiting in late),
                verdicts,
                self._activity,
            )

    def _too_much_waits(self) -> bool:
        return len(self._waiting) > self._limit or (
            len(self._waiting) > 1
            and sum(waiting.message.size for waiting in self._waiting)
            > WAITING_BYTES
        )


def refuse_whole(
    message: Message, reason: Reason, detail: str
) -> SetAsideMessage:
    """What is set aside of a message that is refused as a whole."""
    body = message.body
    return SetAsideMessage(
        reason,
        detail,
        "",
        body_of(message.decode()) if body is None else body,
    )


def refuse_point(
    message: Message,
    value: object,
    payload: object,
    reason: Reason,
    detail: str,
) -> SetAsideMessage:
    """What is set aside of a message of which one point is refused.

    :param value: the message, decoded
    :param payload: the point
    :returns: the message with no other points than this
    """
    body: bytes | str | None = message.body
    source: list[object] = []
    if isinstance(value, dict):
        source = [value.get("publisher_id"), value.get("event_type")]
        if value.get("payload") is not payload:
            body = body_of({**value, "payload": payload})
    if body is None:
        body = body_of(value)
    return SetAsideMessage(
        reason,
        detail,
        " ".join(
            ascii(text)[1:-1] for text in source if isinstance(text, str)
        ),
        body,
    )
