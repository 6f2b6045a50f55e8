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

"""What osprofiler itself reports, to compare with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from osprofiler.drivers.base import Driver


def osprofiler_report(payloads: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Have osprofiler's own code make a report, in the order of time."""
    driver = Driver("")
    for each in sorted(payloads, key=lambda each: str(each["timestamp"])):
        driver._append_results(
            each["trace_id"],
            each["parent_id"],
            each["name"],
            each["project"],
            each["service"],
            each["info"]["host"],
            each["timestamp"],
            each,
        )
    report: dict[str, Any] = driver._parse_results()
    return report


def equal_reports(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Compare without recursion, and without the order of equal times.

    osprofiler sorts siblings by whole milliseconds and leaves the rest to the
    order in which its backend returned them.
    """
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if {**left, "children": None} != {**right, "children": None}:
            return False
        children = [
            sorted(
                each["children"],
                key=lambda node: (node["info"]["started"], node["trace_id"]),
            )
            for each in (left, right)
        ]
        if len(children[0]) != len(children[1]):
            return False
        pairs.extend(zip(*children, strict=True))
    return True
