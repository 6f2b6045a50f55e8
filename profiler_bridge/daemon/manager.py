# SPDX-License-Identifier: Apache-2.0

"""The master process of the daemon: cotyledon's, with what it lacks.

Every private name of cotyledon that the bridge uses is here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable

import cotyledon

from profiler_bridge import exceptions

# Seconds. A worker that cannot store what it has gives it back to the queue;
# this is for one that hangs in a client library.
_SHUTDOWN_TIMEOUT = 10


class ServiceManager(cotyledon.ServiceManager):
    """Starts workers again that have died, even when SIGHUP comes then.

    In cotyledon (2.2) the thread that does it remembers the last times, and
    waits when they are close together. SIGHUP forgets them; when the thread
    wakes up it fails, and no worker is started any more.

    And SIGINT ends the daemon as SIGTERM does, so that nothing is left behind.

    :param reload: called on SIGHUP; when it returns False, workers go on
    :raises ConfigurationError: no process could be started
    """

    def __init__(self, reload: Callable[[], bool]) -> None:
        _try_semaphores()
        super().__init__(graceful_shutdown_timeout=_SHUTDOWN_TIMEOUT)
        self._accept_reload = reload

    def _on_signal_received(self, sig: int) -> None:
        if sig == signal.SIGINT:
            sig = signal.SIGTERM
        if sig == signal.SIGHUP and not self._accept_reload():
            return
        super()._on_signal_received(sig)

    def _slowdown_respawn_if_needed(self) -> None:
        with contextlib.suppress(IndexError):
            super()._slowdown_respawn_if_needed()


def _try_semaphores() -> None:
    """Find out whether there can be any, as each process is given one.

    Where there can be none, the thread that starts processes would end, and
    the daemon would go on without them.

    :raises ConfigurationError: there can be none, and what to do
    """
    try:
        multiprocessing.Event()
    except OSError as error:
        raise exceptions.ConfigurationError(
            f"no semaphores in /dev/shm: {error.strerror}: see to it that"
            " this user may write there, and that there is room"
        ) from error


def is_master(title: str, program: str) -> bool:
    """Whether a process of this title is the master of a daemon.

    :param title: its command line, as cotyledon has written it
    :param program: the daemon's
    """
    return title.startswith(f"{program}: master process [")
