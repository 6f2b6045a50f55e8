# SPDX-License-Identifier: Apache-2.0

"""What is asked of many traces. Pure."""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from profiler_bridge.summary import TraceSummary

DEFAULT_LIMIT = 20
#: Before a value: traces of which it is not true.
NOT = "!"


class Sort(enum.StrEnum):
    """What comes first in a list."""

    START = "start"
    DURATION = "duration"


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """Which traces, and how many of them.

    Where there are several values, all have to be true of a trace; of a value
    after :data:`NOT` the rest must not be.

    :param since: started at or after, microseconds since 1970
    :param until: started before, microseconds since 1970
    :param services: such a service took part: a project, a service, or both
        as ``project:service``
    :param projects: a service of that project took part
    :param hosts: a host took part
    :param names: a trace point of that name is in it
    :param roots: a root did this; a pattern with ``*``, ``?`` and ``[]``
    :param about: this UUID is in the path of a request
    :param operations: a span did this; a pattern
    :param error: a span ended with an exception
    :param incomplete: something is missing
    :param min_duration: lasted at least so many microseconds
    :param max_duration: lasted at most so many microseconds
    :param sort: the newest first, or the longest first
    :param limit: at most so many; None for all
    :param marker: only those that come after this base_id
    :param time_limit: look no longer than so many seconds; None for ever
    """

    since: int | None = None
    until: int | None = None
    services: Sequence[str] = ()
    projects: Sequence[str] = ()
    hosts: Sequence[str] = ()
    names: Sequence[str] = ()
    roots: Sequence[str] = ()
    about: Sequence[str] = ()
    operations: Sequence[str] = ()
    error: bool = False
    incomplete: bool = False
    min_duration: int | None = None
    max_duration: int | None = None
    sort: Sort = Sort.START
    limit: int | None = DEFAULT_LIMIT
    marker: str | None = None
    time_limit: float | None = None

    def matches(self, summary: TraceSummary) -> bool:
        """Whether a trace is asked for, as far as its summary tells.

        Operations, limit and marker are not looked at.
        """
        return (
            (self.since is None or summary.started >= self.since)
            and (self.until is None or summary.started < self.until)
            and all(
                is_true(value, summary.services, is_service)
                for value in self.services
            )
            and all(
                is_true(value, summary.services, is_of_project)
                for value in self.projects
            )
            and all(is_true(value, summary.hosts) for value in self.hosts)
            and all(is_true(value, summary.names) for value in self.names)
            and all(
                is_true(value, summary.roots, fnmatchcase)
                for value in self.roots
            )
            and all(
                is_true(value.lower(), summary.about) for value in self.about
            )
            and not (self.error and not summary.errors)
            and not (self.incomplete and summary.complete)
            and (
                self.min_duration is None
                or summary.duration >= self.min_duration
            )
            and (
                self.max_duration is None
                or summary.duration <= self.max_duration
            )
        )

    def has_operations(self, operations: Collection[str]) -> bool:
        """Whether this is true of a trace whose spans did these."""
        return all(
            is_true(value, operations, fnmatchcase)
            for value in self.operations
        )


def wanted(values: Iterable[str]) -> list[str]:
    """Those that have to be true."""
    return [value for value in values if not value.startswith(NOT)]


def is_true(
    value: str,
    of: Collection[str],
    match: Callable[[str, str], bool] = operator.eq,
) -> bool:
    """Whether something of a trace matches; after :data:`NOT`, nothing."""
    asked = value.removeprefix(NOT)
    return any(match(own, asked) for own in of) == (asked == value)


def is_service(service: str, asked: str) -> bool:
    """Whether a qualified service is meant: by a part of it, or by both."""
    return bool(asked) and asked in (service, *service.split(":", 1))


def is_of_project(service: str, project: str) -> bool:
    """Whether a qualified service is one of a project's."""
    own, colon, _ = service.partition(":")
    return bool(colon) and own == project
