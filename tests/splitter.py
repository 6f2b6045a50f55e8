# SPDX-License-Identifier: Apache-2.0

"""A proxy that sends reads to a replica, as operators have before databases.

It does what ProxySQL, MaxScale and Pgpool-II have in common: a SELECT goes to
the replica, unless it is in a transaction that the client has begun in so many
words; all else goes to the server that is written to. As Pgpool-II does, it
waits in such a transaction of PostgreSQL for something that is no SELECT.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pymysql
import sqlalchemy as sa

from tests import servers

# The client asks for TLS or GSSAPI, which take the place of its greeting.
_ASKS = {80877103, 80877104}


class Splitter(servers.Startable):
    """An address on loopback, before a server and its replica.

    :param url: of a database at the server that is written to
    :param replica: the URL of what has the same some time later
    :param pins: whether transactions stay where writes go. If not, every
        SELECT is answered by the replica
    """

    def __init__(self, url: str, replica: str, pins: bool = True) -> None:
        self.port = servers.free_port()
        self._parts = sa.make_url(url)
        self._replica = sa.make_url(replica)
        self._pins = pins
        self._speaks: type[_Session] = (
            _PostgreSQLSession
            if self._parts.get_backend_name() == "postgresql"
            else _MySQLSession
        )

    @property
    def url(self) -> str:
        other = self._parts.set(port=self.port)
        return other.render_as_string(hide_password=False)

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # close() alone would leave the thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass on what comes, from whoever it comes."""
        assert self._parts.port is not None
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(
                ("127.0.0.1", self._parts.port)
            ) as writer,
            self._speaks.connect(self._replica) as reader,
            selectors.DefaultSelector() as ready,
        ):
            session = self._speaks(self._pins)
            for end in (client, writer, reader):
                ready.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    source: Any = key.fileobj
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is not client:
                        client.sendall(data)
                        continue
                    for reads, message in session.messages(data):
                        (reader if reads else writer).sendall(message)


class _Session:
    """What one client says."""

    def __init__(self, pins: bool) -> None:
        self._pins = pins
        self._rest = b""
        self._begun = self._pinned = False

    @staticmethod
    @contextlib.contextmanager
    def connect(url: sa.URL) -> Iterator[socket.socket]:
        """The socket of a connection that waits for statements."""
        raise NotImplementedError

    def messages(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """Cut what came into what belongs together.

        :returns: of each part, whether it is for the replica
        """
        raise NotImplementedError

    def _is_read(self, statement: bytes) -> bool:
        word = statement.split(None, 1)[0].strip(b";\0").upper()
        if word in (b"BEGIN", b"START"):
            self._begun, self._pinned = True, self._is_pinned_at_once()
        elif word in (b"COMMIT", b"ROLLBACK"):
            self._begun = self._pinned = False
        elif word != b"SELECT":
            self._pinned = self._begun
        # What is of no table both have alike; but for the database's name,
        # where a database of another name stands for the replica's.
        reads = word == b"SELECT" and b"FROM bridge_" in statement
        return reads and not (self._pinned and self._pins)

    def _is_pinned_at_once(self) -> bool:
        return True


class _MySQLSession(_Session):
    # A packet has three bytes of length, one number, and what it is about.

    @staticmethod
    @contextlib.contextmanager
    def connect(url: sa.URL) -> Iterator[socket.socket]:
        connection: Any = pymysql.connect(
            host=url.host,
            port=url.port or 0,
            user=url.username,
            password=str(url.password),
            database=url.database,
            autocommit=True,
        )
        with connection:
            yield connection._sock

    def messages(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        self._rest += data
        while len(self._rest) >= 4:
            end = 4 + int.from_bytes(self._rest[:3], "little")
            if len(self._rest) < end:
                return
            packet, self._rest = self._rest[:end], self._rest[end:]
            # A statement is the first word of a client, COM_QUERY.
            asks = packet[3:5] == b"\x00\x03"
            yield asks and self._is_read(packet[5:]), packet


class _PostgreSQLSession(_Session):
    # A message has one byte that tells its kind, and four of length; but for
    # the greeting. The client waits for answers after a Query or a Sync.

    def __init__(self, pins: bool) -> None:
        super().__init__(pins)
        self._greeted = False
        self._together = b""
        self._reads = False

    @staticmethod
    @contextlib.contextmanager
    def connect(url: sa.URL) -> Iterator[socket.socket]:
        with (
            psycopg.connect(
                host=url.host,
                port=url.port,
                user=url.username,
                password=url.password,
                dbname=url.database,
                autocommit=True,
                sslmode="disable",
            ) as connection,
            socket.socket(fileno=os.dup(connection.fileno())) as own,
        ):
            own.setblocking(True)
            yield own

    def messages(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        self._rest += data
        while len(self._rest) >= 5:
            kind = self._rest[:1] if self._greeted else b""
            size = self._rest[len(kind) : len(kind) + 4]
            end = len(kind) + int.from_bytes(size, "big")
            if len(self._rest) < end:
                return
            message, self._rest = self._rest[:end], self._rest[end:]
            if not kind:
                number = int.from_bytes(message[4:8], "big")
                self._greeted = number not in _ASKS
            elif kind == b"Q":
                self._reads = self._is_read(message[5:])
            elif kind == b"P":
                # After the name of what is prepared, which is none.
                statement = message[5:].split(b"\0", 2)[1]
                self._reads = self._is_read(statement)
            self._together += message
            if kind in (b"", b"p", b"Q", b"S", b"X"):
                together, self._together = self._together, b""
                yield self._reads, together
                self._reads = False

    def _is_pinned_at_once(self) -> bool:
        return False
