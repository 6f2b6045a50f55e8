# SPDX-License-Identifier: Apache-2.0

"""Redis' protocol, as it is written and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.storage.redis import connections, protocol

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda values: st.lists(values, max_size=4),
    max_leaves=8,
)


def written(value: Any) -> bytes:
    """A reply as a server writes it."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(written, value))


def read(data: bytes, size: int, count: int) -> list[Any]:
    """Replies from a network that delivers so many bytes at a time."""

    def parts() -> Iterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]
        raise EOFError

    return protocol.read(parts().__next__, ValueError, count)


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(1, 60))
def test_replies_in_parts_of_any_size(replies: list[Any], size: int) -> None:
    data = b"".join(map(written, replies))
    assert read(data, size, len(replies)) == replies


def test_a_large_reply() -> None:
    value = bytes(range(256)) * 40_000
    assert read(written([value, b"", 7]), 65536, 1) == [[value, b"", 7]]


def test_errors_and_states() -> None:
    data = b"+OK\r\n-NOPERM no\xff\r\n*-1\r\n*1\r\n-ERR in it\r\n"
    status, refused, nothing, (inner,) = read(data, 5, 4)
    assert status == b"OK"
    assert refused.args == ("NOPERM no\ufffd",)
    assert nothing is None
    assert inner.args == ("ERR in it",)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"$x\r\n",
        b"*\r\n",
        b":1\r\n:2\r\n",  # one more than was asked for
    ],
)
def test_what_is_not_the_protocol(data: bytes) -> None:
    with pytest.raises(redis.exceptions.InvalidResponse, match="Protocol"):
        read(data, 100, 1)


def test_commands() -> None:
    assert protocol.encoded([("SET", "k\udc80é", b"\0\r\n"), ("PING",)]) == (
        b"*3\r\n$3\r\nSET\r\n$6\r\nk\xed\xb2\x80\xc3\xa9\r\n$3\r\n\0\r\n\r\n"
        b"*1\r\n$4\r\nPING\r\n"
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ASK 3999 127.0.0.1:6381", redis.exceptions.AskError),
        ("CLUSTERDOWN The cluster is down", redis.exceptions.ClusterDownError),
        ("MOVED 3999 127.0.0.1:6381", redis.exceptions.MovedError),
        ("NOPERM no", redis.exceptions.NoPermissionError),
        ("TRYAGAIN Multiple keys", redis.exceptions.TryAgainError),
    ],
)
def test_errors_of_a_cluster(text: str, kind: type[Exception]) -> None:
    """Whichever release of redis-py there is."""
    connection = connections._Connection(descriptors=set())
    assert type(connection.make_error(text)) is kind
