# SPDX-License-Identifier: Apache-2.0

"""The SQL of spans, and which of them executed the same. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from profiler_bridge.notification import Notification
from profiler_bridge.statement import shape
from profiler_bridge.trace import Span


def statement(first: Notification) -> str:
    """What a span executed, as osprofiler has it; empty for no SQL.

    :param first: the span's start, or its stop where that is missing
    """
    # Without Notification.info, for this is asked of every span.
    info = first.payload.get("info")
    db = info.get("db") if info else None
    text = db.get("statement") if isinstance(db, dict) else None
    return text if isinstance(text, str) else ""


def by_shape(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """Spans that executed SQL, by what their statements have in common.

    :returns: shapes, see :func:`~profiler_bridge.statement.shape`, in the
        order of their first execution, and the spans in theirs
    """
    shapes: dict[str, str] = {}
    groups: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        text = statement(span.first)
        if not text:
            continue
        if text not in shapes:
            shapes[text] = shape(text)
        groups[shapes[text]].append(span)
    return groups
