# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The table that the chaos suite prints."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import pytest


@dataclass(frozen=True)
class Row:
    """A fault, a storage, and what became of the notifications."""

    fault: str
    storage: str
    sent: int
    stored: int
    set_aside: int
    lost: int
    doubled: int


ROWS = pytest.StashKey[list[Row]]()


def render(rows: list[Row]) -> str:
    """The rows as a simple table of reStructuredText."""
    head = tuple(each.name.replace("_", " ") for each in fields(Row))
    cells = [head, *(tuple(map(str, astuple(row))) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
