# SPDX-License-Identifier: Apache-2.0

"""What clients of other tools write into a URL -> values."""

from __future__ import annotations

import argparse
import json
import re
import time
from decimal import Decimal
from typing import Any

import flask

from profiler_bridge.query import TraceQuery
from profiler_bridge.report import spans

_UNITS = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "μs": Decimal(1),  # the Greek letter
    "ms": Decimal(1000),
    "s": Decimal(10**6),
    "m": Decimal(60 * 10**6),
    "h": Decimal(3600 * 10**6),
}
_one_duration = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)"
)
# Of what is beyond a storage's numbers there is nothing.
_LATEST = 2**62
_is_number = re.compile("[0-9]{1,18}").fullmatch


def number(name: str) -> int | None:
    """A parameter of the request that is a number; None without it.

    :raises ArgumentTypeError: it is something else
    """
    text = flask.request.args.get(name)
    if not text:
        return None
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"{name} must be a number")
    return int(text)


def limit(name: str, default: int, greatest: int) -> int:
    """A parameter that says how many traces; as many as are allowed."""
    asked = number(name)
    if asked == 0:
        raise argparse.ArgumentTypeError(f"{name} must be greater than 0")
    return min(asked or default, greatest)


def range_query(
    end: str, lookback: str, default: int, options: Any
) -> TraceQuery:
    """The traces that started in a range of time, within the options' limits.

    :param end: the parameter that says until when, in milliseconds; now
        without it
    :param lookback: the one that says how far back from there, likewise
    :param default: milliseconds, without it
    """
    until = number(end)
    if until is None:
        until = time.time_ns() // 10**6
    back = number(lookback)
    since = until - (default if back is None else back)
    return TraceQuery(
        since=min(max(since, 0) * 1000, _LATEST),
        until=min((until + 1) * 1000, _LATEST),
        limit=options.max_limit,
        time_limit=options.time_limit,
    )


def duration(text: str | None) -> int | None:
    """Microseconds of a duration as Go writes it, such as ``1m1.5s``.

    :returns: None for none
    :raises ArgumentTypeError: it is something else
    """
    if not text:
        return None
    total = Decimal(0)
    at = 0
    while one := _one_duration.match(text, at):
        total += Decimal(one[1]) * _UNITS[one[2]]
        at = one.end()
    if at < len(text):
        raise argparse.ArgumentTypeError(
            "a duration is a number and a unit, such as 1.5s"
        )
    return min(int(total), _LATEST)


def tags(text: str | None) -> dict[str, str | None]:
    """Of a parameter that is a JSON object of texts.

    :raises ArgumentTypeError: it is something else
    """
    if not text:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(
        isinstance(value, str | int | float) for value in values.values()
    ):
        raise argparse.ArgumentTypeError("tags must be a JSON object of texts")
    return {key: spans.text(value) for key, value in values.items()}
