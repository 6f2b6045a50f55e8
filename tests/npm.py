# SPDX-License-Identifier: Apache-2.0

"""What npm installs for checks of pages, as a package-lock.json pins it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class Missing(Exception):
    """It cannot be had; the message says why."""


def install(here: Path, folder: Path) -> None:
    """Bring what a folder's package.json names into another folder.

    :raises Missing: there is no npm, or it cannot install it
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm, which comes with Node.js, is not installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(here / name, folder)
    quick = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
    result = subprocess.run(
        [npm, "ci", "--prefer-offline", "--no-audit", "--no-fund", *quick],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Missing(f"npm cannot install it: {result.stderr.strip()}")
