# SPDX-License-Identifier: Apache-2.0

"""What a check finds: logins, rights, clocks, old servers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    assert_no_password,
    assert_presentable,
    write,
)
from tests import servers
from tests.functional.sql.databases import (
    changed,
    closed,
    killed,
    misconfigured,
    server_of,
)


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


def test_reading_in_an_outage(
    server_url: str, request: pytest.FixtureRequest
) -> None:
    server = server_of(server_url, request)
    storage = get_storage(server_url)
    storage.prepare()
    reads: list[Callable[[], object]] = [
        lambda: storage.trace("0" * 32),
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
