# SPDX-License-Identifier: Apache-2.0

"""From the first start to an outage."""

from __future__ import annotations

import contextlib

import pytest

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import (
    StorageTests,
    assert_no_password,
    assert_presentable,
    expected,
    listed,
    observed,
    write,
)
from profiler_bridge.testing.processes import (
    WRITERS,
    in_processes,
    in_threads,
)
from profiler_bridge.testing.sample import request, seeded


def _prepare(connection_string: str) -> None:
    with contextlib.closing(get_storage(connection_string)) as storage:
        storage.prepare()


class Lifecycle(StorageTests):
    """Preparing, checking, closing, failing."""

    def test_constructor_does_no_io(
        self, absent_connection_string: str
    ) -> None:
        get_storage(absent_connection_string).close()

    def test_absent_storage_is_an_error_for_a_user(
        self, absent_connection_string: str
    ) -> None:
        storage = get_storage(absent_connection_string)
        with pytest.raises(exceptions.StorageError) as caught:
            storage.check()
        assert_presentable(caught.value, absent_connection_string)

    def test_str_has_no_password(self, connection_string: str) -> None:
        storage = get_storage(connection_string)
        assert_no_password(str(storage), connection_string)
        assert_no_password(repr(storage), connection_string)

    def test_prepare_again(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        write(storage, payloads)
        storage.prepare()
        assert observed(storage, payloads) == expected(payloads)

    def test_prepare_in_threads_at_first_start(
        self, connection_string: str
    ) -> None:
        in_threads(lambda _: _prepare(connection_string))
        assert get_storage(connection_string).check() == []

    def test_prepare_in_processes_at_first_start(
        self, connection_string: str
    ) -> None:
        in_processes(_prepare, [(connection_string,)] * WRITERS)
        assert get_storage(connection_string).check() == []

    def test_check_of_a_healthy_storage(self, storage: Storage) -> None:
        assert storage.check() == []

    def test_check_writes_nothing(
        self, connection_string: str, storage: Storage
    ) -> None:
        storage.check()
        self.assert_stored(connection_string, [])
        assert listed(storage) == []

    def test_use_after_close(self, storage: Storage) -> None:
        payloads = request(seeded(1))
        storage.close()
        write(storage, payloads)
        storage.close()
        assert observed(storage, payloads) == expected(payloads)

    def test_outage_meanwhile_and_afterwards(
        self,
        connection_string: str,
        storage: Storage,
        outage: contextlib.AbstractContextManager[None],
    ) -> None:
        before, after = request(seeded(1)), request(seeded(2))
        write(storage, before)
        with outage:
            with pytest.raises(exceptions.StorageUnavailable) as caught:
                write(storage, after)
            assert_presentable(caught.value, connection_string)
        write(storage, after)
        self.assert_stored(connection_string, [*before, *after])
