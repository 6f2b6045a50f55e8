# SPDX-License-Identifier: Apache-2.0

"""Whatever arrives, work grows no faster than its size.

All that comes from the bus is hostile: one message on which a pattern takes
the square of its length holds a worker for minutes. So each step from the bus
to the storage, and each format of a report, is run on texts and traces made
to be bad for it. Each is ten times as large as the one before. How long it
takes does not matter, only that ten times the size is nowhere near a hundred
times the work.
"""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

import pytest

from profiler_bridge import exceptions, path, statement
from profiler_bridge.body import decode_body
from profiler_bridge.daemon.set_aside import body_of
from profiler_bridge.late import is_mixed, late_spans
from profiler_bridge.masking import Masker
from profiler_bridge.notification import Notification
from profiler_bridge.operation import kind, operation
from profiler_bridge.report import (
    comparison_page,
    critical,
    html,
    osprofiler,
    tree,
)
from profiler_bridge.report.comparison import Comparison
from profiler_bridge.report.findings import Limits, findings
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.report.statistics import (
    By,
    Statistics,
)
from profiler_bridge.roots import Roots, about
from profiler_bridge.storage.traces import split_into_pieces
from profiler_bridge.summary import PartialSummary, index_terms, summarize
from profiler_bridge.testing.sample import (
    Payload,
    notifications,
    span,
)
from profiler_bridge.text import printable
from profiler_bridge.trace import Trace
from tests.unit.test_trace import BASE, child, uid

# Ten times the size is ten times the work, a little more with sorting and
# caches, and a hundred times where something is quadratic.
_MOST = 30
# Seconds of CPU below which a ratio says nothing.
_FLOOR = 0.05
_TRIES = 3


def check_growth(
    sizes: Iterable[int],
    make: Callable[[int], Any],
    work: Callable[[Any], object],
) -> None:
    """Work on a subject of each size, ten times the one before it."""
    before = None
    for size in sizes:
        subject = make(size)
        for attempt in range(_TRIES):
            took = _measure(work, subject)
            # Another process can only make it seem longer: look again.
            if before is None or took <= _MOST * before + _FLOOR:
                break
            assert attempt + 1 < _TRIES, (
                f"{before:.3f} s, then {took:.3f} s at the size of {size}"
            )
        before = took if before is None else max(took, before)


def _measure(work: Callable[[Any], object], subject: Any) -> float:
    gc.disable()
    try:
        started = time.process_time()
        work(subject)
        return time.process_time() - started
    finally:
        gc.enable()


# Texts: a unit that is repeated, and an end.
TEXTS: dict[str, tuple[str, str]] = {
    "JWT's start": ("eyJ", ""),
    "JWT's first part": ("eyJaaaaaaaaaa.", ""),
    "JWT's short first part": ("eyJa.", ""),
    "two parts of a JWT": ("eyJaaaaaaaaaa.eyJaaaaaaaaaa ", ""),
    "Fernet's start": ("gAAAAA", ""),
    "Fernet's start, apart": ("gAAAAA ", ""),
    "word characters": ("a", ""),
    "hyphens": ("-", ""),
    "spaces": (" ", ""),
    "newlines": ("\n", ""),
    "quotes": ("'", ""),
    "quotes that stay open": ("'", "\\"),
    "double quotes": ('"', ""),
    "both quotes": ("'\"", ""),
    "backslashes": ("\\", ""),
    "backslash and quote": ("\\'", "'"),
    "item of a repr": ("{'a': '", ""),
    "keys of a repr": ("'a': ", ""),
    "items of both quotes": ('"a": \'b', ""),
    "secret item": ("'password': 'a", ""),
    "open brackets": ("[", ""),
    "open braces": ("{", ""),
    "open parentheses": ("(", ""),
    "IN (": ("IN (", ""),
    "IN () that stays open": ("IN () ", "IN ("),
    "IN and an open list": ("IN (()", ""),
    "SELECT": ("SELECT ", ""),
    "SELECT FROM": ("SELECT a FROM ", ""),
    "FROM": ("FROM ", ""),
    "FROM (": ("FROM (", ""),
    "tables": ("FROM a.b, `c`", ""),
    "WITH": ("WITH a AS (b), ", ""),
    "VALUES ()": ("VALUES (1), (2), (", ""),
    "SQL comments": ("/*", ""),
    "SQL line comments": ("--a\n", ""),
    "numbers": ("1 ", ""),
    "digits": ("1", ""),
    "digits and dots": ("1.", ""),
    "markup": ("</script><!--&", ""),
    "entities": ("&amp", ""),
    "addresses": ("://", ""),
    "users": ("a:a@", ""),
    "address without an end": ("http://a:", ""),
    "passwords": ("://a:a", ""),
    "passwords with @": ("://a:a@", ""),
    "hosts": ("://a:a@b,a:a@b,", ""),
    "open hosts": (",a:a", ""),
    "parameters": ("&token=", ""),
    "parameters with values": ("&token=a,", ""),
    "equals signs": ("=", ""),
    "names": ("token=", ""),
    "private keys": ("-----BEGIN PRIVATE KEY-----", ""),
    "words of a private key": ("-----BEGIN A A A ", ""),
    "hashes": ("$2b$", ""),
    "long hashes": ("$6$aaaaaaaaaaaaaaaaaaaaaaaaa ", ""),
    "other hashes": ("pbkdf2_a", ""),
    "keys of JSON": ('"token": ', ""),
    "JSON": ('{"token": "', ""),
    "JSON in JSON": ('{\\"token\\": \\"', ""),
    "JSON in JSON in JSON": ('\\\\\\"token\\\\\\": \\\\\\"', ""),
    "too deep": ("\\" * 9 + '"token' + "\\" * 9 + '": ', ""),
    "of two depths": ('\\"token\\": \\\\\\"', ""),
    "lists of secrets": ("'token': [", ""),
    "strings in lists of secrets": ("'token': ['", ""),
    "objects that are secrets": ("'user_data': {", ""),
    "beyond ASCII": ("\u00e9", ""),
    "emoji": ("\U0001f600", ""),
    "unprintable": ("\x1b\u202e\0", ""),
    "lone surrogates": ("\ud800", ""),
}
SIZES = (10_000, 100_000, 1_000_000)


def hostile(kind: str, size: int) -> str:
    unit, end = TEXTS[kind]
    return (unit * (size // len(unit) + 1))[: size - len(end)] + end


def payloads(kind: str, size: int) -> list[Payload]:
    """A start and a stop of this size together, the text in every field."""
    text = hostile(kind, size // 20)
    [start, stop] = span(
        *(BASE, uid(1), BASE),
        name=text,
        info={
            "db": {"statement": text, "params": {text: [text]}},
            "function": {"args": text, "kwargs": text, "name": text},
            "request": {"path": text, "query": text, "method": text},
            text: {text: {text: text}},
        },
        service=text,
        project=text,
        host=text,
        error=text,
    )
    stop["info"]["message"] = text
    return [start, stop]


def refused(payload: object) -> None:
    with pytest.raises(exceptions.InvalidNotification):
        Notification.from_payload(payload)


def sum_up(notifications: list[Notification]) -> object:
    summary = PartialSummary.of(notifications)
    again = PartialSummary.from_text(summary.to_text())
    return summarize(BASE, [summary, again]), index_terms([summary])


def body_or_refused(text: str) -> None:
    with contextlib.suppress(exceptions.InvalidNotification):
        decode_body(text.encode("utf-8", "surrogatepass"))


def typed(text: str) -> str:
    kinds = ("datetime", "date", "time", "decimal", "uuid", "bytes", "base64")
    return json.dumps(
        [{"__type__": kind, "__value__": text} for kind in kinds]
    )


TEXT: dict[str, Callable[[str], object]] = {
    "masked": Masker().mask,
    "masked in kwargs": lambda text: Masker().mask({"kwargs": text}),
    "masked by key": lambda text: Masker().mask({text: text}),
    "name": lambda text: refused(child(1)[0] | {"name": text}),
    "id": lambda text: refused(child(1)[0] | {"trace_id": text}),
    "timestamp": lambda text: refused(child(1)[0] | {"timestamp": text}),
    "body": lambda text: body_or_refused(text),
    "text in a body": lambda text: body_or_refused(json.dumps([text])),
    "typed values in a body": lambda text: body_or_refused(typed(text)),
    "printable": printable,
    # Not by its cache, nor cut.
    "statement described": statement._describe,
    "statement's shape": statement._shape,
    "statement shortened": statement.shorten,
    "path": path.template,
    "ids in a path": path.uuids,
    "line of a page": html._line,
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("step", TEXT)
def test_hostile_text(step: str, kind: str) -> None:
    check_growth(SIZES, lambda size: hostile(kind, size), TEXT[step])


def payloads_of(notifications: list[Notification]) -> list[object]:
    return [notification.payload for notification in notifications]


NOTIFICATIONS: dict[str, Callable[[list[Notification]], object]] = {
    "decoded": lambda notifications: [
        *map(Masker().decode, payloads_of(notifications))
    ],
    "described": lambda notifications: [
        notification.describe() for notification in notifications
    ],
    "named": lambda notifications: [
        (kind(notification), operation(notification))
        for notification in notifications
    ],
    "roots": lambda notifications: (
        Roots.of(notifications).title,
        [*map(about, notifications)],
    ),
    "digest": lambda notifications: [
        notification.digest() for notification in notifications
    ],
    "read again": lambda notifications: [
        Notification.from_text(notification.text)
        for notification in notifications
    ],
    "split into pieces": split_into_pieces,
    "summed up": sum_up,
    "set aside": lambda notifications: body_of(payloads_of(notifications)),
    "built": lambda notifications: Trace.build(BASE, notifications),
}


@pytest.mark.parametrize("step", NOTIFICATIONS)
@pytest.mark.parametrize("kind", TEXTS)
def test_notifications_of_hostile_text(kind: str, step: str) -> None:
    check_growth(
        SIZES,
        lambda size: [*trace_with(kind, size).notifications()],
        NOTIFICATIONS[step],
    )


def draw(format_: str, trace: Trace) -> None:
    for _ in FORMATS[format_](trace):
        pass


def sum_up_by(by: By, trace: Trace) -> Statistics:
    statistics = Statistics(by, without_late=True)
    statistics.add(trace)
    return statistics


TOLD_OF_ANYTHING = Limits(1, 1, 0, 0.0, 0, 0, 0)
REPORTS: dict[str, Callable[[Trace], object]] = {
    **{format_: partial(draw, format_) for format_ in FORMATS},
    "tree on a terminal": lambda trace: [
        *tree.render(
            trace, tree.TreeOptions(colours=True, bars=True, width=160)
        )
    ],
    "osprofiler": osprofiler.report,
    **{f"stats by {by}": partial(sum_up_by, by) for by in By},
    "diff": lambda trace: [
        *comparison_page.render(
            Comparison(
                sum_up_by(By.OPERATION, trace), sum_up_by(By.OPERATION, trace)
            ),
            *("before", "after"),
        )
    ],
    "clocks": lambda trace: trace.adjusted(),
    "late": lambda trace: (late_spans(trace), is_mixed(trace)),
    "critical path": lambda trace: (
        [*critical.render(trace, 80)],
        [*critical.render_json(trace)],
    ),
    "findings": lambda trace: findings(trace, TOLD_OF_ANYTHING),
}


@lru_cache(len(SIZES))
def trace_with(kind: str, size: int) -> Trace:
    return Trace.build(BASE, notifications(payloads(kind, size)))


@pytest.mark.parametrize("format_", REPORTS)
@pytest.mark.parametrize("kind", TEXTS)
def test_report_of_hostile_text(kind: str, format_: str) -> None:
    check_growth(SIZES, partial(trace_with, kind), REPORTS[format_])


def chain(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, number - 1, number, 10 * spans)
    ]


def overlapping_chain(spans: int) -> list[Payload]:
    """Each child begins before its parent, and ends before it."""
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, number - 1, spans - number)
    ]


def ring(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, number % spans + 1, number)
    ]


def rings(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, number + (1 if number % 2 else -1))
    ]


def below_a_ring(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, max(number - 1, 1), -number)
    ]


def siblings(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, min(number - 1, 1), number * 100)
    ]


def siblings_at_once(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, min(number - 1, 1), number, 10 * spans)
    ]


def in_turn(spans: int) -> list[Payload]:
    """Siblings that come again and again, and now and then another."""
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(
            *(number, min(number - 1, 1), number * 100),
            name=f"name {number % (9 if number % 400 < 200 else 7)}",
        )
    ]


def statements_in_turn(spans: int) -> list[Payload]:
    """Of each caller others, as often as each other."""
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(
            *(number, number // 100, number * 100),
            info={
                "db": {"statement": f"SELECT t{number % 20 + number // 99}"}
            },
        )
    ]


def strangers(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(
            *(number, number + spans),
            name=f"name {number}",
            service=f"service {number}",
            host=f"host {number}",
            error=f"error {number}",
            info={"db": {"statement": f"SELECT table_{number}"}},
        )
    ]


def again_and_again(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(spans)
        for payload in child(1, at=number % 100)
    ]


def one_large_parent(spans: int) -> list[Payload]:
    """Every field of the parent that a child is compared with is large."""
    large = "x" * (10 * spans)
    parent = child(
        1,
        duration=10 * spans,
        name=f"{large}.rpc",
        service=large,
        project=large,
        host=large,
        error=large,
        info={"db": {"statement": large}, large: large},
    )
    return parent + [
        payload
        for number in range(2, spans + 1)
        for payload in child(number, 1, number, name="rpc")
    ]


def one_large_section(spans: int) -> list[Payload]:
    fields = {f"{number}": number for number in range(10 * spans)}
    return child(
        1, info={"x" * 10 * spans: fields, "db": {"params": [*fields]}}
    )


def many_sections(spans: int) -> list[Payload]:
    return child(1, info={f"{n}": {f"{n}": n} for n in range(10 * spans)})


def many_roots(spans: int) -> list[Payload]:
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(
            *(number, 0, -number),
            name="wsgi",
            info={"request": {"method": "GET", "path": f"/word{number}"}},
        )
    ]


def calls_in_calls(spans: int) -> list[Payload]:
    """Each waits for the next one, which is the one that it holds."""
    return [
        payload
        for number in range(1, spans + 1)
        for payload in child(number, number - 1, number, 2 * (spans - number))
    ]


def casts_and_polls(spans: int) -> list[Payload]:
    """Requests with gaps between them, in which all that they cast goes on."""
    casts = range(2, spans + 1, 2)
    return [
        payload
        for number in casts
        for payload in (
            *child(number - 1, 0, number * 100, name="wsgi"),
            *child(number, number - 1, number * 100 + 5, 90 * spans),
        )
    ]


SHAPES = {
    make.__name__: make
    for make in (
        *(chain, overlapping_chain, ring, rings, below_a_ring, siblings),
        *(
            siblings_at_once,
            in_turn,
            statements_in_turn,
            strangers,
            again_and_again,
            one_large_parent,
        ),
        *(one_large_section, many_sections, many_roots),
    )
}
# With long paths through them.
LONG_PATHS = {
    make.__name__: make for make in (calls_in_calls, casts_and_polls)
}
SPANS = (1_000, 10_000)


@lru_cache(len(SPANS))
def trace_of(shape: str, spans: int) -> Trace:
    return Trace.build(
        BASE, notifications((SHAPES | LONG_PATHS)[shape](spans))
    )


@pytest.mark.parametrize("step", NOTIFICATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_notifications_of_hostile_traces(shape: str, step: str) -> None:
    check_growth(
        SPANS,
        lambda spans: [*trace_of(shape, spans).notifications()],
        NOTIFICATIONS[step],
    )


@pytest.mark.parametrize("format_", REPORTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_report_of_hostile_traces(shape: str, format_: str) -> None:
    check_growth(SPANS, partial(trace_of, shape), REPORTS[format_])


@pytest.mark.parametrize("format_", ["critical path", "tree"])
@pytest.mark.parametrize("shape", LONG_PATHS)
def test_long_paths_through_hostile_traces(shape: str, format_: str) -> None:
    check_growth(SPANS, partial(trace_of, shape), REPORTS[format_])
