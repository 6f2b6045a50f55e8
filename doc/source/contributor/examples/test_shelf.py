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

"""The example plugin passes the suite."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_bridge.testing.storage import Payload, StorageConformance


class TestShelf(StorageConformance):
    @pytest.fixture
    def connection_string(self, tmp_path: Path) -> str:
        return f"shelf://{tmp_path}/traces.shelf"

    @pytest.fixture
    def absent_connection_string(self, tmp_path: Path) -> str:
        return f"shelf://{tmp_path}/no/such/traces.shelf"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, tmp_path: Path) -> Iterator[None]:
        """Somebody else writes for longer than anybody waits."""
        with contextlib.closing(
            sqlite3.connect(tmp_path / "traces.shelf")
        ) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield

    def raw_payloads(self, connection_string: str) -> list[Payload]:
        path = connection_string.removeprefix("shelf://")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            stored = connection.execute("SELECT text FROM pieces").fetchall()
        lines = {line for (text,) in stored for line in text.split("\n")}
        return [json.loads(line) for line in lines]
