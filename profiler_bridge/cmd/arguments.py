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

"""What users write for times, durations and sets of traces."""

from __future__ import annotations

import argparse
import datetime
import re
import time
from collections.abc import Callable
from typing import Any

from profiler_bridge.notification import is_id
from profiler_bridge.query import DEFAULT_LIMIT, Sort, TraceQuery
from profiler_bridge.storage import retention
from profiler_bridge.storage.retention import SECONDS

_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000}


def moment(text: str) -> int:
    """ISO 8601, in UTC unless it says otherwise, or how long ago: ``2h``.

    :returns: microseconds since 1970
    """
    ago = re.fullmatch(r"(\d+)([smhdw])", text)
    if ago:
        return int((time.time() - int(ago[1]) * SECONDS[ago[2]]) * 1_000_000)
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither ISO 8601 nor like 15m, 2h or 7d"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    since = found - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return since // datetime.timedelta(microseconds=1)


def age(text: str) -> int:
    """``90s``, ``12h``, ``7d`` or ``4w``, or seconds without a unit.

    :returns: microseconds
    """
    try:
        return retention.seconds(text) * 1_000_000
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration(text: str) -> int:
    """``250us``, ``20ms``, ``1.5s`` or ``2m``; milliseconds without a unit.

    :returns: microseconds
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|m|)", text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration like 250us, 20ms or 1.5s"
        )
    return round(float(found[1]) * _MICROSECONDS[found[2] or "ms"])


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a number of at least 1")
    return int(text)


def base_id(text: str) -> str:
    if not is_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no base_id")
    return text


def percent(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage")
    return float(found[1])


# The filters of traces: option, how it is read, help. A flag is not read.
FILTERS: list[tuple[str, Callable[[str], Any] | None, str]] = [
    ("since", moment, "started at or after: ISO 8601, or 15m, 2h, 7d ago"),
    ("until", moment, "started before"),
    ("service", str, "a service took part"),
    ("project", str, "a project took part"),
    ("host", str, "a host took part"),
    ("name", str, "an operation of that name is in it, such as db or wsgi"),
    ("error", None, "an operation ended with an exception"),
    ("min-duration", duration, "lasted at least: 20ms, 1.5s"),
    ("max-duration", duration, "lasted at most"),
    ("incomplete", None, "something of it is missing"),
    ("sort", Sort, "by start, the newest first, or duration, longest first"),
    ("limit", positive, f"at most so many (default: {DEFAULT_LIMIT})"),
    ("marker", base_id, "those after this base_id: the next page"),
]


# Those that make a page of what the others choose.
_PAGING = ("sort", "limit", "marker")


def add_filters(
    parser: argparse.ArgumentParser, *, paging: bool = True
) -> None:
    """Add options that choose traces.

    :param paging: also those that are about how many at once
    """
    group = parser.add_argument_group("filters of traces")
    for name, read, text in FILTERS:
        if name in _PAGING and not paging:
            parser.set_defaults(**{name: None})
        elif read is None:
            group.add_argument(f"--{name}", action="store_true", help=text)
        elif read is Sort:
            group.add_argument(
                f"--{name}", type=Sort, choices=list(Sort), help=text
            )
        else:
            group.add_argument(f"--{name}", type=read, help=text)


def query(parsed_args: argparse.Namespace) -> TraceQuery:
    """The query of what :func:`add_filters` added."""
    given = {
        name.replace("-", "_"): getattr(parsed_args, name.replace("-", "_"))
        for name, _, _ in FILTERS
    }
    return TraceQuery(
        **{key: value for key, value in given.items() if value is not None}
    )


def query_of_text(text: str) -> TraceQuery:
    """A query of one word: ``service=nova,since=2h,error``."""
    readers = {name: read for name, read, _ in FILTERS}
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in readers:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no base_id, no file, and no filters like"
                " service=nova,since=2h,error"
            )
        read = readers[name]
        try:
            given[name.replace("-", "_")] = read(value) if read else True
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{value!r} cannot be used for {name}"
            ) from None
    return TraceQuery(**given)
