# SPDX-License-Identifier: Apache-2.0

"""Headers from a file, which is read again when it changes."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from profiler_bridge import exceptions

LOG = logging.getLogger(__name__)

_MOST_BYTES = 65536
# RFC 9110: a token; visible characters with spaces and tabs between them.
_is_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}").fullmatch
_is_value = re.compile(r"[ \t!-~]*").fullmatch
#: Those that requests have by themselves.
_OWN = frozenset(
    {
        *("connection", "content-encoding", "content-length"),
        *("content-type", "expect", "host", "transfer-encoding"),
    }
)
# Options are looked at more than once before processes are forked.
_warned_of: set[Path] = set()


class HeadersFile:
    """Lines like ``name: value``; empty ones, and those after # are comments.

    :raises ConfigurationError: it cannot be read or used; the words have
        nothing of its values
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        status = self._status()
        self._seen: tuple[int, ...] | None = _stamp(status)
        self._headers = self._read()
        if status.st_mode & stat.S_IROTH and path not in _warned_of:
            _warned_of.add(path)
            LOG.warning(
                "Every user of this host may read %s, which may have"
                " passwords or tokens",
                path,
            )

    def headers(self) -> Mapping[str, str]:
        """Those of the file; as they were when it cannot be used now."""
        problem = self._read_again()
        if problem and self._seen is not None:
            LOG.warning("%s; the headers remain as they were", problem)
            self._seen = None
        return self._headers

    def _read_again(self) -> str:
        """Read them, if they have changed; why that is impossible, if so."""
        try:
            stamp = _stamp(self._status())
            if stamp != self._seen:
                headers = self._read()
                self._seen, self._headers = stamp, headers
                LOG.info("%s is read again", self._path)
        except exceptions.ConfigurationError as error:
            return str(error)
        return ""

    def _status(self) -> os.stat_result:
        try:
            status = self._path.stat()
        except OSError as error:
            raise self._error(error.strerror) from None
        if not stat.S_ISREG(status.st_mode):
            raise self._error("it is no file")
        return status

    def _read(self) -> dict[str, str]:
        try:
            with self._path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1).decode("ascii")
        except OSError as error:
            raise self._error(error.strerror) from None
        except UnicodeDecodeError:
            raise self._error("it is not in ASCII") from None
        if len(text) > _MOST_BYTES:
            raise self._error(f"it has more than {_MOST_BYTES} bytes")
        headers: dict[str, str] = {}
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, colon, value = line.partition(":")
            if not (colon and _is_name(name) and _is_value(value)):
                raise self._error(f"line {number} is not like name: value")
            if name.lower() in _OWN:
                raise self._error(
                    f"line {number}: {name} is set by the bridge itself"
                )
            if name.lower() in map(str.lower, headers):
                raise self._error(f"line {number}: {name} is there already")
            headers[name] = value.strip()
        return headers

    def _error(self, problem: str | None) -> exceptions.ConfigurationError:
        return exceptions.ConfigurationError(
            f"headers_file {self._path} in [forward]: {problem}"
        )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Changes when a file does."""
    return status.st_ino, status.st_size, status.st_mtime_ns
