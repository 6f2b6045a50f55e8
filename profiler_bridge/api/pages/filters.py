# SPDX-License-Identifier: Apache-2.0

"""Which traces a page is about: the filters of ``list``, in its URL."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flask
from werkzeug.datastructures import MultiDict

from profiler_bridge.api.app import storage
from profiler_bridge.arguments import FILTERS
from profiler_bridge.notification import is_id
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage.names import parts
from profiler_bridge.summary import root_name
from profiler_bridge.trace import Trace

#: How many traces a page is about, unless it says otherwise.
DEFAULT_LIMIT = 50
# Where the application says nothing else.
_MOST_TRACES = 1000
_TIME_LIMIT = 30.0
# So many values of one filter count.
_MOST_VALUES = 20
# So many names are offered; a browser shows fewer.
_MOST_OFFERED = 500
# Seconds for which they are not read again.
_OFFERED_FOR = 60.0

_READERS = {
    reader.name: reader for reader in FILTERS if reader.name != "time-limit"
}


@dataclass(frozen=True)
class Filters:
    """What a URL asks for.

    :param args: the filters that it has, by their names, as given
    :param query: which traces these are; None where one cannot be used
    :param errors: why not, by the filter's name
    """

    args: Mapping[str, Sequence[str]]
    query: TraceQuery | None
    errors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, given: MultiDict[str, str], limit: int = DEFAULT_LIMIT
    ) -> Filters:
        """Read the arguments of a URL; those that are no filters are not.

        :param limit: where it has none
        """
        args: dict[str, list[str]] = {}
        fields: dict[str, Any] = {"limit": limit}
        errors: dict[str, str] = {}
        for name, (_, read, _, several, _) in _READERS.items():
            values = [value for value in given.getlist(name) if value]
            if not values:
                continue
            args[name] = values = values[: _MOST_VALUES if several else 1]
            try:
                own = [read(value) if read else True for value in values]
            except (argparse.ArgumentTypeError, ValueError) as error:
                errors[name] = str(error)
                continue
            key = several or name.replace("-", "_")
            fields[key] = own if several else own[0]
        if not is_whole(fields.get("marker")):
            errors["marker"] = "must be a whole base id"
        if errors:
            return cls(args, None, errors)
        fields["limit"] = min(fields["limit"], most_traces())
        return cls(args, TraceQuery(**fields, time_limit=time_limit()))

    def without(self, *names: str) -> Mapping[str, Sequence[str]]:
        """The arguments but for some."""
        return {
            name: values
            for name, values in self.args.items()
            if name not in names
        }

    @property
    def chosen(self) -> Mapping[str, Sequence[str]]:
        """What chooses traces, whatever their order and page."""
        return self.without("sort", "limit", "marker")

    def choices(
        self,
    ) -> Iterator[tuple[str, str, Mapping[str, Sequence[str]]]]:
        """Each value that chooses traces, and the arguments without it."""
        for name, values in self.chosen.items():
            for value in values:
                rest = [other for other in values if other != value]
                yield name, value, {**self.without("marker"), name: rest}


def is_whole(marker: str | None) -> bool:
    """Whether a marker is none, or no beginning of one.

    To find what it begins, all traces would be looked at.
    """
    return marker is None or bool(is_id(marker))


def most_traces() -> int:
    """How many traces one page is about at most."""
    options = flask.current_app.config.get("OPTIONS")
    return int(getattr(options, "max_limit", _MOST_TRACES))


def time_limit() -> float:
    """For how many seconds a page looks for traces, and at them."""
    options = flask.current_app.config.get("OPTIONS")
    return float(getattr(options, "time_limit", _TIME_LIMIT))


def plain_url() -> str | None:
    """This page's URL without what a form leaves empty; None: it is that."""
    args = flask.request.args
    full = [(key, value) for key, value in args.items(multi=True) if value]
    if len(full) == sum(1 for _ in args.items(multi=True)):
        return None
    values: dict[str, Any] = MultiDict(full).to_dict(flat=False)
    return flask.url_for(flask.request.endpoint or "", **values)


def is_empty() -> bool:
    """Whether nothing is stored."""
    return not storage().list_traces(TraceQuery(limit=1))


class Offered(NamedTuple):
    """Names that a form offers, sorted; empty where there are none.

    :param services: qualified
    :param roots: what requests did
    """

    services: Sequence[str]
    projects: Sequence[str]
    roots: Sequence[str]

    @classmethod
    def now(cls) -> Offered:
        """Those of a minute ago at most."""
        known = flask.current_app.extensions.get(__name__)
        if known is not None and time.monotonic() < known[0]:
            offered: Offered = known[1]
            return offered
        services = storage().services()
        roots = parts(storage().plugin, None, root_name(""))
        projects = {name.partition(":")[0] for name in services if ":" in name}
        offered = cls(
            services[:_MOST_OFFERED],
            sorted(projects)[:_MOST_OFFERED],
            roots[:_MOST_OFFERED],
        )
        until = time.monotonic() + _OFFERED_FOR
        if services:
            flask.current_app.extensions[__name__] = until, offered
        return offered


class Reading:
    """The traces of a query, one after the other, until the time is over.

    :ivar is_stopped: whether it was over before all were read
    :ivar is_full: whether there may be more than the query's limit
    """

    def __init__(self, query: TraceQuery) -> None:
        self._query = query
        self.is_stopped = False
        self.is_full = False

    def __iter__(self) -> Iterator[Trace]:
        end = time.monotonic() + time_limit()
        page = storage().page(self._query)
        self.is_stopped = page.stopped is not None
        self.is_full = len(page.traces) == self._query.limit
        for summary in page.traces:
            # Some may be purged meanwhile.
            if notifications := storage().notifications(summary.base_id):
                yield Trace.build(summary.base_id, notifications)
            if time.monotonic() > end:
                self.is_stopped = True
                return
