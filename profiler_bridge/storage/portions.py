# SPDX-License-Identifier: Apache-2.0

"""Summaries of many traces, a bounded number of pieces at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from profiler_bridge.storage.plugin import StoragePlugin
from profiler_bridge.summary import PartialSummary

# Of how many traces at first; a page of a list has hardly more.
_FIRST = 25
_GROWTH = 4
# About so many pieces, which take some 35 MB, and a third of a second.
_PIECES = 10_000


def portions(
    plugin: StoragePlugin, base_ids: Iterable[str]
) -> Iterator[Mapping[str, Mapping[int, PartialSummary]]]:
    """What :meth:`StoragePlugin.partials` gives, of some traces at a time.

    What an older release did not keep is found in the notifications.

    Of how many, that depends on how many pieces those before them have: one
    call for many traces of thousands of pieces would take gigabytes, and
    longer than a call to a storage may.
    """
    rest = [*base_ids]
    count = _FIRST
    while rest:
        some, rest = rest[:count], rest[count:]
        partials = plugin.partials(some)
        yield {
            base_id: _renewed(plugin, base_id, its_pieces)
            for base_id, its_pieces in partials.items()
        }
        pieces = max(1, sum(map(len, partials.values())))
        count = max(1, min(_GROWTH * count, len(some) * _PIECES // pieces))


def _renewed(
    plugin: StoragePlugin, base_id: str, pieces: Mapping[int, PartialSummary]
) -> Mapping[int, PartialSummary]:
    older = [partial for partial in pieces.values() if partial.is_older]
    if not older:
        return pieces
    notifications = plugin.notifications(base_id)
    if not notifications:
        return pieces
    whole = PartialSummary.of(notifications)
    whole.unqualified = set().union(*(part.unqualified for part in older))
    return {
        digest: whole if partial.is_older else partial
        for digest, partial in pieces.items()
    }
