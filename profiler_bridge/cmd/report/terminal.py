# SPDX-License-Identifier: Apache-2.0

"""What can be shown where a command's output goes."""

from __future__ import annotations

import os
import shutil
from typing import TextIO


def width(stream: TextIO) -> int | None:
    """How many columns a line may take.

    :returns: those of a terminal. Elsewhere COLUMNS if somebody has set it,
        otherwise None: a pipe or a file takes lines of any length.
    """
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return max(shutil.get_terminal_size().columns, 1)
    return None


def is_dumb(stream: TextIO) -> bool:
    """Whether it knows no escape sequences."""
    return not stream.isatty() or os.environ.get("TERM") in (None, "dumb")


def has_colours(stream: TextIO) -> bool:
    """Whether there are to be any; see https://no-color.org."""
    return not is_dumb(stream) and not os.environ.get("NO_COLOR")


def is_ascii(stream: TextIO) -> bool:
    """Whether it has no characters beyond ASCII such as lines and dots."""
    try:
        # A stream that is in memory only has none.
        "…×━▶".encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
