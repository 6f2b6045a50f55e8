# SPDX-License-Identifier: Apache-2.0

"""axe-core, which finds what keeps people from using a page.

npm installs it as package-lock.json pins it.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

from tests import npm
from tests.browser import Page


@cache
def script() -> str:
    """All of axe-core.

    :raises npm.Missing: it cannot be had
    """
    with tempfile.TemporaryDirectory() as name:
        npm.install(Path(__file__).parent, Path(name))
        return (Path(name) / "node_modules/axe-core/axe.min.js").read_text()


def violations(page: Page) -> list[str]:
    """What is wrong with a page as it is shown, a line each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(f"{script()}\n;0")
    broken = json.loads(
        page.evaluate(
            "axe.run().then(done => JSON.stringify(done.violations))"
        )
    )
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in broken
        for node in rule["nodes"]
    ]
