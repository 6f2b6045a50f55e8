# SPDX-License-Identifier: Apache-2.0

"""Traces to which nothing comes any more, and what they set off. Pure."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from profiler_bridge.summary import TraceSummary
from profiler_bridge.trace import Trace


class Settled(NamedTuple):
    """A trace, and what of it is new to a consumer.

    :param trace: all that is stored of it
    :param summary: the same, in one row
    :param new: by their trace_ids, the spans that the consumer has not had;
        those without an end only when they are given up waiting for
    """

    trace: Trace
    summary: TraceSummary
    new: Set[str]


class Consumer(abc.ABC):
    """Something that settled traces set off.

    It gets each trace that it wants at least once, and once unless its
    process, its host or the storage fails at the wrong moment.
    """

    #: By it a storage knows what the consumer has had; ASCII, at most 64
    #: characters, the same on every host.
    name: str

    @abc.abstractmethod
    def wants(self, summary: TraceSummary) -> bool:
        """Whether it is to get this trace; asked before the trace is read."""

    @abc.abstractmethod
    def take(
        self, traces: Sequence[Settled], wait: Callable[[float], None]
    ) -> None:
        """Do what is to be done with these.

        When this returns it is done. What it raises, besides what ``wait``
        does, is a bug.

        :param traces: one or more
        :param wait: to be called for every pause between two tries, with its
            length in seconds; raises what ends the call when the process is
            to end, or when others have taken over
        """
