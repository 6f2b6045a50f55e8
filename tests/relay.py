# SPDX-License-Identifier: Apache-2.0

"""An address that can be moved, between a client and its servers."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

from tests import servers


class Relay(servers.Startable):
    """A TCP proxy on loopback: each new connection goes to :attr:`target`.

    Connections that are there stay where they are, as those of a client do
    when an address moves on.

    :param target: a port
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = servers.free_port()
        #: While set nothing is forwarded; connections are accepted.
        self.swallows = False
        #: While set answers come byte by byte, slowly.
        self.drips = False
        #: How many connections were ever accepted.
        self.accepted = 0
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept)

    def close(self) -> None:
        self._ends.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, function: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._ends.is_set():
                client, _ = self._listener.accept()
                self.accepted += 1
                self._run(self._serve, client, self.target)

    def _serve(self, client: socket.socket, target: int) -> None:
        with client, contextlib.suppress(OSError):
            while self.swallows and not self._ends.wait(0.05):
                pass
            with socket.create_connection(("127.0.0.1", target)) as server:
                self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while not self._ends.is_set():
                for key, _ in ready.select(0.1):
                    if self.swallows:
                        self._ends.wait(0.05)
                        continue
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    if self.drips and source is server:
                        self._ends.wait(0.01)
                        data = source.recv(1)
                    else:
                        data = source.recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)
