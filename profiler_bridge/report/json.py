# SPDX-License-Identifier: Apache-2.0

"""A trace as osprofiler's JSON, one node a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.report.osprofiler import report
from profiler_bridge.trace import Trace


def render(trace: Trace) -> Iterator[str]:
    """Give the report's JSON in pieces.

    Spans are nested here and not by the json module, whose recursion ends
    some 300 spans deep.
    """
    dictionary = report(trace)
    children = dictionary.pop("children")
    yield from _object_with_children(dictionary, children)
    yield "\n"


def read(text: str) -> Trace:
    """Read the trace back from a report, ours or osprofiler's.

    :raises InvalidNotification: it is no such report
    """
    notifications = [*map(Notification.from_payload, payloads(text))]
    base_ids = {notification.base_id for notification in notifications}
    if len(base_ids) != 1:
        raise exceptions.InvalidNotification(
            exceptions.Reason.NOT_AN_OBJECT, "this is no report of one trace"
        )
    return Trace.build(base_ids.pop(), notifications)


def payloads(text: str) -> list[object]:
    """The payloads that a report was made of.

    :returns: not validated, and in no order; empty for a report without spans
    :raises InvalidNotification: it is no such report
    """
    try:
        nodes = json.loads(text)["children"]
        raw_payloads: list[object] = []
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            waiting.extend(node["children"])
            raw_payloads.extend(
                value
                for key, value in node["info"].items()
                if key.startswith("meta.raw_payload.")
            )
    except (ValueError, TypeError, LookupError, AttributeError):
        raise exceptions.InvalidNotification(
            exceptions.Reason.NOT_AN_OBJECT, "this is no report of a trace"
        ) from None
    except RecursionError:
        raise exceptions.InvalidNotification(
            exceptions.Reason.NOT_ENCODABLE, "the report is nested too deep"
        ) from None
    return raw_payloads


_encode_finite = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False
).encode


def _encode(fields: dict[str, Any]) -> str:
    try:
        return _encode_finite(fields)
    except ValueError:
        return _encode_finite(_finite(fields))


def _finite(value: Any) -> Any:
    """The value with NaN and the infinities, which JSON lacks, as texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def _object_with_children(
    fields: dict[str, Any], children: list[dict[str, Any]]
) -> Iterator[str]:
    yield f'{_encode(fields)[:-1]},"children":['
    waiting = [iter(children)]
    separator = "\n"
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            yield "]}"
            separator = ",\n"
            continue
        grandchildren = node.pop("children")
        yield f'{separator}{_encode(node)[:-1]},"children":['
        waiting.append(iter(grandchildren))
        separator = "\n"
