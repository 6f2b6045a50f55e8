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

"""How long traces are kept: the option, and what users write for a time."""

from __future__ import annotations

import re

from oslo_config import cfg, types

#: What the units of times stand for.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> int:
    """Seconds, or like ``90s``, ``12h``, ``7d`` or ``4w``.

    :raises ValueError: it is neither
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.strip())
    if not found:
        raise ValueError(f"{text!r} is not like 3600, 12h or 7d")
    return int(found[1]) * SECONDS[found[2] or "s"]


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
