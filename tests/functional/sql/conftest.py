# SPDX-License-Identifier: Apache-2.0

"""Databases of every kind."""

from __future__ import annotations

import pytest

from tests.functional.sql.databases import server_of


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    database_url: str = request.getfixturevalue(f"{request.param}_url")
    return database_url


@pytest.fixture(params=["mariadb", "postgresql"])
def server_url(request: pytest.FixtureRequest) -> str:
    database_url: str = request.getfixturevalue(f"{request.param}_url")
    return database_url


@pytest.fixture
def second_url(url: str, request: pytest.FixtureRequest) -> str:
    """Another new database in the same server."""
    if url.startswith("sqlite"):
        return f"{url}.2"
    return server_of(url, request).database()
