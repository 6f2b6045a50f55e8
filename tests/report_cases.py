# SPDX-License-Identifier: Apache-2.0

"""Traces with something of everything, and the text of a report of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st

from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.trace import Trace

BASE = 0xB0000000_0000_4000_8000_000000000000
NOON = 1_767_268_800_000_000  # 2026-01-01, in microseconds since 1970

HOSTILE = (
    'quote " backslash \\ \\N \\" end\\ <b>bold</b> </script> &lt; &#34;'
    " \r\n\t\0\x1b[31m \u2028 \u202e \ud800 \udc00 \U0001f600 %s {x} ${y}"
)
# Any character, half a surrogate pair among them.
words = st.text(st.characters(exclude_categories=()), max_size=8)


def uuid(number: int) -> str:
    return str(UUID(int=number))


def span(
    number: int,
    parent: int | None = None,
    start: int | None = 0,
    stop: int | None = 10,
    name: str = "work",
    info: dict[str, Any] | None = None,
    stop_info: dict[str, Any] | None = None,
    base: int = BASE,
    **fields: Any,
) -> list[dict[str, Any]]:
    """The payloads of a span; a time of None is a notification missing."""
    payload = {
        "base_id": uuid(base),
        "trace_id": uuid(number),
        "parent_id": uuid(base if parent is None else parent),
        "project": "nova",
        "service": "api",
        **fields,
    }
    return [
        payload
        | {
            "name": f"{name}-{phase}",
            "timestamp": format_timestamp(NOON + time),
            "info": more if more is not None else {"host": "one"},
        }
        for phase, time, more in (
            ("start", start, info),
            ("stop", stop, stop_info),
        )
        if time is not None
    ]


def build(*payloads: list[dict[str, Any]]) -> Trace:
    flat = [payload for pair in payloads for payload in pair]
    base_id = flat[0]["base_id"] if flat else uuid(BASE)
    return Trace.build(base_id, map(Notification.from_payload, flat))


def on(service: str, host: str) -> dict[str, Any]:
    return {
        "service": service,
        "info": {"host": host},
        "stop_info": {"host": host},
    }


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


CASES = {
    "nothing": build(),
    "simple": build(
        span(
            1,
            name="wsgi",
            stop=1000,
            info={
                "host": "one",
                "request": {
                    "method": "GET",
                    "path": "/servers",
                    "query": "limit=1",
                    "scheme": "http",
                },
            },
        ),
        span(
            2,
            1,
            start=100,
            stop=300,
            name="db",
            info={
                "host": "one",
                "db": {"statement": "SELECT ?", "params": [7, None, "x"]},
            },
        ),
        span(
            3,
            1,
            start=300,
            stop=900,
            name="http",
            info={
                "host": "one",
                "requests": {
                    "method": "GET",
                    "scheme": "http",
                    "hostname": "keystone",
                    "port": 5000,
                    "path": "/v3",
                    "query": "",
                },
            },
            stop_info={"host": "one", "requests": {"status_code": 200}},
        ),
    ),
    "rpc": build(
        span(1, name="wsgi", stop=1000),
        span(2, 1, start=10, stop=900, name="rpc"),
        span(3, 2, start=20, stop=800, name="rpc", **on("compute", "two")),
        span(4, 3, start=30, stop=700, name="rpc", **on("compute", "two")),
    ),
    "siblings at once": build(
        span(1, stop=100),
        span(2, 1, start=10, stop=50),
        span(3, 1, start=20, stop=60),
        span(4, 1, start=55, stop=70),
        span(5, 1, start=55, stop=55),
    ),
    "outlives": build(span(1, stop=10), span(2, 1, start=5, stop=50)),
    "unfinished": build(
        span(1, stop=None), span(2, 1, start=5, stop=20), span(3, 1, 20, None)
    ),
    "headless": build(span(1, start=None), span(2, 1, start=2, stop=8)),
    "forest": build(span(1), span(2, stop=20), span(3, 99, start=5)),
    "cycle": build(span(1, 2), span(2, 1), span(3, 3), span(4, 1)),
    "error": build(
        span(
            1,
            stop_info={
                "host": "one",
                "etype": "ValueError",
                "message": "no such flavor",
            },
        ),
        span(2, 1, stop_info={"etype": 5}),
    ),
    "late": build(
        span(1),
        span(2, 1, start=5, stop=20),
        span(3, 1, start=3_000_000, stop=3_000_009, name="heartbeat"),
        span(4, 3, start=3_000_001, stop=3_000_002),
    ),
    "skew": build(
        span(1, start=10, stop=5), span(2, 1, start=-20, stop=3, service="b")
    ),
    "empty info": build(
        span(1, info={}, stop_info={}, service=None, project=None)
    ),
    "hostile": build(
        span(
            1,
            name=HOSTILE,
            project=HOSTILE,
            service=HOSTILE,
            info={
                "host": HOSTILE,
                "request": {"method": HOSTILE, "path": HOSTILE, HOSTILE: 1},
                "requests": [float("nan"), float("inf")],
                "db": {
                    "statement": HOSTILE * 100,
                    "params": {HOSTILE: float("nan"), "big": 10**30},
                },
                "profiler_bridge.unfinished": True,
                "deep": nested(240),
                HOSTILE: HOSTILE,
            },
            stop_info={"etype": HOSTILE, "message": {HOSTILE: 1}},
        ),
        span(2, 1, info={"db": {"params": [[1, 2], [3, 4]]}}),
        span(3, 1, info={"function": 1, "db": None, "requests": "x"}),
    ),
    "same last 64 bits": build(
        span(1), span(2**64 + 1, 1), span(2**65 + 1, 2**64 + 1), span(2**64)
    ),
    "nil": build(span(0, base=0), span(1, 0, base=0)),
    "out of range": build(
        span(1, start=-NOON - 10**15, stop=2 * 10**17), span(2, 1, start=5)
    ),
}


def cases(check: Callable[[Trace], object]) -> Any:
    return pytest.mark.parametrize("trace", CASES.values(), ids=CASES.keys())(
        check
    )


def render(format_: str, trace: Trace) -> str:
    text = "".join(FORMATS[format_](trace))
    # The others are JSON, and safe in any encoding.
    assert text.isascii() or (format_ == "dot" and text.encode())
    assert text.endswith("\n")
    return text


def load(format_: str, trace: Trace) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(render(format_, trace), parse_constant=refuse)
