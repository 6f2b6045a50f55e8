# SPDX-License-Identifier: Apache-2.0

"""The tables: how they are made, and what is said before."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.sql import schema
from profiler_bridge.testing.sample import (
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    assert_presentable,
    expected,
    observed,
    write,
)
from tests import servers
from tests.functional.sql.databases import execute, tables_of, touch


def test_prepare_makes_the_tables_of_the_code(
    url: str, second_url: str
) -> None:
    get_storage(url).prepare()
    engine = sa.create_engine(second_url)
    schema.METADATA.create_all(engine)
    engine.dispose()
    assert tables_of(url)
    assert tables_of(url) == tables_of(second_url)


def test_prepare_after_a_start_that_was_killed(url: str) -> None:
    """In MariaDB what was made so far stays."""
    touch(url)
    engine = sa.create_engine(url)
    schema.PIECES.create(engine)
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
    for fails in (storage.check, storage.prepare, lambda: storage.purge(0)):
        with pytest.raises(
            exceptions.StorageMisconfigured, match="schema version 9999"
        ) as caught:
            fails()
        assert_presentable(caught.value, url)
