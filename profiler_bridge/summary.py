# SPDX-License-Identifier: Apache-2.0

"""What is known of a trace without its notifications. Pure.

A trace arrives in pieces: several batches, several workers, any order, some
pieces twice. So the summary of a trace is kept as *partial summaries*, one
for each piece, and put together when it is read. Merging is a union of sets,
a minimum and a maximum: it does not matter in which order pieces came, how
they were cut, or how often they were written.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Self

from profiler_bridge import exceptions, path
from profiler_bridge.notification import START, STOP, Notification
from profiler_bridge.roots import Ends, Roots, about, title_of

#: Of the text in which partial summaries are stored. A release reads those of
#: its own version and of all before; release 0.1 wrote none, which is 0, and
#: before 2 only the earliest root was kept, and services without projects.
VERSION = 2

_to_json = json.JSONEncoder(separators=(",", ":")).encode

#: How many of the UUIDs in its requests' paths a piece of a trace is found by.
MOST_RESOURCES = 64
#: Durations, in microseconds, of which a trace is found by all that it lasted:
#: these only ever become true.
AT_LEAST = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)


def digest(text: str) -> int:
    """64 bits, signed, of any text; the same ever after, for it is stored."""
    encoded = text.encode("utf-8", "surrogatepass")
    hashed = blake2b(encoded, digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


# Terms of the index: every trace, those with an error. In the third a trace
# stands not at its start, but at its duration.
ALL_TRACES = digest("all")
WITH_ERRORS = digest("error")
LONGEST = digest("duration")
# And in this one at the slots of time in which something of it was written.
ARRIVALS = digest("arrived")


# Of services and of what roots do there are few.
@lru_cache(4096)
def service_term(service: str) -> int:
    """The index term of the traces that a service took part in.

    :param service: qualified
    """
    return digest(service_name(service))


@lru_cache(4096)
def root_term(operation: str) -> int:
    """The index term of the traces of which a root did this."""
    return digest(root_name(operation))


def about_term(resource: str) -> int:
    """The index term of the traces with a request that names a UUID."""
    return digest(f"about:{resource}")


def at_least_term(microseconds: int) -> int:
    """The index term of the traces that lasted one of :data:`AT_LEAST`."""
    return digest(f"duration:{microseconds}")


def service_name(service: str) -> str:
    """What a storage calls a qualified service among the names it has."""
    return f"service:{service}"


def root_name(operation: str) -> str:
    """What a storage calls a root's operation among the names it has."""
    return f"root:{operation}"


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One row about a trace.

    :param base_id: the trace's UUID
    :param started: its first notification, microseconds since 1970
    :param finished: its last notification, microseconds since 1970
    :param name: what the root did that names it; None while none started
    :param requests: how many roots it has, as :class:`Roots` counts them
    :param answered: microseconds from its start to the end of its last root;
        None while there is none, or one has no stop
    :param roots: what its roots did, those that best name it
    :param about: UUIDs in its requests' paths
    :param spans: how many there are
    :param unfinished: how many of them have no stop
    :param headless: how many have no start
    :param missing_parents: how many parents are named that are not in it
    :param errors: how many ended with an exception
    :param services: those that took part, qualified
    :param names: of its trace points
    :param gone: how many notifications were stored, and are not there any more
    """

    base_id: str
    started: int
    finished: int
    name: str | None
    requests: int
    answered: int | None
    roots: tuple[str, ...]
    about: tuple[str, ...]
    spans: int
    unfinished: int
    headless: int
    missing_parents: int
    errors: int
    services: tuple[str, ...]
    hosts: tuple[str, ...]
    names: tuple[str, ...]
    gone: int = 0

    @property
    def title(self) -> str | None:
        """As :func:`profiler_bridge.roots.title_of` has it."""
        return title_of(self.name, self.requests)

    @property
    def after(self) -> int | None:
        """Microseconds from the end of the last root to the last
        notification; None where :attr:`answered` is.
        """
        return None if self.answered is None else self.duration - self.answered

    @property
    def duration(self) -> int:
        """Microseconds from the first notification to the last."""
        return self.finished - self.started

    @property
    def complete(self) -> bool:
        """Whether every span has both ends, and its parent.

        Of a ring of parents, longer than a span that is its own, a summary
        does not know.
        """
        return not (
            self.unfinished
            or self.headless
            or self.missing_parents
            or self.gone
        )


@dataclass(slots=True)
class PartialSummary:
    """What one piece of a trace says for its summary.

    Spans are sets of shortened ids (see :func:`short_id`).

    :param is_older: an older release's, which did not keep all of this
    :param unqualified: the services under whose names alone that indexed it
    """

    started: int
    finished: int
    starts: set[str] = field(default_factory=set)
    stops: set[str] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)
    errors: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    about: set[str] = field(default_factory=set)
    roots: Roots = field(default_factory=Roots)
    is_older: bool = False
    unqualified: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, notifications: Iterable[Notification]) -> Self:
        """Sum up one or more notifications of one trace."""
        rest = iter(notifications)
        first = next(rest)
        partial = cls(first.timestamp, first.timestamp)
        partial._add(first)
        for notification in rest:
            partial._add(notification)
        return partial

    def _add(self, notification: Notification) -> None:
        moment = notification.timestamp
        if moment < self.started:
            self.started = moment
        elif moment > self.finished:
            self.finished = moment
        parent_id = notification.parent_id
        span = short_id(notification.trace_id)
        if parent_id == notification.trace_id:
            self.parents.add(_NOBODY)
        elif parent_id == notification.base_id:
            self.roots.add(notification, span)
        else:
            self.parents.add(short_id(parent_id))
        if notification.phase == STOP:
            self.stops.add(span)
            if notification.exception is not None:
                self.errors.add(span)
        else:
            self.starts.add(span)
            if len(self.about) < MOST_RESOURCES:
                self.about.update(about(notification))
        self.names.add(notification.name)
        service = notification.qualified_service
        if service is not None:
            self.services.add(service)
        host = notification.host
        if host is not None:
            self.hosts.add(host)

    def merge(self, other: PartialSummary) -> None:
        """Take in another piece of the same trace."""
        self.started = min(self.started, other.started)
        self.finished = max(self.finished, other.finished)
        for name in _SETS:
            getattr(self, name).update(getattr(other, name))
        self.roots.merge(other.roots)

    def ends(self) -> Iterator[tuple[str, str]]:
        """What this piece has, as :func:`end` names it."""
        for span in self.starts:
            yield span, START
        for span in self.stops:
            yield span, STOP

    def count_beside(self, others: Iterable[PartialSummary]) -> int:
        """How many starts and stops this piece has that no other has."""
        starts, stops = self.starts, self.stops
        for other in others:
            starts = starts - other.starts
            stops = stops - other.stops
        return len(starts) + len(stops)

    def summary(self, base_id: str) -> TraceSummary:
        """Count what is known of the trace."""
        spans = self.starts | self.stops
        roots = self.roots
        unfinished = self.starts - self.stops
        # A start is there before anything of it is: none is later.
        after = roots.after(unfinished, self.finished)
        return TraceSummary(
            base_id=base_id,
            started=self.started,
            finished=self.finished,
            name=roots.name,
            requests=roots.count,
            answered=(
                None if after is None else self.finished - self.started - after
            ),
            roots=tuple(sorted(roots.operations)),
            about=tuple(sorted(self.about)),
            spans=len(spans),
            unfinished=len(unfinished),
            headless=len(self.stops - self.starts),
            missing_parents=len(self.parents - spans),
            errors=len(self.errors),
            services=tuple(sorted(self.services)),
            hosts=tuple(sorted(self.hosts)),
            names=tuple(sorted(self.names)),
        )

    def to_text(self) -> str:
        """Encode as JSON in ASCII, the same text for the same piece."""
        # Most spans start and stop in one piece: name those once.
        both = self.starts & self.stops
        fields: dict[str, Any] = {
            "version": VERSION,
            "started": self.started,
            "finished": self.finished,
            "spans": _pack(both),
            "starts": _pack(self.starts - both),
            "stops": _pack(self.stops - both),
            "parents": _pack(self.parents),
            "errors": _pack(self.errors),
            "requests": _ends_to_json(self.roots.requests),
            "others": _ends_to_json(self.roots.others),
            "roots": sorted(
                (rank, started, operation)
                for operation, (rank, started) in self.roots.operations.items()
            ),
        }
        for name in _NAMES:
            fields[name] = sorted(getattr(self, name))
        return _to_json({key: value for key, value in fields.items() if value})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Decode what :meth:`to_text` of this or an older release gave.

        :raises StorageMisconfigured: it is a newer release's
        """
        fields: Mapping[str, Any] = json.loads(text)
        version = fields.get("version", 0)
        if version > VERSION:
            raise exceptions.StorageMisconfigured(
                "a newer release of profiler_bridge has stored this trace:"
                f" its summary has version {version}, this release"
                f" reads up to {VERSION}"
            )
        both = _unpack(fields.get("spans", ""))
        partial = cls(
            started=fields.get("started", 0),
            finished=fields.get("finished", 0),
            starts=both | _unpack(fields.get("starts", "")),
            stops=both | _unpack(fields.get("stops", "")),
            parents=_unpack(fields.get("parents", "")),
            errors=_unpack(fields.get("errors", "")),
            services=set(fields.get("services", ())),
            hosts=set(fields.get("hosts", ())),
            names=set(fields.get("names", ())),
            about=set(fields.get("about", ())),
            roots=Roots(
                _ends_from_json(fields.get("requests")),
                _ends_from_json(fields.get("others")),
                {
                    operation: (rank, started)
                    for rank, started, operation in fields.get("roots", ())
                },
            ),
        )
        if version < 2:
            partial._add_of_version_1(fields)
        return partial

    def _add_of_version_1(self, fields: Mapping[str, Any]) -> None:
        self.is_older = True
        self.unqualified = {*self.services}
        projects = fields.get("projects", ())
        if len(projects) == 1:
            self.services = {f"{projects[0]}:{name}" for name in self.services}
        root = fields.get("root")
        if root:
            started, what = root
            method, _, asked = what.partition(" ")
            if asked:
                what = f"{method} {path.template(asked)}"
            self.roots.operations[what] = (1, started)


_NAMES = ("services", "hosts", "names", "about")
_SETS = ("starts", "stops", "parents", "errors", *_NAMES)


def _ends_to_json(ends: Ends) -> list[Any]:
    if not ends.ids:
        return []
    return [_pack(ends.ids), ends.started, ends.stopped]


def _ends_from_json(fields: Any) -> Ends:
    if not fields:
        return Ends()
    ids, started, stopped = fields
    return Ends(_unpack(ids), started, stopped)


_SHORT = 16
# The parent of a span that says it is its own. It is not in the trace: the
# span has no place in the tree.
_NOBODY = "-" * _SHORT


def end(notification: Notification) -> tuple[str, str]:
    """Which end of which span a notification is."""
    return short_id(notification.trace_id), notification.phase


def short_id(uuid: str) -> str:
    """64 of a UUID's bits: the ones that differ in every UUID version."""
    return uuid[:8] + uuid[-8:]


def _pack(spans: set[str]) -> str:
    return "".join(sorted(spans)) if spans else ""


def _unpack(text: str) -> set[str]:
    return {text[at : at + _SHORT] for at in range(0, len(text), _SHORT)}


def index_terms(partials: Iterable[PartialSummary]) -> set[int]:
    """The terms under which a trace of these pieces stands at its start.

    And those of :func:`duration_terms`.
    """
    terms = {ALL_TRACES}
    for partial in partials:
        terms.update(map(service_term, partial.services))
        terms.update(map(root_term, partial.roots.operations))
        if partial.errors:
            terms.add(WITH_ERRORS)
        terms.update(map(about_term, partial.about))
        terms.update(map(service_term, partial.unqualified))
    return terms


def term_names(partials: Iterable[PartialSummary]) -> set[str]:
    """Those of which the terms are digests, where a part may be asked for.

    See :func:`service_name` and :func:`root_name`.
    """
    names: set[str] = set()
    for partial in partials:
        names.update(map(service_name, partial.services))
        names.update(map(root_name, partial.roots.operations))
    return names


_DURATION_TERMS = [
    frozenset(map(at_least_term, AT_LEAST[:count]))
    for count in range(len(AT_LEAST) + 1)
]


def duration_terms(duration: int) -> frozenset[int]:
    """The further terms of a trace that lasted so many microseconds."""
    return _DURATION_TERMS[bisect_right(AT_LEAST, duration)]


def summarize(
    base_id: str, partials: Iterable[PartialSummary]
) -> TraceSummary:
    """Merge one or more partial summaries of a trace."""
    first, *others = partials
    if not others:
        return first.summary(base_id)
    whole = PartialSummary(first.started, first.finished)
    for partial in (first, *others):
        whole.merge(partial)
    return whole.summary(base_id)
