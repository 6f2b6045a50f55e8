# SPDX-License-Identifier: Apache-2.0

"""Traces in files: cold storage which any file system or object store takes.

A line is a notification, byte for byte as it is stored; the lines of a trace
stand together, in the order of time. A file has traces that started on one
day, in UTC, and is compressed. It is written once, under a temporary name, and
gets its own when all of it is on the disk; nothing changes it after that.

What a day's files have already is not written again. A trace of which they
have something else than is stored now, most likely less, is written again,
whole, into a further file of the day: ``2026-11-25.1.jsonl.gz``. So each file
can be read alone, and whoever reads all of them finds nothing twice, because a
notification is identified by its text. To compare, the files of the day are
read, and of each trace a digest is kept: in a temporary database of SQLite's,
so that the size of a day does not matter.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import importlib
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple, Self

from profiler_bridge import body, exceptions
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import (
    Notification,
    check_depth,
    format_timestamp,
    parse_timestamp,
)

#: How files can be compressed, and how their names end then.
COMPRESSIONS = {"gzip": ".gz", "zstd": ".zst"}
#: How long a line may be, in bytes: as ASCII, a message that the bus takes can
#: be three times as long.
LONGEST_LINE = 3 * body.LARGEST
#: A file with so many lines that are no notifications is given up.
MOST_DAMAGED = 1000

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# Bytes that are looked at, at once.
_CHUNK = 1 << 16
# 3 bytes of zstd can become 128 KiB, and all of them come at once.
_ZSTD_CHUNK = 1 << 10
# How much of one trace is in memory when files are read.
_NOTIFICATIONS = 20_000
_CHARACTERS = 32_000_000
_LOCK = ".lock"
_DAY = 86_400_000_000
_is_name = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:\.(\d{1,9}))?\.jsonl(?:\.gz|\.zst)?", re.ASCII
).fullmatch
_is_temporary = re.compile(r"\.\d{4}-\d\d-\d\d\..*\.tmp", re.ASCII).fullmatch
# As every notification begins that has no field before this one.
_base_id = re.compile(rb'\{"base_id":"([0-9A-Fa-f-]+)"').match


class Archive:
    """A directory that traces are added to, by one process at a time.

    It is made where it is missing. Methods raise :class:`ArchiveError` when
    something cannot be written; then what is under its own name is whole. To
    be used in a ``with`` statement, at whose end an unfinished file is
    removed. One that was left by a process that was killed is removed by the
    next.

    :param compression: one of :data:`COMPRESSIONS`
    :param report: is told in one line what else is noteworthy
    :raises ConfigurationError: what compresses so is not installed
    :ivar traces: how many were written
    :ivar notifications: how many were written
    :ivar there: how many traces were there, as they are
    :ivar files: how many were written
    :ivar left_out: how many notifications were not written
    :ivar damaged: how many files were there that cannot be read to the end
    """

    def __init__(
        self,
        directory: Path,
        compression: str,
        report: Callable[[str], object],
    ) -> None:
        self._directory = directory
        self._compression = compression
        self._report = report
        self._day = ""
        self._known: _Known | None = None
        self._file: _NewFile | None = None
        self._lock = -1
        self.traces = self.notifications = self.there = 0
        self.files = self.left_out = self.damaged = 0
        _compressor(compression)

    def __enter__(self) -> Self:
        with _errors(self._directory):
            with contextlib.suppress(FileExistsError):
                self._directory.mkdir(mode=0o700)
            self._lock = os.open(
                self._directory / _LOCK,
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
                0o600,
            )
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise exceptions.ArchiveError(
                    f"{self._directory}: another command writes there now"
                ) from None
            for path in self._directory.iterdir():
                if _is_temporary(path.name):
                    path.unlink()
                    self._report(
                        f"{path}: removed; who wrote it was interrupted"
                    )
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.discard()
        if self._known:
            self._known.close()
        os.close(self._lock)

    def add(self, notifications: Iterable[Notification]) -> None:
        """Write a trace, unless it is there.

        :param notifications: all of it; none is no error
        """
        lines = []
        started = None
        for one in sorted(notifications, key=_in_order):
            if len(one.text) > LONGEST_LINE:
                self.left_out += 1
                self._report(
                    f"{one.base_id}: a notification is left out, for it is"
                    f" longer than {LONGEST_LINE >> 20} MiB"
                )
                continue
            if started is None:
                started = one.timestamp
            lines.append(one.text.encode("ascii"))
        if started is None:
            return
        day = format_timestamp(started)[:10]
        if self._known is None or day != self._day:
            self.finish()
            self._known = self._read_day(day)
            self._day = day
        if not self._known.add(_digest(lines)):
            self.there += 1
            return
        if self._file is None:
            self._file = self._new_file()
        self._file.write(b"\n".join([*lines, b""]))
        self.traces += 1
        self.notifications += len(lines)

    def finish(self) -> None:
        """Complete the file that is being written."""
        if self._file:
            self._file.finish()
            self._file = None
            self.files += 1
        if self._known:
            self._known.close()
            self._known = None

    def _read_day(self, day: str) -> _Known:
        known = _Known()
        for path in files(self._directory, day):
            for lines in _traces(path):
                if isinstance(lines, str):
                    self.damaged += 1
                    self._report(
                        f"{path}: {lines}; what is lost is written again"
                        " where it is still stored"
                    )
                else:
                    known.add(lines)
        return known

    def _new_file(self) -> _NewFile:
        parts = [part for _, part, _ in _names(self._directory, self._day)]
        number = f".{max(parts) + 1}" if parts else ""
        ending = COMPRESSIONS[self._compression]
        path = self._directory / f"{self._day}{number}.jsonl{ending}"
        return _NewFile(path, _compressor(self._compression))


class _NewFile:
    """A file that nobody finds before it is whole."""

    def __init__(self, path: Path, compressor: Any) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._compressor = compressor
        with _errors(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self._temporary, flags, 0o600)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, content: bytes) -> None:
        with _errors(self._path):
            self._file.write(self._compressor.compress(content))

    def finish(self) -> None:
        with _errors(self._path):
            self._file.write(self._compressor.flush())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.rename(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        # What is in the buffer may be what there is no room for.
        with contextlib.suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class _Known:
    """Digests of the traces that a day's files have."""

    def __init__(self) -> None:
        # SQLite's own temporary database: on the disk when it becomes large,
        # and gone whatever ends the process.
        self._database = sqlite3.connect("", isolation_level=None)
        with self._errors():
            for statement in (
                "PRAGMA journal_mode = OFF",
                "PRAGMA cache_size = -32768",
                "CREATE TABLE known (digest BLOB PRIMARY KEY) WITHOUT ROWID",
                "BEGIN",
            ):
                self._database.execute(statement)

    def add(self, digest: bytes) -> bool:
        """Add a digest; whether it was missing."""
        with self._errors():
            done = self._database.execute(
                "INSERT OR IGNORE INTO known VALUES (?)", [digest]
            )
        return done.rowcount == 1

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise exceptions.ArchiveError(
                f"a temporary file, in SQLITE_TMPDIR or TMPDIR: {error}"
            ) from None


class Damage(NamedTuple):
    """What cannot be read of a file.

    :param line: its number, from 1
    :param problem: what is wrong, in one line
    :param reason: what kind of wrong the line is; None if it is the file's
        end that cannot be read
    :param payload: what is in the line, decoded as far as that goes
    """

    line: int
    problem: str
    reason: Reason | None = None
    payload: object = None


class Portion(NamedTuple):
    """Notifications of one trace, one or more.

    :param whole: whether they are all that stands together in the file
    """

    notifications: list[Notification]
    whole: bool


def read(path: Path) -> Iterator[Portion | Damage]:
    """Read a file, compressed or not, as far as it goes.

    In bounded memory, whatever is in it. A trace is whole, unless it is very
    large.
    """
    waiting: list[Notification] = []
    size = number = damaged = 0
    is_part = False
    problem = None
    try:
        for number, line in enumerate(_lines(path), 1):
            try:
                one = _decode(line)
            except exceptions.InvalidNotification as error:
                yield Damage(number, str(error), error.reason, _shown(line))
                damaged += 1
                if damaged == MOST_DAMAGED:
                    raise exceptions.ArchiveError(
                        f"{damaged} lines are no notifications: the rest is"
                        " not read"
                    ) from None
                continue
            is_same = bool(waiting) and one.base_id == waiting[0].base_id
            is_full = size >= _CHARACTERS or len(waiting) >= _NOTIFICATIONS
            if waiting and (is_full or not is_same):
                yield Portion(waiting, not (is_part or is_same))
                waiting, size, is_part = [], 0, is_same
            waiting.append(one)
            size += len(line)
    except exceptions.ArchiveError as error:
        problem = str(error)
    if waiting:
        yield Portion(waiting, not is_part)
    if problem is not None:
        yield Damage(number + 1, problem)


def is_archive(path: Path) -> bool:
    """Whether this is a directory, or looks like a file of an archive.

    :returns: False also for what cannot be read
    """
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            begin = file.read(4)
    except OSError:
        return False
    return path.suffix == ".jsonl" or begin.startswith((_GZIP, _ZSTD))


def files(
    directory: Path,
    day: str | None = None,
    *,
    since: int | None = None,
    until: int | None = None,
) -> list[Path]:
    """The files of an archive, in the order in which they are to be read.

    :param day: only those of this day, like ``2026-11-25``
    :param since: those with traces that started then or later, in
        microseconds since 1970
    :param until: and before
    :returns: empty for a directory without any
    :raises ArchiveError: the directory cannot be read
    """
    days = []
    for start, part, path in _names(directory, day):
        if until is not None and start >= until:
            continue
        if since is not None and start + _DAY <= since:
            continue
        days.append((start, part, path))
    return [path for _, _, path in sorted(days)]


def _names(
    directory: Path, day: str | None
) -> Iterator[tuple[int, int, Path]]:
    """Of each file its day in microseconds, its number on it, and its path."""
    with _errors(directory):
        paths = [*directory.iterdir()]
    for path in paths:
        match = _is_name(path.name)
        if not match or day not in (None, match[1]):
            continue
        with contextlib.suppress(exceptions.InvalidNotification):
            start = parse_timestamp(f"{match[1]}T00:00:00.000000")
            yield start, int(match[2] or 0), path


def _in_order(notification: Notification) -> tuple[int, str]:
    return notification.timestamp, notification.text


def _digest(lines: Iterable[bytes]) -> bytes:
    hashed = blake2b(digest_size=16)
    for line in lines:
        hashed.update(line)
        hashed.update(b"\n")
    return hashed.digest()


def _traces(path: Path) -> Iterator[bytes | str]:
    """The digests of a file's traces, as far as it can be read.

    :returns: at the end, why it cannot be read further, if that is so
    """
    hashed = blake2b(digest_size=16)
    base_id: object = None
    number = 0
    try:
        for number, line in enumerate(_lines(path), 1):  # noqa: B007
            match = _base_id(line)
            its_own = match[1] if match else _base_id_within(line)
            if its_own != base_id:
                if base_id is not None:
                    yield hashed.digest()
                hashed = blake2b(digest_size=16)
                base_id = its_own
            hashed.update(line)
            hashed.update(b"\n")
    except exceptions.ArchiveError as error:
        yield f"line {number + 1}: {error}"
    else:
        if base_id is not None:
            yield hashed.digest()


def _base_id_within(line: bytes) -> bytes:
    try:
        base_id: str = _decode(line).base_id
    except exceptions.InvalidNotification:
        return b""
    return base_id.encode()


def _decode(line: bytes) -> Notification:
    """A line's notification, with the line itself as its text.

    What is not as it was written becomes so: whatever a storage is given is
    printable ASCII.

    :raises InvalidNotification: it is none
    """
    try:
        text = line.decode()
        if text.isascii() and text.isprintable():
            notification = Notification.from_text(text)
            check_depth(notification.payload, text)
            return notification
        return Notification.from_payload(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise exceptions.InvalidNotification(
            Reason.NOT_AN_OBJECT, f"is not JSON: {str(error)[:60]!a}"
        ) from None


def _shown(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line.decode(errors="backslashreplace")


def _lines(path: Path) -> Iterator[bytes]:
    """A file's lines, without their ends.

    :raises ArchiveError: it can be read no further; what comes before, up to
        the last end of a line, has been given
    """
    parts: list[bytes] = []
    size = 0
    for chunk in _chunks(path):
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > LONGEST_LINE:
            raise exceptions.ArchiveError(
                f"this is longer than {LONGEST_LINE >> 20} MiB: the rest is"
                " not read"
            )
        if rest:
            yield b"".join(parts)
            yield from rest[:-1]
            parts, size = [rest[-1]], len(rest[-1])
    if size:
        yield b"".join(parts)


def _chunks(path: Path) -> Iterator[bytes]:
    """What is in a file, decompressed.

    :returns: at most :data:`_CHUNK` bytes at a time
    :raises ArchiveError: it can be read no further
    """
    wrong: tuple[type[Exception], ...] = (zlib.error, gzip.BadGzipFile)
    try:
        with path.open("rb") as file:
            begin = file.read(4)
            file.seek(0)
            if begin.startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as content:
                    while chunk := content.read1(_CHUNK):
                        yield chunk
            elif begin.startswith(_ZSTD):
                zstd = _zstd()
                wrong += (zstd.ZstdError,)
                yield from _from_zstd(zstd, file)
            else:
                while chunk := file.read(_CHUNK):
                    yield chunk
    except EOFError:
        raise exceptions.ArchiveError(
            "the file is cut off here; what comes before was read"
        ) from None
    except wrong:
        raise exceptions.ArchiveError(
            "the file is damaged here or before; the rest is not read"
        ) from None
    except (OSError, exceptions.ConfigurationError) as error:
        raise exceptions.ArchiveError(
            getattr(error, "strerror", None) or str(error)
        ) from None


def _from_zstd(zstd: ModuleType, file: IO[bytes]) -> Iterator[bytes]:
    """As :func:`_chunks` has it.

    :raises EOFError: it is cut off
    """
    if zstd.__name__ != "zstandard":
        with zstd.ZstdFile(file) as content:
            while chunk := content.read1(_CHUNK):
                yield chunk
        return
    decompressor = None
    while compressed := file.read(_ZSTD_CHUNK):
        while compressed:
            if decompressor is None:
                decompressor = zstd.ZstdDecompressor().decompressobj()
            content = decompressor.decompress(compressed)
            compressed = b""
            if decompressor.eof:
                compressed = decompressor.unused_data
                decompressor = None
            for at in range(0, len(content), _CHUNK):
                yield content[at : at + _CHUNK]
    if decompressor is not None:
        raise EOFError


def _compressor(compression: str) -> Any:
    """Something with ``compress`` and ``flush``."""
    if compression == "gzip":
        return zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    zstd = _zstd()
    if zstd.__name__ == "zstandard":
        return zstd.ZstdCompressor(write_checksum=True).compressobj()
    return zstd.ZstdCompressor(
        options={zstd.CompressionParameter.checksum_flag: 1}
    )


def _zstd() -> ModuleType:
    """Python's own since 3.14, or a library that is much alike."""
    for name in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise exceptions.ConfigurationError(
        "zstd needs Python 3.14 or the library zstandard: install"
        " profiler_bridge[zstd], from a checkout with pip install '.[zstd]'"
    )


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise exceptions.ArchiveError(
            f"{path}: {os.strerror(error.errno or errno.EIO)}"
        ) from error
