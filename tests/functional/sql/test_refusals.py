# SPDX-License-Identifier: Apache-2.0

"""What one of the databases can never store."""

from __future__ import annotations

import base64

import pytest
import sqlalchemy as sa

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    notifications,
    request,
    seeded,
)
from profiler_bridge.testing.storage import (
    expected,
    observed,
    one_span,
    write,
)
from tests import servers


def test_payload_that_is_larger_than_a_packet(mariadb_url: str) -> None:
    """MariaDB's max_allowed_packet is 16 MB unless somebody set another."""
    storage = get_storage(mariadb_url)
    storage.prepare()
    # Of what does not get smaller.
    params = base64.b85encode(seeded(1).randbytes(17_000_000)).decode()
    huge = one_span(info={"db": {"params": params}})[0]
    others = request(seeded(2))
    batch = notifications([*others[:3], huge, *others[3:]])
    with pytest.raises(exceptions.NotificationsRejected) as caught:
        storage.write(batch)
    assert [rejected.payload for rejected, _ in caught.value.rejected] == [
        huge
    ]
    assert observed(storage, others) == expected(others)
    assert storage.notifications(huge["base_id"]) == []


def test_trigger_that_objects(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    """One notification costs itself alone, whoever refuses it."""
    storage = get_storage(mariadb_url)
    storage.prepare()
    payloads = request(seeded(1))
    refused = payloads[4]
    mariadb.execute(
        # Before its own, MariaDB's UNCOMPRESS wants four bytes of length.
        "CREATE TRIGGER picky BEFORE INSERT ON bridge_pieces FOR EACH ROW IF"
        " UNCOMPRESS(CONCAT(x'00001000', NEW.notifications)) LIKE"
        f" '%{refused['timestamp']}%{refused['trace_id']}%' THEN"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not that one';"
        " END IF",
        sa.make_url(mariadb_url).database,
    )
    with pytest.raises(exceptions.NotificationsRejected) as caught:
        write(storage, payloads)
    assert [
        (rejected.payload, reason)
        for rejected, reason in caught.value.rejected
    ] == [(refused, "not that one")]
    rest = [payload for payload in payloads if payload is not refused]
    assert observed(storage, rest) == expected(rest)
