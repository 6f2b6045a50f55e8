# SPDX-License-Identifier: Apache-2.0

"""PyMySQL's connections: what is set on each, and its private names."""

from __future__ import annotations

from typing import Any


def descriptor(connection: Any) -> int:
    """The file descriptor of its socket; -1 while it has none."""
    return -1 if connection._sock is None else connection._sock.fileno()


def set_up(connection: Any) -> None:
    """Set what the bridge relies on, where the server has it.

    A node of Galera waits with its answers until it has what others wrote.
    Without that, of two bridges at two nodes that write parts of one trace
    neither may see the other's, and a reader not what is acknowledged.

    How many rows a list of keys names is looked up, however long it is.
    From 200 keys on servers take an average, and read the whole table where
    that is high, as after the first traces, or among a few large ones.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SHOW VARIABLES WHERE Variable_name IN"
            " ('wsrep_on', 'eq_range_index_dive_limit')"
        )
        variables = dict(cursor.fetchall())
        if variables.get("wsrep_on") == "ON":
            cursor.execute(
                "SET SESSION wsrep_sync_wait = @@wsrep_sync_wait | 1"
            )
        if "eq_range_index_dive_limit" in variables:
            cursor.execute("SET SESSION eq_range_index_dive_limit = 0")
