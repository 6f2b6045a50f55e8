# SPDX-License-Identifier: Apache-2.0

"""How long traces are kept: the option, and what users write for a time."""

from __future__ import annotations

import re

from oslo_config import cfg, types

# Whoever writes more than a hundred years means something else, and some
# storages cannot count so far.
_MOST_YEARS = 100

#: What the units of times stand for.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> int:
    """Seconds, or like ``90s``, ``12h``, ``7d`` or ``4w``.

    :raises ValueError: it is neither, or more than a hundred years
    """
    match = re.fullmatch(r"([0-9]+)([smhdw]?)", text.strip())
    if not match:
        raise ValueError(f"{text[:40]!a} is not like 3600, 12h or 7d")
    digits = match[1].lstrip("0") or "0"
    # As text first: Python reads no number of 5,000 digits.
    given = int(digits[:18]) * SECONDS[match[2] or "s"]
    if len(digits) > 18 or given > _MOST_YEARS * 366 * SECONDS["d"]:
        raise ValueError(
            f"{text.strip()[:40]!a} is out of range: at most"
            f" {_MOST_YEARS} years"
        )
    return given


class Duration(types.ConfigType):
    """What :func:`seconds` reads, as the type of an option."""

    def __init__(self) -> None:
        super().__init__(type_name="seconds, or like 12h or 7d")

    def __call__(self, value: object) -> int:
        return seconds(str(value))

    def _formatter(self, value: object) -> str:
        return str(value)


RETENTION = cfg.Opt(
    "retention",
    type=Duration(),
    default=0,
    help="How long a trace is kept after the last that is known of it. 0"
    " keeps it for ever. Redis lets traces expire, by when they were written;"
    " for a database the bridge deletes them, by their own timestamps, and its"
    " user needs the right to.",
)
