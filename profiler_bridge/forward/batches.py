# SPDX-License-Identifier: Apache-2.0

"""Spans of traces as requests of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Protocol, Self

from profiler_bridge.report.otlp import Exported, exported
from profiler_bridge.trace import Trace

#: Of a request; a larger span goes alone. A Collector takes 20 MiB, others
#: 4 or 5 MB.
MOST_BYTES = 2_000_000
MOST_SPANS = 2_000


class Encoding(Protocol):
    """What :mod:`.protobuf` and :mod:`.json` have."""

    CONTENT_TYPE: str

    def resource(self, attributes: Mapping[str, str]) -> bytes: ...

    def span(self, exported: Exported) -> bytes: ...

    def request(self, groups: Mapping[bytes, Sequence[bytes]]) -> bytes: ...

    def rejected(self, body: bytes) -> tuple[int, str]: ...

    def refusal(self, body: bytes) -> str: ...


class Batch:
    """Encoded spans by their resources.

    :ivar spans: how many
    :ivar size: bytes, about
    """

    def __init__(self) -> None:
        self._groups: dict[bytes, list[bytes]] = {}
        self.spans = self.size = 0

    @classmethod
    def _of(cls, members: Iterable[tuple[bytes, bytes]]) -> Self:
        batch = cls()
        for resource, span in members:
            batch.add(resource, span)
        return batch

    def has_room(self, resource: bytes, span: bytes) -> bool:
        """Whether it stays in its bounds with this; an empty one always."""
        return not self.spans or (
            self.spans < MOST_SPANS
            and self.size + len(resource) + len(span) <= MOST_BYTES
        )

    def add(self, resource: bytes, span: bytes) -> None:
        members = self._groups.get(resource)
        if members is None:
            members = self._groups[resource] = []
            self.size += len(resource)
        members.append(span)
        self.size += len(span)
        self.spans += 1

    def encode(self, encoding: Encoding) -> bytes:
        """The request; of the encoding in which the spans are."""
        return encoding.request(self._groups)

    def halves(self) -> tuple[Self, Self]:
        """Two with half the spans each; to be called with two or more."""
        members = [
            (resource, span)
            for resource, spans in self._groups.items()
            for span in spans
        ]
        middle = len(members) // 2
        return self._of(members[:middle]), self._of(members[middle:])


def batches(
    encoding: Encoding, traces: Iterable[tuple[Trace, Set[str]]]
) -> Iterator[Batch]:
    """Batches of these spans, each as full as it gets.

    :param traces: each with the trace_ids of the spans that are wanted
    """
    batch = Batch()
    for trace, wanted in traces:
        for group in exported(trace, wanted):
            resource = encoding.resource(group.resource)
            for one in group.spans:
                span = encoding.span(one)
                if not batch.has_room(resource, span):
                    yield batch
                    batch = Batch()
                batch.add(resource, span)
    if batch.spans:
        yield batch
