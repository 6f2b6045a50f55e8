# SPDX-License-Identifier: Apache-2.0

"""Which requests come when, and which points of them a process sends."""

from __future__ import annotations

import collections
import datetime
import functools
import heapq
import math
import random
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from profiler_bridge.notification import format_timestamp
from profiler_bridge.simulation import shapes
from profiler_bridge.simulation.shapes import ID, PROJECT, WHEN, Shape

# Odd, so that multiples of it are different and look like random ids.
_STEP = 0x9E3779B97F4A7C15F39CC0605CEDC835
_MASK = (1 << 128) - 1
# How many ids the paths and parameters of one request have.
_IDS = 6


class Event(NamedTuple):
    """Something that a process has to do.

    :param due: seconds after the first request
    :param request: its number
    :param make: makes a point of it, which is so many microseconds late; None
        where the request begins
    """

    due: float
    request: int
    make: Callable[[int], dict[str, Any]] | None = None


def host(process: int) -> str:
    """Where a process says that it runs."""
    return f"simulated-{process + 1}"


@dataclass(frozen=True)
class Load:
    """Requests that come at a steady rate, and who serves them.

    Whatever is asked of it is the same in every process.

    :param rate: requests a second
    :param requests: how many in all
    :param creates: one in so many is a server create, the others are requests
        to Keystone; 0: none is
    :param processes: how many share the services
    :param seed: with another one all ids are others
    """

    rate: float
    requests: int
    creates: int
    processes: int
    seed: str = field(default_factory=lambda: uuid.uuid4().hex)

    def shape(self, request: int) -> Shape:
        """What a request is, by its number from 0."""
        is_create = self.creates and (request + 1) % self.creates == 0
        return shapes.server_create() if is_create else shapes.keystone()

    @functools.cached_property
    def kinds(self) -> dict[Shape, int]:
        """How many requests of each shape there are."""
        creates = self.requests // self.creates if self.creates else 0
        counts = {
            shapes.keystone(): self.requests - creates,
            shapes.server_create(): creates,
        }
        return {shape: count for shape, count in counts.items() if count}

    @property
    def points(self) -> int:
        return sum(shape.points * count for shape, count in self.kinds.items())

    @property
    def longest(self) -> float:
        """Seconds that the longest of its requests takes."""
        return max(shape.lasts for shape in self.kinds) / 1e6

    def base_id(self, request: int) -> str:
        return _uuid(self._number(request))

    def _number(self, request: int) -> int:
        return random.Random(f"{self.seed} {request}").getrandbits(128)  # noqa: S311 - no secret

    @functools.cached_property
    def processes_of(self) -> dict[str, list[int]]:
        """Which processes each service has.

        With few processes one plays several services, with many a busy
        service has several, which take its requests in turn.
        """
        points: collections.Counter[str] = collections.Counter()
        for shape, count in self.kinds.items():
            for service, own in shape.points_by_service.items():
                points[service] += own * count
        busiest_first = [service for service, _ in points.most_common()]
        assigned: dict[str, list[int]] = {service: [] for service in points}
        if self.processes <= len(points):
            loads = [0] * self.processes
            for service in busiest_first:
                process = loads.index(min(loads))
                loads[process] += points[service]
                assigned[service].append(process)
            return assigned
        for process, service in enumerate(busiest_first):
            assigned[service].append(process)
        for process in range(len(points), self.processes):
            service = max(
                busiest_first,
                key=lambda name: points[name] / len(assigned[name]),
            )
            assigned[service].append(process)
        return assigned

    def events(
        self, process: int, began: int, last: Callable[[], int]
    ) -> Iterator[Event]:
        """What a process has to do, in the order of time.

        :param began: when the first request comes, microseconds since 1970
        :param last: how many requests there are to be after all
        """
        # The next point of each request that goes on.
        going_on: list[tuple[float, int, int, _Part]] = []
        request = 0
        while True:
            comes = math.inf
            if request < min(last(), self.requests):
                comes = request / self.rate
            if not going_on and comes == math.inf:
                return
            if not going_on or comes < going_on[0][0]:
                yield Event(comes, request)
                part = _Part(
                    self.shape(request),
                    self._number(request),
                    began + round(comes * 1e6),
                    host(process),
                    self._own(process, request),
                )
                if part.own:
                    due = comes + part.own[0][0] / 1e6
                    heapq.heappush(going_on, (due, request, 0, part))
                request += 1
                continue
            due, number, place, part = going_on[0]
            yield Event(due, number, functools.partial(part.point, place))
            place += 1
            if place == len(part.own):
                heapq.heappop(going_on)
            else:
                due = number / self.rate + part.own[place][0] / 1e6
                heapq.heapreplace(going_on, (due, number, place, part))

    def _own(self, process: int, request: int) -> list[_Moment]:
        return _moments(
            self.shape(request),
            frozenset(
                service
                for service, processes in self.processes_of.items()
                if processes[request % len(processes)] == process
            ),
        )


# Microseconds after the trace's start, number of the span, whether it ends.
_Moment = tuple[int, int, bool]


@functools.cache
def _moments(shape: Shape, services: Collection[str]) -> list[_Moment]:
    """Starts and ends of the spans of services, in the order of time."""
    return sorted(
        moment
        for number, span in enumerate(shape.spans)
        if span.service in services
        for moment in (
            (span.started, number, False),
            (span.started + span.lasts, number, True),
        )
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What of a request one process has.

    :param number: of which its ids are made
    :param began: microseconds since 1970
    """

    shape: Shape
    number: int
    began: int
    host: str
    own: list[_Moment]

    def __lt__(self, other: object) -> bool:
        return False  # of what is due at the same time

    def point(self, place: int, late: int) -> dict[str, Any]:
        """One point, as osprofiler makes it at that moment."""
        offset, number, ends = self.own[place]
        span = self.shape.spans[number]
        info: dict[str, Any] = {}
        if not ends:
            info = self._filled(span.info, number)
        return {
            "name": f"{span.name}-{'stop' if ends else 'start'}",
            "base_id": self._id(0),
            "trace_id": self._id(number + 1),
            "parent_id": self._id(
                0 if span.parent is None else span.parent + 1
            ),
            "timestamp": format_timestamp(self.began + offset + late),
            "info": {**info, "host": self.host},
            "project": PROJECT,
            "service": span.service,
        }

    def _id(self, number: int) -> str:
        return _uuid(self.number + number * _STEP)

    def _filled(self, value: Any, number: int) -> Any:
        if isinstance(value, dict):
            return {
                name: self._filled(own, number) for name, own in value.items()
            }
        if value == WHEN:
            # Without a zone, as databases give it.
            return datetime.datetime(2026, 1, 1, 0, 0, number % 60)  # noqa: DTZ001
        if isinstance(value, str) and ID in value:
            return value.replace(ID, self._id(-1 - number % _IDS))
        return value


def _uuid(number: int) -> str:
    text = f"{number & _MASK:032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
