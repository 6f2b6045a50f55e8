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

"""How values of a trace are written for people."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what could move a terminal's cursor or forge a line."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in text
    )


def milliseconds(microseconds: float) -> str:
    """Milliseconds with the microseconds as their fraction: ``1234.567``."""
    return f"{microseconds / 1000:.3f}"
