# SPDX-License-Identifier: Apache-2.0

"""What a check found."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from profiler_bridge.text import printable


class Result(enum.StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    :param check: what was looked at
    :param detail: one line, without passwords
    """

    check: str
    result: Result
    detail: str


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when all is well, 1 with warnings, 2 with failures."""
    results = [*Result]
    return max((results.index(line.result) for line in findings), default=0)


def finding(check: str, result: Result, what: object) -> Finding:
    """A finding in one line, whatever a server or a file has put into it."""
    text = printable(" ".join(str(what).split()))
    # Ours are masked; a library's error may quote a line of a file.
    return Finding(check, result, _mask(r"\1:***@", text))


_mask = re.compile(r"(://[^:/?#\s]*):\S*@").sub
