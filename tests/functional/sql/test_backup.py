# SPDX-License-Identifier: Apache-2.0

"""A backup that is taken while bridges write, with the page's commands."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_bridge.storage import get_storage
from profiler_bridge.testing.helpers import (
    by_trace,
    cut,
    expected,
    observed,
    paged,
    stored,
    write,
)
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    seeded,
)
from profiler_bridge.testing.sample import request as profiled
from tests import servers
from tests.functional.sql.databases import changed, server_of

PAGE = Path(__file__).parents[3] / "doc/source/admin/backup.rst"


def traces(count: int, *, seed: int) -> list[Payload]:
    """Payloads of as many traces, one trace after the other."""
    rng = seeded(seed)
    return [
        payload
        for number in range(count)
        for payload in profiled(rng, STARTED + number * SECOND)
    ]


def run(*command: str, stdin: bytes = b"", password: str = "") -> bytes:
    return subprocess.run(
        command,
        input=stdin,
        env={**os.environ, "MYSQL_PWD": password, "PGPASSWORD": password},
        check=True,
        capture_output=True,
    ).stdout


def find(name: str, package: str) -> str:
    return servers.find(package, name, folders="usr/lib/postgresql/*/bin")


def dump(url: str) -> bytes:
    """What the page's command prints, as the bridge's own user."""
    parts = sa.make_url(url)
    place = (f"--host={parts.host}", f"--port={parts.port}")
    database, password = str(parts.database), str(parts.password)
    if parts.get_backend_name() == "postgresql":
        program = find("pg_dump", "postgresql-client")
        options = [f"--username={parts.username}"]
    else:
        program = find("mariadb-dump", "mariadb-client")
        options = ["--single-transaction", f"--user={parts.username}"]
    documented = " ".join([Path(program).name, *options[:-1], "profiler >"])
    assert documented in PAGE.read_text()
    return run(program, *place, *options, database, password=password)


def restore(text: bytes, server: servers.SQLServer, url: str) -> None:
    """Into an empty database, with all rights."""
    database = str(sa.make_url(url).database)
    if isinstance(server, servers.PostgreSQL):
        place = (f"--host={server.folder}", f"--port={server.port}")
        options = ("--username=postgres", "--set=ON_ERROR_STOP=1", "--quiet")
        psql = find("psql", "postgresql-client")
        run(psql, *place, *options, database, stdin=text)
    else:
        assert isinstance(server, servers.MariaDB)
        place = (f"--socket={server.socket}", "--user=root")
        mariadb = find("mariadb", "mariadb-client")
        run(mariadb, "--no-defaults", *place, database, stdin=text)


def back_up(url: str, second_url: str, fixtures: pytest.FixtureRequest) -> str:
    """Return the URL of what was restored."""
    if url.startswith("sqlite"):
        source, target = (
            str(sa.make_url(one).database) for one in (url, second_url)
        )
        assert "traces.sqlite \".backup '/backup/" in PAGE.read_text()
        run(find("sqlite3", "sqlite3"), source, f".backup '{target}'")
        return second_url
    restore(dump(url), server_of(url, fixtures), second_url)
    if url.startswith("postgresql"):
        # The tables have the owner that they had.
        return changed(url, database=sa.make_url(second_url).database)
    return second_url


def test_backup_while_bridges_write(
    url: str, second_url: str, request: pytest.FixtureRequest
) -> None:
    before, meanwhile = traces(10, seed=1), traces(10, seed=2)
    storage = get_storage(url)
    storage.prepare()
    write(storage, *cut(before, 7))
    writing = threading.Thread(
        target=lambda: write(get_storage(url), *cut(meanwhile, 3))
    )
    writing.start()
    try:
        copied = back_up(url, second_url, request)
    finally:
        writing.join()
    restored = get_storage(copied)
    assert observed(restored, before) == expected(before)
    listed = {*paged(restored, 100)} - {*by_trace(before)}
    for base_id, payloads in by_trace(meanwhile).items():
        parts = stored(restored, base_id)
        assert {*parts} <= {*stored(storage, base_id)}
        assert bool(parts) == (base_id in listed)
        assert len(parts) <= len(payloads)
    # It goes on where it was.
    write(restored, *cut(meanwhile, 5))
    assert observed(restored, [*before, *meanwhile]) == expected(
        [*before, *meanwhile]
    )
