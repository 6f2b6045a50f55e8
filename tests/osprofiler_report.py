# SPDX-License-Identifier: Apache-2.0

"""What osprofiler itself reports, to compare with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from osprofiler.drivers.base import Driver


def osprofiler_report(payloads: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Have osprofiler's own code make a report, in the order of time."""
    driver = Driver("")
    for payload in sorted(
        payloads, key=lambda payload: str(payload["timestamp"])
    ):
        driver._append_results(
            payload["trace_id"],
            payload["parent_id"],
            payload["name"],
            payload["project"],
            payload["service"],
            payload["info"]["host"],
            payload["timestamp"],
            payload,
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
                parent["children"],
                key=lambda node: (node["info"]["started"], node["trace_id"]),
            )
            for parent in (left, right)
        ]
        if len(children[0]) != len(children[1]):
            return False
        pairs.extend(zip(*children, strict=True))
    return True
