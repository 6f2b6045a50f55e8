# SPDX-License-Identifier: Apache-2.0

"""Rules that choose traces, as users write them. Pure.

A rule is like ``error or slower than 2s and service nova``: conditions joined
by ``and``, alternatives by ``or``, which binds less. See :func:`parse`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from profiler_bridge.query import is_of_project, is_service
from profiler_bridge.summary import TraceSummary, digest

_OfSummary = Callable[[TraceSummary], bool]

_MICROSECONDS = {
    **{"us": 1, "ms": 1000, "s": 1_000_000},
    **{"m": 60_000_000, "h": 3_600_000_000},
}
# Of a duration or a fraction; no storage can count further.
_MOST = 10**18
# How many characters of something wrong are shown.
_LONGEST_SHOWN = 60

# With quotes what has an "and" or an "or" in it, or several spaces.
_find_words = re.compile(r""" '[^']*' | "[^"]*" | \S+ """, re.VERBOSE).findall
_is_duration = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(us|ms|s|m|h)"
).fullmatch
_is_fraction = re.compile("([0-9]{1,18})/([0-9]{1,18})").fullmatch
_is_uuid = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Chooses traces. ``str()`` of it is what :func:`parse` was given."""

    _text: str
    _alternatives: Sequence[Sequence[_Condition]]

    def __str__(self) -> str:
        return self._text

    @property
    def needs_operations(self) -> bool:
        """Whether a condition is about what each span did."""
        return any(
            condition.of_summary is None
            for conditions in self._alternatives
            for condition in conditions
        )

    def matches(
        self,
        summary: TraceSummary,
        operations: Callable[[], Collection[str]],
    ) -> bool:
        """Whether it chooses a trace.

        :param summary: of the trace
        :param operations: gives what the trace's spans did, as
            :func:`profiler_bridge.operation.operation` has it; called once at
            most, and only if the rest of the rule leaves it undecided
        """
        decided = self.decide(summary)
        if decided is not None:
            return decided
        did = operations()
        return any(
            all(
                any(fnmatchcase(own, one.pattern) for own in did)
                != one.negated
                for one in rest
            )
            for rest in self._undecided(summary)
        )

    def decide(self, summary: TraceSummary) -> bool | None:
        """The same where the summary alone tells; None where it does not."""
        undecided = self._undecided(summary)
        return None if undecided and all(undecided) else bool(undecided)

    def _undecided(self, summary: TraceSummary) -> list[list[_Condition]]:
        """Of alternatives that may be true, what the summary does not tell."""
        return [
            [one for one in conditions if one.of_summary is None]
            for conditions in self._alternatives
            if all(
                one.of_summary(summary) != one.negated
                for one in conditions
                if one.of_summary is not None
            )
        ]


class _Condition(NamedTuple):
    """Something that is true of a trace, or is to be false.

    :param of_summary: what the summary tells; None where it does not
    :param pattern: otherwise, of an operation
    """

    negated: bool
    of_summary: _OfSummary | None
    pattern: str = ""


def parse(text: str) -> Rule:
    """Read a rule: conditions, with ``and``, ``or`` and ``not``.

    ====================  ====================================================
    ``error``             a span ended with an exception
    ``incomplete``        something of the trace is missing
    ``slower than 2s``    it lasted longer: ``us``, ``ms``, ``s``, ``m``, ``h``
    ``service nova``      a service took part: a project, a service, or both
    ``project nova``      a project's service took part
    ``host compute-1``    a host took part
    ``root PATTERN``      a request that it began with, with ``*``, ``?``, []
    ``operation PATTERN`` a span did this
    ``about UUID``        it is in the path of a request
    ``sample 1/20``       one of so many traces, the same ones on every host;
                          and among those of ``1/10``
    ====================  ====================================================

    A value with an ``and``, ``or`` or several spaces in it stands in quotes.

    :raises ValueError: says in one line what is wrong
    """
    alternatives: list[list[_Condition]] = [[]]
    words: list[str] = []
    for word in [*_find_words(text), "or"]:
        if word not in ("and", "or"):
            words.append(word)
            continue
        alternatives[-1].append(_condition(words, text))
        words = []
        if word == "or":
            alternatives.append([])
    return Rule(" ".join(text.split()), alternatives[:-1])


def _condition(words: Sequence[str], text: str) -> _Condition:
    match words:
        case ["not", *rest]:
            condition = _plain(rest, text)
            return condition._replace(negated=True)
        case _:
            return _plain(words, text)


def _plain(words: Sequence[str], text: str) -> _Condition:
    match words:
        case []:
            raise ValueError(
                f"a condition is missing in {_shown(text)}"
                if text.strip()
                else "there has to be a condition"
            )
        case ["error"]:
            return _Condition(False, _has_errors)
        case ["incomplete"]:
            return _Condition(False, _is_incomplete)
        case ["slower", "than", *rest]:
            return _Condition(False, _slower(_value(rest, "slower than")))
        case ["operation", *rest]:
            return _Condition(False, None, _value(rest, "operation"))
        case [name, *rest] if name in _READERS:
            return _Condition(False, _READERS[name](_value(rest, name)))
        case _:
            raise ValueError(
                f"{_shown(' '.join(words))} is no condition; there are"
                " error, incomplete, slower than, operation,"
                f" {', '.join(_READERS)}"
            )


def _value(words: Sequence[str], name: str) -> str:
    if not words:
        raise ValueError(f"{name} of what is missing")
    if not any(word.startswith(("'", '"')) for word in words):
        return " ".join(words)
    first, *others = words
    if others or len(first) < 3 or first[0] != first[-1]:
        raise ValueError(
            f"quotes are to stand around all of {_shown(' '.join(words))},"
            " and something in them"
        )
    return first[1:-1]


def _has_errors(summary: TraceSummary) -> bool:
    return summary.errors > 0


def _is_incomplete(summary: TraceSummary) -> bool:
    return not summary.complete


def _slower(value: str) -> _OfSummary:
    match = _is_duration(value)
    if not match:
        raise ValueError(f"{_shown(value)} is no duration like 250ms or 1.5s")
    limit = float(match[1]) * _MICROSECONDS[match[2]]
    if limit > _MOST:
        raise ValueError(f"{_shown(value)} is out of range")
    return lambda summary: summary.duration > limit


def _service(value: str) -> _OfSummary:
    return lambda summary: any(
        is_service(own, value) for own in summary.services
    )


def _project(value: str) -> _OfSummary:
    return lambda summary: any(
        is_of_project(own, value) for own in summary.services
    )


def _host(value: str) -> _OfSummary:
    return lambda summary: value in summary.hosts


def _root(value: str) -> _OfSummary:
    return lambda summary: any(
        fnmatchcase(own, value) for own in summary.roots
    )


def _about(value: str) -> _OfSummary:
    resource = value.lower()
    if not _is_uuid(resource):
        raise ValueError(f"{_shown(value)} is no UUID")
    return lambda summary: resource in summary.about


def _sample(value: str) -> _OfSummary:
    match = _is_fraction(value)
    part, whole = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < part <= whole:
        raise ValueError(f"{_shown(value)} is no part of traces like 1/20")
    # Of a digest, because who makes base_ids need not draw them at random.
    return lambda summary: (
        (digest(summary.base_id) + 2**63) * whole < part * 2**64
    )


_READERS = {
    "service": _service,
    "project": _project,
    "host": _host,
    "root": _root,
    "about": _about,
    "sample": _sample,
}


def _shown(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[: _LONGEST_SHOWN - 3]}..."
    return ascii(text)
