# SPDX-License-Identifier: Apache-2.0

"""What RabbitMQ sends, taken apart with little work for each message.

A message of AMQP 0-9-1 is a frame that says to whom it is delivered, one that
says how long its body is, and frames with the body. py-amqp calls recv up to
nine times for it, and makes objects of all that these frames say. It lets its
transport and its handler of frames be replaced: here are a transport that
receives whatever is there, and a handler that takes the delivery tag and the
body of a message, and leaves all other frames to py-amqp.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_handler
from amqp.transport import SSLTransport, TCPTransport

#: Type, channel and payload.
Frame = tuple[int, int, bytes]

# Enough for many small messages, and little beside what a worker holds.
_RECEIVE = 64 << 10

_FRAME_HEADER = struct.Struct(">BHI")
_FRAME_END = 0xCE
# What a frame has beside its payload: the header, and the end.
_AROUND = _FRAME_HEADER.size + 1

_METHOD, _HEADER, _BODY = 1, 2, 3
# The class and the method of basic.deliver. After them come the consumer tag,
# with one byte for its length, and the delivery tag.
_DELIVER = b"\0\x3c\0\x3c"
_DELIVERY_TAG = struct.Struct(">Q")
# After the class, and a weight that is not used.
_BODY_SIZE = struct.Struct(">4xQ")


class _Buffered:
    """A transport that receives what is there, however many frames it is."""

    sock: Any
    connected: bool
    _received = b""
    # Where in it the next frame begins.
    _next = 0

    def read_frame(self, unpack: object = None) -> Frame:
        """Wait for a frame.

        :param unpack: is there for py-amqp
        :raises TimeoutError: there is none yet; nothing is lost of it
        :raises OSError: the connection has ended
        """
        while True:
            frame = self.next_frame()
            if frame is not None:
                return frame
            self._receive()

    def next_frame(self) -> Frame | None:
        """A frame that has been received; None while it is not whole."""
        received, begin = self._received, self._next
        if len(received) - begin < _AROUND:
            return None
        kind, channel, size = _FRAME_HEADER.unpack_from(received, begin)
        begin += _FRAME_HEADER.size
        end = begin + size
        if len(received) <= end:
            return None
        if received[end] != _FRAME_END:
            raise UnexpectedFrame(f"a frame ends in {received[end]:#04x}")
        self._next = end + 1
        return kind, channel, received[begin:end]

    def _receive(self) -> None:
        try:
            received = self.sock.recv(_RECEIVE)
            if not received:
                raise ConnectionResetError("RabbitMQ closed the connection")
        except TimeoutError:
            raise
        except OSError:
            self.connected = False
            raise
        self._received = self._received[self._next :] + received
        self._next = 0


class BufferedTCP(_Buffered, TCPTransport):  # type: ignore[misc]
    """A transport without TLS."""


class BufferedTLS(_Buffered, SSLTransport):  # type: ignore[misc]
    """A transport with TLS."""


class _Delivery:
    """A message that has begun.

    :ivar missing: bytes of the body; None before its length is known
    """

    __slots__ = ("missing", "parts", "tag")

    def __init__(self, method: bytes) -> None:
        (self.tag,) = _DELIVERY_TAG.unpack_from(method, 5 + method[4])
        self.missing: int | None = None
        self.parts: list[bytes] = []


def make_frame_handler(
    deliver: Callable[[int, bytes], None],
) -> Callable[[Any, Callable[..., None]], Callable[[Frame], bool]]:
    """Make what py-amqp takes as ``frame_handler`` of a connection.

    :param deliver: called with the delivery tag and the body of each message,
        in the order of their arrival, whatever consumer it is for
    """

    def make(
        connection: Any, on_method: Callable[..., None]
    ) -> Callable[[Frame], bool]:
        handle_other: Callable[[Frame], bool]
        handle_other = frame_handler(connection, on_method)
        # By channel.
        begun: dict[int, _Delivery] = {}

        def handle(frame: Frame) -> bool:
            """Whether the frame completes something, as py-amqp has it."""
            kind, channel, payload = frame
            if channel not in begun:
                if kind != _METHOD or not payload.startswith(_DELIVER):
                    return handle_other(frame)
                begun[channel] = _Delivery(payload)
                return False
            delivery = begun[channel]
            missing = delivery.missing
            if kind == _HEADER and missing is None:
                (missing,) = _BODY_SIZE.unpack_from(payload)
            elif (
                kind == _BODY
                and missing is not None
                and len(payload) <= missing
            ):
                missing -= len(payload)
                delivery.parts.append(payload)
            else:
                raise UnexpectedFrame(f"one of type {kind} within a message")
            if missing:
                delivery.missing = missing
                return False
            del begun[channel]
            deliver(delivery.tag, b"".join(delivery.parts))
            return True

        return handle

    return make
