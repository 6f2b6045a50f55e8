# SPDX-License-Identifier: Apache-2.0

"""What a real cloud sent."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from pathlib import Path

from profiler_bridge.body import decode_body
from profiler_bridge.notification import Notification
from profiler_bridge.trace import Trace

_DATA = Path(__file__).with_name("data")
#: How often each operation is in the recorded traces.
OPERATIONS = _DATA / "operations.txt"


def server_create() -> list[bytes]:
    """The messages of one ``openstack server create --wait``, in their order.

    Keystone, Nova, Neutron, Glance and Placement, all on MariaDB: 2,454
    messages of one trace with 1,227 spans. 51 of them have values that the
    services' JSON marks with a type, such as ``{"__type__": "datetime",
    "__value__": "2026-11-25T17:48:57"}``; there are 63 of these.

    :returns: bodies as they came off the bus, but for ``message_id`` and
        ``_unique_id``: numbers take less room here than random ones
    """
    return _lines("server-create-notifications.jsonl.xz")


def keystone() -> list[bytes]:
    """The messages of three requests to Keystone, in their order.

    592 messages of three traces with one root each, ``POST /v3/auth/tokens``,
    ``GET /v3/users`` and ``GET /v3/endpoints``, on SQLite.

    :returns: bodies, as :func:`server_create` gives them
    """
    return _lines("keystone-notifications.jsonl.xz")


def _lines(name: str) -> list[bytes]:
    return lzma.decompress((_DATA / name).read_bytes()).splitlines()


def traces(bodies: Iterable[bytes]) -> list[Trace]:
    """The traces in messages, in the order of their first ones."""
    by_trace: dict[str, list[Notification]] = {}
    for body in bodies:
        message = decode_body(body)
        assert isinstance(message, dict)
        notification = Notification.from_payload(message["payload"])
        by_trace.setdefault(notification.base_id, []).append(notification)
    return [Trace.build(*trace) for trace in by_trace.items()]
