# SPDX-License-Identifier: Apache-2.0

"""SQLPlugin passes the suite in every database."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_bridge.testing.sample import (
    Payload,
)
from profiler_bridge.testing.storage import (
    StorageConformance,
)
from tests import servers
from tests.functional.sql.databases import (
    closed,
    connect,
    killed,
    rows,
)

PIECES = "SELECT notifications FROM bridge_pieces"


class SQLConformance(StorageConformance):
    def raw_payloads(self, connection_string: str) -> list[Payload]:
        stored = rows(connection_string, PIECES)
        lines = {
            line
            for (blob,) in stored
            for line in zlib.decompress(blob).splitlines()
        }
        return [json.loads(line) for line in lines]


class TestSQLite(SQLConformance):
    @pytest.fixture
    def connection_string(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.fixture
    def absent_connection_string(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/absent/traces.sqlite"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, connection_string: str) -> Iterator[None]:
        """Somebody else writes, for longer than the plugin waits."""
        with connect(connection_string) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield


class TestMariaDB(SQLConformance):
    """As the documents have it: only CREATE, SELECT, INSERT; charset=utf8."""

    @pytest.fixture
    def connection_string(self, mariadb_url: str) -> str:
        return mariadb_url

    @pytest.fixture
    def purging_connection_string(
        self, mariadb: servers.MariaDB, mariadb_url: str
    ) -> str:
        return mariadb.database("CREATE, SELECT, INSERT, DELETE")

    @pytest.fixture
    def absent_connection_string(self) -> str:
        return f"mysql+pymysql://u:s%40cret@127.0.0.1:{servers.free_port()}/db"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(self, mariadb: servers.MariaDB) -> Iterator[None]:
        with killed(mariadb):
            yield


class TestPostgreSQL(SQLConformance):
    @pytest.fixture
    def connection_string(self, postgresql_url: str) -> str:
        return postgresql_url

    @pytest.fixture
    def absent_connection_string(self) -> str:
        port = servers.free_port()
        return f"postgresql+psycopg://u:s%40cret@127.0.0.1:{port}/db"

    @pytest.fixture
    @contextlib.contextmanager
    def outage(
        self, postgresql: servers.PostgreSQL, connection_string: str
    ) -> Iterator[None]:
        with closed(postgresql, connection_string):
            yield
