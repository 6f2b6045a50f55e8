# SPDX-License-Identifier: Apache-2.0


"""Values that the services' JSON marks with their types."""

from __future__ import annotations

import bz2
import datetime
import gzip
import json
import lzma
import uuid
import zlib
from decimal import Decimal
from typing import Any

import pytest
from kombu.utils import json as kombu_json
from oslo_serialization import jsonutils

from profiler_bridge import exceptions
from profiler_bridge.body import decode_body
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import Notification
from profiler_bridge.testing.sample import request, seeded
from tests import recorded

_MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
_ZONE = datetime.timezone(datetime.timedelta(hours=2))

# What osprofiler's own driver for Redis stores.
AS_OSPROFILER = [
    (_MOMENT, "2026-01-02T03:04:05.000000"),
    (_MOMENT.replace(microsecond=6), "2026-01-02T03:04:05.000006"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (Decimal("1.5"), "1.5"),
    (Decimal("1.50"), "1.50"),
    (Decimal("-Infinity"), "-Infinity"),
    (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (b"text", "text"),
    ("\u00e4\U0001f680".encode(), "\u00e4\U0001f680"),
    (b"", ""),
]
# Where that fails, or says less.
OURS = [
    (datetime.time(3, 4, 5), "03:04:05"),
    (datetime.time(3, 4, 5, 6), "03:04:05.000006"),
    (_MOMENT.replace(tzinfo=_ZONE), "2026-01-02T03:04:05.000000+02:00"),
    (
        _MOMENT.replace(tzinfo=datetime.UTC),
        "2026-01-02T03:04:05.000000+00:00",
    ),
    (b"\xff\x00", "base64:/wA="),
]


def through_the_bus(value: object) -> Any:
    return decode_body(kombu_json.dumps(value).encode())


@pytest.mark.parametrize(("value", "text"), AS_OSPROFILER + OURS)
def test_typed_values_become_text(value: object, text: str) -> None:
    assert through_the_bus({"a": [value, {"b": value}]}) == {
        "a": [text, {"b": text}]
    }


@pytest.mark.parametrize(("value", "text"), AS_OSPROFILER)
def test_the_text_is_what_osprofiler_stores(value: object, text: str) -> None:
    assert json.loads(jsonutils.dumps({"a": value})) == {"a": text}


@pytest.mark.parametrize(("value", "text"), AS_OSPROFILER + OURS)
def test_objects_of_a_bus_within_the_process_become_the_same(
    value: object, text: str
) -> None:
    payload = request(seeded(1))[0]
    payload["info"]["db"] = {"params": {"a": value, 7: (value, {1})}}
    stored = Notification.from_payload(payload)
    expected = {"a": text, "7": [text, [1]]}
    assert stored.info["db"]["params"] == expected
    assert Notification.from_text(stored.text).payload == stored.payload


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "point", "__value__": 1},
        {"__type__": "datetime", "__value__": "junk"},
        {"__type__": "datetime", "__value__": 5},
        {"__type__": "datetime", "__value__": None},
        {"__type__": "date", "__value__": "2026-13-01"},
        {"__type__": "time", "__value__": ["03:04"]},
        {"__type__": "decimal", "__value__": "one"},
        {"__type__": "decimal", "__value__": [1, 2]},
        {"__type__": "uuid", "__value__": {"hex": "7"}},
        {"__type__": "uuid", "__value__": {"int": 7}},
        {"__type__": "uuid", "__value__": {"hex": {}}},
        {"__type__": "uuid", "__value__": {"hex": [7]}},
        {"__type__": "uuid", "__value__": "7"},
        {"__type__": "bytes", "__value__": 7},
        {"__type__": "base64", "__value__": "*"},
        {"__type__": ["datetime"], "__value__": "2026-01-02T03:04:05"},
        {"__type__": {}, "__value__": {}},
        {"__type__": "datetime"},
        {"__type__": "date", "__value__": "2026-01-02", "more": 1},
    ],
)
def test_what_only_looks_typed_stays_as_it_came(value: object) -> None:
    body = json.dumps({"a": [value], "b": value}).encode()
    assert decode_body(body) == {"a": [value], "b": value}


def test_typed_values_within_an_envelope() -> None:
    inner = {"payload": {"a": _MOMENT}}
    body = {"oslo.version": "2.0", "oslo.message": kombu_json.dumps(inner)}
    assert through_the_bus(body) == {
        "payload": {"a": "2026-01-02T03:04:05.000000"}
    }


def test_what_only_looks_like_an_envelope_stays_as_it_came() -> None:
    body = {"oslo.version": "2.0", "oslo.message": {"payload": 1}}
    assert decode_body(json.dumps(body).encode()) == body


@pytest.mark.parametrize(
    "body",
    [
        zlib.compress(b'{"a": 1}'),
        gzip.compress(b'{"a": 1}', mtime=0),
        bz2.compress(b'{"a": 1}'),
        lzma.compress(b'{"a": 1}'),
    ],
    ids=["zlib", "gzip", "bzip2", "xz"],
)
def test_bodies_that_a_service_compressed(body: bytes) -> None:
    assert decode_body(body) == {"a": 1}
    for wrong in (body[:-1], body[:3], body[:6] + b"junk" * 9):
        with pytest.raises(exceptions.InvalidNotification) as info:
            decode_body(wrong)
        assert info.value.reason == Reason.NOT_JSON


def test_a_body_that_becomes_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiler_bridge.body.LARGEST", 1000)
    with pytest.raises(exceptions.InvalidNotification, match="larger than"):
        decode_body(zlib.compress(b"0" * 2000))


def test_a_number_that_python_does_not_read_becomes_text() -> None:
    digits = "7" * 5000
    body = f'{{"a": {digits}, "b": 12, "c": -{digits}}}'
    assert decode_body(body.encode()) == {
        "a": digits,
        "b": 12,
        "c": f"-{digits}",
    }


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(exceptions.InvalidNotification) as info:
        decode_body(body)
    assert info.value.reason == Reason.NOT_JSON


def test_values_of_a_real_cloud() -> None:
    """Of 2,454 messages 51 have 63 datetimes, all of them parameters."""
    typed = [body for body in recorded.server_create() if b"__type__" in body]
    assert len(typed) == 51
    texts = []
    for body in typed:
        payload = decode_body(body)["payload"]  # type: ignore[index]
        texts.append(Notification.from_payload(payload).text)
        theirs = kombu_json.loads(body.decode())["payload"]
        assert payload == json.loads(jsonutils.dumps(theirs))
    assert not [text for text in texts if "__type__" in text]
