# SPDX-License-Identifier: Apache-2.0

"""The HTTP service as its user runs it: a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import servers
from tests.benchmarks.listener import memory, peak_memory
from tests.daemon import script, wait_for

_NOTHING: Mapping[str, str] = {}


class Service:
    """A service that listens.

    :param port: where, on loopback
    :param log: what it writes
    """

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log: Path
    ) -> None:
        self._process = process
        self._port = port
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def cpu(self) -> float:
        """Seconds of CPU time since its start."""
        return servers.cpu(self._process.pid)

    @property
    def memory(self) -> int:
        """Bytes that it has now."""
        return memory(self._process.pid)

    @property
    def peak_memory(self) -> int:
        """The most bytes that it ever had."""
        return peak_memory(self._process.pid)

    def connect(self) -> Connection:
        return Connection(self._port)


class Answer:
    """A whole answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.etag = response.headers["ETag"]
        self.body = response.read()


class Connection:
    """One client's, which it keeps."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=120
        )

    def get(self, path: str, headers: Mapping[str, str] = _NOTHING) -> Answer:
        """Ask, without gzip.

        :raises OSError: there is no whole answer
        :raises http.client.HTTPException: likewise
        """
        try:
            self._connection.request("GET", path, headers={**headers})
            return Answer(self._connection.getresponse())
        except (OSError, http.client.HTTPException):
            # The next begins anew.
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def serving(folder: Path, url: str, options: str = "") -> Iterator[Service]:
    """Serve what a storage has, until the end of the block.

    :param folder: for configuration and log
    :param url: the storage's
    :param options: further lines of [api]
    """
    port = servers.free_port()
    path = folder / "api.conf"
    path.write_text(
        f"[osprofiler]\nconnection_string = {url}\n"
        f"[api]\nport = {port}\n{options}\n"
    )
    log = folder / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [script("profiler-bridge-api"), f"--config-file={path}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    service = Service(process, port, log)
    try:
        wait_for(lambda: "Listening on" in service.log, "the service listens")
        yield service
        process.terminate()
        if process.wait(30):
            raise RuntimeError(f"the service failed: {service.log[-2000:]}")
    finally:
        process.kill()
        process.wait()
