# SPDX-License-Identifier: Apache-2.0

"""Where a sequence repeats itself. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

#: So many times something has to come in a row to be shown as one.
LEAST_TIMES = 3
#: So many different things may come in turn.
_LONGEST_PERIOD = 8


class Run(NamedTuple):
    """A part of a sequence in which its beginning comes again and again.

    :param start: where it begins
    :param length: a multiple of the period
    :param period: after how many items it begins anew; 1 for what is alike,
        and for a single item
    """

    start: int
    length: int
    period: int


def runs(looks: Sequence[Hashable | None]) -> Iterator[Run]:
    """Take a sequence apart into what repeats and what does not.

    At each place the repetition that goes furthest is taken; of those the
    shortest. It is linear: an item that is looked at again has been counted
    in, or is one of a few.

    :param looks: what items have in common to be alike; None never is
    :returns: runs that cover the sequence, each of one item or of
        :data:`LEAST_TIMES` periods at least
    """
    numbers: dict[Hashable, int] = {}
    # Of what is not alike anything each has its own number.
    kinds = [
        -at if look is None else numbers.setdefault(look, len(numbers))
        for at, look in enumerate(looks, start=1)
    ]
    at = 0
    while at < len(kinds):
        run = _longest(kinds, at)
        yield run
        at += run.length


def _longest(kinds: Sequence[int], at: int) -> Run:
    best = Run(at, 1, 1)
    for period in range(1, _LONGEST_PERIOD + 1):
        again = at + period
        while again < len(kinds) and kinds[again] == kinds[again - period]:
            again += 1
        times = (again - at) // period
        if times >= LEAST_TIMES and times * period > best.length:
            best = Run(at, times * period, period)
    return best
