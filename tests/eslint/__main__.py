# SPDX-License-Identifier: Apache-2.0

"""Check the scripts of pages: ``python -m tests.eslint``.

Those of the HTML report are checked as one, joined as the page has them, so
that a name is known wherever it is defined and missed where it is not. npm
installs ESLint as package-lock.json pins it. Where that cannot be, the check
is skipped and says so; if CI is set it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from profiler_bridge.report import html
from tests import npm

HERE = Path(__file__).parent
PAGE = Path(html.__file__).with_name("page")
ROOT = PAGE.parents[2]
NAME = "page.js"
#: What one page has as one script.
REPORT = [PAGE / name for name in html.SCRIPTS]
SERVICE = [ROOT / "profiler_bridge/api/pages/static/pages.js"]


def lint(folder: Path, script: str) -> list[dict[str, Any]]:
    """What ESLint has to say of a script, in the order of its lines."""
    npx = ["npx", "--no-install", "eslint", "--format", "json"]
    result = subprocess.run(
        [*npx, "--stdin", "--stdin-filename", NAME],
        cwd=folder,
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode not in (0, 1):
        raise RuntimeError(f"ESLint failed:\n{result.stderr}")
    (report,) = json.loads(result.stdout)
    messages: list[dict[str, Any]] = report["messages"]
    return messages


def lines(paths: Iterable[Path] = REPORT) -> Iterator[tuple[Path, int, str]]:
    """The lines of a page's script: their files, numbers and texts."""
    for path in paths:
        text = path.read_text("ascii")
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            yield path, number, line


def main() -> int:
    """Print what is wrong, a line each; return the exit code."""
    scripts = [[*lines(paths)] for paths in (REPORT, SERVICE)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            npm.install(HERE, folder)
            shutil.copy(HERE / "eslint.config.mjs", folder)
        except npm.Missing as missing:
            if os.environ.get("CI"):
                print(f"ESLint cannot run: {missing}")
                return 1
            print(f"ESLint is skipped: {str(missing).splitlines()[0]}")
            return 0
        messages = [
            (script, message)
            for script in scripts
            for message in lint(folder, "".join(line for *_, line in script))
        ]
    for script, message in messages:
        path, number, _ = script[message["line"] - 1]
        print(
            f"{path.relative_to(ROOT)}:{number}:{message['column']}:"
            f" {message['message']} ({message['ruleId']})"
        )
    if not messages:
        print(f"ESLint: {len(REPORT + SERVICE)} scripts are clean")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
