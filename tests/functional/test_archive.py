# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage archive, and copy of what it wrote."""

from __future__ import annotations

import gzip
import importlib
import json
import resource
import signal
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from profiler_bridge import archive, exceptions, transfer
from profiler_bridge.archive import Archive, Damage, Portion
from profiler_bridge.body import decode_body
from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    TEXTS,
    VALUES,
    Payload,
    new_id,
    notifications,
    one_span,
    request,
    seeded,
)
from tests import recorded
from tests.daemon import script

DAY = "2026-02-03"
Texts = dict[str, list[str]]


def texts(storage: Storage) -> Texts:
    """Everything in a storage: by trace, byte for byte."""
    page = storage.list_traces(TraceQuery(limit=None))
    return {
        summary.base_id: sorted(
            one.text for one in storage.notifications(summary.base_id)
        )
        for summary in page
    }


def hostile() -> list[list[Payload]]:
    """Texts, numbers and moments that a storage may stumble over."""
    made = [
        one_span(
            seed=seed,
            name=text,
            info={"db": {"statement": text, "params": [text, {text: text}]}},
            service=text,
            host=text,
            error=text,
        )
        for seed, text in enumerate(TEXTS.values())
    ]
    made += [
        one_span(seed=100 + seed, info={"db": {"params": value}})
        for seed, value in enumerate(VALUES.values())
    ]
    first, last = one_span(seed=200)
    first |= {"timestamp": "0001-01-01T00:00:00.000000", "A": {"base_id": 1}}
    last |= {"timestamp": "9999-12-31T23:59:59.999999", "service": None}
    return [*made, [first, last]]


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A command of profiler-bridge-manage; its storage is the target."""
    config = folder / "bridge.conf"
    config.write_text(
        f"[osprofiler]\nconnection_string = sqlite:///{folder}/target\n"
        f"[bridge]\nset_aside = {folder}/set-aside\n"
    )
    return subprocess.run(
        [
            script("profiler-bridge-manage"),
            f"--config-file={config}",
            *args,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def source(sqlite_url: str) -> Iterator[Storage]:
    storage = get_storage(sqlite_url)
    storage.prepare()
    yield storage
    storage.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def write(
    storage: Storage,
    folder: Path,
    query: TraceQuery | None = None,
    report: Callable[[str], object] = pytest.fail,
) -> Archive:
    with Archive(folder, "gzip", report) as target:
        for _ in transfer.archive(storage, query or TraceQuery(), target):
            pass
    return target


def names(folder: Path) -> list[str]:
    """All of it, but for the lock."""
    return sorted(
        path.name for path in folder.iterdir() if path.name != ".lock"
    )


def restored(
    folder: Path, tmp_path: Path, query: TraceQuery | None = None
) -> tuple[transfer.Transfer, Texts]:
    """What comes of all files in a storage."""
    storage = get_storage(f"sqlite:///{tmp_path}/back")
    storage.prepare()
    set_aside = SetAside(f"{tmp_path}/set-aside", 2**20)
    done = transfer.Transfer(storage, set_aside, pytest.fail)
    for path in archive.files(folder):
        content = archive.read(path)
        for _ in done.restore(str(path), content, query or TraceQuery()):
            pass
    return done, texts(storage)


def read_back(
    folder: Path, tmp_path: Path, query: TraceQuery | None = None
) -> Texts:
    return restored(folder, tmp_path, query)[1]


def traces(count: int, seed: int = 1) -> list[list[Payload]]:
    """One starts each second."""
    rng = seeded(seed)
    return [
        request(
            rng,
            STARTED + number * SECOND,
            error="NotFound" if number == 1 else None,
        )
        for number in range(count)
    ]


def test_what_is_archived_comes_back_as_it_was(
    source: Storage,
    sqlite_url: str,
    redis_url: str,
    tmp_path: Path,
    folder: Path,
) -> None:
    """Real traces with typed values, and hostile ones."""
    for body in (recorded.server_create(), recorded.keystone()):
        messages = map(decode_body, body)
        payloads = [m["payload"] for m in messages if isinstance(m, dict)]
        source.write(notifications(payloads))
    for payloads in hostile():
        source.write(notifications(payloads))
    stored = texts(source)
    assert len(stored) == 4 + len(TEXTS) + len(VALUES) + 1
    done = run(
        tmp_path,
        *("archive", "--from", sqlite_url, "--to", str(folder)),
        *("--compression", "zstd"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    count = sum(map(len, stored.values()))
    made = archive.files(folder)
    assert done.stdout == (
        f"{len(stored)} traces archived ({count} notifications) in"
        f" {len(made)} files, 0 were there\n"
    )
    assert len({path.name[:10] for path in made}) == len(made)
    for path in made:
        for portion in archive.read(path):
            assert isinstance(portion, Portion)
            first = portion.notifications[0]
            assert first.payload["timestamp"][:10] == path.name[:10]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
    back = run(tmp_path, "copy", str(folder), "--to", redis_url)
    assert (back.returncode, back.stderr) == (0, "")
    assert back.stdout == (
        f"{len(stored)} traces copied ({count} notifications), 0 were there,"
        " 0 notifications set aside\n"
    )
    assert texts(get_storage(redis_url)) == stored


def test_a_line_is_what_is_stored(source: Storage, folder: Path) -> None:
    stored = [notifications(payloads) for payloads in traces(3)]
    for trace in stored:
        source.write(trace)
    write(source, folder)
    lines = gzip.decompress((folder / f"{DAY}.jsonl.gz").read_bytes())
    newest_first = [one.text for trace in stored[::-1] for one in trace]
    assert lines.decode() == "\n".join([*newest_first, ""])


def test_run_again(source: Storage, folder: Path, tmp_path: Path) -> None:
    """What is new, or has become more, goes into a further file."""
    first, more, new = traces(3)
    midnight = one_span(seed=9, started=STARTED + 86_400 * SECOND)
    for payloads in (first, more[:3], midnight):
        source.write(notifications(payloads))
    write(source, folder)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    assert [*before] == [f"{DAY}.jsonl.gz", "2026-02-04.jsonl.gz"]
    again = write(source, folder)
    assert (again.traces, again.there, again.files) == (0, 3, 0)
    source.write(notifications(more))
    source.write(notifications(new))
    again = write(source, folder)
    assert (again.traces, again.there, again.files) == (2, 2, 1)
    assert names(folder) == [f"{DAY}.1.jsonl.gz", *before]
    for name, content in before.items():
        assert (folder / name).read_bytes() == content
    later = [*archive.read(folder / f"{DAY}.1.jsonl.gz")]
    assert [
        len(portion.notifications)
        for portion in later
        if isinstance(portion, Portion)
    ] == [len(new), len(more)]
    assert read_back(folder, tmp_path) == texts(source)
    # What the storage has no more is not taken for a change.
    source.purge(STARTED + 2 * SECOND)
    again = write(source, folder)
    assert (again.traces, again.there) == (0, 2)


def test_a_process_that_is_killed_leaves_no_half_a_file(
    source: Storage, sqlite_url: str, folder: Path, tmp_path: Path
) -> None:
    for payloads in traces(5):
        source.write(notifications(payloads))
    killed = (
        "import os, pathlib, sys\n"
        "from profiler_bridge import archive, query, storage, transfer\n"
        "source = storage.get_storage(sys.argv[1])\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "with archive.Archive(folder, 'gzip', print) as target:\n"
        "    steps = transfer.archive(source, query.TraceQuery(), target)\n"
        "    for _ in range(3): next(steps)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", killed, sqlite_url, str(folder)], check=False
    )
    assert done.returncode == -signal.SIGKILL
    temporary = f".{DAY}.jsonl.gz.tmp"
    assert names(folder) == [temporary]
    assert archive.files(folder) == []
    said: list[str] = []
    assert write(source, folder, report=said.append).traces == 5
    assert said == [
        f"{folder / temporary}: removed; who wrote it was interrupted"
    ]
    assert read_back(folder, tmp_path) == texts(source)


def test_interrupted(source: Storage, folder: Path) -> None:
    for payloads in traces(2):
        source.write(notifications(payloads))
    target = Archive(folder, "gzip", pytest.fail)

    def interrupt() -> None:
        with target:
            next(transfer.archive(source, TraceQuery(), target))
            assert len(names(folder)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert names(folder) == []


def test_one_at_a_time(folder: Path) -> None:
    with (
        Archive(folder, "gzip", pytest.fail),
        pytest.raises(exceptions.ArchiveError, match="another command"),
        Archive(folder, "gzip", pytest.fail),
    ):
        pass
    with Archive(folder, "gzip", pytest.fail):
        pass


def test_no_room(
    source: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the kernel's; then there is room, and all is written."""
    rng = seeded(1)
    info = {"random": [new_id(rng) for _ in range(2000)]}
    source.write(notifications(one_span(info=info)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(exceptions.ArchiveError) as raised:
            write(source, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    path = folder / f"{DAY}.jsonl.gz"
    assert str(raised.value) == f"{path}: File too large"
    assert names(folder) == []
    assert write(source, folder).traces == 1


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_file_that_is_cut_off(
    ending: str, source: Storage, folder: Path, tmp_path: Path
) -> None:
    for payloads in traces(60):
        source.write(notifications(payloads))
    compression = {"gz": "gzip", "zst": "zstd"}[ending]
    with Archive(folder, compression, pytest.fail) as target:
        for _ in transfer.archive(source, TraceQuery(), target):
            pass
    path = folder / f"{DAY}.jsonl.{ending}"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    done = run(tmp_path, "copy", str(path))
    assert done.returncode == 1
    copied = texts(get_storage(f"sqlite:///{tmp_path}/target"))
    number = sum(map(len, copied.values()))
    assert number > 200
    assert done.stderr == (
        f"{path}: line {number + 1}: the file is cut off here; what comes"
        " before was read\n"
    )
    stored = texts(source)
    # Newest first; of the last one a part.
    *whole, last = sorted(copied, key=list(stored).index)
    assert whole == list(stored)[: len(whole)]
    assert {base_id: copied[base_id] for base_id in whole} == {
        base_id: stored[base_id] for base_id in whole
    }
    assert {*copied[last]} <= {*stored[last]}
    # What is lost is archived again.
    said: list[str] = []
    again = write(source, folder, report=said.append)
    assert again.damaged == 1
    assert "cut off" in said[0]
    assert again.traces in (60 - len(whole), 61 - len(whole))
    assert path.read_bytes() == content[: len(content) // 2]


def test_lines_that_are_damaged(tmp_path: Path) -> None:
    """Named, and set aside; all others are read."""
    [trace] = traces(1)
    good = [one.text for one in notifications(trace)]
    bad = json.dumps({**trace[0], "timestamp": "yesterday"})
    path = tmp_path / "any name.jsonl"
    lines = [*good[:2], "{", *good[2:], bad, "\udcff\x1b"]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    done = run(tmp_path, "copy", str(path))
    assert done.returncode == 1
    assert done.stdout.startswith(f"1 traces copied ({len(good)} notifi")
    last = len(lines)
    three, before_last, its_last = done.stderr.splitlines()
    assert three.startswith(f"{path}: line 3: is not JSON: ")
    assert before_last.startswith(f"{path}: line {last - 1}: timestamp is not")
    assert its_last.startswith(f"{path}: line {last}: is not JSON: ")
    assert texts(get_storage(f"sqlite:///{tmp_path}/target")) == {
        trace[0]["base_id"]: sorted(good)
    }
    set_aside = SetAside(f"{tmp_path}/set-aside", 2**20)
    assert [
        (message.reason, json.loads(message.to_bytes())["payload"])
        for message in set_aside.messages()
    ] == [
        ("not-an-object", "{"),
        ("bad-timestamp", json.loads(bad)),
        ("not-an-object", "\\xff\x1b"),
    ]


def test_files_that_others_made_of_it(source: Storage, folder: Path) -> None:
    """Written with other spaces, put together, or without compression."""
    for payloads in traces(2):
        source.write(notifications(payloads))
    write(source, folder)
    content = (folder / f"{DAY}.jsonl.gz").read_bytes()
    lines = gzip.decompress(content)
    spaced = "".join(
        json.dumps(json.loads(line), ensure_ascii=False, indent=None) + "\r\n"
        for line in lines.splitlines()
    ).encode()
    expected = [*archive.read(folder / f"{DAY}.jsonl.gz")]
    assert len(expected) == 2
    for other in (
        lines,
        lines[:-1],
        spaced,
        zstandard.compress(lines[:1000]) + zstandard.compress(lines[1000:]),
        gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]),
    ):
        path = folder / "other"
        path.write_bytes(other)
        assert [
            sorted(one.text for one in portion.notifications)
            for portion in archive.read(path)
            if isinstance(portion, Portion)
        ] == [
            sorted(one.text for one in portion.notifications)
            for portion in expected
            if isinstance(portion, Portion)
        ]
        assert archive.is_archive(path) or other.startswith(b"{")


def zeros(size: int) -> Iterator[bytes]:
    compressor = zlib.compressobj(wbits=31)
    for _ in range(size >> 20):
        yield compressor.compress(bytes(1 << 20))
    yield compressor.flush()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bombs(compression: str, tmp_path: Path) -> None:
    """What unpacks to one line without an end, or to millions of them."""
    size = archive.LONGEST_LINE + (16 << 20)
    if compression == "gzip":
        line = b"".join(zeros(size))
        ends = gzip.compress(b"\n" * (4 << 20))
    else:
        line = zstandard.compress(bytes(size))
        ends = zstandard.compress(b"\n" * (4 << 20))
    path = tmp_path / "bomb"
    path.write_bytes(line)
    tracemalloc.start()
    try:
        [damage] = archive.read(path)
        assert tracemalloc.get_traced_memory()[1] < archive.LONGEST_LINE * 2
        assert damage == Damage(
            1, "this is longer than 48 MiB: the rest is not read"
        )
        tracemalloc.reset_peak()
        path.write_bytes(ends)
        *lines, last = archive.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert len(lines) == archive.MOST_DAMAGED
    assert isinstance(last, Damage)
    assert "1000 lines are no notifications" in last.problem


def test_lines_that_are_nested_too_deep(tmp_path: Path) -> None:
    [start, _] = one_span()
    deep = "[" * 300 + "]" * 300
    path = tmp_path / "deep.jsonl"
    path.write_text(
        "\n".join(
            [
                "[" * 1_000_000,
                '{"a":' * 100_000,
                json.dumps({**start, "info": {"x": 0}}).replace(
                    "0}", deep + "}"
                ),
                json.dumps(start).replace('"db-start"', "1" * 100_000),
            ]
        )
    )
    contents = [*archive.read(path)]
    assert [
        damage.reason for damage in contents if isinstance(damage, Damage)
    ] == ["not-an-object", "not-an-object", "not-encodable", "not-an-object"]


def test_traces_are_chosen(
    source: Storage, folder: Path, tmp_path: Path
) -> None:
    made = traces(4)
    for payloads in made:
        source.write(notifications(payloads))
    base_ids = [payloads[0]["base_id"] for payloads in made]
    for number, (query, chosen) in enumerate(
        (
            (TraceQuery(error=True), base_ids[1:2]),
            (TraceQuery(since=STARTED + 2 * SECOND), base_ids[2:]),
            (TraceQuery(operations=["UPDATE servers"]), base_ids),
            (TraceQuery(operations=["!UPDATE servers"]), []),
        )
    ):
        there = folder / "all"
        folder.mkdir(exist_ok=True)
        own = tmp_path / str(number)
        own.mkdir()
        write(source, there)
        assert {*read_back(there, own, query)} == {*chosen}
        assert write(source, folder / str(number), query).traces == len(chosen)


def test_days_that_are_not_asked_for_are_not_read(folder: Path) -> None:
    folder.mkdir()
    for name in (
        *("2026-02-02.jsonl.gz", f"{DAY}.jsonl.gz", f"{DAY}.10.jsonl.zst"),
        *(f"{DAY}.2.jsonl", "2026-02-04.jsonl.gz", "2026-13-01.jsonl.gz"),
        *("notes.txt", f".{DAY}.3.jsonl.gz.tmp"),
    ):
        (folder / name).touch()
    paths = archive.files(folder, since=STARTED, until=STARTED + SECOND)
    assert [path.name for path in paths] == [
        f"{DAY}.jsonl.gz",
        f"{DAY}.2.jsonl",
        f"{DAY}.10.jsonl.zst",
    ]
    assert len(archive.files(folder)) == 5


def test_a_trace_that_is_too_large_for_memory(
    source: Storage,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes in parts, and only its start can be asked for."""
    small, large = request(seeded(1)), request(seeded(2), calls=20)
    for payloads in (small, large):
        source.write(notifications(payloads))
    write(source, folder)
    monkeypatch.setattr(archive, "_NOTIFICATIONS", 20)
    [path] = archive.files(folder)
    assert sorted(
        len(portion.notifications)
        for portion in archive.read(path)
        if isinstance(portion, Portion)
    ) == sorted([2, *[20] * 6, len(small)])
    monkeypatch.setattr(transfer, "_NOTIFICATIONS", 20)
    done, copied = restored(folder, tmp_path)
    assert copied == texts(source)
    assert (done.traces, done.there) == (2, 0)
    done, copied = restored(folder, tmp_path)
    assert copied == texts(source)
    assert (done.traces, done.there) == (0, 2)
    (tmp_path / "error").mkdir()
    copied = read_back(folder, tmp_path / "error", TraceQuery(error=True))
    assert {*copied} == {large[0]["base_id"]}
    assert len(copied[large[0]["base_id"]]) == len(large)


def test_what_cannot_be_read_back_is_not_written(
    source: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, stop = one_span(info={"x": "x" * 2000})
    source.write(notifications([start, stop]))
    monkeypatch.setattr(archive, "LONGEST_LINE", 1000)
    said: list[str] = []
    done = write(source, folder, report=said.append)
    assert (done.notifications, done.left_out) == (1, 1)
    assert said[0].startswith(f"{start['base_id']}: a notification is left")


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["archive", "--to", "{folder}/bridge.conf"], "Not a directory"),
        (["archive", "--to", "x", "--from", "nosuch://x"], "no storage plug"),
        (["copy", "{folder}"], "there is no archive in it"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    args: list[str], problem: str, tmp_path: Path
) -> None:
    get_storage(f"sqlite:///{tmp_path}/target").prepare()
    done = run(tmp_path, *(arg.format(folder=tmp_path) for arg in args))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert problem in line


def test_without_zstd(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(b"{}\n"))
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(exceptions.ConfigurationError, match="zstandard"):
        Archive(folder, "zstd", pytest.fail)
    assert not folder.exists()
    [damage] = archive.read(path)
    assert isinstance(damage, Damage)
    assert "profiler_bridge[zstd]" in damage.problem


def test_notifications_are_the_same_objects_again(folder: Path) -> None:
    [trace] = traces(1)
    written = notifications(trace)
    with Archive(folder, "gzip", pytest.fail) as target:
        target.add(written)
        target.add([])
        target.finish()
    [portion] = archive.read(archive.files(folder)[0])
    assert isinstance(portion, Portion)
    assert portion.whole
    assert sorted(portion.notifications, key=_text) == sorted(
        written, key=_text
    )


def _text(notification: Notification) -> str:
    return notification.text
