# SPDX-License-Identifier: Apache-2.0


"""Fixtures: the servers, each started once a run and only when needed."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest

from tests import browser, servers
from tests.chaos import table

# No test is about time, and machines are busy. What CI says is about the
# change before it: developers' runs look for new examples.
hypothesis.settings.register_profile(
    "patient", deadline=None, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("patient")

# What a developer has exported is not for tests, which purge storages and
# look at lines.
for name in ("OSPROFILER_CONNECTION_STRING", "COLUMNS", "NO_COLOR"):
    os.environ.pop(name, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seconds",
        type=float,
        default=3.0,
        help="how long each fault of the chaos suite lasts",
    )
    parser.addoption(
        "--chaos-bodies",
        type=int,
        default=3000,
        help="how many fuzzed messages the bridge gets",
    )
    parser.addoption(
        "--chaos-seed", type=int, default=1, help="decides on its schedule"
    )
    parser.addoption(
        "--scale-notifications",
        type=int,
        default=4000,
        help="how many notifications two daemons share",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[table.ROWS] = []
    config.stash[table.LAGS] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for title, rows in (
        ("chaos", config.stash[table.ROWS]),
        ("lag of one bus, by what another is", config.stash[table.LAGS]),
    ):
        if rows:
            terminalreporter.section(title)
            terminalreporter.write_line(table.render(rows))


S = TypeVar("S", bound=servers.Startable)


@contextlib.contextmanager
def _skipping_without_servers() -> Iterator[None]:
    """On a laptop what is not installed is not tested; CI has to have it."""
    try:
        yield
    except servers.ServerMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Take off the root logger what a test has left there.

    Commands that run in this process log to its stderr, which pytest closes
    after the test: whatever is logged later would print a traceback.
    """
    root = logging.getLogger()
    before = [*root.handlers]
    try:
        return (yield)
    finally:
        for handler in [*root.handlers]:
            if handler not in before:
                root.removeHandler(handler)
                handler.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with _skipping_without_servers():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with _skipping_without_servers():
        yield


def _serve(server_class: type[S]) -> Iterator[S]:
    with server_class() as server:
        yield server


def _revive(server: servers.Server) -> None:
    """Undo what an earlier test may have left behind."""
    server.resume()
    if not server.running:
        server.start()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[servers.RabbitMQ]:
    yield from _serve(servers.RabbitMQ)


@pytest.fixture(scope="session")
def other_rabbitmq() -> Iterator[servers.RabbitMQ]:
    """Return the broker of another bus."""
    yield from _serve(servers.RabbitMQ)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.MariaDB]:
    yield from _serve(servers.MariaDB)


@pytest.fixture(scope="session")
def galera() -> Iterator[servers.GaleraCluster]:
    yield from _serve(servers.GaleraCluster)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    yield from _serve(servers.PostgreSQL)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Redis]:
    yield from _serve(servers.Redis)


@pytest.fixture(scope="session")
def sentinel() -> Iterator[servers.SentinelGroup]:
    yield from _serve(servers.SentinelGroup)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[servers.RedisCluster]:
    yield from _serve(servers.RedisCluster)


@pytest.fixture
def transport_url(rabbitmq: servers.RabbitMQ) -> str:
    """Return the URL of a fresh virtual host of RabbitMQ."""
    _revive(rabbitmq)
    return rabbitmq.vhost()


@pytest.fixture
def other_url(other_rabbitmq: servers.RabbitMQ) -> str:
    """Return the URL of a fresh virtual host of the other RabbitMQ."""
    _revive(other_rabbitmq)
    return other_rabbitmq.vhost()


@pytest.fixture
def mariadb_url(mariadb: servers.MariaDB) -> str:
    """Return the URL of a fresh database."""
    _revive(mariadb)
    return mariadb.database()


@pytest.fixture
def galera_urls(galera: servers.GaleraCluster) -> list[str]:
    """Return the URLs of a fresh database, one for each node."""
    galera.start()
    return galera.database()


@pytest.fixture
def postgresql_url(postgresql: servers.PostgreSQL) -> str:
    """Return the URL of a fresh database."""
    _revive(postgresql)
    return postgresql.database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a fresh database."""
    return f"sqlite:///{tmp_path / 'profiler.db'}"


@pytest.fixture
def redis_url(redis_server: servers.Redis) -> str:
    """Return the URL of an empty database."""
    _revive(redis_server)
    redis_server.execute("FLUSHALL")
    return redis_server.url


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Chromium]:
    yield from _serve(browser.Chromium)


@pytest.fixture
def page(chromium: browser.Chromium, tmp_path: Path) -> Iterator[browser.Page]:
    """Return a page; nothing goes wrong in it, and it asks for nothing."""
    page = browser.Page(chromium, tmp_path)
    yield page
    assert page.events("Runtime.exceptionThrown", "Log.entryAdded") == []
    assert page.events("Page.javascriptDialogOpening") == []
    asked = {
        event["params"]["request"]["url"]
        for event in page.events("Network.requestWillBeSent")
    }
    assert asked == {page.path.as_uri()}
    assert page.evaluate("performance.getEntriesByType('resource')") == []
    page.close()
