# SPDX-License-Identifier: Apache-2.0

"""What a trace's roots say of it: its name, and when it was answered. Pure.

A command of a client is one trace of many requests, its roots: the API's
versions, a token, a look-up, and one that was meant. All that is kept of them
is sets, minima and maxima. So pieces of a trace merge to the same, in
whatever order they come, however they were cut, and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Self

from profiler_bridge import path
from profiler_bridge.notification import STOP, Notification
from profiler_bridge.operation import kind, operation

#: How many different operations of roots are kept: those with the best claim
#: to the trace's name. The recorded server create has 10.
MOST_OPERATIONS = 32

_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))


def rank(start: Notification) -> int:
    """How well a root names its trace; the least does best.

    0: a request that changes something; 1: another; 2: a root that is no
    request; 3: one for a token, which most commands need; 4: one for the
    versions of an API.
    """
    if kind(start) != "wsgi":
        return 2
    asked = _asked(start.info.get("request"))
    if asked is None:
        return 1
    if path.is_authentication(asked):
        return 3
    method = start.info["request"].get("method")
    if isinstance(method, str) and method[:10].upper() in _CHANGING:
        return 0
    return 4 if path.is_discovery(asked) else 1


def about(notification: Notification) -> Sequence[str]:
    """The UUIDs in the path of a request that starts, answered or sent.

    :returns: in lower case; :data:`~profiler_bridge.path.MOST_IDS` at most
    """
    if notification.phase == STOP:
        return ()  # which says how it ended
    info = notification.info
    asked = _asked(info.get("request") or info.get("requests"))
    return () if asked is None else path.uuids(asked)


def _asked(request: object) -> str | None:
    asked = request.get("path") if isinstance(request, dict) else None
    return asked if isinstance(asked, str) else None


def title_of(name: str | None, count: int) -> str | None:
    """The name, and how many more roots: ``POST /v2.1/servers +13``."""
    if name is None or count < 2:
        return name
    return f"{name} +{count - 1}"


@dataclass(slots=True)
class Ends:
    """When some spans ran, from the first start to the last stop.

    :param ids: of which spans an end is known
    :param started: the least start, microseconds since 1970
    :param stopped: the greatest stop, likewise
    """

    ids: set[str] = field(default_factory=set)
    started: int | None = None
    stopped: int | None = None

    def add(self, notification: Notification, span: str) -> None:
        moment = notification.timestamp
        self.ids.add(span)
        if notification.phase == STOP:
            self.stopped = _greatest(self.stopped, moment)
        else:
            self.started = _least(self.started, moment)

    def merge(self, other: Ends) -> None:
        self.ids |= other.ids
        if other.started is not None:
            self.started = _least(self.started, other.started)
        if other.stopped is not None:
            self.stopped = _greatest(self.stopped, other.stopped)


def _least(known: int | None, moment: int) -> int:
    return moment if known is None else min(known, moment)


def _greatest(known: int | None, moment: int) -> int:
    return moment if known is None else max(known, moment)


@dataclass(slots=True)
class Roots:
    """What is known of the roots of a trace, or of a piece of one.

    Roots that are no requests are kept apart. Where there are requests,
    others are what a service's thread did later, which never let go of the
    trace.

    :param requests: the roots that are requests which a service answered
    :param others: the other roots
    :param operations: of the roots that have started, each with its least
        rank and start, :data:`MOST_OPERATIONS` at most
    """

    requests: Ends = field(default_factory=Ends)
    others: Ends = field(default_factory=Ends)
    operations: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, notifications: Iterable[Notification]) -> Self:
        """Of a trace's notifications; spans are known by their trace_id."""
        roots = cls()
        for notification in notifications:
            roots.add(notification, notification.trace_id)
        return roots

    def add(self, notification: Notification, span: str) -> None:
        """Take in a notification; nothing where it is not of a root.

        :param span: by what its span is known in ``ids``
        """
        if notification.parent_id != notification.base_id:
            return
        is_request = kind(notification) == "wsgi"
        ends = self.requests if is_request else self.others
        ends.add(notification, span)
        if notification.phase != STOP:
            self._keep(
                operation(notification),
                (rank(notification), notification.timestamp),
            )

    def merge(self, other: Roots) -> None:
        """Take in what another piece of the trace says."""
        self.requests.merge(other.requests)
        self.others.merge(other.others)
        for did, claim in other.operations.items():
            self._keep(did, claim)

    def _keep(self, did: str, claim: tuple[int, int]) -> None:
        # One that was left out is not missed: those that were kept in its
        # place have a better claim, and it never becomes worse.
        self.operations[did] = min(self.operations.get(did, claim), claim)
        if len(self.operations) > MOST_OPERATIONS:
            del self.operations[max(self.operations, key=self._order)]

    def _order(self, did: str) -> tuple[tuple[int, int], str]:
        return self.operations[did], did

    @property
    def name(self) -> str | None:
        """The operation of the trace's best root; None while none started."""
        return min(self.operations, key=self._order, default=None)

    @property
    def _ends(self) -> Ends:
        return self.requests if self.requests.ids else self.others

    @property
    def count(self) -> int:
        """How many requests the trace has; without any, how many roots."""
        return len(self._ends.ids)

    @property
    def title(self) -> str | None:
        """As :func:`title_of` has it; None while no root started."""
        return title_of(self.name, self.count)

    def answered(self, unfinished: Set[str]) -> int | None:
        """Microseconds from the first root's start to the last one's stop.

        :param unfinished: the spans, any of the trace, that have no stop
        :returns: None while a root is one of them, or none is known
        """
        ends = self._ends
        if ends.started is None or ends.stopped is None:
            return None
        if not unfinished.isdisjoint(ends.ids):
            return None
        return max(ends.stopped - ends.started, 0)

    def after(self, unfinished: Set[str], finished: int) -> int | None:
        """Microseconds from the last root's stop to the trace's end.

        :param finished: the last notification, microseconds since 1970
        :returns: None where :meth:`answered` is
        """
        stopped = self._ends.stopped
        if stopped is None or self.answered(unfinished) is None:
            return None
        return max(finished - stopped, 0)
