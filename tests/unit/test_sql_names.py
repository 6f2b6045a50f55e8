# SPDX-License-Identifier: Apache-2.0

"""The private names of database clients that the bridge uses.

A release that changes one fails here, and not in a cloud.
"""

from __future__ import annotations

import inspect
import socket
from typing import Any

import psycopg
import psycopg.waiting
import pymysql

from profiler_bridge.storage.sql.psycopg import BoundedConnection
from profiler_bridge.storage.sql.pymysql import descriptor


def test_pymysql_has_its_socket_where_it_is_looked_for() -> None:
    connection: Any = pymysql.Connection(defer_connect=True)
    assert descriptor(connection) == -1
    with socket.socket() as client:
        connection._sock = client
        assert descriptor(connection) == client.fileno()
        connection._force_close()  # which closes what it has there
        assert client.fileno() == -1


def test_psycopg_waits_where_it_is_bounded() -> None:
    assert BoundedConnection.wait is not psycopg.Connection.wait
    assert [*inspect.signature(psycopg.Connection.wait).parameters][:2] == [
        "self",
        "gen",
    ]
    assert psycopg.waiting.WAIT_R & psycopg.waiting.WAIT_W == 0
