# SPDX-License-Identifier: Apache-2.0

"""Which of the index's terms lead to the traces that a query asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from profiler_bridge.query import (
    TraceQuery,
    is_of_project,
    is_service,
    wanted,
)
from profiler_bridge.storage.names import parts
from profiler_bridge.storage.plugin import StoragePlugin
from profiler_bridge.summary import (
    ALL_TRACES,
    AT_LEAST,
    WITH_ERRORS,
    about_term,
    at_least_term,
    root_name,
    root_term,
    service_name,
    service_term,
)

# Each costs a question of its own. Where more match, nearly all traces do.
_MOST = 100
# From so many microseconds on few traces last so long.
_LONG = 1_000_000


class Terms(NamedTuple):
    """Under which terms a query's traces stand, and others with them.

    :param terms: each of the traces stands under one of them at least
    :param lead_to_few: whether most traces stand under none
    """

    terms: Sequence[int]
    lead_to_few: bool


def terms_for(plugin: StoragePlugin, query: TraceQuery) -> Terms:
    """Those that are likely to lead to the fewest traces."""
    about = wanted(query.about)
    if about:
        return Terms([about_term(about[0].lower())], True)
    for pattern in wanted(query.roots):
        roots = _roots(plugin, query, pattern)
        if len(roots) <= _MOST:
            return Terms(roots, True)
    if query.error:
        return Terms([WITH_ERRORS], True)
    least = [least for least in AT_LEAST if least <= (query.min_duration or 0)]
    if least and least[-1] >= _LONG:
        return Terms([at_least_term(least[-1])], False)
    for asked, is_meant in (
        *((value, is_service) for value in wanted(query.services)),
        *((value, is_of_project) for value in wanted(query.projects)),
    ):
        services = _services(plugin, query, asked, is_meant)
        if len(services) <= _MOST:
            return Terms(services, False)
    if least:
        return Terms([at_least_term(least[-1])], False)
    return Terms([ALL_TRACES], False)


def _roots(
    plugin: StoragePlugin, query: TraceQuery, pattern: str
) -> list[int]:
    terms = {
        root_term(operation)
        for operation in parts(plugin, query.since, root_name(""))
        if fnmatchcase(operation, pattern)
    }
    # It may be a name that there was no room for.
    return [*terms | {root_term(pattern)}]


def _services(
    plugin: StoragePlugin,
    query: TraceQuery,
    asked: str,
    is_meant: Callable[[str, str], bool],
) -> list[int]:
    terms = {
        service_term(service)
        for service in parts(plugin, query.since, service_name(""))
        if is_meant(service, asked)
    }
    return [*terms | {service_term(asked)}]
