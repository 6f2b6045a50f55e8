# SPDX-License-Identifier: Apache-2.0

"""How a database is connected to, without one."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from profiler_bridge.storage.sql import psycopg
from profiler_bridge.storage.sql.engine import Database


def test_each_of_several_hosts_has_its_share_whenever_it_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeouts = []

    def connect(**settings: Any) -> None:
        timeouts.append(settings["connect_timeout"])

    monkeypatch.setattr(psycopg, "connect", connect)
    url = sa.make_url("postgresql://user@/db?host=one&host=two")
    database = Database(url, "db", str)
    # As SQLAlchemy 2.0 does, which hands over the same each time.
    settings = {"host": "one,two", "connect_timeout": 10}
    for _ in range(3):
        database._do_connect(database.dialect, None, (), settings)
    assert timeouts == [5, 5, 5]
