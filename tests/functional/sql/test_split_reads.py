# SPDX-License-Identifier: Apache-2.0

"""Behind a proxy that sends reads to a replica, which is behind."""

from __future__ import annotations

import pytest

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import Lease
from profiler_bridge.testing.concurrency import (
    assert_listed,
    make_traces,
    write_and_crash,
)
from profiler_bridge.testing.sample import one_span
from profiler_bridge.testing.storage import write
from tests import servers
from tests.functional.sql.databases import server_of
from tests.splitter import Splitter


@pytest.fixture
def urls(server_url: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A database, and what a replica has of it that is far behind: tables."""
    server = server_of(server_url, request)
    if isinstance(server, servers.MariaDB):
        server_url = server.database("CREATE, SELECT, INSERT, DELETE")
    old = server.database()
    for url in (server_url, old):
        get_storage(url).prepare()
    return server_url, old


def test_every_trace_is_in_the_list(urls: tuple[str, str]) -> None:
    """Four processes write parts of the same traces, and crash.

    It failed while what is read after a commit was a SELECT by itself, or in
    a transaction that the client had begun without a word: nothing could be
    written, as in the next test.
    """
    with Splitter(*urls) as proxy:
        write_and_crash(proxy.url, traces := make_traces(60))
        storage = get_storage(proxy.url)
        assert_listed(storage, traces)
        # Redelivered, which is told from what is new.
        again = storage.notifications(traces[0].base_id)[:1]
        assert storage.write(again) == 0
        assert storage.purge(traces[30].started) == 30
        assert_listed(storage, traces[30:])
        lease = Lease("task", 1, 0, "mine", 2)
        assert storage.plugin.lease(lease)
        assert storage.plugin.leases("task", 0) == [lease]
        storage.close()


def test_proxy_that_sends_every_read_elsewhere(urls: tuple[str, str]) -> None:
    """It cannot be used, and that is said; nobody gets a lease."""
    with Splitter(*urls, pins=False) as proxy:
        storage = get_storage(proxy.url)
        with pytest.raises(
            exceptions.StorageUnavailable, match="sends reads to another"
        ):
            write(storage, one_span())
        assert not storage.plugin.lease(Lease("other", 1, 0, "mine", 2))
        storage.close()
