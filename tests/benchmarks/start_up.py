# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""How long a user waits for an empty list."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

from profiler_bridge.storage import get_storage
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, compare
from tests.daemon import script


def run(bench: Bench) -> Iterator[Row]:
    with (
        bench.database("SQLite") as url,
        bench.database("Redis") as redis_url,
    ):
        storage = get_storage(url)
        storage.prepare()
        storage.close()
        ours = [
            script("profiler-bridge-report"),
            f"--connection-string={url}",
            "list",
        ]
        theirs = [
            *(script("osprofiler"), "trace", "list"),
            f"--connection-string={redis_url}",
        ]
        taken = bench.milliseconds(
            9,
            {
                "ours": lambda: _run(ours),
                "theirs": lambda: _run(theirs),
                "Python": lambda: _run([sys.executable, "-c", "pass"]),
            },
        )
        imports, whole = zip(
            *(_imports(ours) for _ in bench.turns(5)), strict=True
        )
    yield compare(
        "start-up: list of an empty SQLite",
        "ms",
        taken["ours"],
        "osprofiler trace list, Redis",
        taken["theirs"],
    )
    yield compare(
        "start-up: list of an empty SQLite",
        "ms",
        taken["ours"],
        "Python alone",
        taken["Python"],
    )
    yield compare(
        "imports, of which Python tells", "ms", imports, "whole run", whole
    )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    )


def _imports(command: list[str]) -> tuple[float, float]:
    """Milliseconds in imports, and in the whole run in which they were."""
    began = time.perf_counter()
    done = _run([sys.executable, "-X", "importtime", *command])
    whole = time.perf_counter() - began
    # Each line has what a module took by itself, in microseconds.
    own = re.findall(r"^import time:\s*(\d+) \|", done.stderr, re.MULTILINE)
    return sum(map(int, own)) / 1e3, whole * 1e3
