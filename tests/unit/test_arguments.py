# SPDX-License-Identifier: Apache-2.0


"""What users write for times, numbers and sets of traces."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import pytest

from profiler_bridge import arguments
from profiler_bridge.query import Sort, TraceQuery
from profiler_bridge.storage import retention

HOUR = 3600 * 1_000_000


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (arguments.age, "90", 90_000_000),
        (arguments.age, "2h", 2 * HOUR),
        (arguments.age, "5200w", 5200 * 7 * 24 * HOUR),
        (arguments.age, "0" * 5000 + "1h", HOUR),
        (arguments.duration, "1.5s", 1_500_000),
        (arguments.duration, "20", 20_000),
        (arguments.positive, "100000", 100_000),
        (arguments.positive, "007", 7),
        (arguments.percent, "12.5%", 12.5),
        (arguments.moment, "2026-01-01", 1_767_225_600_000_000),
        (arguments.moment, "1970-01-01T02:00+02:00", 0),
    ],
)
def test_what_is_read(
    read: Callable[[str], Any], text: str, value: object
) -> None:
    assert read(text) == value


def test_how_long_ago() -> None:
    ago = arguments.moment("2h")
    assert 0 <= time.time_ns() // 1000 - ago - 2 * HOUR < HOUR


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (arguments.age, "999999999w"),
        (arguments.age, "9" * 5000),
        (arguments.moment, "999999999999w"),
        (arguments.moment, "9" * 5000 + "s"),
        (arguments.duration, "9" * 5000),
        (arguments.duration, "9" * 30 + "m"),
        (arguments.positive, "9" * 5000),
        (arguments.positive, "9" * 25),
    ],
)
def test_what_is_out_of_range(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="is out of range"
    ) as raised:
        read(text)
    assert len(str(raised.value)) < 200


def test_retention_that_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="out of range: at most 100 years"):
        retention.seconds("999999999w")


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (arguments.age, "\u0661h"),
        (arguments.age, "x" * 10_000),
        (arguments.moment, "x" * 10_000),
        (arguments.moment, "\u0661h"),
        (arguments.duration, "x" * 10_000),
        (arguments.duration, "\u0661"),
        (arguments.positive, "0"),
        (arguments.positive, "\u0661"),
        (arguments.base_id, "x" * 10_000),
        (arguments.percent, "x" * 10_000),
    ],
)
def test_what_is_wrong_is_said_in_few_words(
    read: Callable[[str], Any], text: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        read(text)
    assert len(str(raised.value)) < 200
    assert str(raised.value).isprintable()


def test_query_of_one_word() -> None:
    assert arguments.query_of_text(
        "service=nova, error,min-duration=2s,sort=duration,name=a=b,name=!c"
    ) == TraceQuery(
        services=["nova"],
        error=True,
        min_duration=2_000_000,
        sort=Sort.DURATION,
        names=["a=b", "!c"],
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "'nonsense' is no base_id, no file and no filter"),
        ("service=nova,serivce=x", "'serivce' is no filter; there are root"),
        ("service=nova,", "'' is no filter"),
        ("x=" + "y" * 300, "'x' is no filter"),
        ("error,limit=0", "limit: must be a number of at least 1"),
        ("since=yesterday", "since: 'yesterday' is neither ISO 8601"),
        ("sort=size", "'size' cannot be used for sort"),
        ("service", "the filter service is like service=..."),
        ("error=no", "the filter error takes no value"),
        ("a" * 300, "no base_id, no file and no filter"),
    ],
)
def test_the_filter_that_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        arguments.query_of_text(text)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 400
