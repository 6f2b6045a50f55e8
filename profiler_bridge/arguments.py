# SPDX-License-Identifier: Apache-2.0

"""What users write for times, durations and sets of traces."""

from __future__ import annotations

import argparse
import datetime
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from profiler_bridge.notification import is_id
from profiler_bridge.query import NOT, Sort, TraceQuery
from profiler_bridge.report.text import shortened
from profiler_bridge.storage import retention

_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000}
# What fits into an integer of any storage, with room to count on.
_MOST = 10**18
_is_dashed = re.compile(
    "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
).fullmatch
# How many characters of something wrong are shown.
_LONGEST_SHOWN = 60


def moment(text: str) -> int:
    """ISO 8601, in UTC unless it says otherwise, or how long ago: ``2h``.

    :returns: microseconds since 1970
    """
    if re.fullmatch(r"[0-9]+[smhdw]", text):
        return time.time_ns() // 1000 - age(text)
    try:
        given = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} is neither ISO 8601 nor like 15m, 2h or 7d"
        ) from None
    if given.tzinfo is None:
        given = given.replace(tzinfo=datetime.UTC)
    since = given - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
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
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|)", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} is no duration like 250us, 20ms or 1.5s"
        )
    given = float(match[1]) * _MICROSECONDS[match[2] or "ms"]
    if given > _MOST:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is out of range")
    return round(given)


def positive(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or not text.strip("0"):
        raise argparse.ArgumentTypeError("must be a number of at least 1")
    if len(text) > len(str(_MOST)) or int(text) > _MOST:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is out of range")
    return int(text)


def base_id(text: str) -> str:
    """One, or the beginning of one."""
    if not (is_id(text) or re.fullmatch("[0-9a-fA-F-]{1,35}", text)):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no base_id")
    return text


def resource(text: str) -> str:
    if not _is_dashed(text.removeprefix(NOT).lower()):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no UUID")
    return text.lower()


def seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} is no number of seconds"
        )
    return float(text)


def percent(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no percentage")
    return float(match[1])


def _shown(text: str) -> str:
    return ascii(shortened(text, _LONGEST_SHOWN))


class Filter(NamedTuple):
    """An option that chooses traces.

    :param read: how its value is read; None for a flag
    :param field: of TraceQuery, where that has another name: then the option
        may be given more than once
    """

    name: str
    read: Callable[[str], Any] | None
    help: str
    field: str = ""
    metavar: str | None = None


FILTERS = [
    Filter(
        "root",
        str,
        "One of the client's requests, such as 'POST /v2.1/servers*'.",
        "roots",
        "PATTERN",
    ),
    Filter(
        "about",
        resource,
        "This UUID is in a request's path: of a server, an image, a network."
        " A create is found by the requests that followed it.",
        "about",
        "UUID",
    ),
    Filter(
        "service",
        str,
        "A service took part: nova, nova-compute or nova:nova-compute.",
        "services",
    ),
    Filter("project", str, "A project's service took part.", "projects"),
    Filter("host", str, "A host took part.", "hosts"),
    Filter(
        "operation",
        str,
        "A span did this, such as 'SELECT*'. Slow, as all notifications are"
        " read.",
        "operations",
        "PATTERN",
    ),
    Filter("name", str, "A trace point has this name, such as db.", "names"),
    Filter(
        "since",
        moment,
        "Started at or after this time: ISO 8601, or 15m, 2h, 7d ago.",
    ),
    Filter("until", moment, "Started before this time."),
    Filter("error", None, "An operation ended with an exception."),
    Filter("min-duration", duration, "Lasted at least this long: 20ms, 1.5s."),
    Filter("max-duration", duration, "Lasted at most this long."),
    Filter("incomplete", None, "Something of it is missing."),
    Filter(
        "time-limit",
        seconds,
        "Search for this many seconds at most.",
    ),
    Filter(
        "sort", Sort, "By start, the newest first, or duration, longest first."
    ),
    Filter("limit", positive, "At most this many traces."),
    Filter("marker", base_id, "Those after this base id: the next page."),
]

# Those that make a page of what the others choose.
_PAGING = ("time-limit", "sort", "limit", "marker")


def add_filters(
    parser: argparse.ArgumentParser, *, paging: bool = True
) -> None:
    """Add options that choose traces.

    :param paging: also those that are about how many at once
    """
    group = parser.add_argument_group(
        "filters of traces",
        "All have to match. Those that name something may be given more than"
        " once; '!' before a value negates it.",
    )
    for name, read, text, field, metavar in FILTERS:
        if name in _PAGING and not paging:
            parser.set_defaults(**{name.replace("-", "_"): None})
        elif read is None:
            group.add_argument(f"--{name}", action="store_true", help=text)
        elif read is Sort:
            group.add_argument(
                f"--{name}", type=Sort, choices=list(Sort), help=text
            )
        elif field:
            group.add_argument(
                f"--{name}",
                type=read,
                action="append",
                dest=field,
                metavar=metavar,
                help=text,
            )
        else:
            group.add_argument(f"--{name}", type=read, help=text)


def query(parsed_args: argparse.Namespace) -> TraceQuery:
    """The query of what :func:`add_filters` added."""
    fields = [
        option.field or option.name.replace("-", "_") for option in FILTERS
    ]
    given = {field: getattr(parsed_args, field) for field in fields}
    return TraceQuery(
        **{key: value for key, value in given.items() if value is not None}
    )


def query_of_text(text: str) -> TraceQuery:
    """A query of one word: ``service=nova,since=2h,error``.

    :raises argparse.ArgumentTypeError: one of the filters cannot be used
    """
    readers = {option.name: option for option in FILTERS}
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if name not in readers:
            what = f"{_shown(name)} is no filter"
            if part == text and not equals:
                what = f"{_shown(text)} is no base_id, no file and no filter"
            raise argparse.ArgumentTypeError(
                f"{what}; there are {', '.join(readers)}, as in"
                " service=nova,since=2h,error"
            )
        _, read, _, field, _ = readers[name]
        if (read is None) == bool(equals):
            how = (
                f"takes no value: {name}" if equals else f"is like {name}=..."
            )
            raise argparse.ArgumentTypeError(f"the filter {name} {how}")
        try:
            own = read(value) if read else True
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{name}: {error}") from None
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{_shown(value)} cannot be used for {name}"
            ) from None
        if field:
            given.setdefault(field, []).append(own)
        else:
            given[name.replace("-", "_")] = own
    return TraceQuery(**given)
