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

"""A trace as osprofiler's JSON, one node a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.report.osprofiler import report
from profiler_bridge.trace import Trace


def render(trace: Trace) -> Iterator[str]:
    """Give the report's JSON in pieces.

    Nesting is done here and not by the json module, whose recursion ends
    some 300 spans deep.
    """
    dictionary = report(trace)
    children = dictionary.pop("children")
    yield from _object_with_children(dictionary, children)
    yield "\n"


def read(text: str) -> Trace:
    """Make the trace of a report again, ours or osprofiler's.

    :raises InvalidNotification: it is no such report
    """
    notifications = [
        Notification.from_payload(each) for each in payloads(text)
    ]
    base_ids = {each.base_id for each in notifications}
    if len(base_ids) != 1:
        raise exceptions.InvalidNotification(
            exceptions.Reason.NOT_AN_OBJECT, "this is no report of one trace"
        )
    return Trace.build(base_ids.pop(), notifications)


def payloads(text: str) -> list[object]:
    """What a report was made of, in no order; not validated.

    :raises InvalidNotification: it is no such report
    """
    try:
        nodes = json.loads(text)["children"]
        found: list[object] = []
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            waiting.extend(node["children"])
            found.extend(
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
    return found


def _object_with_children(
    fields: dict[str, Any], children: list[dict[str, Any]]
) -> Iterator[str]:
    yield f'{json.dumps(fields)[:-1]}, "children": ['
    waiting = [iter(children)]
    separator = "\n"
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            yield "]}"
            separator = ",\n"
            continue
        below = node.pop("children")
        yield f'{separator}{json.dumps(node)[:-1]}, "children": ['
        waiting.append(iter(below))
        separator = "\n"
