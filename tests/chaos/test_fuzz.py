# SPDX-License-Identifier: Apache-2.0

"""Bodies that nobody would send, by the thousand, through a real broker."""

from __future__ import annotations

import copy
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge.body import decode_body
from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.masking import Masker
from profiler_bridge.notification import FORMAT, VERSION, points
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_bridge import pieces

VALUES: list[Any] = [
    *(None, True, 0, -1, 2**70, 0.5, float("nan"), float("-inf")),
    *("", "*", "\0", "\n", "\ud83d", "\N{PILE OF POO}", "\x1b[2J", "a" * 9999),
    *([], {}, [[]], {"": None}, {"payload": {}}, "osprofiler:*", "'; --"),
    *("2026-13-01T00:00:00.000000", "0001-01-01T00:00:00.0", "x-start"),
    *(f"eyJ{'eyJ.' * 5000}", "{'a': 'b'" * 999, "x\udcff", 10**40),
    {"__type__": "datetime", "__value__": "2026-11-25T17:48:57"},
    {"__type__": "date", "__value__": "junk"},
    {"__type__": "point", "__value__": [1, 2]},
    {"__type__": "base64", "__value__": "/w=="},
    {"__type__": "uuid", "__value__": {"hex": "0" * 32}},
    {"oslo.version": "2.0", "oslo.message": '{"payload": {}}'},
    {"oslo.version": [], "oslo.message": "{"},
    {FORMAT: VERSION, "points": [None, {}, []]},
]


def fuzzed(rng: random.Random, count: int) -> Iterator[object]:
    """Messages with some things wrong, and bodies with everything wrong."""
    for _ in range(count):
        message = bus.envelope(
            pieces(str(uuid.UUID(int=rng.getrandbits(128), version=4)), 1)[0]
        )
        for _ in range(rng.randrange(4)):
            mutate(message, rng)
        if rng.random() < 0.1:
            yield broken(json.dumps(message).encode(), rng)
        elif rng.random() < 0.05:
            yield rng.choice(VALUES)
        else:
            yield message


def mutate(message: dict[str, Any], rng: random.Random) -> None:
    """Change, remove or add one thing, at any depth."""
    inside = message
    while rng.random() < 0.7:
        inner = [value for value in inside.values() if isinstance(value, dict)]
        if not inner:
            break
        inside = rng.choice(inner)
    key = rng.choice([*inside, "priority", "_unique_id", "oslo.version"])
    if rng.random() < 0.2:
        inside.pop(key, None)
    else:
        inside[key] = copy.deepcopy(rng.choice(VALUES))


def broken(body: bytes, rng: random.Random) -> bytes:
    """A body that is JSON no more, or of another shape."""
    at = rng.randrange(len(body))
    return rng.choice(
        [
            body[:at],
            body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :],
            b"[" * 5000 + b"]" * 5000,
            b'{"payload": ' + b"7" * 5000 + b"}",
            body.decode().encode("utf-16"),
            b"",
            b"\xff\xfe",
        ]
    )


def is_stored(body: bytes, storage: Storage, aside: set[bytes | str]) -> bool:
    """Whether each point of a message is stored, or set aside by itself."""
    message = decode_body(body)
    assert isinstance(message, dict)
    for payload in points(message["payload"]):
        point = json.dumps({**message, "payload": payload}).encode()
        if point in aside:
            continue
        notification = Masker().decode(payload)
        texts = {
            stored.text
            for stored in storage.notifications(notification.base_id)
        }
        if notification.text not in texts:
            return False
    return True


def test_fuzzed_bodies(
    rabbitmq: servers.RabbitMQ,
    transport_url: str,
    sqlite_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    count = request.config.getoption("--chaos-bodies")
    rng = random.Random(request.config.getoption("--chaos-seed"))
    last = pieces(str(uuid.uuid4()), 1)[0]
    daemon = Daemon(
        tmp_path,
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": sqlite_url},
            "bridge": {"workers": 2},
        },
    )
    with daemon:
        wait_for(lambda: daemon.log.count("Listening") == 2, "two workers")
        workers = daemon.workers()
        bodies = [
            body if isinstance(body, bytes) else json.dumps(body).encode()
            for body in fuzzed(rng, count)
        ]
        bus.publish(transport_url, bodies)
        bus.publish(transport_url, [bus.envelope(last)])
        storage = get_storage(sqlite_url)
        wait_for(
            lambda: (
                storage.notifications(last["base_id"])
                and not rabbitmq.queue_depth(bus.QUEUE, transport_url)
            ),
            "an empty queue",
            seconds=60 + count / 100,
        )
        assert daemon.workers() == workers
        assert daemon.terminate() == 0
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0
    kept = SetAside(str(daemon.set_aside), 2**30)
    aside = {message.body for message in kept.messages()}
    missing = [
        body
        for body in {*bodies}
        if body not in aside and not is_stored(body, storage, aside)
    ]
    # None is known to be rejected by a library.
    assert missing == []
    # Some were good after all, some bad; neither is everything.
    assert 0 < len(aside) < len({*bodies})
    assert "Traceback" not in daemon.log
