# SPDX-License-Identifier: Apache-2.0

"""Notifications as a service with a SQL database sends them.

A trace is one request: a wsgi span around statements of SQL, one after the
other. Sizes are what OpenStack's services have: statements from "BEGIN" to
a join of many columns, parameters in a list.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

from profiler_bridge.notification import format_timestamp, parse_timestamp
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    new_id,
    seeded,
    span,
)
from tests import bus
from tests import recorded as recordings

#: Points of a trace.
TRACE = 200
#: So many requests run at the same time: their points alternate.
AT_ONCE = 5
#: From the start of a trace to the start of the next.
EVERY = SECOND
#: One trace in so many has an error.
ERROR_EVERY = 20
SERVICES = ("public", "admin", "conductor", "scheduler")


def _select(table: str, columns: int, joined: int = 0) -> str:
    """A statement as SQLAlchemy writes it."""
    names = [
        f"{table}.{column}"
        for column in ("id", "name", "owner_id", "state", "extra_specs")
    ]
    names += [f"{table}.attribute_{number}" for number in range(columns)]
    joins = "".join(
        f" \nLEFT OUTER JOIN {table}_{number} AS {table}_{number}_1 ON"
        f" {table}.id = {table}_{number}_1.{table}_id"
        for number in range(joined)
    )
    return (
        f"SELECT {', '.join(names)} \nFROM {table}{joins} \nWHERE"
        f" {table}.id = ? AND {table}.deleted = 0"
    )


# How often each is sent is by how often it stands here.
_STATEMENTS = (
    *(["BEGIN"] * 12),
    *(["COMMIT"] * 2),
    *([_select("endpoint", 0)] * 4),
    *([_select("server", 2)] * 4),
    *([_select("volume", 5)] * 4),
    *([_select("network_binding", 4)] * 3),
    *([_select("allocation", 9)] * 2),
    *([_select("image", 15, 1)] * 2),
    _select("server_metadata", 25, 2),
    _select("subnet_allocation", 40, 4),
)


def trace(
    rng: random.Random,
    started: int = STARTED,
    points: int = TRACE,
    *,
    service: str = SERVICES[0],
    error: bool = False,
    asked: tuple[str, str] | None = None,
    lasts_at_least: int = 0,
) -> list[Payload]:
    """One request's notifications, in the order of time.

    :param asked: method and path; by default each request is for a server of
        its own
    :param lasts_at_least: microseconds
    """
    base_id, top = new_id(rng), new_id(rng)
    moment = started
    inner: list[Payload] = []
    for _ in range(points // 2 - 1):
        moment += rng.randint(1, 2 * MILLISECOND)
        lasts = rng.randint(200, 3 * MILLISECOND)
        statement = rng.choice(_STATEMENTS)
        params = [new_id(rng)] * min(1, statement.count("?"))
        inner += span(
            *(base_id, new_id(rng), top, moment, lasts),
            info={"db": {"statement": statement, "params": params}},
            service=service,
            host="vm",
        )
        moment += lasts
    method, path = asked or ("GET", f"/v3/servers/{new_id(rng)}")
    duration = max(moment + MILLISECOND - started, lasts_at_least)
    start, stop = span(
        *(base_id, top, base_id, started, duration),
        name="wsgi",
        info={
            "request": {
                "path": path,
                "query": "",
                "method": method,
                "scheme": "http",
            }
        },
        service=service,
        host="vm",
        error="NotFound" if error else None,
    )
    return [start, *inner, stop]


def traces(count: int) -> Iterator[list[Payload]]:
    """Requests one after the other, the same ones in every run."""
    rng = seeded(count)
    for number in range(count):
        yield trace(
            rng,
            STARTED + number * EVERY,
            service=SERVICES[number % len(SERVICES)],
            error=number % ERROR_EVERY == 0,
        )


def points(count: int) -> Iterator[Payload]:
    """So many notifications in the order in which a bus has them."""
    made = traces(-(-count // TRACE))
    left = count
    while left:
        group = [
            payloads
            for payloads in (next(made, None) for _ in range(AT_ONCE))
            if payloads
        ]
        for moment in zip(*group, strict=True):
            yield from moment[:left]
            left -= len(moment[:left])


def bodies(count: int) -> Iterator[bytes]:
    """The same as the bodies of messages."""
    for payload in points(count):
        yield json.dumps(bus.envelope(payload)).encode()


def keystone_bodies(count: int) -> Iterator[bytes]:
    """So many messages of a real Keystone, of one point each.

    In the order in which a bus has them when five requests are served at once;
    of each copy the ids are others.
    """
    recorded = [
        message
        for message in map(json.loads, recordings.server_create())
        if message["payload"]["project"] == "keystone"
    ]
    rng = seeded(count)
    parts = itertools.cycle(
        recorded[begin : begin + TRACE]
        for begin in range(0, len(recorded), TRACE)
    )
    left = count
    while left > 0:
        group = [_renamed(next(parts), rng) for _ in range(AT_ONCE)]
        for moment in itertools.zip_longest(*group):
            for message in moment:
                if message and left > 0:
                    left -= 1
                    yield json.dumps(message).encode()


def _renamed(
    messages: Iterable[dict[str, Any]], rng: random.Random
) -> Iterator[dict[str, Any]]:
    """The messages as those of a trace of their own."""
    names: dict[str, str] = {}
    for message in messages:
        payload = {**message["payload"]}
        for field in ("base_id", "trace_id", "parent_id"):
            payload[field] = names.setdefault(payload[field], new_id(rng))
        yield {
            **message,
            "payload": payload,
            "message_id": new_id(rng),
            # By which oslo.messaging knows what it has had.
            "_unique_id": new_id(rng).replace("-", ""),
        }


def keystone_now(count: int) -> Iterator[bytes]:
    """Whole traces of a real Keystone, of a moment ago.

    So many messages, and as many more as the last traces have; of three kinds
    of requests in turn, in the order in which a bus has them when five are
    served at once.
    """
    requests: dict[str, list[dict[str, Any]]] = {}
    for message in map(json.loads, recordings.keystone()):
        own = requests.setdefault(message["payload"]["base_id"], [])
        own.append(message)
    rng = seeded(count)
    kinds = itertools.cycle(requests.values())
    left = count
    while left > 0:
        group = [
            _moved(_renamed(next(kinds), rng), time.time_ns() // 1000)
            for _ in range(AT_ONCE)
        ]
        for moment in itertools.zip_longest(*group):
            for message in filter(None, moment):
                left -= 1
                yield json.dumps(message).encode()


def short_now(count: int) -> Iterator[bytes]:
    """About so many messages of whole traces of two spans, of a moment ago."""
    rng = seeded(count)
    for _ in range(count // 4):
        base_id, top = new_id(rng), new_id(rng)
        started = time.time_ns() // 1000
        start, stop = span(
            *(base_id, top, base_id, started, 3 * MILLISECOND, "wsgi"),
            info={"request": {"path": "/", "query": "", "method": "GET"}},
        )
        inner = span(
            *(base_id, new_id(rng), top, started + MILLISECOND),
            info={"db": {"statement": _select("server", 2), "params": [""]}},
        )
        for payload in (start, *inner, stop):
            yield json.dumps(bus.envelope(payload)).encode()


def _moved(
    messages: Iterable[dict[str, Any]], started: int
) -> Iterator[dict[str, Any]]:
    """The messages of a trace as if its first were of this moment."""
    by: int | None = None
    for message in messages:
        payload = message["payload"]
        moment = parse_timestamp(payload["timestamp"])
        if by is None:
            by = started - moment
        payload["timestamp"] = format_timestamp(moment + by)
        yield message
