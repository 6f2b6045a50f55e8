# SPDX-License-Identifier: Apache-2.0

"""What a process does before it ends: send what has gathered.

It changes what the process does at exit and at SIGTERM, so it is for those
who ask for it: nothing happens before :func:`call_at_end`.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from oslo_log import log as logging

from profiler_bridge.sender import threads_are_greenlets

LOG = logging.getLogger(__name__)

#: The end of a process waits for all callbacks together so many seconds.
TIMEOUT = 2.0
# Seconds for others: for a handler of SIGTERM to run, or a line to be logged.
_GRACE = 0.1

#: Is given how many seconds it may take; returns whether nothing is lost.
Flush = Callable[[float], bool]

_callbacks: list[Flush] = []


def call_at_end(flush: Flush) -> None:
    """Have a callback called before this process, or a fork of it, ends.

    It is called at a normal end; at ``os._exit``, which is replaced for that;
    and at SIGTERM, if that has no handler yet and this is the main thread.
    After SIGTERM the process still ends by it.

    :param flush: called with the seconds that it may take, at most
        :data:`TIMEOUT`, from any thread; in the process that ends, which may
        be a fork. Returns whether nothing is lost; if something is, the log
        has a line
    """
    if not _callbacks:
        atexit.register(_flush_at_exit)
        _flush_before_os_exit()
    _callbacks.append(flush)
    _handle_sigterm()


def _flush_all() -> bool:
    end = time.monotonic() + TIMEOUT
    results = [flush(end - time.monotonic()) for flush in _callbacks]
    return all(results)


def _flush_at_exit() -> None:
    if not _flush_all():
        _log_loss()


def _flush_before_abrupt_end() -> None:
    """Flush, with nothing that could hold up a process that ends at once."""
    with contextlib.suppress(Exception):
        if not _flush_all():
            # A log can be a pipe that nobody reads, or locked for good.
            _thread.start_new_thread(_log_loss, ())
            time.sleep(_GRACE)


def _log_loss() -> None:
    LOG.error("Profiling points were not sent: the process ends")


def _flush_before_os_exit() -> None:
    """The workers of oslo.service, cotyledon and multiprocessing end so.

    They do it in good order, and never come to atexit.
    """
    exit_at_once = os._exit

    def flush_and_exit(status: int) -> NoReturn:
        _flush_before_abrupt_end()
        exit_at_once(status)

    os._exit = flush_and_exit


def _handle_sigterm() -> None:
    """Handle SIGTERM where it would just end the process."""
    # It is not the main thread, or there are no files to spare.
    with contextlib.suppress(ValueError, OSError):
        if signal.getsignal(
            signal.SIGTERM
        ) is signal.SIG_DFL and not _has_handler(signal.SIGTERM):
            signal.signal(signal.SIGTERM, _on_sigterm)
            _write_signals_to_socket()


def _has_handler(number: int) -> bool:
    """Whether a signal has a handler, even one not Python's, as in uwsgi."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


def _on_sigterm(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    # In a thread, because what is interrupted may have a lock that is needed
    # to send, and under eventlet may be its hub, which cannot wait.
    try:
        _thread.start_new_thread(_flush_and_end, ())
    except RuntimeError:  # no more threads, or too late for one
        os.kill(os.getpid(), number)
    if threads_are_greenlets():
        with contextlib.suppress(Exception):  # it is the hub
            # Whatever else is interrupted may let no other greenlet run.
            time.sleep(TIMEOUT + 1)


def _flush_and_end() -> None:
    _flush_before_abrupt_end()
    # Python's own is for the main thread only.
    ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
    os.kill(os.getpid(), signal.SIGTERM)


# Python runs a handler when its main thread comes to one of Python's own
# instructions again: never in a library that hangs, and too late when the
# signal came an instant before a system call that takes long. So Python also
# writes the numbers of signals to a socket, which a thread reads.
_signals: tuple[socket.socket, socket.socket] | None = None
_watched: socket.socket | None = None


def _write_signals_to_socket() -> None:
    """Have Python write to our socket, unless it writes to another's."""
    global _signals
    ours = -1 if _signals is None else _signals[1].fileno()
    reader, writer = socket.socketpair()
    reader.settimeout(None)  # whatever the default is
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if before in (-1, ours):
        if _signals is None:
            # A child's signals would be told to its parent.
            os.register_at_fork(after_in_child=_write_signals_to_socket)
        _signals = reader, writer
    else:
        signal.set_wakeup_fd(before)


def watch_signals() -> None:
    """Start a thread that flushes at SIGTERM while the main thread is stuck.

    Needed once in each process, because a fork has no threads of its parent;
    does nothing when there is one, or when SIGTERM is not handled here.
    """
    global _watched
    if _signals is not None and _watched is not _signals[0]:
        _watched = _signals[0]
        with contextlib.suppress(RuntimeError):  # no more threads
            _thread.start_new_thread(_watch, (_watched,))


def _watch(reader: socket.socket) -> None:
    process = os.getpid()
    while signals := reader.recv(1):
        if os.getpid() != process:
            return  # a child that has its parent's greenlets
        if signal.SIGTERM in signals:
            time.sleep(_GRACE)
            if signal.getsignal(signal.SIGTERM) is _on_sigterm:
                _flush_and_end()
