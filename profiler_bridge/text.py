# SPDX-License-Identifier: Apache-2.0

"""How text that comes from elsewhere is shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what could move a terminal's cursor or forge a line."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in text
    )
