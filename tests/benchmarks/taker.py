# SPDX-License-Identifier: Apache-2.0

"""A server that takes OTLP/HTTP, in a process of its own.

Run by :mod:`tests.benchmarks.settling`. Prints its port; then, for each line
that it reads, a JSON list: how many spans it has, how many of them are of
different ids, and how many are of each name.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import otlp_server


class Has(NamedTuple):
    """What it has taken.

    :param spans: how many, those that came twice twice
    :param different: by their ids
    :param names: how many are of each name
    """

    spans: int
    different: int
    names: dict[str, int]


class Process:
    """The process, from the side of who has started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._asks = process.stdin
        self._answers = process.stdout
        self.url = f"otlp+http://127.0.0.1:{int(self._answers.readline())}"

    def spans(self) -> int:
        """How many it has taken."""
        return self._ask("count").spans

    def has(self) -> Has:
        return self._ask("all")

    def _ask(self, what: str) -> Has:
        self._asks.write(f"{what}\n")
        self._asks.flush()
        return Has(*json.loads(self._answers.readline()))


@contextlib.contextmanager
def process() -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as running:
        try:
            yield Process(running)
        finally:
            running.kill()


def main() -> None:
    with otlp_server.collector() as server:
        print(server.port, flush=True)
        for line in sys.stdin:
            taken = [*server.taken]
            has = Has(sum(request.spans for request in taken), 0, {})
            if line.strip() == "all":
                spans = [
                    span
                    for request in taken
                    for resource in request.content.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
                has = Has(
                    len(spans),
                    len({span.span_id for span in spans}),
                    Counter(span.name for span in spans),
                )
            print(json.dumps(has), flush=True)


if __name__ == "__main__":
    main()
