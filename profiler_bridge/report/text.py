# SPDX-License-Identifier: Apache-2.0

"""How values of a trace are written for people."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

# Each unit in microseconds, and from how many of it on the next one is used.
_UNITS = (
    ("us", 1, 1000),
    ("ms", 1000, 1000),
    ("s", 1_000_000, 1000),
    ("min", 60_000_000, 100),
    ("h", 3_600_000_000, 100),
)
_DAY = 86_400_000_000


def shortened(text: str, most: int) -> str:
    """At most so many characters, and how many there were if that is less."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... ({len(text)} characters)"


def percent(value: float) -> str:
    """A change by a share: ``+21.1%``."""
    return f"{value:+.1f}%"


def duration(microseconds: float) -> str:
    """With three significant digits: ``431 us``, ``23.1 ms``, ``9.00 s``.

    Microseconds are whole; from 1000 s on there are minutes, then hours and
    days.

    :returns: eight characters at most, for less than 100,000 days
    """
    if microseconds < 0:
        return f"-{duration(-microseconds)}"
    for unit, size, most in _UNITS:
        digits = _three_digits(microseconds / size, size == 1)
        if float(digits) < most:
            return f"{digits} {unit}"
    return f"{_three_digits(microseconds / _DAY)} d"


def _three_digits(value: float, is_whole: bool = False) -> str:
    # 9.996 is 10.0, not 10.00.
    for decimals, most in ((2, 10), (1, 100)):
        if not is_whole and round(value, decimals) < most:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def took(length: int, answered: int | None, after: int | None) -> str:
    """How long a trace took: ``18.9 s (+127 s after)``, in microseconds.

    :param length: from its first notification to its last; that alone is
        said where nobody knows when it was answered
    :param answered: until its last request was
    :param after: how long it went on after that
    """
    if answered is None:
        return duration(length)
    if not after:
        return duration(answered)
    return f"{duration(answered)} (+{duration(after)} after)"


def width(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return len(text) if _is_narrow(text) else sum(map(_width_of, text))


def _is_narrow(text: str) -> bool:
    """Whether each character takes one column: a quick look, at most texts."""
    return text.isascii() or text.replace("…", "").isascii()


def _width_of(char: str) -> int:
    if combining(char):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def cut(text: str, most: int) -> str:
    """A printable text that takes so many columns at most.

    :returns: with ``…`` at its end where something is left out; empty where
        there is no room
    """
    if width(text) <= most:
        return text
    room = most - 1
    if room < 0:
        return ""
    if _is_narrow(text):
        return f"{text[:room]}…"
    kept = 0
    for char in text:
        room -= _width_of(char)
        if room < 0:
            break
        kept += 1
    return f"{text[:kept]}…"
