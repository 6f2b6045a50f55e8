# SPDX-License-Identifier: Apache-2.0

"""PostgreSQL as others set it up: with a pooler, in another encoding."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.sql.plugin import SQLPlugin
from profiler_bridge.testing.sample import Payload, request, seeded
from profiler_bridge.testing.storage import (
    assert_no_password,
    assert_presentable,
    expected,
    observed,
    one_span,
    write,
)
from tests import servers


@pytest.fixture(params=["session", "transaction"])
def pooled_url(
    postgresql_url: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    with servers.PgBouncer(postgresql_url, request.param) as pgbouncer:
        yield pgbouncer.url


@pytest.mark.parametrize("options", ["", "?prepare_threshold=None"])
def test_more_clients_than_connections(pooled_url: str, options: str) -> None:
    """Each gets another's connection after every transaction."""
    url = pooled_url + options
    storage = get_storage(url)
    storage.prepare()
    assert storage.check() == []
    traces = [request(seeded(number), calls=8) for number in range(4)]

    def write_and_read(payloads: list[Payload]) -> None:
        own = get_storage(url)
        for at in range(0, len(payloads), 2):
            write(own, payloads[at : at + 2])
            own.plugin.partials([payloads[0]["base_id"]])
        assert observed(own, payloads) == expected(payloads)
        own.close()

    storage.close()  # in session mode it would keep one of the two
    count = 2 if "session" in pooled_url else 4
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(write_and_read, traces))


def test_statement_mode_cannot_be_used(postgresql_url: str) -> None:
    with servers.PgBouncer(postgresql_url, "statement") as pgbouncer:
        storage = get_storage(pgbouncer.url)
        for fails in (
            storage.check,
            storage.prepare,
            lambda: write(storage, one_span()),
        ):
            with pytest.raises(
                exceptions.StorageMisconfigured, match="pool_mode"
            ) as caught:
                fails()
            assert_presentable(caught.value, pgbouncer.url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_in_another_encoding(
    postgresql: servers.PostgreSQL, postgresql_url: str, encoding: str
) -> None:
    parts = sa.make_url(postgresql_url)
    name = f"{parts.database}_{encoding.lower()}"
    postgresql.execute(
        f"CREATE DATABASE {name} OWNER {parts.username}"
        f" TEMPLATE template0 ENCODING '{encoding}'"
    )
    url = parts.set(database=name).render_as_string(hide_password=False)
    storage = get_storage(url)
    storage.prepare()
    payloads = one_span(info={"db": {"params": ["\N{PILE OF POO}", "\ud83d"]}})
    write(storage, payloads)
    assert observed(storage, payloads) == expected(payloads)
    (warning,) = storage.check()
    assert encoding in warning
    assert_no_password(warning, url)
    storage.close()


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("prepare_threshold", "often", "a whole number, or none"),
        ("connect_timeout", "soon", "a whole number"),
        ("autocommit", "maybe", "true or false"),
    ],
)
def test_option_of_the_wrong_type(option: str, value: str, kind: str) -> None:
    url = f"postgresql://u:s3cret@localhost/db?{option}={value}"
    with pytest.raises(
        exceptions.ConfigurationError, match=f"{option} is {kind}, not"
    ) as caught:
        get_storage(url)
    assert_presentable(caught.value, url)


@pytest.mark.parametrize(
    ("options", "prepared"), [("", False), ("?prepare_threshold=0", True)]
)
def test_prepared_statements_on_request(
    postgresql_url: str, options: str, prepared: bool
) -> None:
    """Where there is no pooler one may want them."""
    storage = get_storage(postgresql_url + options)
    assert isinstance(storage.plugin, SQLPlugin)
    storage.prepare()
    write(storage, payloads := request(seeded(1)))
    assert observed(storage, payloads) == expected(payloads)
    with storage.plugin._database.begin() as connection:
        names = "SELECT name FROM pg_prepared_statements"
        statements = connection.exec_driver_sql(names).all()
    assert bool(statements) == prepared
    storage.close()
