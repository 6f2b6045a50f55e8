# SPDX-License-Identifier: Apache-2.0

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
