# SPDX-License-Identifier: Apache-2.0

"""osprofiler's points as JSON."""

from __future__ import annotations

import datetime
import decimal
import json.encoder
import uuid
from typing import Any

import pytest
from kombu.utils.json import JSONEncoder

from profiler_bridge.exceptions import InvalidNotification
from profiler_bridge.sender import points


def test_python_encodes_in_c_by_these_names() -> None:
    assert points._fastest(JSONEncoder()).__name__ == "encode_in_c"


@pytest.mark.parametrize("other", [None, lambda: None])
def test_another_python_is_done_without(
    monkeypatch: pytest.MonkeyPatch, other: Any
) -> None:
    monkeypatch.setattr(json.encoder, "c_make_encoder", other)
    encoder = JSONEncoder()
    encode = points._fastest(encoder)
    assert encode == encoder.encode


@pytest.mark.parametrize(
    "value",
    [
        {},
        ["\U0001f600\x00\x7f\ud800", '"\\/', "é"],
        [True, False, None, 0, -1, 2**70, 0.1 + 0.2, 1e300],
        [float("nan"), float("inf")],
        (1, (2, [3])),
        {1: 2.5, None: True, False: "x"},
        [
            datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC),
            uuid.UUID(int=1),
        ],
        [decimal.Decimal("1.5"), b"text", b"\xff"],
        type("Text", (str,), {})("text"),
    ],
    ids=repr,
)
def test_it_is_what_kombu_makes(value: Any) -> None:
    point = {"name": "db-start", "info": {"db": value}}
    assert points.encode(point) == JSONEncoder().encode(point)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"some key": [value]}
    return value


def test_depth() -> None:
    point = nested(125)
    assert json.loads(points.encode(point)) == point
    for levels in (200, 400, 5000):
        with pytest.raises((InvalidNotification, RecursionError)):
            points.encode(nested(levels))


def test_cycles_are_seen_each_time() -> None:
    cycle: dict[str, Any] = {"long": "x" * 1000}
    cycle["again"] = [cycle]
    for _ in range(2):
        with pytest.raises(ValueError, match="Circular"):
            points.encode(cycle)
    same = {"a": 1}
    assert points.encode({"b": same, "c": same}) == (
        '{"b": {"a": 1}, "c": {"a": 1}}'
    )
