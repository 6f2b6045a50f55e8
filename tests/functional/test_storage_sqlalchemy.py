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

"""SQLAlchemyStorage: the conformance suite, and what is special here."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from profiler_bridge import exceptions
from profiler_bridge.query import ALL_TRACES, TraceQuery, index_terms
from profiler_bridge.storage import get_storage, known_schemes
from profiler_bridge.storage import sqlalchemy as plugin
from profiler_bridge.storage.base import Position
from profiler_bridge.testing import sample
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    StorageConformance,
    assert_no_password,
    assert_presentable,
    cut,
    expected,
    listed,
    observed,
    one_span,
    shuffled,
    write,
)
from tests import servers

PIECES = "SELECT notifications FROM bridge_pieces"


def connect(url: str) -> Any:
    """A connection of the database's own client, without SQLAlchemy."""
    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite":
        return contextlib.closing(sqlite3.connect(parts.database or ""))
    if parts.get_backend_name() == "postgresql":
        return psycopg.connect(
            host=parts.host,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            dbname=parts.database,
        )
    return pymysql.connect(
        host=parts.host,
        port=parts.port or 0,
        user=parts.username,
        password=str(parts.password),
        database=parts.database,
    )


def rows(url: str, sql: str) -> list[Any]:
    with connect(url) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return list(cursor.fetchall())


def changed(url: str, **parts: Any) -> str:
    """The URL with other parts."""
    other = sa.make_url(url).set(**parts)
    return other.render_as_string(hide_password=False)


# The conformance suite


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


@contextlib.contextmanager
def closed(server: servers.PostgreSQL, url: str) -> Iterator[None]:
    """A database that throws everybody out and lets nobody in.

    PostgreSQL itself goes on: after a crash it takes long to come back, the
    longer the more databases other tests have made.
    """
    name = sa.make_url(url).database
    server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}'"
    )
    yield
    server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextlib.contextmanager
def killed(server: servers.MariaDB) -> Iterator[None]:
    server.kill()
    yield
    server.start()


# Every database


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture(params=["mariadb", "postgresql"])
def server_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def server_of(
    url: str, request: pytest.FixtureRequest
) -> servers.MariaDB | servers.PostgreSQL:
    backend = sa.make_url(url).get_backend_name()
    found: servers.MariaDB | servers.PostgreSQL = request.getfixturevalue(
        "mariadb" if backend == "mysql" else backend
    )
    return found


def execute(url: str, request: pytest.FixtureRequest, sql: str) -> None:
    """Change something with rights that the bridge's user does not have."""
    if url.startswith("sqlite"):
        with connect(url) as connection, connection:
            connection.execute(sql)
    else:
        server_of(url, request).execute(sql, sa.make_url(url).database)


def touch(url: str) -> None:
    """Make SQLite's file; databases of servers are there already."""
    if url.startswith("sqlite"):
        Path(sa.make_url(url).database or "").touch()


def schema(url: str) -> list[Any]:
    """What the database itself says of the tables."""
    names = ", ".join(f"'{name}'" for name in sorted(plugin.METADATA.tables))
    backend = sa.make_url(url).get_backend_name()
    if backend == "sqlite":
        sql = f"SELECT sql FROM sqlite_schema WHERE name IN ({names})"
        return sorted(" ".join(text.split()) for (text,) in rows(url, sql))
    if backend == "postgresql":
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable,"
            " character_maximum_length, collation_name, column_default"
            f" FROM information_schema.columns WHERE table_name IN ({names})"
        )
        indexes = (
            f"SELECT indexdef FROM pg_indexes WHERE tablename IN ({names})"
        )
        return sorted(rows(url, columns)) + sorted(rows(url, indexes))
    return [
        rows(url, f"SHOW CREATE TABLE {name}")
        for name in sorted(plugin.METADATA.tables)
    ]


@pytest.fixture
def second_url(url: str, request: pytest.FixtureRequest) -> str:
    """Another new database in the same server."""
    if url.startswith("sqlite"):
        return f"{url}.2"
    return server_of(url, request).database()


def test_migrations_make_the_tables_of_the_code(
    url: str, second_url: str
) -> None:
    get_storage(url).prepare()
    engine = sa.create_engine(second_url)
    plugin.METADATA.create_all(engine)
    engine.dispose()
    assert schema(url)
    assert schema(url) == schema(second_url)


def test_alembic_finds_nothing_to_change(url: str) -> None:
    get_storage(url).prepare()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": plugin.VERSION_TABLE}
        )
        assert compare_metadata(context, plugin.METADATA) == []
    engine.dispose()


def test_schema_version_is_the_last_migration() -> None:
    folder = Path(plugin.__file__).with_name("migrations")
    heads = ScriptDirectory(str(folder)).get_heads()
    assert heads == [plugin.SCHEMA_VERSION]


def test_prepare_after_a_start_that_was_killed(url: str) -> None:
    """In MariaDB what was made so far stays."""
    touch(url)
    engine = sa.create_engine(url)
    plugin.PIECES.create(engine)
    engine.dispose()
    storage = get_storage(url)
    storage.prepare()
    write(storage, payloads := request(seeded(1)))
    assert observed(storage, payloads) == expected(payloads)


def test_check_before_prepare(url: str) -> None:
    touch(url)
    with pytest.raises(
        exceptions.StorageNotPrepared, match="no tables yet"
    ) as caught:
        get_storage(url).check()
    assert_presentable(caught.value, url)


def test_check_before_there_is_a_file(tmp_path: Path, sqlite_url: str) -> None:
    with pytest.raises(exceptions.StorageNotPrepared, match="no file yet"):
        get_storage(sqlite_url).check()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "grants", ["SELECT, INSERT", "CREATE, SELECT", "CREATE, INSERT"]
)
def test_check_before_prepare_finds_missing_rights(
    mariadb: servers.MariaDB, mariadb_url: str, grants: str
) -> None:
    url = mariadb.database(grants)
    with pytest.raises(
        exceptions.StorageMisconfigured, match="needs CREATE, SELECT"
    ) as caught:
        get_storage(url).check()
    assert_presentable(caught.value, url)
    assert mariadb.execute("SHOW TABLES", sa.make_url(url).database) == []


def test_write_before_prepare(url: str) -> None:
    touch(url)
    with pytest.raises(
        exceptions.StorageMisconfigured, match="makes the tables"
    ) as caught:
        write(get_storage(url), request(seeded(1)))
    assert_presentable(caught.value, url)


def test_schema_of_another_release(
    url: str, request: pytest.FixtureRequest
) -> None:
    storage = get_storage(url)
    storage.prepare()
    execute(url, request, "UPDATE bridge_version SET version_num = '9999'")
    with pytest.raises(
        exceptions.StorageMisconfigured, match="schema version 9999"
    ) as caught:
        storage.check()
    assert_presentable(caught.value, url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@localhost/db",
        "mariadb://u:s3cret@localhost/db",
        "mariadb+pymysql://u:s3cret@localhost/db",
        "postgresql://u:s3cret@localhost/db",
        "postgresql+psycopg://u:s3cret@localhost/db",
        "sqlite:////var/lib/traces.sqlite",
    ],
)
def test_schemes(url: str) -> None:
    storage = get_storage(url)
    assert isinstance(storage, plugin.SQLAlchemyStorage)
    assert_no_password(str(storage), url)


def test_unknown_scheme_names_the_known() -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage("mysqll://u:s3cret@localhost/db")
    message = str(caught.value)
    assert "mysqll://" in message
    assert all(scheme in message for scheme in known_schemes())
    assert_presentable(caught.value, "mysqll://u:s3cret@localhost/db")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@localhost:port/db",
        "postgresql://u:s3cret@[::1/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:traces?mode=memory",
        "sqlite://localhost/traces.sqlite",
    ],
)
def test_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage(url)
    assert_presentable(caught.value, url.replace("[", ""))


def test_password_among_the_options_is_not_shown() -> None:
    url = "mysql://localhost/db?user=u&password=s3cret"
    assert "s3cret" not in str(get_storage(url))


def test_option_that_the_client_does_not_have(server_url: str) -> None:
    misconfigured(
        changed(server_url, query={"nonsense": "1"}),
        "nonsense.*: check the connection string",
    )


def test_character_set_that_the_client_does_not_have(mariadb_url: str) -> None:
    misconfigured(
        changed(mariadb_url, query={"charset": "utf9"}),
        "check the connection string",
    )


def test_reading_in_an_outage(
    server_url: str, request: pytest.FixtureRequest
) -> None:
    server = server_of(server_url, request)
    storage = get_storage(server_url)
    storage.prepare()
    reads: list[Callable[[], object]] = [
        lambda: storage.report("0" * 32),
        lambda: storage.list_traces(TraceQuery()),
        storage.check,
    ]
    with (
        killed(server)
        if isinstance(server, servers.MariaDB)
        else closed(server, server_url)
    ):
        for read in reads:
            with pytest.raises(exceptions.StorageUnavailable) as caught:
                read()
            assert_presentable(caught.value, server_url)
    assert storage.check() == []


# Rights


def misconfigured(url: str, says: str) -> None:
    """Preparing and checking say the same, in one line without a password."""
    storage = get_storage(url)
    with pytest.raises(exceptions.StorageMisconfigured, match=says) as caught:
        storage.prepare()
    assert_presentable(caught.value, url)
    with pytest.raises(exceptions.StorageMisconfigured, match=says) as caught:
        storage.check()
    assert_presentable(caught.value, url)


def test_wrong_password(server_url: str) -> None:
    misconfigured(
        changed(server_url, password="s3cret"), "check the connection string"
    )


def test_unknown_user(server_url: str) -> None:
    misconfigured(
        changed(server_url, username="nobody"), "check the connection string"
    )


def test_missing_database(server_url: str) -> None:
    misconfigured(changed(server_url, database="other"), "create the database")


def test_user_without_the_right_to_create(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    url = mariadb.database("SELECT, INSERT")
    with pytest.raises(
        exceptions.StorageMisconfigured, match="needs CREATE, SELECT"
    ) as caught:
        get_storage(url).prepare()
    assert_presentable(caught.value, url)


def test_user_without_the_right_to_create_in_postgresql(
    postgresql: servers.PostgreSQL, postgresql_url: str
) -> None:
    """From PostgreSQL 15 on only a database's owner has it."""
    user = sa.make_url(postgresql_url).username
    other = changed(
        postgresql.database(), database=sa.make_url(postgresql_url).database
    )
    postgresql.execute(
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {user}",
        sa.make_url(postgresql_url).database,
    )
    for fails in (get_storage(other).prepare, get_storage(other).check):
        with pytest.raises(
            exceptions.StorageMisconfigured, match="needs CREATE, SELECT"
        ) as caught:
            fails()
        assert_presentable(caught.value, other)


def test_check_finds_that_inserting_is_not_allowed(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    storage = get_storage(mariadb_url)
    storage.prepare()
    parts = sa.make_url(mariadb_url)
    mariadb.execute(
        f"REVOKE INSERT ON {parts.database}.* FROM {parts.username}@'%'"
    )
    storage.close()
    with pytest.raises(
        exceptions.StorageMisconfigured, match="needs CREATE, SELECT"
    ):
        storage.check()


@pytest.mark.parametrize(
    ("off", "says"), [(-60, "ahead of this host's"), (3600, "behind this")]
)
def test_check_compares_clocks(
    server_url: str, monkeypatch: pytest.MonkeyPatch, off: int, says: str
) -> None:
    storage = get_storage(server_url)
    storage.prepare()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + off)
    (warning,) = storage.check()
    assert says in warning
    assert_no_password(warning, server_url)


def test_rights_of_the_documents_are_enough(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    """That is, the conformance suite had no other rights."""
    parts = sa.make_url(mariadb_url)
    grants = mariadb.execute(f"SHOW GRANTS FOR {parts.username}@'%'")
    rights = [grant.partition(" ON ")[0] for (grant,) in grants]
    assert rights == ["GRANT USAGE", "GRANT SELECT, INSERT, CREATE"]
    assert parts.query == {"charset": "utf8"}


def test_purging_without_the_right_to_delete(mariadb_url: str) -> None:
    storage = get_storage(mariadb_url)
    storage.prepare()
    write(storage, request(seeded(1)))
    with pytest.raises(
        exceptions.StorageMisconfigured, match="DELETE for purging"
    ) as caught:
        storage.purge(STARTED + SECOND)
    assert_presentable(caught.value, mariadb_url)


def test_server_without_json() -> None:
    with servers.MariaDB("--version=5.5.62-MariaDB") as server:
        misconfigured(server.database(), "MariaDB 5.5.62, without JSON")


# What one of the databases can never store


def test_payload_that_is_larger_than_a_packet(mariadb_url: str) -> None:
    """MariaDB's max_allowed_packet is 16 MB unless somebody set another."""
    storage = get_storage(mariadb_url)
    storage.prepare()
    # Of what does not get smaller.
    params = base64.b85encode(seeded(1).randbytes(17_000_000)).decode()
    huge = one_span(info={"db": {"params": params}})[0]
    others = request(seeded(2))
    batch = notifications([*others[:3], huge, *others[3:]])
    with pytest.raises(exceptions.NotificationsRejected) as caught:
        storage.write(batch)
    assert [each.payload for each, _ in caught.value.rejected] == [huge]
    assert observed(storage, others) == expected(others)
    assert storage.notifications(huge["base_id"]) == []


def test_trigger_that_objects(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    """One notification costs itself alone, whoever refuses it."""
    storage = get_storage(mariadb_url)
    storage.prepare()
    payloads = request(seeded(1))
    refused = payloads[4]
    mariadb.execute(
        # Before its own, MariaDB's UNCOMPRESS wants four bytes of length.
        "CREATE TRIGGER picky BEFORE INSERT ON bridge_pieces FOR EACH ROW IF"
        " UNCOMPRESS(CONCAT(x'00001000', NEW.notifications)) LIKE"
        f" '%{refused['timestamp']}%{refused['trace_id']}%' THEN"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not that one';"
        " END IF",
        sa.make_url(mariadb_url).database,
    )
    with pytest.raises(exceptions.NotificationsRejected) as caught:
        write(storage, payloads)
    assert [
        (each.payload, reason) for each, reason in caught.value.rejected
    ] == [(refused, "not that one")]
    rest = [each for each in payloads if each is not refused]
    assert observed(storage, rest) == expected(rest)


# SQLite's file


def test_sqlite_file_is_the_owners_only(sqlite_url: str) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    write(storage, request(seeded(1)))
    path = Path(sa.make_url(sqlite_url).database or "")
    files = sorted(path.parent.glob(f"{path.name}*"))
    assert len(files) > 1  # its log too, while it is open
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


def test_sqlite_file_keeps_its_mode(sqlite_url: str) -> None:
    path = Path(sa.make_url(sqlite_url).database or "")
    path.touch()
    path.chmod(0o640)
    get_storage(sqlite_url).prepare()
    assert path.stat().st_mode & 0o777 == 0o640


def test_only_prepare_makes_sqlites_file(
    tmp_path: Path, sqlite_url: str
) -> None:
    storage = get_storage(sqlite_url)
    attempts: list[Callable[[], object]] = [
        storage.check,
        lambda: storage.report("0" * 32),
        lambda: storage.list_traces(TraceQuery()),
        lambda: storage.purge(STARTED),
        lambda: write(storage, request(seeded(1))),
    ]
    for attempt in attempts:
        with pytest.raises(exceptions.StorageMisconfigured) as caught:
            attempt()
        assert_presentable(caught.value, sqlite_url)
    assert list(tmp_path.iterdir()) == []


def test_report_command_does_not_make_sqlites_file(
    tmp_path: Path, sqlite_url: str
) -> None:
    command = shutil.which(
        "profiler-bridge-report", path=sysconfig.get_path("scripts")
    )
    assert command
    done = subprocess.run(
        [command, "--connection-string", sqlite_url, "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "check that the path is right" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["with space", "100%", "a#b", "💥", "semi;colon", "a&b=c"]
)
def test_sqlite_file_of_any_name(tmp_path: Path, name: str) -> None:
    storage = get_storage(f"sqlite:///{tmp_path}/{name}.sqlite")
    storage.prepare()
    write(storage, payloads := request(seeded(1)))
    storage.close()
    assert [each.name for each in tmp_path.iterdir()] == [f"{name}.sqlite"]
    assert observed(storage, payloads) == expected(payloads)


def test_sqlite_file_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    get_storage("sqlite:///traces.sqlite").prepare()
    assert (tmp_path / "traces.sqlite").exists()


def test_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n" * 100)
    misconfigured(f"sqlite:///{path}", "check that the path is right")
    assert path.read_text() == "buy milk\n" * 100


def test_folder_as_file(tmp_path: Path) -> None:
    misconfigured(f"sqlite:///{tmp_path}", "check that the path is right")


# Purging more than one statement takes


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_CHUNK", 5)


@pytest.mark.usefixtures("small_chunks")
def test_purge_a_trace_of_many_pieces(sqlite_url: str) -> None:
    """Newest first, so that it stood at each of its starts in the index."""
    storage = get_storage(sqlite_url)
    storage.prepare()
    payloads = request(seeded(1), calls=3)[::-1]
    write(storage, *cut(payloads, 1))
    ((_, partials),) = storage.partials([payloads[0]["base_id"]]).items()
    terms = index_terms(partials.values())
    assert len(storage.index(ALL_TRACES, None, None, 100)) > 5
    assert storage.purge(STARTED + SECOND) == 1
    for term in terms:
        assert storage.index(term, None, None, 100) == []


@pytest.mark.usefixtures("small_chunks")
def test_purge_many_traces(sqlite_url: str) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    rng = seeded(1)
    payloads = [
        each
        for number in range(36)
        for each in request(rng, STARTED + number % 3 * SECOND, calls=0)
    ]
    write(storage, *cut(shuffled(payloads, 1), 20))
    assert storage.purge(STARTED + SECOND + 1) == 12
    assert len(listed(storage, limit=100)) == 24


# Plans


def plans(url: str, call: Callable[[], object]) -> list[str]:
    """What the database would do for each statement of a call."""
    statements: list[tuple[str, Any]] = []

    def record(*args: Any) -> None:
        statement, parameters = args[2:4]
        if "bridge_" in statement:
            statements.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        call()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)
    explain = {
        "sqlite": "EXPLAIN QUERY PLAN ",
        "mysql": "EXPLAIN FORMAT=JSON ",
        "postgresql": "EXPLAIN ",
    }[sa.make_url(url).get_backend_name()]
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = [
            "\n".join(
                " ".join(map(str, row))
                for row in connection.exec_driver_sql(
                    explain + statement, parameters
                )
            )
            for statement, parameters in statements
        ]
    engine.dispose()
    return found


def assert_reads_a_range(url: str, plan: str) -> None:
    """A range of the primary key is read: no other row, and nothing sorted."""
    wanted, unwanted = {
        "sqlite": (["SEARCH", "autoindex"], ["SCAN", "TEMP B-TREE"]),
        "postgresql": (["_pkey", "Index Cond"], ["Seq Scan", "Sort"]),
        "mysql": (
            ['"key": "PRIMARY"'],
            ["filesort", "temporary", '"ALL"', '"access_type": "index"'],
        ),
    }[sa.make_url(url).get_backend_name()]
    assert all(each in plan for each in wanted), plan
    assert not any(each in plan for each in unwanted), plan


@pytest.fixture
def full(url: str, request: pytest.FixtureRequest) -> str:
    """A database with 2000 traces, which knows how they are spread."""
    storage = get_storage(url)
    storage.prepare()
    rng = seeded(1)
    payloads = [
        each
        for number in range(2000)
        for each in sample.request(rng, STARTED + number * SECOND, calls=0)
    ]
    write(storage, payloads)
    storage.close()
    tables = ", ".join(plugin.METADATA.tables)
    table = "TABLE " if url.startswith("mysql") else ""
    if not url.startswith("sqlite"):
        execute(url, request, f"ANALYZE {table}{tables}")
    return url


def test_plan_of_a_trace(full: str) -> None:
    """One trace is one range, however many others there are."""
    storage = get_storage(full)
    (base_id,) = listed(storage, limit=1)
    (plan,) = plans(full, lambda: storage.notifications(base_id))
    assert_reads_a_range(full, plan)


def test_plan_of_a_page(full: str) -> None:
    """A page reads a stretch of the index, and the summaries it stands for."""
    storage = get_storage(full)
    middle = STARTED + 1000 * SECOND
    (marker,) = listed(storage, limit=1, until=middle)
    for query in (
        TraceQuery(),
        TraceQuery(marker=marker),
        TraceQuery(service="api", since=STARTED + 10 * SECOND, until=middle),
        TraceQuery(error=True),
    ):
        found = plans(full, functools.partial(storage.list_traces, query))
        assert found
        for plan in found:
            assert_reads_a_range(full, plan)


def test_plan_of_a_page_in_numbers(full: str) -> None:
    """Statements ask for no more than a page."""
    storage = get_storage(full)
    asked: list[int] = []
    index = storage.index

    def count(*args: Any) -> Sequence[Position]:
        found = index(*args)
        asked.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "index", count)
        assert len(listed(storage, limit=5)) == 5
    assert sum(asked) <= 12


def test_preparing_again_takes_no_lock_away(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Closing a file drops all locks that a process has on it.

    Without them another process believes itself to be the last, and deletes
    the write-ahead log that is still in use.
    """
    storage = get_storage(sqlite_url)
    storage.prepare()
    write(storage, request(seeded(1)))
    storage.prepare()
    path = tmp_path / "profiler.db"
    visit = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('SELECT 1 FROM bridge_pieces').fetchone(); c.close()"
    )
    subprocess.run([sys.executable, "-c", visit, str(path)], check=True)
    assert path.with_name("profiler.db-wal").exists()
    storage.close()
