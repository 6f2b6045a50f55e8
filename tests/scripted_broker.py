# SPDX-License-Identifier: Apache-2.0

"""A broker that says what a test has it say, in AMQP 0-9-1, on loopback."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping

from tests import servers

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

Method = tuple[int, int]

START, START_OK, TUNE = (10, 10), (10, 11), (10, 30)
OPEN, OPEN_OK = (10, 40), (10, 41)
CLOSE, CLOSE_OK = (10, 50), (10, 51)
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20, 10), (20, 11)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)
DECLARE, DECLARE_OK, BIND, BIND_OK = (50, 10), (50, 11), (50, 20), (50, 21)
UNBIND, UNBIND_OK = (50, 50), (50, 51)
QOS, QOS_OK, CONSUME, CONSUME_OK = (60, 10), (60, 11), (60, 20), (60, 21)
CANCEL, DELIVER, ACK, REJECT = (60, 30), (60, 60), (60, 80), (60, 90)


def frame(kind: int, payload: bytes = b"", channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(which: Method, arguments: bytes = b"", channel: int = 1) -> bytes:
    return frame(METHOD, struct.pack(">HH", *which) + arguments, channel)


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def delivery(
    tag: int,
    body: bytes,
    *,
    size: int = 100,
    consumer: bytes = b"tag",
    properties: bytes = b"\x20\0\0\0\0\0",
    channel: int = 1,
) -> list[bytes]:
    """The frames of a message.

    :param size: of each part of its body
    :param properties: an empty table of headers, unless given
    """
    arguments = short(consumer) + struct.pack(">Q", tag) + b"\0"
    arguments += short(b"nova") + short(b"profiler.info")
    content = struct.pack(">HHQ", 60, 0, len(body)) + properties
    return [
        method(DELIVER, arguments, channel),
        frame(HEADER, content, channel),
        *(
            frame(BODY, body[begin : begin + size], channel)
            for begin in range(0, len(body), size)
        ),
    ]


def refusal(code: int, text: str) -> Callable[[int, bytes], bytes]:
    """An answer that closes the channel."""
    return lambda channel, _: method(
        CHANNEL_CLOSE,
        struct.pack(">H", code) + short(text.encode()) + b"\0\0\0\0",
        channel,
    )


_ANSWERS: Mapping[Method, Callable[[int, bytes], bytes]] = {
    START_OK: lambda *_: method(TUNE, struct.pack(">HIH", 9, 131072, 60), 0),
    OPEN: lambda *_: method(OPEN_OK, b"\0", 0),
    CLOSE: lambda *_: method(CLOSE_OK, b"", 0),
    CHANNEL_OPEN: lambda channel, _: method(
        CHANNEL_OPEN_OK, b"\0\0\0\0", channel
    ),
    CHANNEL_CLOSE: lambda channel, _: method(CHANNEL_CLOSE_OK, b"", channel),
    DECLARE: lambda channel, _: method(
        DECLARE_OK, short(b"q") + b"\0" * 8, channel
    ),
    BIND: lambda channel, _: method(BIND_OK, b"", channel),
    UNBIND: lambda channel, _: method(UNBIND_OK, b"", channel),
    QOS: lambda channel, _: method(QOS_OK, b"", channel),
    CONSUME: lambda channel, _: method(CONSUME_OK, short(b"tag"), channel),
}


class ScriptedBroker(servers.Startable):
    """Agrees to everything, unless :attr:`answers` has something else.

    :ivar answers: by method, what is sent for it; is given the channel and the
        arguments. Of methods that are not there nothing is said
    :ivar told: methods and their arguments, of all connections
    :ivar consuming: the channel of the last consumer
    :ivar heartbeats: how many came
    :ivar accepted: how many connections there were
    """

    def __init__(self) -> None:
        self.port = servers.free_port()
        self.answers = dict(_ANSWERS)
        self.told: list[tuple[Method, bytes]] = []
        self.consuming = 0
        self.heartbeats = 0
        self.accepted = 0
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def transport_url(self) -> str:
        return f"rabbit://user:pass@127.0.0.1:{self.port}/vhost"

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread.start()

    def send(self, *frames: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(b"".join(frames))

    def end_connection(self) -> None:
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)

    def methods(self) -> list[Method]:
        return [which for which, _ in self.told]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self.end_connection()
        if self._thread.is_alive():
            self._thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connection = connection
                self.accepted += 1
                with connection, contextlib.suppress(OSError):
                    self._serve(connection.makefile("rb"))

    def _serve(self, received: object) -> None:
        read = received.read  # type: ignore[attr-defined]
        assert read(8) == b"AMQP\0\0\x09\x01"
        table = long(b"")
        self.send(
            method(
                START,
                b"\0\x09" + table + long(b"PLAIN AMQPLAIN") + long(b"en_US"),
                0,
            )
        )
        while header := read(7):
            kind, channel, size = struct.unpack(">BHI", header)
            payload = read(size + 1)[:-1]
            if kind == HEARTBEAT:
                self.heartbeats += 1
                continue
            which = struct.unpack_from(">HH", payload)
            self.told.append((which, payload[4:]))
            if which == CONSUME:
                self.consuming = channel
            if which in self.answers:
                self.send(self.answers[which](channel, payload[4:]))
            if which == CLOSE:
                return
