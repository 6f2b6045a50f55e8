# SPDX-License-Identifier: Apache-2.0

"""What every storage must do, as tests.

A plugin's own tests make a subclass, say how a fresh storage is had, and get
all of it::

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def connection_string(self, tmp_path):
            return f"mystorage://{tmp_path}"

The plugin must be installed, for storages are made with
:func:`profiler_bridge.storage.get_storage`. What else can be overridden
stands in the class below; tests that need what a subclass does not have are
skipped.

What a storage must do, and which file beside this one has the tests of it:

``lifecycle``
    A constructor opens nothing. ``prepare`` may be called again, and by many
    at once. ``check`` writes nothing. After ``close`` the storage goes on.
    While it is away, writing raises ``StorageUnavailable``; afterwards it
    works. No password is in what users see.
``inserting``
    ``insert`` changes nothing where things are there already, tells exactly
    which pieces were, and, once all is committed, the least start and all
    terms of each trace. Of two writers one sees the marks of both.
``leasing``
    Of several who want a lease one gets it. Notes are kept with the marks of a
    trace, and mean nothing for its place.
``deleting``
    ``delete`` takes the pieces that it is told, all marks of their traces,
    and the entries that it is told. ``base_ids`` gives every trace.
``writing``
    Every notification is stored once, whole, whoever writes it, how often, in
    whatever order and company.
``reading``
    A trace is all of its own notifications, and nothing of others'. An id is
    compared exactly. Summaries tell what all pieces tell together.
``listing``
    Every trace stands at its true start, under each of its terms, once. Pages
    add up.
``hostile``
    Any text and any JSON value comes back as it was.
``purging``
    Old traces go without a rest, the others stay, and so does what is written
    meanwhile.
``concurrency``
    When writers crash, and their messages are delivered again to others, no
    trace is missing from any list.

What is expected comes from :mod:`profiler_bridge.trace` and
:mod:`profiler_bridge.summary`: a storage adds nothing to what was written, and
loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.concurrency import Concurrency
from profiler_bridge.testing.deleting import Deleting
from profiler_bridge.testing.helpers import (
    as_texts,
    assert_no_password,
    assert_presentable,
    cut,
    expected,
    listed,
    observed,
    paged,
    shuffled,
    write,
)
from profiler_bridge.testing.hostile import Hostile
from profiler_bridge.testing.inserting import Inserting
from profiler_bridge.testing.leasing import Leasing
from profiler_bridge.testing.lifecycle import Lifecycle
from profiler_bridge.testing.listing import Listing
from profiler_bridge.testing.purging import Purging
from profiler_bridge.testing.reading import Reading
from profiler_bridge.testing.sample import Payload, one_span
from profiler_bridge.testing.writing import Writing

__all__ = [
    "Payload",
    "StorageConformance",
    # For the project's own tests of its plugins.
    "as_texts",
    "assert_no_password",
    "assert_presentable",
    "cut",
    "expected",
    "listed",
    "observed",
    "one_span",
    "paged",
    "shuffled",
    "write",
]


class StorageConformance(
    Lifecycle,
    Inserting,
    Leasing,
    Deleting,
    Writing,
    Reading,
    Listing,
    Hostile,
    Purging,
    Concurrency,
):
    """All of it: make a subclass, and override what it needs."""

    # To be overridden

    @pytest.fixture
    def connection_string(self) -> str:
        """A storage that is empty, and nobody's but this test's.

        Nothing was prepared in it yet.
        """
        raise NotImplementedError

    @pytest.fixture
    def purging_connection_string(self, connection_string: str) -> str:
        """The same, where purging needs rights that writing does not."""
        return connection_string

    @pytest.fixture
    def absent_connection_string(self) -> str:
        """A storage that is not there: a port on which nobody listens."""
        pytest.skip("no connection string of an absent storage was given")

    @pytest.fixture
    def outage(
        self, connection_string: str
    ) -> contextlib.AbstractContextManager[None]:
        """A context in which nothing can be written to the storage."""
        pytest.skip("no way to make an outage of this storage was given")

    def raw_payloads(self, connection_string: str) -> list[Payload] | None:
        """Every stored payload once, in any order.

        Read without the plugin's code, so that a fault in writing does not
        hide behind the same fault in reading. None where that is impossible.
        """
        return None

    # What all tests have

    @pytest.fixture
    def storage(self, connection_string: str) -> Iterator[Storage]:
        """Prepared, and empty."""
        with contextlib.closing(get_storage(connection_string)) as storage:
            storage.prepare()
            yield storage

    @pytest.fixture
    def purgeable(self, purging_connection_string: str) -> Iterator[Storage]:
        """The same, with the right to delete."""
        with contextlib.closing(
            get_storage(purging_connection_string)
        ) as purgeable:
            purgeable.prepare()
            yield purgeable
