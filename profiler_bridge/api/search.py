# SPDX-License-Identifier: Apache-2.0

"""Traces that other tools' users look for: by what one span of them says.

Their services are called as exported spans, forwarded traces and metrics of
requests call them: ``nova-osapi_compute`` for ``osapi_compute`` of ``nova``.
Such a name needs no escape in a URL, in a path or a query string, so no
client or proxy has to agree with another about one; a colon or a slash would
need that.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import re
import time
import uuid
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Set,
)
from dataclasses import dataclass, field

import flask

from profiler_bridge import exceptions
from profiler_bridge.api import app, etags
from profiler_bridge.late import late_spans
from profiler_bridge.notification import is_id
from profiler_bridge.query import NOT, TraceQuery
from profiler_bridge.report import edges, spans
from profiler_bridge.report.edges import Calls, Edge
from profiler_bridge.report.spans import Place
from profiler_bridge.storage.traces import Storage
from profiler_bridge.trace import Span, Trace

#: A response's header that says what it has not been looked for in.
PARTIAL = "X-Profiler-Bridge-Partial"
#: What is said where a search had to end before it was done.
STOPPED = "the time for this search was over before all was looked at"
#: Operations of a service are those in so many of its newest traces.
OPERATIONS_FROM = 20

# How many summaries at once, where not all of them will match.
_AHEAD = 100
# Bytes of an answer that are given to the server at once, about.
_BLOCK = 65536
_ERROR = "error"
# Tags that are no attributes.
_PROJECT = ("project", "service.namespace")
_HOST = ("host", "host.name")
_KIND = "span.kind"

_is_hexadecimal = re.compile("[0-9a-fA-F]{1,32}").fullmatch


@dataclass(frozen=True)
class Search:
    """What a client looks for: traces with a span of which all is true.

    :param query: which traces may be looked at; its limit counts those that
        match
    :param service: the span is of this service
    :param operation: it did this
    :param tags: it has these; with any value where that is None
    :param fold: makes of a name what the client knows: itself, or lower case
    """

    query: TraceQuery
    service: str | None = None
    operation: str | None = None
    tags: Mapping[str, str | None] = field(default_factory=dict)
    fold: Callable[[str], str] = str


def service_name(qualified: str) -> str:
    """What other tools call a service of the storage."""
    project, colon, service = qualified.partition(":")
    return Place(project, service if colon else "", "").service_name


def services(
    storage: Storage, fold: Callable[[str], str] = str
) -> dict[str, set[str]]:
    """The services of which there is something, by name, sorted.

    :returns: of each the qualified services that are called so: one, unless
        names were made up to be alike
    """
    known: dict[str, set[str]] = {}
    for qualified in storage.services():
        name = fold(service_name(qualified))
        if name:
            known.setdefault(name, set()).add(qualified)
    return dict(sorted(known.items()))


class Matches:
    """The traces of a search, newest first, read one after the other.

    To be iterated once. The query's time limit is for what is looked at in
    vain; what matches takes as long as it takes.

    :ivar stopped: whether the time was over before the end was reached
    """

    def __init__(self, storage: Storage, search: Search) -> None:
        self._storage = storage
        self._search = search
        self.stopped = False

    def __iter__(self) -> Iterator[Trace]:
        search = self._search
        qualified: Collection[str] | None = None
        if search.service is not None:
            known = services(self._storage, search.fold)
            qualified = known.get(search.service)
            if qualified is None:
                return iter(())
        return itertools.islice(self._matching(qualified), search.query.limit)

    def _matching(self, qualified: Collection[str] | None) -> Iterator[Trace]:
        is_match = _condition(self._search, qualified)
        end = math.inf
        if self._search.query.time_limit is not None:
            end = time.monotonic() + self._search.query.time_limit
        query = _narrowed(self._search, qualified)
        is_decided = not (self._search.operation or self._search.tags)
        if not is_decided or query.limit is None:
            query = dataclasses.replace(query, limit=_AHEAD)
        while True:
            left = None if end == math.inf else end - time.monotonic()
            try:
                page = self._storage.page(
                    dataclasses.replace(query, time_limit=left)
                )
            except exceptions.TraceNotFound:
                if query.marker is None:
                    raise
                # It was purged, and all that is older is going.
                self.stopped = True
                return
            for summary in page.traces:
                if time.monotonic() > end:
                    self.stopped = True
                    return
                began = time.monotonic()
                # Some may be purged meanwhile.
                notifications = self._storage.notifications(summary.base_id)
                if not notifications:
                    continue
                trace = Trace.build(summary.base_id, notifications)
                if is_match(trace):
                    yield trace
                    end += time.monotonic() - began
            if page.stopped is not None:
                self.stopped = True
                return
            if not page.traces or len(page.traces) < (query.limit or 0):
                return
            query = dataclasses.replace(query, marker=page.traces[-1].base_id)


def _narrowed(search: Search, qualified: Collection[str] | None) -> TraceQuery:
    """Of a search, what the index and the summaries can tell."""
    query = search.query
    # Several services mean that either will do, which a query cannot say.
    if qualified is not None and len(qualified) == 1:
        query = dataclasses.replace(query, services=_plain(qualified))
    query = dataclasses.replace(
        query,
        projects=_plain(search.tags.get(key) for key in _PROJECT),
        hosts=_plain(search.tags.get(key) for key in _HOST),
    )
    if _ERROR in search.tags and search.tags[_ERROR] != "false":
        query = dataclasses.replace(query, error=True)
    return query


def _plain(values: Iterable[str | None]) -> list[str]:
    return [value for value in values if value and not value.startswith(NOT)]


def _condition(
    search: Search, qualified: Collection[str] | None
) -> Callable[[Trace], bool]:
    """What tells whether a trace has a span as it is looked for."""

    def is_match(trace: Trace) -> bool:
        if qualified is None and search.operation is None and not search.tags:
            return True
        tags = _Tags(trace)
        return any(
            (qualified is None or span.first.qualified_service in qualified)
            and (
                search.operation is None
                or search.fold(spans.label(span)) == search.operation
            )
            and all(
                tags.has(span, key, value)
                for key, value in search.tags.items()
            )
            for span in trace.spans
        )

    return is_match


class _Tags:
    """What a trace's spans say, as users of other tools ask for it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._parents: Mapping[str, Span] | None = None
        self._late: Set[str] | None = None
        # Of the span that was looked at last.
        self._span: Span | None = None
        self._attributes: Mapping[str, object] = {}

    def has(self, span: Span, key: str, value: str | None) -> bool:
        own = self._of(span, key)
        if key == _ERROR and value in ("true", "false"):
            return (own is not None) == (value == "true")
        return own is not None and value in (None, own)

    def _of(self, span: Span, key: str) -> str | None:
        """The value of a tag; None where there is none."""
        if key == _ERROR:
            return spans.error(span)
        if key in _PROJECT:
            return span.first.project or None
        if key in _HOST:
            return span.first.host
        if key == _KIND:
            if self._parents is None:
                self._parents = edges.parents(self._trace)
            return _kind(span, self._parents)
        if self._span is not span:
            if self._late is None:
                self._late = late_spans(self._trace)
            self._span = span
            self._attributes = spans.attributes(span, self._late)
        attribute = self._attributes.get(key)
        return None if attribute is None else spans.text(attribute)


def _kind(span: Span, parents: Mapping[str, Span]) -> str:
    role = spans.role(span, parents.get(span.trace_id))
    return (role or "INTERNAL").lower()


def operations(
    storage: Storage,
    service: str,
    time_limit: float | None,
    fold: Callable[[str], str] = str,
) -> list[tuple[str, str]]:
    """What a service did in the newest of its traces.

    :data:`OPERATIONS_FROM` traces are read at most, and none after the time
    limit.

    :returns: operations, folded, with the kinds of their spans, sorted; empty
        for an unknown service
    """
    query = TraceQuery(limit=OPERATIONS_FROM, time_limit=time_limit)
    own = services(storage, fold).get(service, set())
    known: set[tuple[str, str]] = set()
    matches = Matches(storage, Search(query, service, fold=fold))
    for trace in _until(matches, time_limit):
        parents = edges.parents(trace)
        for span in trace.spans:
            if span.first.qualified_service in own:
                known.add((fold(spans.label(span)), _kind(span, parents)))
    return sorted(known)


def graph(
    storage: Storage, query: TraceQuery
) -> tuple[dict[Edge, Calls], str | None]:
    """Who called whom in the newest traces of a query.

    Traces are read up to its limit and its time limit.

    :returns: also what has been left out, as a sentence; None for nothing
    """
    known: dict[Edge, Calls] = {}
    limit = query.limit or 0
    # One more, to know whether there is one.
    query = dataclasses.replace(query, limit=limit + 1)
    matches = Matches(storage, Search(query))
    count = 0
    is_over = False
    began = time.monotonic()
    for trace in matches:
        if count == limit or is_over:
            return known, f"only the newest {count} traces were looked at"
        edges.add(known, trace)
        count += 1
        took = time.monotonic() - began
        is_over = query.time_limit is not None and took > query.time_limit
    if matches.stopped:
        return known, f"only the newest {count} traces were looked at"
    return known, None


def _until(
    traces: Iterable[Trace], time_limit: float | None
) -> Iterator[Trace]:
    began = time.monotonic()
    for trace in traces:
        yield trace
        if time_limit is not None and time.monotonic() - began > time_limit:
            return


def _base_ids(text: str) -> list[str]:
    """As what a trace may be stored, the likeliest first.

    :raises ArgumentTypeError: it is no id
    """
    digits = text.replace("-", "")
    if not _is_hexadecimal(digits):
        raise argparse.ArgumentTypeError(
            "a trace's id has up to 32 hexadecimal digits"
        )
    digits = digits.lower().zfill(32)
    dashed = str(uuid.UUID(digits))
    # osprofiler's have dashes, and are in lower case.
    ids = [dashed, digits, dashed.upper(), digits.upper()]
    if is_id(text):
        ids.insert(1, text)
    if int(digits, 16) == 1:
        # What is exported of a trace without any bit, which is no id there.
        ids.append(str(uuid.UUID(int=0)))
    return [*dict.fromkeys(ids)]


def answer(
    text: str, render: Callable[[Trace], Iterable[str]]
) -> flask.Response:
    """The response with one trace; see :func:`get`."""
    if same := etags.unchanged(_base_ids(text)[0]):
        return same
    return streamed(render(get(app.storage(), text)))


def get(storage: Storage, text: str) -> Trace:
    """The trace of an id as other tools write it.

    :param text: a base_id, with or without dashes; leading zeros may be
        missing
    :raises ArgumentTypeError: it is no id
    :raises TraceNotFound: nothing of it is stored
    """
    missing: exceptions.TraceNotFound | None = None
    for base_id in _base_ids(text):
        try:
            return storage.trace(base_id)
        except exceptions.TraceNotFound as error:
            # It may say what is gone, of an id that osprofiler made.
            missing = missing or error
    assert missing is not None  # noqa: S101 - there is one id at least
    raise missing


def streamed(chunks: Iterable[str]) -> flask.Response:
    """A response of JSON, in blocks.

    Of what goes wrong while the first of them is made, a client is told.
    """
    blocks = _blocks(chunks)
    first = next(blocks, b"")
    return flask.Response(
        itertools.chain([first], blocks), mimetype="application/json"
    )


def _blocks(chunks: Iterable[str]) -> Iterator[bytes]:
    block: list[str] = []
    size = 0
    for chunk in chunks:
        block.append(chunk)
        size += len(chunk)
        if size >= _BLOCK:
            yield "".join(block).encode()
            block, size = [], 0
    if block:
        yield "".join(block).encode()
