# SPDX-License-Identifier: Apache-2.0

"""Calls that take too long are interrupted; others are not."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from profiler_bridge.storage.deadline import shut_down, within
from tests.servers import wait_until


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A connection to a server that accepts, and then says nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        yield client


def interrupted(silent: socket.socket) -> bool:
    """Wait for what does not come; recv() returns when it is interrupted."""
    with within(0.05, lambda: shut_down(silent.fileno())) as call:
        assert silent.recv(1) == b""
    return call.passed


def test_silent_server(silent: socket.socket) -> None:
    assert interrupted(silent)
    assert silent.fileno() != -1  # its owner closes it


def test_quick_call_is_left_alone() -> None:
    calls: list[str] = []
    with within(0.05, lambda: calls.append("quick")) as quick:
        pass
    with within(0.1, lambda: calls.append("slow")) as slow:
        assert wait_until(lambda: slow.passed, 10)
    assert calls == ["slow"]
    assert not quick.passed


def test_short_bound_within_a_long_one(silent: socket.socket) -> None:
    with within(3600, lambda: None) as long:
        assert interrupted(silent)
    assert not long.passed


def test_many_threads() -> None:
    """Each is interrupted once, however many there are."""
    calls: list[int] = []

    def wait(number: int) -> None:
        with within(0.05, lambda: calls.append(number)) as call:
            wait_until(lambda: call.passed, 10)

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == list(range(20))


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_interruption_that_fails(
    silent: socket.socket, error: type[Exception]
) -> None:
    def fail() -> None:
        raise error

    with within(0.05, fail) as call:
        assert wait_until(lambda: call.passed, 10)
    assert interrupted(silent)


def test_after_a_fork(silent: socket.socket) -> None:
    """A child has a watchdog of its own, whatever its parent was at."""
    with within(3600, lambda: None):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                os._exit(0 if interrupted(silent) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
