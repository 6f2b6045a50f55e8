# SPDX-License-Identifier: Apache-2.0

"""The HTTP service, as a source."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlencode, urlsplit

from profiler_bridge import exceptions, timed
from profiler_bridge.notification import Notification, is_id
from profiler_bridge.reading.answers import Answers, Listed
from profiler_bridge.reading.options import LIMIT, limit, options
from profiler_bridge.text import printable
from profiler_bridge.url import MASK, check

# Schemes, and the ports of their URLs that have none.
_PORTS = {"bridge+http": 80, "bridge+https": 443}
# So much of an answer is read, in bytes.
_MOST_READ = 2**28
_CHUNK = 2**20
_MOST_OF_ERROR = 2**16
# How many characters of an error's words are shown.
_LONGEST = 200
# Seconds, for a request as a whole.
_TIMEOUT = 60.0
_is_path = re.compile("[!-~]*").fullmatch
_WRONG = "what it answers is cut off, or not of profiler-bridge-api"


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        raise ValueError("a number of seconds, such as 10")
    return float(text)


def _file(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("the whole path of a file, from /")
    return text


# To read the system's certificates takes 30 ms of CPU, and Rally has a driver
# for each iteration.
@functools.lru_cache(8)
def _context(ca_file: str | None, changed: int) -> ssl.SSLContext:
    """What servers are trusted with.

    :param changed: when the file was; it is read again after that
    """
    return ssl.create_default_context(cafile=ca_file)


_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "limit": limit,
    "timeout": _seconds,
}


def answers(connection_str: str) -> Answers:
    """Those of ``bridge+http://user:password@host:port/path?limit=100``.

    Each is one request, over a connection of its own. Proxies that the
    environment names are not used, redirections not followed.

    :raises ConfigurationError: there is something wrong with the connection
        string, in words without its password
    :raises ValueError: or with an option in it
    """
    scheme = urlsplit(connection_str).scheme
    check(connection_str, f"the {scheme}:// URL")
    parts = urlsplit(connection_str)
    given = options(
        parts.query,
        {**_OPTIONS, "ca_file": _file}
        if parts.scheme == "bridge+https"
        else _OPTIONS,
        f"{parts.scheme}://",
    )
    return Answers(
        _Served(
            connection_str,
            given.get("timeout", _TIMEOUT),
            given.get("ca_file"),
        ),
        given.get("limit", LIMIT),
    )


def _message(body: bytes) -> str:
    """What the service says of an error; empty for any other's words."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return message if isinstance(message, str) else ""


class _Served:
    """A :class:`profiler_bridge.reading.answers.Source`."""

    def __init__(self, url: str, timeout: float, ca_file: str | None) -> None:
        parts = urlsplit(url)
        login, _, place = parts.netloc.rpartition("@")
        text = f"{parts.scheme}://{f'{MASK}@' if login else ''}{place}"
        self._name = f"{text}{parts.path}"
        try:
            self._host = (parts.hostname or "").encode("idna").decode()
        except UnicodeError:
            self._host = ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._path = parts.path.rstrip("/")
        if not self._host or not _is_path(self._path) or parts.fragment:
            self._refuse(
                "it needs a host that can be looked up, a path in ASCII or"
                " none, and nothing after #"
            )
        self._timeout = timeout
        self._tls = None
        if parts.scheme == "bridge+https":
            try:
                changed = ca_file and Path(ca_file).stat().st_mtime_ns
                self._tls = _context(ca_file, changed or 0)
            except ssl.SSLError:
                self._refuse("ca_file: there is no certificate in it")
            except OSError as error:
                self._refuse(f"ca_file: {error.strerror}")
        self._headers = {
            "Accept": "application/json",
            "Connection": "close",
            "User-Agent": "profiler-bridge",
        }
        if login:
            user, _, password = login.partition(":")
            pair = f"{unquote(user)}:{unquote(password)}".encode()
            basic = base64.b64encode(pair).decode()
            self._headers["Authorization"] = f"Basic {basic}"

    def notifications(self, base_id: str) -> list[Notification]:
        if not is_id(base_id):
            return []
        points = self._get(f"/v1/traces/{base_id}/points")
        try:
            notifications = [*map(Notification.from_payload, points)]
        except exceptions.InvalidNotification:
            self._fail(_WRONG)
        return notifications

    def newest(self, limit: int, error: bool) -> list[Listed]:
        given = {"limit": limit, **({"error": "true"} if error else {})}
        listed = []
        for row in self._get(f"/v1/traces?{urlencode(given)}")[:limit]:
            if not isinstance(row, dict):
                self._fail(_WRONG)
            base_id, timestamp = row.get("Base ID"), row.get("Started (UTC)")
            title = row.get("Title")
            if not (
                isinstance(base_id, str)
                and is_id(base_id)
                and isinstance(timestamp, str)
                and isinstance(title, str | None)
            ):
                self._fail(_WRONG)
            listed.append(Listed(base_id, timestamp, title))
        return listed

    def _get(self, path: str) -> list[Any]:
        try:
            status, reason, body = self._request(path)
        except (OSError, http.client.HTTPException) as error:
            self._fail(timed.described(error))
        if status == 401 and "Authorization" not in self._headers:
            scheme = self._name.partition(":")[0]
            self._fail(
                "it wants to know who asks (401); write"
                f" {scheme}://user:password@host"
            )
        if status in (401, 403):
            self._fail(f"it refuses this user ({status})")
        if status != 200:
            words = printable(_message(body) or reason)[:_LONGEST]
            self._fail(f"it answers {status} {words}".rstrip())
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            self._fail(_WRONG)
        if not isinstance(answer, list):
            self._fail(_WRONG)
        return answer

    def _request(self, path: str) -> tuple[int, str, bytes]:
        """Status, its words and the body: that of an error may be cut."""
        until = time.monotonic() + self._timeout
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.auto_open = 0
        connected = timed.connect(self._host, self._port, self._tls, until)
        try:
            connection.sock = connected
            connection.request(
                "GET", f"{self._path}{path}", headers=self._headers
            )
            with connection.getresponse() as answer:
                wanted = answer.headers.get("WWW-Authenticate", "")
                if answer.status == 401 and wanted.startswith("Keystone"):
                    self._fail(
                        "it wants a token of Keystone (401), which is not"
                        " sent: read where auth_strategy is http_basic"
                    )
                if answer.status != 200:
                    error = answer.read(_MOST_OF_ERROR)
                    return answer.status, answer.reason, error
                body = bytearray()
                while chunk := answer.read(_CHUNK):
                    body += chunk
                    if len(body) > _MOST_READ:
                        self._fail(
                            f"its answer has more than {_MOST_READ >> 20} MiB"
                        )
                return answer.status, answer.reason, bytes(body)
        finally:
            connected.end()

    def _refuse(self, problem: str) -> NoReturn:
        raise exceptions.ConfigurationError(
            f"{self._name} cannot be used: {problem}"
        )

    def _fail(self, problem: str) -> NoReturn:
        raise exceptions.StorageError(
            f"{self._name} cannot be read: {problem}"
        )
