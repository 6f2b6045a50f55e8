# SPDX-License-Identifier: Apache-2.0

"""JSON of what is nested deeper than the standard library can follow."""

from __future__ import annotations

import json
from collections.abc import Iterator


class _Text(str):
    """A part of the JSON that is written already."""

    __slots__ = ()


def pieces(value: object) -> Iterator[str]:
    """JSON, without recursion and so at any depth.

    :param value: what JSON has no type for is written as its ``repr()``
    :returns: strings, to be joined
    """
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Text):
            yield value
        elif isinstance(value, dict):
            parts: list[object] = [_Text("{")]
            for number, (key, member) in enumerate(value.items()):
                comma = ", " if number else ""
                parts += [_Text(f"{comma}{json.dumps(str(key))}: "), member]
            waiting += [_Text("}"), *reversed(parts)]
        elif isinstance(value, list):
            parts = [_Text("[")]
            for number, item in enumerate(value):
                parts += [_Text(", " if number else ""), item]
            waiting += [_Text("]"), *reversed(parts)]
        else:
            yield json.dumps(value, default=repr)
