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

"""Notifications as osprofiler sends them, made up for tests.

Ids come from a generator of random numbers that was seeded, so that they are
the same in every run.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from typing import Any

from profiler_bridge.notification import (
    Notification,
    format_timestamp,
    parse_timestamp,
)

Payload = dict[str, Any]

MILLISECOND = 1000
SECOND = 1000 * MILLISECOND

#: When a trace starts unless told otherwise, microseconds since 1970.
STARTED = parse_timestamp("2026-02-03T04:05:06.000007")


def seeded(seed: int) -> random.Random:
    """A generator that makes the same ids, and so the same traces, again."""
    return random.Random(seed)  # noqa: S311 - no secret


def new_id(rng: random.Random) -> str:
    """A UUID as osprofiler makes them."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def span(
    base_id: str,
    trace_id: str,
    parent_id: str,
    started: int = STARTED,
    duration: int = MILLISECOND,
    name: str = "db",
    *,
    info: dict[str, Any] | None = None,
    service: str | None = "api",
    project: str | None = "shop",
    host: str = "node-1",
    error: str | None = None,
) -> list[Payload]:
    """The start and the stop of one operation.

    :param started: microseconds since 1970
    :param duration: microseconds
    :param info: what the start tells besides the host
    :param error: the class of the exception that ended the operation
    """
    start = {
        "name": f"{name}-start",
        "base_id": base_id,
        "trace_id": trace_id,
        "parent_id": parent_id,
        "timestamp": format_timestamp(started),
        "info": {"host": host, **(info or {})},
        "project": project,
        "service": service,
    }
    stop = {
        **start,
        "name": f"{name}-stop",
        "timestamp": format_timestamp(started + duration),
        "info": {"host": host},
    }
    if error is not None:
        stop["info"] = {"host": host, "etype": error, "message": "it broke"}
    return [start, stop]


def request(
    rng: random.Random,
    started: int = STARTED,
    *,
    calls: int = 2,
    service: str = "api",
    worker: str = "conductor",
    project: str = "shop",
    error: str | None = None,
) -> list[Payload]:
    """A trace: an API is asked, and calls a worker that asks a database.

    :param calls: how many calls; each adds three spans to the one of the API
    :param error: the class of the exception that ended the last query
    :returns: in the order of time, both notifications of each of the
        ``1 + 3 * calls`` spans; it takes ``4 + 7 * calls`` milliseconds
    """
    base_id, top = new_id(rng), new_id(rng)
    moment = started + 2 * MILLISECOND
    middle: list[Payload] = []
    for call in range(calls):
        rpc = new_id(rng)
        call_start, call_stop = span(
            *(base_id, rpc, top, moment, 6 * MILLISECOND, "rpc"),
            info={"function": {"name": "build", "args": "", "kwargs": "{}"}},
            service=worker,
            project=project,
            host="node-2",
        )
        read = span(
            *(base_id, new_id(rng), rpc, moment + MILLISECOND),
            info={
                "db": {
                    "statement": "SELECT servers.id \nFROM servers \nWHERE"
                    " servers.name = %(name_1)s",
                    "params": {"name_1": f"server-{call}"},
                }
            },
            service=worker,
            project=project,
            host="node-2",
        )
        write = span(
            *(base_id, new_id(rng), rpc, moment + 3 * MILLISECOND),
            info={
                "db": {
                    "statement": "UPDATE servers SET state=? WHERE id = ?",
                    "params": ["active", call],
                }
            },
            service=worker,
            project=project,
            host="node-2",
            error=error if call == calls - 1 else None,
        )
        middle += [call_start, *read, *write, call_stop]
        moment += 7 * MILLISECOND
    start, stop = span(
        *(base_id, top, base_id, started),
        moment + 2 * MILLISECOND - started,
        "wsgi",
        info={
            "request": {
                "path": "/v1/servers",
                "query": "",
                "method": "POST",
                "scheme": "http",
            }
        },
        service=service,
        project=project,
    )
    return [start, *middle, stop]


def notifications(payloads: Iterable[Payload]) -> list[Notification]:
    """What a collector makes of payloads."""
    return [Notification.from_payload(each) for each in payloads]
