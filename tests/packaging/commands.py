# SPDX-License-Identifier: Apache-2.0

"""Programs that build and install, and what they print."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
) -> str:
    """What a command prints; the error has it, if that fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        shown = " ".join(map(str, command))
        raise AssertionError(f"failed: {shown}\n{done.stdout}")
    return done.stdout
