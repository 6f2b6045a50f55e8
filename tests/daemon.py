# SPDX-License-Identifier: Apache-2.0

"""The daemon as its user runs it: a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import wait_until


def script(name: str) -> str:
    """The path of one of the project's commands."""
    return str(Path(sys.executable).with_name(name))


def wait_for(
    condition: Callable[[], object], what: str, seconds: float = 90
) -> None:
    """Check again and again; fail if it does not become true in time."""
    if not wait_until(condition, seconds):
        raise AssertionError(f"{what}: not within {seconds} s")


class Daemon:
    """``profiler-bridge`` with a configuration file of its own.

    :param folder: for configuration and log
    :param options: by section, what the file says; a list is an option that
        is given so many times
    """

    def __init__(
        self, folder: Path, options: dict[str, dict[str, object]]
    ) -> None:
        self.config_file = folder / "bridge.conf"
        self.log_file = folder / "bridge.log"
        self.set_aside = folder / "set-aside.sqlite"
        bridge = {"set_aside": self.set_aside, **options.pop("bridge", {})}
        self.config_file.write_text(
            "\n".join(
                f"[{section}]\n"
                + "".join(
                    f"{key} = {item}\n"
                    for key, value in pairs.items()
                    for item in (value if isinstance(value, list) else [value])
                )
                for section, pairs in (options | {"bridge": bridge}).items()
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    script("profiler-bridge"),
                    f"--config-file={self.config_file}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def terminate(self, seconds: float = 90) -> int:
        """Send SIGTERM, and give the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)

    def workers(self) -> list[int]:
        """The worker processes that there are at this moment."""
        assert self.process is not None
        children = []
        # A thread's children are its own; cotyledon forks in one of its own.
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children += path.read_text().split()
        return [int(child) for child in children]

    def signal(self, name: str, pid: int | None = None) -> None:
        """Signal the daemon, or one of its workers if it is still there."""
        assert self.process is not None
        number = signal.Signals[f"SIG{name}"]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL every process of the daemon, as a power cut would."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        if exc is not None:
            print(self.log)
