# SPDX-License-Identifier: Apache-2.0

"""What release 0.1 stored is read, and goes on, with the documented rights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    assert_presentable,
    expected,
    listed,
    observed,
    write,
)
from tests import servers
from tests.functional.older import without_roots
from tests.functional.sql.databases import changed, connect, execute, rows

WARNING = "run 'profiler-bridge-manage reindex' once"
# Its rows, as it wrote them: of one trace the second and the last third, in
# two pieces, and the whole of another.
ROWS = json.loads(
    (Path(__file__).parents[2] / "data" / "release-0.1-sql.json").read_text()
)
# Its tables, as it made them.
_TABLES: dict[str, tuple[str, ...]] = {
    "sqlite": (
        "CREATE TABLE bridge_version (version_num VARCHAR(32) NOT NULL,"
        " CONSTRAINT bridge_version_pkc PRIMARY KEY (version_num))",
        "CREATE TABLE bridge_pieces (base_id VARCHAR(36) NOT NULL, digest"
        " BIGINT NOT NULL, summary TEXT NOT NULL, notifications BLOB NOT NULL,"
        " PRIMARY KEY (base_id, digest))",
        "CREATE TABLE bridge_index (term BIGINT NOT NULL, started BIGINT NOT"
        " NULL, base_id VARCHAR(36) NOT NULL,"
        " PRIMARY KEY (term, started, base_id))",
    )
}
_ASCII = "CHARACTER SET ascii COLLATE ascii_bin"
_TABLES["mysql"] = tuple(
    table.replace("VARCHAR(36)", f"VARCHAR(36) {_ASCII}")
    .replace(" TEXT", f" LONGTEXT {_ASCII}")
    .replace("BLOB", "LONGBLOB")
    for table in _TABLES["sqlite"]
)
_TABLES["postgresql"] = tuple(
    table.replace("VARCHAR(36)", 'VARCHAR(36) COLLATE "C"').replace(
        "BLOB", "BYTEA"
    )
    for table in _TABLES["sqlite"]
)


def old_traces() -> tuple[list[Payload], list[Payload]]:
    """Those of :data:`ROWS`; of the first the first five were not stored."""
    return (
        request(seeded(1), error="DBDeadlock"),
        request(seeded(2), STARTED + SECOND, calls=0),
    )


def store_as_release_0_1(url: str) -> None:
    backend = sa.make_url(url).get_backend_name()
    mark = "?" if backend == "sqlite" else "%s"
    if backend == "sqlite":
        Path(sa.make_url(url).database or "").touch()
    with connect(url) as connection:
        cursor = connection.cursor()
        for table in _TABLES[backend]:
            cursor.execute(table)
        cursor.execute("INSERT INTO bridge_version VALUES ('0001')")
        for base_id, digest, summary, blob in ROWS["bridge_pieces"]:
            cursor.execute(
                f"INSERT INTO bridge_pieces VALUES ({', '.join([mark] * 4)})",
                (base_id, digest, summary, bytes.fromhex(blob)),
            )
        cursor.executemany(
            f"INSERT INTO bridge_index VALUES ({', '.join([mark] * 3)})",
            list(map(tuple, ROWS["bridge_index"])),
        )
        connection.commit()


def versions(url: str) -> list[str]:
    return [
        version for (version,) in rows(url, "SELECT * FROM bridge_version")
    ]


@pytest.fixture
def old_url(url: str, request: pytest.FixtureRequest) -> str:
    """What release 0.1 stored; the user may create, select and insert."""
    store_as_release_0_1(url)
    if not url.startswith("postgresql"):
        return url
    # Who made the tables may do more there. So this user did not.
    server: servers.PostgreSQL = request.getfixturevalue("postgresql")
    database = sa.make_url(url).database
    other_url = changed(server.database(), database=database)
    other = sa.make_url(other_url).username
    for grant in (
        "CREATE ON SCHEMA",
        "SELECT, INSERT ON ALL TABLES IN SCHEMA",
    ):
        server.execute(f"GRANT {grant} public TO {other}", database)
    return other_url


def test_what_is_stored_is_read_before_anything_is_made(old_url: str) -> None:
    first, second = old_traces()
    storage = get_storage(old_url)
    stored = [*first[5:], *second]
    assert without_roots(observed(storage, stored)) == without_roots(
        expected(stored)
    )
    both = [second[0]["base_id"], first[0]["base_id"]]
    assert listed(storage, services=["api"]) == both
    with pytest.raises(
        exceptions.StorageNotPrepared, match="tables of an older release"
    ) as caught:
        storage.check()
    assert_presentable(caught.value, old_url)
    assert versions(old_url) == ["0001"]


def test_traces_go_on(old_url: str) -> None:
    first, second = old_traces()
    both = [first[0]["base_id"], second[0]["base_id"]]
    storage = get_storage(old_url)
    (warning,) = storage.prepare()
    assert WARNING in warning
    assert storage.check() == [warning]
    assert versions(old_url) == ["0001", "0003"]
    # The first begins before what is stored of it; the second goes on, and
    # gets a service that it did not have.
    later = {**second[-1], "service": "late", "name": "late-stop"}
    write(storage, first[:5], [later])
    everything = [*first, *second, later]
    assert without_roots(observed(storage, everything)) == without_roots(
        expected(everything)
    )
    assert listed(storage) == both[::-1]
    for done in storage.reindex():
        assert done == 2
    assert versions(old_url) == ["0001", "0003", "0003-reindexed"]
    assert storage.check() == storage.prepare() == []
    assert without_roots(observed(storage, everything)) == without_roots(
        expected(everything)
    )
    for query, base_ids in (
        ({}, both[::-1]),
        ({"services": ["api"]}, both[::-1]),
        ({"services": ["conductor"]}, both[:1]),
        ({"services": ["late"]}, both[1:]),
        ({"services": ["shop:api"]}, both[::-1]),
        ({"roots": ["POST /v1/*"]}, both[::-1]),
        ({"roots": ["!POST /v1/*"]}, []),
        ({"operations": ["UPDATE servers"]}, both[:1]),
        ({"error": True}, both[:1]),
    ):
        assert listed(storage, **query) == base_ids, query
    storage.close()


def test_what_was_stored_before_is_known_when_it_comes_again(
    old_url: str,
) -> None:
    first, _ = old_traces()
    storage = get_storage(old_url)
    storage.prepare()
    pieces: Sequence[Sequence[Payload]] = [first[5:10], first[10:]]
    write(storage, *pieces)
    assert len(storage.plugin.partials([first[0]["base_id"]])) == 1
    assert len(rows(old_url, "SELECT * FROM bridge_pieces")) == 3
    storage.close()


def test_marks_without_a_version(
    url: str, request: pytest.FixtureRequest
) -> None:
    """An upgrade that was killed, where a table that is made stays."""
    store_as_release_0_1(url)
    execute(
        url,
        request,
        "CREATE TABLE bridge_marks (base_id VARCHAR(36), kind SMALLINT, value"
        " BIGINT, PRIMARY KEY (base_id, kind, value))",
    )
    if url.startswith("postgresql"):
        user = sa.make_url(url).username
        execute(url, request, f"ALTER TABLE bridge_marks OWNER TO {user}")
    storage = get_storage(url)
    with pytest.raises(exceptions.StorageNotPrepared):
        storage.check()
    storage.prepare()
    first, _ = old_traces()
    write(storage, first)
    assert observed(storage, first) == expected(first)
    storage.close()


@pytest.mark.parametrize("grants", ["SELECT, INSERT", "CREATE, SELECT"])
def test_rights_that_are_missing(
    mariadb: servers.MariaDB, mariadb_url: str, grants: str
) -> None:
    parts = sa.make_url(mariadb_url)
    store_as_release_0_1(mariadb_url)
    mariadb.execute(
        f"REVOKE ALL ON {parts.database}.* FROM {parts.username}@'%'"
    )
    mariadb.execute(
        f"GRANT {grants} ON {parts.database}.* TO {parts.username}@'%'"
    )
    storage = get_storage(mariadb_url)
    for fails in (storage.check, storage.prepare):
        with pytest.raises(
            exceptions.StorageMisconfigured, match="needs CREATE, SELECT"
        ) as caught:
            fails()
        assert_presentable(caught.value, mariadb_url)


def test_rights_by_table(mariadb: servers.MariaDB, mariadb_url: str) -> None:
    """The check tells of the tables to come what the daemon will find."""
    parts = sa.make_url(mariadb_url)
    store_as_release_0_1(mariadb_url)
    user, database = f"{parts.username}@'%'", parts.database
    mariadb.execute(f"REVOKE ALL ON {database}.* FROM {user}")
    mariadb.execute(f"GRANT CREATE ON {database}.* TO {user}")
    for table in ("bridge_version", "bridge_pieces", "bridge_index"):
        mariadb.execute(
            f"GRANT SELECT, INSERT ON {database}.{table} TO {user}"
        )
    storage = get_storage(mariadb_url)
    for table in ("bridge_leases", "bridge_marks", "bridge_names"):
        for fails in (storage.check, storage.prepare, storage.check):
            with pytest.raises(
                exceptions.StorageMisconfigured,
                match=rf"{table}.*needs CREATE",
            ) as caught:
                fails()
            assert_presentable(caught.value, mariadb_url)
        mariadb.execute(
            f"GRANT SELECT, INSERT ON {database}.{table} TO {user}"
        )
    storage.prepare()
    storage.close()


def test_a_new_database_needs_no_reindexing(url: str) -> None:
    storage = get_storage(url)
    assert storage.prepare() == []
    assert list(storage.reindex()) == []
    assert versions(url) == ["0003"]
    storage.close()
