# SPDX-License-Identifier: Apache-2.0

"""How often a writer waits for the database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import expected, observed, write
from tests.functional.sql.databases import changed

COMMIT = "COMMIT"


def a_write(url: str, inserts: int) -> list[str]:
    """What is said: one transaction, and one that reads.

    :param inserts: into how many tables
    """
    if url.startswith("postgresql"):
        # All of it at once, after which its client has nothing to commit.
        read = ["BEGIN", "SET", "SELECT", COMMIT]
        return ["WITH", COMMIT, *read]
    read = ["SELECT", COMMIT]
    if not url.startswith("sqlite"):
        read = ["BEGIN", *read]
    return [*["INSERT"] * inserts, COMMIT, *read]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The first word of each statement that databases get, and COMMITs."""
    words: list[str] = []

    def on_statement(*args: Any) -> None:
        words.append(args[2].split()[0])

    def on_commit(connection: object) -> None:
        words.append(COMMIT)

    listeners = {
        "before_cursor_execute": on_statement,
        "commit": on_commit,
    }
    with contextlib.ExitStack() as stack:
        for event, listener in listeners.items():
            sa.event.listen(sa.Engine, event, listener)
            stack.callback(sa.event.remove, sa.Engine, event, listener)
        yield words


def test_traces_that_go_on(url: str, said: list[str]) -> None:
    """One transaction and one SELECT, for all of them.

    They lasted longer than before, which is a mark and an entry more.
    """
    storage = get_storage(url)
    storage.prepare()
    rng = seeded(1)
    traces = [request(rng, STARTED + number * SECOND) for number in range(300)]
    write(storage, [payload for trace in traces for payload in trace[:6]])
    # The first that come from the second service.
    write(storage, [payload for trace in traces for payload in trace[6:8]])
    said.clear()
    write(storage, [payload for trace in traces for payload in trace[8:]])
    assert said == a_write(url, 3)
    storage.close()


def test_new_traces(url: str, said: list[str]) -> None:
    """One transaction, and one SELECT; at first with names."""
    storage = get_storage(url)
    storage.prepare()
    for number, inserts in enumerate((4, 3)):
        said.clear()
        write(storage, request(seeded(number)))
        assert said == a_write(url, inserts)
    storage.close()


@pytest.mark.parametrize("autocommit", ["true", "false"])
def test_autocommit_in_the_url_changes_nothing(
    server_url: str, autocommit: str
) -> None:
    """A write is one transaction, and what is known is told exactly."""
    query = {**sa.make_url(server_url).query, "autocommit": autocommit}
    storage = get_storage(changed(server_url, query=query))
    storage.prepare()
    payloads = [*request(seeded(1)), *request(seeded(2))]
    some = notifications(payloads[:6])
    assert storage.write(some) == 6
    assert storage.write(some) == 0
    everything = notifications(payloads)
    assert storage.write(everything) == len(everything)
    assert storage.check() == []
    assert observed(storage, payloads) == expected(payloads)
    storage.close()
