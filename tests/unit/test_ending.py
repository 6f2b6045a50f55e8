# SPDX-License-Identifier: Apache-2.0

"""What a process does before it ends, in processes of their own."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from profiler_bridge.sender import ending

PROGRAM = """
import os, signal, sys, time
from profiler_bridge.sender import ending

def flush(name, ok=True):
    def call(seconds):
        assert 0 < seconds <= ending.TIMEOUT
        os.write(1, f"{name}\\n".encode())
        return ok
    return call

def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def run(code: str) -> tuple[int, list[str], str]:
    """Exit code, flushes and standard error of a program."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.split(), done.stderr


ENDS = [
    ("", 0),
    ("sys.exit(3)", 3),
    ("os._exit(7)", 7),
    ("terminate()", -signal.SIGTERM),
]


@pytest.mark.parametrize(("end", "code"), ENDS)
def test_callbacks_are_called_once(end: str, code: int) -> None:
    asked = "for name in 'ab': ending.call_at_end(flush(name))\n"
    assert run(asked + end) == (code, ["a", "b"], "")


@pytest.mark.parametrize(("end", "code"), ENDS)
def test_nothing_happens_unasked(end: str, code: int) -> None:
    assert run(end) == (code, [], "")


@pytest.mark.parametrize(("end", "code"), ENDS)
def test_loss_is_logged(end: str, code: int) -> None:
    asked = (
        "ending.call_at_end(flush('a', False))\n"
        "ending.call_at_end(flush('b'))\n"
    )
    assert run(asked + end) == (
        *(code, ["a", "b"]),
        "Profiling points were not sent: the process ends\n",
    )


def test_callbacks_are_called_in_forks_too() -> None:
    asked = "ending.call_at_end(lambda seconds: flush(os.getpid())(seconds))\n"
    status, called, _ = run(asked + "if os.fork(): sys.exit(os.wait()[1])")
    assert status == 0
    assert len(set(called)) == len(called) == 2


def test_program_that_handles_sigterm_after_all() -> None:
    code = (
        "ending.call_at_end(flush('a'))\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "ending.watch_signals()\n"
        "terminate()"
    )
    assert run(code) == (5, ["a"], "")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what is done to this process; its end is left alone."""
    monkeypatch.setattr(atexit, "register", lambda function: function)
    monkeypatch.setattr(ending, "_callbacks", [])
    handler, leave = signal.getsignal(signal.SIGTERM), os._exit
    yield
    signal.signal(signal.SIGTERM, handler)
    signal.set_wakeup_fd(-1)
    os._exit = leave


def flush(seconds: float) -> bool:
    return True


def test_a_handler_of_sigterm_stays() -> None:
    def own(number: int, frame: object) -> None:
        pass

    for handler in (own, signal.SIG_IGN):
        signal.signal(signal.SIGTERM, handler)
        ending.call_at_end(flush)
        assert signal.getsignal(signal.SIGTERM) is handler


def test_a_handler_of_sigterm_in_c_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uwsgi sets its handlers behind Python's back."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", pytest.fail)
        ending.call_at_end(flush)


def test_sigterm_is_left_alone_outside_the_main_thread() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    thread = threading.Thread(target=ending.call_at_end, args=[flush])
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ending.call_at_end(flush)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
