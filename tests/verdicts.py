# SPDX-License-Identifier: Apache-2.0


"""Messages without a bus, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from profiler_bridge.bus.reader import Message


def message(value: object) -> Message:
    """A message as it comes off RabbitMQ; bytes are its body as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Message(body, len(body), None)


class Verdicts:
    """A reader, as a collector knows it, that notes its verdicts.

    :param batches: what it gives, one after the other
    """

    def __init__(self, *batches: Sequence[Message]) -> None:
        self._batches = [*batches]
        self.acknowledged: list[Message] = []
        self.given_back: list[Message] = []
        self.laid_by: list[Message] = []
        self.finished = False

    @property
    def ended(self) -> bool:
        return not self._batches

    def take(self, seconds: float) -> Sequence[Message]:
        return self._batches.pop(0)

    def acknowledge(self, messages: Iterable[Message]) -> None:
        self.acknowledged += messages

    def give_back(self, messages: Iterable[Message]) -> None:
        self.given_back += messages

    def lay_by(self, messages: Iterable[Message]) -> None:
        self.laid_by = [*messages]

    def finish(self) -> None:
        self.finished = True
