# SPDX-License-Identifier: Apache-2.0

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
    asked: tuple[str, str] = ("POST", "/v1/servers"),
) -> list[Payload]:
    """A trace: an API is asked, and calls a worker that asks a database.

    :param calls: how many calls; each adds three spans to the one of the API
    :param error: the class of the exception that ended the last query
    :param asked: method and path
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
                "path": asked[1],
                "query": "",
                "method": asked[0],
                "scheme": "http",
            }
        },
        service=service,
        project=project,
    )
    return [start, *middle, stop]


def one_span(*, seed: int = 1, **fields: Any) -> list[Payload]:
    """The start and the stop of a trace that is one span."""
    rng = seeded(seed)
    base_id = new_id(rng)
    return span(base_id, new_id(rng), base_id, **fields)


def crossing_traces() -> tuple[list[Payload], list[Payload], list[Payload]]:
    """Three traces: the first begins first, and ends last."""
    rng = seeded(1)
    starts = (STARTED, STARTED + 15 * MILLISECOND, STARTED + 10 * MILLISECOND)
    early, late, between = (
        request(rng, start, calls=calls, error="DBDeadlock")
        for start, calls in zip(starts, (6, 1, 1), strict=True)
    )
    return early, late, between


#: A server that a request is about, and what is asked in assorted traces.
SERVER = "6a6b3f1e-0f3c-4d6e-9d55-5c1f5f3f2b7a"
ASKED = (("POST", "/v1/servers"), ("GET", f"/v1/servers/{SERVER}/tags"))


def assorted_traces() -> list[list[Payload]]:
    """Traces of which three start at each moment."""
    rng = seeded(1)
    traces = []
    for number in range(24):
        payloads = request(
            rng,
            STARTED + number // 3 * SECOND,
            calls=number % 5,
            service=("api", "images", "💥-ümlaut")[number % 3],
            project=("shop", "bank")[number % 2],
            error="DBDeadlock" if number % 4 == 0 else None,
            asked=ASKED[number % 3 % 2],
        )
        if number % 7 == 0:
            payloads = payloads[:-1]
        traces.append(payloads)
    return traces


def notifications(payloads: Iterable[Payload]) -> list[Notification]:
    """What a collector makes of payloads."""
    return [Notification.from_payload(payload) for payload in payloads]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


#: What may stand in any field that is a text.
TEXTS = {
    "four bytes": "\U0001d4b3💥👩🏽\u200d💻",
    "combining": "e\u0301 é ﷽ \u202eabc",
    "NUL": "a\0b\0",
    "lone surrogates": "\udc80 a\ud800",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028",
    "quotes": "'\"`''\"\"",
    "backslashes": "\\ \\\\ \\n \\u0000 \\' \\",
    "placeholders": "%s %(name)s %% :name ? $1 {} {0}",
    "patterns": "*?[a-z]^%_.",
    "markup": "</script><script>alert(1)</script><!-- ]]> &amp;",
    "terminal": "\x1b[2J\x1b]0;title\x07\r\n\t",
    "SQL": "'); DROP TABLE bridge_notifications; --",
    "spaces": "  both ends  ",
    "long": "x" * 10_000,
    "long and wide": "💥" * 10_000,
}

#: What may be a parameter of a statement.
VALUES: dict[str, Any] = {
    "not a number": [float("nan"), float("inf"), float("-inf")],
    "beyond 64 bits": [2**64, -(2**64), 10**400],
    "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22],
    "nested": nested(200),
    "5 MB": "x" * 5_000_000,
    "many keys": {str(number): number for number in range(5000)},
    "not true": [None, False, 0, 0.0, "", [], {}],
}
