# SPDX-License-Identifier: Apache-2.0

"""The critical path of a trace alone: where the time on it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from profiler_bridge.critical import Segment, critical_path
from profiler_bridge.report.heading import Heading
from profiler_bridge.report.spans import encode, items
from profiler_bridge.report.statistics import By, Key
from profiler_bridge.report.text import cut, duration
from profiler_bridge.report.waits import Wait, Waits
from profiler_bridge.text import printable
from profiler_bridge.trace import Trace

_PARTS = (By.OPERATION, By.SERVICE, By.KIND)


def render(
    trace: Trace,
    most: int | None = None,
    min_time: int | None = None,
    is_ascii: bool = False,
) -> Iterator[str]:
    """Give a heading, then a line for each operation, service and kind.

    :param most: how many columns a line may take; None for any number
    :param min_time: operations for which the end waited less, microseconds,
        are one line together; None: less than half a percent of the path
    :param is_ascii: without characters beyond it that are the table's own
    """
    lines = _lines(critical_path(trace), min_time)
    if most is not None:
        lines = (cut(line, most) for line in lines)
    for line in chain(Heading.of(trace).lines(trace, most), lines):
        if is_ascii:
            line = line.replace("…", "~")
        yield f"{line}\n"


def _lines(path: Sequence[Segment], min_time: int | None) -> Iterator[str]:
    if not path:
        yield "no critical path: there is no request that took time"
        return
    length = path[-1].end - path[0].start
    if min_time is None:
        min_time = length // 200
    yield f"critical path: {duration(length)}"
    for by in _PARTS:
        yield ""
        yield f"{'critical':>8} {'share':>6} {'spans':>6}  {by}"
        waits = _waits(path, by)
        least = min_time if by is By.OPERATION else 0
        below = Wait()
        count = 0
        for key, wait in waits.ordered():
            if wait.time >= least or key == waits.nothing:
                yield _line(wait, waits, _name(key))
            else:
                below.add("", wait.time, waits.time, wait.spans)
                count += 1
        if count:
            yield _line(below, waits, f"({count} more)")


def _waits(path: Sequence[Segment], by: By) -> Waits:
    waits = Waits(by)
    waits.add_path("", path)
    return waits


def _line(wait: Wait, waits: Waits, name: str) -> str:
    return (
        f"{duration(wait.time):>8} {waits.share(wait):>6.1%}"
        f" {wait.spans or '-':>6}  {name}"
    )


def _name(key: Key) -> str:
    """As the tree has it: the service behind the operation."""
    *service, name = key
    where = f" [{printable(service[0])}]" if service and service[0] else ""
    return f"{printable(name) or '(unknown)'}{where}"


def render_json(trace: Trace) -> Iterator[str]:
    """Give an object: sums, and the path itself.

    Times are in microseconds; ``start`` is since 1970. What has most time
    comes first; where nothing known ran, there is a text in parentheses in
    place of the operation, service or kind, and no ``trace_id`` in the path.
    """
    path = critical_path(trace)
    whole: dict[str, Any] = {
        "base_id": trace.base_id,
        "start": path[0].start if path else None,
        "time": path[-1].end - path[0].start if path else 0,
    }
    yield encode(whole)[:-1]
    for by in _PARTS:
        waits = _waits(path, by)
        yield f',\n"{_PLURALS[by]}": [\n'
        yield from items(
            {
                **dict(zip(_FIELDS[by], key, strict=True)),
                "time": wait.time,
                "share": round(waits.share(wait), 4),
                "spans": wait.spans,
            }
            for key, wait in waits.ordered()
        )
        yield "]"
    yield ',\n"path": [\n'
    yield from items(
        {
            "start": start,
            "time": end - start,
            "trace_id": None if span is None else span.trace_id,
        }
        for start, end, span in path
    )
    yield "]}\n"


_FIELDS = {
    By.OPERATION: ("service", "operation"),
    By.SERVICE: ("service",),
    By.KIND: ("kind",),
}
_PLURALS = {
    By.OPERATION: "operations",
    By.SERVICE: "services",
    By.KIND: "kinds",
}
