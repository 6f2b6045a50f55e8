# SPDX-License-Identifier: Apache-2.0


"""Frames of AMQP, off a socket that hands them over in any pieces."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from amqp.exceptions import UnexpectedFrame

from profiler_bridge.bus import frames
from profiler_bridge.bus.frames import BufferedTCP, Frame, make_frame_handler
from tests.scripted_broker import (
    BODY,
    CHANNEL_CLOSE,
    HEADER,
    HEARTBEAT,
    METHOD,
    delivery,
    frame,
    method,
)

CLOSE = b"\x01\x96\0\0\0\0\0"


class Wire:
    """A transport, and the broker's end of its connection."""

    def __init__(self) -> None:
        self.broker, ours = socket.socketpair()
        ours.settimeout(0.02)
        self.transport = BufferedTCP("localhost")
        self.transport.sock = ours
        self.transport.connected = True

    def close(self) -> None:
        self.broker.close()
        self.transport.sock.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


class Handled:
    """What a handler of frames makes of them."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.methods: list[tuple[int, tuple[int, int]]] = []
        self._handle = make_frame_handler(
            lambda tag, body: self.messages.append((tag, body))
        )(
            SimpleNamespace(bytes_recv=0),
            lambda channel, method, *rest: self.methods.append(
                (channel, method)
            ),
        )

    def take(self, received: bytes) -> bool:
        kind, channel, size = struct.unpack_from(">BHI", received)
        return self._handle((kind, channel, received[7 : 7 + size]))


def test_frames_come_whole_however_they_are_sent(wire: Wire) -> None:
    rng = random.Random(5)
    sent = [
        (kind, channel, rng.randbytes(size))
        for kind, channel, size in [
            *((METHOD, 1, 20), (HEARTBEAT, 0, 0), (BODY, 65535, 5000)),
            *((BODY, 2, 3 * frames._RECEIVE), (HEADER, 1, 1), (BODY, 1, 0)),
        ]
    ]
    stream = b"".join(frame(kind, body, at) for kind, at, body in sent)
    received: list[Frame] = []
    for _ in range(3):
        received.clear()
        begin = 0
        while begin < len(stream):
            end = begin + rng.choice([1, 3, 7, 8, 1000, 50_000])
            wire.broker.sendall(stream[begin:end])
            begin = end
            try:
                received.append(wire.transport.read_frame())
            except TimeoutError:
                continue  # of which nothing is lost
            while whole := wire.transport.next_frame():
                received.append(whole)
        assert received == sent


def test_the_end_of_a_connection(wire: Wire) -> None:
    wire.broker.sendall(frame(METHOD, b"last") + b"\x01\0")
    wire.broker.close()
    assert wire.transport.read_frame() == (METHOD, 1, b"last")
    with pytest.raises(ConnectionResetError):
        wire.transport.read_frame()
    assert not wire.transport.connected


def test_a_stream_that_is_no_amqp(wire: Wire) -> None:
    wire.broker.sendall(frame(METHOD, b"x")[:-1] + b"!")
    with pytest.raises(UnexpectedFrame):
        wire.transport.read_frame()


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("properties", [b"\0\0", b"\xff\xff\xff\xffjunk"])
@pytest.mark.parametrize("consumer", [b"", b"1", b"c" * 255])
def test_messages_are_their_tags_and_bodies(
    size: int, properties: bytes, consumer: bytes
) -> None:
    handled = Handled()
    sent = [(1, b"{}"), (2, b""), (2**64 - 1, b"\xff" * 101), (3, b"<x>")]
    for tag, body in sent:
        *before, last = delivery(
            tag, body, size=size, properties=properties, consumer=consumer
        )
        assert not any(map(handled.take, before))
        assert handled.take(last)
    assert handled.messages == sent
    assert {type(body) for _, body in handled.messages} == {bytes}
    assert handled.methods == []


def test_all_else_is_py_amqps() -> None:
    """Between the frames of a message too, if it is of other channels."""
    handled = Handled()
    for part in delivery(7, b"body", size=2):
        assert not handled.take(frame(HEARTBEAT, channel=0))
        handled.take(part)
        assert handled.take(method(CHANNEL_CLOSE, CLOSE, 2))
    assert handled.messages == [(7, b"body")]
    assert handled.methods == [(2, (20, 40))] * 4


@pytest.mark.parametrize(
    ("begun", "then"),
    [
        (0, frame(BODY, b"b")),
        (1, frame(BODY, b"b")),
        (1, frame(BODY)),
        (1, method(CHANNEL_CLOSE, CLOSE)),
        (2, delivery(8, b"")[0]),
        (2, delivery(8, b"x")[1]),
        (2, frame(HEARTBEAT)),
    ],
)
def test_frames_out_of_turn(begun: int, then: bytes) -> None:
    handled = Handled()
    for part in delivery(7, b"body")[:begun]:
        handled.take(part)
    with pytest.raises(UnexpectedFrame):
        handled.take(then)
    assert handled.messages == []


def test_a_body_longer_than_it_was_said_to_be() -> None:
    handled = Handled()
    begin, header, _ = delivery(7, b"body")
    handled.take(begin)
    handled.take(header)
    with pytest.raises(UnexpectedFrame):
        handled.take(frame(BODY, b"bodies"))
