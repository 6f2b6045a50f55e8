# SPDX-License-Identifier: Apache-2.0

"""What the query of a driver's connection string says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

#: So many traces a list has, where the connection string says nothing.
LIMIT = 100
_MOST = 10_000


def limit(text: str) -> int:
    """How many traces a list may have.

    :raises ValueError: it cannot be that
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= len("10000")):
        raise ValueError(f"a number from 1 to {_MOST}")
    number = int(text)
    if not 1 <= number <= _MOST:
        raise ValueError(f"a number from 1 to {_MOST}")
    return number


def options(
    query: str, known: Mapping[str, Callable[[str], Any]], what: str
) -> dict[str, Any]:
    """Read a query.

    :param known: how the value of each option is read; a ValueError says
        what it has to be
    :param what: what the connection string begins with
    :raises ValueError: an option is unknown, there twice or wrong, in words
        that have no value
    """
    read: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(
                f"{what} has no such option; it has {', '.join(known)}"
            )
        if name in read:
            raise ValueError(f"{what} has {name} more than once")
        try:
            read[name] = known[name](text)
        except ValueError as error:
            raise ValueError(f"{name} in {what} has to be {error}") from None
    return read
