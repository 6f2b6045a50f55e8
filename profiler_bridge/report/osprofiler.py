# SPDX-License-Identifier: Apache-2.0

"""The report that osprofiler's users know, as a dictionary.

Its structure is that of osprofiler's own drivers (osprofiler 4.4.0,
osprofiler/drivers/base.py), which Horizon and Rally read too. One thing is
different on purpose: an operation's name keeps its hyphens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from profiler_bridge.trace import Span, Trace

# A report may have so many bytes for each byte of its payloads' JSON, and so
# many more.
_TIMES = 2
_MORE = 200_000
# About what a node takes without payloads and texts, in bytes.
_NODE = 260
# Where the report would be larger, texts that stand beside their payload are
# cut to the first of these lengths that is small enough, in bytes of JSON.
_LENGTHS = (1000, 200, 60, 15)

_REPEATED = ("name", "project", "service", "host", "exception")

_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Texts:
    """What stands beside payloads and repeats their texts.

    :param most: how many bytes of JSON one may take; None for any
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self.most: int | None = None

    def fit(self, values: Iterable[Any], room: int) -> bool:
        """Set the length to which texts are cut from now on.

        :param values: all texts of the report
        :param room: how many bytes they may take
        :returns: whether any is cut
        """
        sizes = [*map(self._size, values)]
        if sum(sizes) > room:
            self.most = next(
                (
                    most
                    for most in _LENGTHS
                    if sum(min(size, most) for size in sizes) <= room
                ),
                _LENGTHS[-1],
            )
        return self.most is not None

    def shorten(self, value: Any) -> Any:
        if self.most is None or self._size(value) <= self.most:
            return value
        text = value if isinstance(value, str) else _encode(value)
        kept = text[: self.most]
        return f"{kept[: self.most * len(kept) // self._size(kept)]}..."

    def _size(self, value: Any) -> int:
        if not isinstance(value, str):
            return len(_encode(value))
        size = self._sizes.get(value)
        if size is None:
            size = self._sizes[value] = len(_encode(value))
        return size


def _repeated(trace: Trace) -> Iterator[Any]:
    """The texts that a report has beside the payloads."""
    names = set()
    for span in trace.spans:
        start, stop, first = span.start, span.stop, span.first
        yield from (first.name, first.project, first.service, first.host)
        if start is not None:
            yield start.name
        if stop is not None:
            yield stop.name
            yield stop.info.get("etype")
        names.add(first.name)
    yield from names


class _Keys(dict[str, str]):
    """Under which key a notification's payload stands, by its name."""

    def __init__(self, texts: _Texts) -> None:
        self._texts = texts

    def __missing__(self, full_name: str) -> str:
        name, _, phase = full_name.rpartition("-")
        key = f"meta.raw_payload.{self._texts.shorten(name)}-{phase}"
        self[full_name] = key
        return key


def report(trace: Trace) -> dict[str, Any]:
    """Build the report of a trace.

    Times are whole milliseconds since the trace's first notification. As in
    osprofiler, a span whose stop is missing ends when it began and has no
    ``exception``; one whose start is missing began when it ended.

    What stands beside a payload and repeats a text of it, as ``name``, the
    keys ``meta.raw_payload.*`` and those of ``stats`` do, has the whole text
    unless texts are so long that the report would be more than twice as large
    as all payloads. Then it ends in ``...``; the payloads are whole always.

    :returns: ``info``, ``children`` and ``stats``; for a trace without
        notifications the times are None and the rest is empty
    """
    texts = _Texts()
    kinds: set[tuple[Any, ...]] = set()
    errors: list[Any] = []
    built = _build(trace, texts, kinds, errors)
    payloads = 0
    for span in trace.spans:
        if span.start is not None:
            payloads += len(span.start.text)
        if span.stop is not None:
            payloads += len(span.stop.text)
    room = (_TIMES - 1) * payloads + _MORE - len(trace.spans) * _NODE
    # Estimated as if all texts were as long as the longest, which nearly
    # always is enough to know; to count them takes far longer.
    longest = max(
        (len(_encode([kind[0] * 3, *kind, "None"])) for kind in kinds),
        default=0,
    )
    estimate = len(trace.spans) * longest + len(_encode(errors))
    if estimate > room and texts.fit(_repeated(trace), room):
        built = _build(trace, texts, kinds, errors)
    return built


def _build(
    trace: Trace,
    texts: _Texts,
    kinds: set[tuple[Any, ...]],
    errors: list[Any],
) -> dict[str, Any]:
    """Build a report with texts as long as they are to be.

    :param kinds: the texts of nodes are added to it, the name first
    :param errors: the exceptions of nodes are added to it
    """
    zero = trace.started
    stats: dict[str, dict[str, int]] = {}
    tops: list[dict[str, Any]] = []
    keys = _Keys(texts)
    # The spans to come, the next one last, with the list each belongs to.
    stack = [(span, tops) for span in reversed(trace.roots)]
    while stack:
        span, siblings = stack.pop()
        node = _node(span, zero, texts, keys)
        siblings.append(node)
        info, children = node["info"], node["children"]
        name = info["name"]
        kind = (name, info["project"], info["service"], info["host"])
        if kind not in kinds:
            kinds.add(kind)
        error = info.get("exception", "None")
        if error != "None":
            errors.append(error)
        stat = stats.get(name)
        if stat is None:
            stat = stats[name] = {"count": 0, "duration": 0}
        stat["count"] += 1
        stat["duration"] += info["finished"] - info["started"]
        if span.children:
            stack += [(child, children) for child in reversed(span.children)]
    last_start = max(
        (span.start.timestamp for span in trace.spans if span.start),
        default=None,
    )
    return {
        "info": {
            "name": "total",
            "started": 0,
            "finished": (
                (trace.finished - zero) // 1000 if trace.spans else None
            ),
            "last_trace_started": (
                None if last_start is None else (last_start - zero) // 1000
            ),
        },
        "children": tops,
        "stats": stats,
    }


def _node(span: Span, zero: int, texts: _Texts, keys: _Keys) -> dict[str, Any]:
    start, stop = span.start, span.stop
    first = start if start is not None else span.first
    payload = first.payload
    started = (first.timestamp - zero) // 1000
    info: dict[str, Any] = {
        "name": first.name,
        "project": payload.get("project"),
        "service": payload.get("service"),
        "host": first.host,
        "started": started,
        "finished": started,
    }
    if start is not None:
        info[keys[start.payload["name"]]] = start.payload
    if stop is not None:
        info["finished"] = (stop.timestamp - zero) // 1000
        info[keys[stop.payload["name"]]] = stop.payload
        info["exception"] = stop.info.get("etype", "None")
    if texts.most is not None:
        for field in _REPEATED:
            if field in info:
                info[field] = texts.shorten(info[field])
    return {
        "info": info,
        "trace_id": first.trace_id,
        "parent_id": first.parent_id,
        "children": [],
    }
