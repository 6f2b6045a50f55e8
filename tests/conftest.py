#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


"""Fixtures: the servers, each started once a run and only when needed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest

from tests import servers
from tests.chaos import table

# No test is about time, and machines are busy.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


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


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[table.ROWS]:
        terminalreporter.section("chaos")
        terminalreporter.write_line(table.render(config.stash[table.ROWS]))


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
def mariadb() -> Iterator[servers.MariaDB]:
    yield from _serve(servers.MariaDB)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    yield from _serve(servers.PostgreSQL)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Redis]:
    yield from _serve(servers.Redis)


@pytest.fixture(scope="session")
def sentinel() -> Iterator[servers.SentinelGroup]:
    yield from _serve(servers.SentinelGroup)


@pytest.fixture
def transport_url(rabbitmq: servers.RabbitMQ) -> str:
    """Return the URL of a fresh virtual host of RabbitMQ."""
    _revive(rabbitmq)
    return rabbitmq.vhost()


@pytest.fixture
def mariadb_url(mariadb: servers.MariaDB) -> str:
    """Return the URL of a fresh database."""
    _revive(mariadb)
    return mariadb.database()


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
