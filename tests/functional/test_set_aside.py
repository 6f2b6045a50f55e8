# SPDX-License-Identifier: Apache-2.0

"""What cannot be stored: kept, shown, replayed and dropped."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from profiler_bridge import exceptions
from profiler_bridge.cmd.set_aside import Replay
from profiler_bridge.daemon.collector import Collector
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import FORMAT, VERSION, Notification
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from tests import bus, verdicts
from tests.daemon import script
from tests.functional.test_bridge import pieces

MIB = 2**20


def kept(body: bytes | str) -> SetAsideMessage:
    return SetAsideMessage(
        Reason.BAD_ID, "base_id is not a UUID", "here", body
    )


def body(number: int, size: int = 10) -> SetAsideMessage:
    return kept(f"{number:0{size}}")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "set-aside.sqlite")


@pytest.fixture
def set_aside(path: str) -> SetAside:
    return SetAside(path, 10 * MIB)


def test_only_its_owner_reads_it(set_aside: SetAside, path: str) -> None:
    set_aside.prepare()
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_messages_come_back_as_they_went(set_aside: SetAside) -> None:
    messages = [body(1), body(2)]
    set_aside.add(messages)
    assert [message.body for message in set_aside.messages()] == [
        b"0000000001",
        b"0000000002",
    ]


def test_a_redelivered_message_is_kept_once(set_aside: SetAside) -> None:
    set_aside.add([body(1)])
    set_aside.add([body(1), body(2)])
    assert len(list(set_aside.messages())) == 2


def test_when_it_is_full_the_oldest_go(path: str) -> None:
    small = SetAside(path, MIB)
    gone = sum(small.add([body(number, 10_000)]) for number in range(300))
    left = [int(message.body[-4:]) for message in small.messages()]
    assert gone > 0
    assert left == list(range(gone, 300))
    assert Path(path).stat().st_size < 2 * MIB


def test_no_place_for_it_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        exceptions.ConfigurationError, match="set set_aside in"
    ):
        SetAside(str(tmp_path / "nowhere" / "file"), MIB).prepare()


def test_bytes_come_back_as_they_went(set_aside: SetAside) -> None:
    set_aside.add([kept(b"\xff\0{"), kept("\ud800")])
    assert [message.body for message in set_aside.messages()] == [
        b"\xff\0{",
        b"\xed\xa0\x80",
    ]


def test_a_text_of_any_kind_says_why(set_aside: SetAside) -> None:
    set_aside.add([SetAsideMessage(Reason.BAD_ID, "\ud800", "\udfff", "{}")])
    [message] = set_aside.messages()
    assert (message.detail, message.source) == ("\\ud800", "\\udfff")


OLD_TABLE = """
CREATE TABLE set_aside (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    time TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    source TEXT NOT NULL,
    body TEXT NOT NULL
)
"""


def test_a_file_of_an_older_release(set_aside: SetAside, path: str) -> None:
    text = '{"payload": null}'
    with sqlite3.connect(path) as old:
        old.execute(OLD_TABLE)
        old.execute(
            "INSERT INTO set_aside VALUES (7, ?, 'then', 'bad-id', '', '', ?)",
            (hashlib.blake2b(text.encode(), digest_size=16).digest(), text),
        )
    set_aside.add([kept(text), kept(b"\xff")])
    assert [
        (message.id, message.body) for message in set_aside.messages()
    ] == [
        (7, text.encode()),
        (9, b"\xff"),
    ]
    assert [size for _, size in set_aside.sizes()] == [len(text), 1]


@pytest.mark.parametrize(
    ("count", "size"), [(3000, 10), (300, 10_000), (3, 3 * MIB)]
)
def test_who_reads_slowly_keeps_nobody_from_writing(
    count: int, size: int, path: str
) -> None:
    set_aside = SetAside(path, 100 * MIB)
    set_aside.add(body(number, size) for number in range(count))
    reading = set_aside.messages()
    sizes = set_aside.sizes()
    first = next(reading)
    next(sizes)
    set_aside.add([kept(b"meanwhile")])
    set_aside.remove([first.id])
    assert [len(message.body) for message in reading][-2:] == [size, 9]
    assert [length for _, length in sizes] == [*[size] * (count - 1), 9]


def test_nothing_of_a_journal_is_left(set_aside: SetAside, path: str) -> None:
    """Another user's journal would be in the way of the bridge's user."""
    set_aside.add([body(1)])
    reading = set_aside.messages()
    next(reading)
    assert [file.name for file in Path(path).parent.iterdir()] == [
        Path(path).name
    ]


@pytest.fixture(params=["locked", "no journal", "no file", "no database"])
def unusable(
    request: pytest.FixtureRequest, set_aside: SetAside, path: str
) -> Iterator[SetAside]:
    set_aside.prepare()
    with contextlib.closing(sqlite3.connect(path)) as other:
        if request.param == "locked":
            other.execute("BEGIN EXCLUSIVE")
        elif request.param == "no journal":
            Path(f"{path}-journal").mkdir()
        elif request.param == "no file":
            Path(path).unlink()
            Path(path).mkdir()
        else:
            Path(path).write_text("no database " * 100)
        yield set_aside


def test_a_file_that_cannot_be_used_is_no_verdict(unusable: SetAside) -> None:
    """The collector holds the batch, as when the storage is away."""
    with pytest.raises(exceptions.SetAsideUnavailable, match=r"set-aside\."):
        unusable.add([body(1)])


def test_a_full_disk_is_no_verdict(path: str) -> None:
    """With a limit on the size of files, for want of a small disk."""
    script = f"""if True:
        import resource
        from profiler_bridge import exceptions
        from profiler_bridge.daemon import set_aside
        kept = set_aside.SetAside({path!r}, 2**30)
        message = set_aside.SetAsideMessage("bad-id", "", "", b"x" * 2**20)
        kept.prepare()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
        try:
            kept.add([message])
        except exceptions.SetAsideUnavailable as error:
            print(error)
        kept.add([set_aside.SetAsideMessage("bad-id", "", "", b"small")])
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith(path)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert [message.body for message in SetAside(path, MIB).messages()] == [
        b"small"
    ]


def payload() -> dict[str, Any]:
    return pieces(str(uuid.uuid4()), 1)[0]


REFUSED = [
    ("no object at all", Reason.NOT_AN_OBJECT),
    ({}, Reason.NOT_AN_OBJECT),
    (bus.envelope(None), Reason.NOT_AN_OBJECT),
    (bus.envelope([1]), Reason.NOT_AN_OBJECT),
    (bus.envelope({}), Reason.MISSING_FIELD),
    (bus.envelope({**payload(), "name": 5}), Reason.WRONG_TYPE),
    (bus.envelope({**payload(), "service": []}), Reason.WRONG_TYPE),
    (bus.envelope({**payload(), "info": "x"}), Reason.WRONG_TYPE),
    (bus.envelope({**payload(), "base_id": "*"}), Reason.BAD_ID),
    (bus.envelope({**payload(), "trace_id": "a\nb"}), Reason.BAD_ID),
    (bus.envelope({**payload(), "parent_id": "\0:"}), Reason.BAD_ID),
    (bus.envelope({**payload(), "name": "db"}), Reason.BAD_NAME),
    (bus.envelope({**payload(), "timestamp": "now"}), Reason.BAD_TIMESTAMP),
]


@pytest.mark.parametrize(("message", "reason"), REFUSED)
def test_what_is_refused_is_kept_verbatim(
    message: object, reason: Reason, set_aside: SetAside, sqlite_url: str
) -> None:
    good = payload()
    storage = get_storage(sqlite_url)
    collector = Collector(storage, set_aside)
    batch = [verdicts.message(message), verdicts.message(bus.envelope(good))]
    told = verdicts.Verdicts()
    collector.collect(batch, told)
    [kept] = set_aside.messages()
    assert {*told.acknowledged} == {*batch}
    assert kept.reason == reason
    assert json.loads(kept.body) == message
    assert len(storage.notifications(good["base_id"])) == 1


def test_every_reason_is_met() -> None:
    """So every documented reason can happen, and the other way round."""
    seen = {reason for _, reason in REFUSED}
    assert seen | {
        Reason.STORAGE_REFUSED,
        Reason.NOT_ENCODABLE,
        Reason.NOT_JSON,
        Reason.FAILED,
    } == {*Reason}


@pytest.mark.parametrize("culprits", [[0], [3, 4, 60], [99], range(0, 100, 7)])
def test_what_a_database_refuses_is_found(
    culprits: list[int], set_aside: SetAside, sqlite_url: str, tmp_path: Path
) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    with sqlite3.connect(tmp_path / "profiler.db") as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON bridge_pieces"
            " WHEN NEW.summary LIKE '%poison%'"
            " BEGIN SELECT RAISE(ABORT, 'not that'); END"
        )
    payloads = pieces(str(uuid.uuid4()), 50)
    for culprit in culprits:
        payloads[culprit]["name"] = "poison-stop"
    collector = Collector(storage, set_aside)
    collector.collect(
        [verdicts.message(bus.envelope(payload)) for payload in payloads],
        verdicts.Verdicts(),
    )
    kept = [
        json.loads(message.body)["payload"] for message in set_aside.messages()
    ]
    assert sorted(kept, key=str) == sorted(
        (payloads[culprit] for culprit in culprits), key=str
    )
    assert {message.reason for message in set_aside.messages()} == {
        Reason.STORAGE_REFUSED
    }
    assert len(storage.notifications(payloads[0]["base_id"])) == 100 - len(
        kept
    )


@contextlib.contextmanager
def manage_process(
    path: str,
    url: str,
    *args: str,
    options: str = "",
    memory: int = resource.RLIM_INFINITY,
    **environment: str,
) -> Iterator[subprocess.Popen[str]]:
    """``profiler-bridge-manage set-aside`` as it runs.

    :param options: further lines in [bridge]
    :param memory: bytes of address space that it may have
    """
    config = Path(path).with_name("manage.conf")
    config.write_text(
        f"[bridge]\nset_aside = {path}\n{options}"
        f"[osprofiler]\nconnection_string = {url}\n"
    )
    inherited = dict(os.environ)
    inherited.pop("OSPROFILER_CONNECTION_STRING", None)
    with subprocess.Popen(
        [
            script("profiler-bridge-manage"),
            f"--config-file={config}",
            "set-aside",
            *args,
        ],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (memory, memory))
        yield process


def manage(
    path: str, url: str, *args: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    with manage_process(path, url, *args, **options) as process:
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(
            args, process.returncode, stdout, stderr
        )


def test_commands(set_aside: SetAside, path: str, sqlite_url: str) -> None:
    good, bad = payload(), {**payload(), "base_id": "\x1b[2J"}
    for message in (bus.envelope(good), bus.envelope(bad)):
        set_aside.add(
            [
                SetAsideMessage(
                    Reason.BAD_ID,
                    "an \x1b escape",
                    "\x1b",
                    json.dumps(message).encode(),
                )
            ]
        )

    listed = manage(path, sqlite_url, "list", "-f", "json")
    assert [row["ID"] for row in json.loads(listed.stdout)] == [1, 2]
    assert "\x1b" not in manage(path, sqlite_url, "list").stdout

    shown = manage(path, sqlite_url, "show", "2").stdout
    assert json.loads(shown)["payload"] == bad

    replayed = manage(path, sqlite_url, "replay", "--all")
    assert replayed.returncode == 1
    assert replayed.stdout == "1 stored, 1 left\n"
    assert "2: base_id is not a UUID" in replayed.stderr
    assert len(get_storage(sqlite_url).notifications(good["base_id"])) == 1

    assert manage(path, sqlite_url, "drop", "2").stdout == "1 dropped\n"
    assert list(set_aside.messages()) == []


def test_show_is_one_line_a_message(
    set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    deep = '[{"a": ' * 3000 + "1" + "}]" * 3000
    hidden = f"{deep}\x9b"
    set_aside.add(
        kept(body)
        for body in (
            '{"name": "é €", "n": [1]}'.encode(),
            b'{\r\n\t"a": "\\n"\n}',
            '["\x7f\x9b\u202e\U000e0001"]'.encode(),
            deep,
            hidden,
            b"\xff\n",
            b"no json\n",
            '["é"]'.encode("latin-1"),
            b"",
        )
    )
    shown = manage(
        path, sqlite_url, "show", "--all", PYTHONIOENCODING="latin-1"
    )
    lines = shown.stdout.removesuffix("\n").split("\n")
    assert lines == [
        '{"name": "é €", "n": [1]}',
        r'{   "a": "\n" }',
        r'["\u007f\u009b\u202e\udb40\udc01"]',
        deep,
        f"base64:{base64.b64encode(hidden.encode()).decode()}",
        "base64:/wo=",
        "base64:bm8ganNvbgo=",
        "base64:WyLpIl0=",
        "base64:",
    ]
    assert json.loads(lines[2]) == ["\x7f\x9b\u202e\U000e0001"]


@pytest.mark.parametrize("command", ["show", "drop", "replay"])
def test_what_is_not_there_is_named(
    command: str, set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    set_aside.add([kept(json.dumps(bus.envelope(payload())))])
    failed = manage(path, sqlite_url, command, "99", "1", str(10**30))
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "99: there is no such message",
        f"{10**30}: there is no such message",
    ]
    assert len(failed.stdout.splitlines()) == 1
    assert len([*set_aside.messages()]) == (command == "show")


@pytest.mark.parametrize("command", ["show", "drop", "replay"])
def test_all_of_none_is_no_error(
    command: str, set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    set_aside.prepare()
    done = manage(path, sqlite_url, command, "--all")
    assert (done.returncode, done.stderr) == (0, "")


def test_replay_masks_as_the_daemon_does(
    set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    secrets = {"password": "s3cret", "shoe_size": 46}
    one = {**payload(), "info": {"one": secrets}}
    set_aside.add([kept(json.dumps(bus.envelope(one)).encode())])
    options = "mask_keys = shoe_size\n"
    done = manage(path, sqlite_url, "replay", "--all", options=options)
    assert done.stdout == "1 stored, 0 left\n"
    [stored] = get_storage(sqlite_url).notifications(one["base_id"])
    assert stored.info == {"one": {"password": "***", "shoe_size": "***"}}


def test_replay_masks_nothing_where_the_daemon_does_not(
    set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    one = {**payload(), "info": {"password": "s3cret"}}
    set_aside.add([kept(json.dumps(bus.envelope(one)).encode())])
    options = "mask_secrets = false\n"
    manage(path, sqlite_url, "replay", "--all", options=options)
    [stored] = get_storage(sqlite_url).notifications(one["base_id"])
    assert stored.payload == one


def test_replay_of_many_points_in_a_message(
    set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    base_id = str(uuid.uuid4())
    good = pieces(base_id, 300)
    for some in (good, [*good[:10], {"no": "point"}, *good[10:20]]):
        many = bus.envelope({FORMAT: VERSION, "points": some})
        set_aside.add([kept(json.dumps(many).encode())])
    done = manage(path, sqlite_url, "replay", "--all")
    assert done.stdout == "1 stored, 1 left\n"
    assert done.stderr == "2: base_id is missing\n"
    assert len(get_storage(sqlite_url).notifications(base_id)) == 600
    assert [message.id for message in set_aside.messages()] == [2]


def test_replay_goes_on_past_what_it_cannot_read(
    set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    base_id = str(uuid.uuid4())
    bodies: list[bytes | str] = [
        json.dumps(bus.envelope(one)).encode() for one in pieces(base_id, 800)
    ]
    bodies[700:700] = [b"\xff", "[" * 5000 + "]" * 5000, b"5", b"null"]
    set_aside.add(map(kept, bodies))
    done = manage(path, sqlite_url, "replay", "--all")
    assert done.stdout == "1600 stored, 4 left\n"
    assert len(done.stderr.splitlines()) == 4
    assert len(get_storage(sqlite_url).notifications(base_id)) == 1600


class Buggy:
    """A storage that fails on some notifications, in an unforeseen way."""

    def __init__(self) -> None:
        self.written: list[Notification] = []

    def write(self, notifications: Sequence[Notification]) -> None:
        if any(one.name == "poison" for one in notifications):
            raise ZeroDivisionError("division by zero")
        self.written += notifications


def test_replay_goes_on_past_what_a_storage_fails_on() -> None:
    payloads = pieces(str(uuid.uuid4()), 50)
    for culprit in (0, 40, 41):
        payloads[culprit]["name"] = "poison-stop"
    storage = Buggy()
    problems = Replay([cast(Storage, storage)], None)(
        SetAsideMessage(
            Reason.FAILED, "", "", json.dumps(bus.envelope(one)), number
        )
        for number, one in enumerate(payloads)
    )
    assert problems == dict.fromkeys(
        [0, 40, 41], "ZeroDivisionError: division by zero"
    )
    assert len(storage.written) == 97


def test_replay_holds_little_of_it(path: str, sqlite_url: str) -> None:
    """The file has its greatest size, the process little more memory."""
    set_aside = SetAside(path, 256 * MIB)
    message = bus.envelope({**payload(), "base_id": "?"})
    for number in range(250):
        message["payload"]["info"] = {"long": f"{number:01000000}"}
        set_aside.add([kept(json.dumps(message))])
    done = manage(path, sqlite_url, "replay", "--all", memory=240 * MIB)
    assert done.stdout == "0 stored, 250 left\n"


def test_who_closes_the_pipe_gets_no_traceback(
    set_aside: SetAside, path: str, sqlite_url: str
) -> None:
    set_aside.add(body(number, 10_000) for number in range(100))
    with manage_process(path, sqlite_url, "show", "--all") as showing:
        assert showing.stdout is not None
        showing.stdout.readline()
        # It waits for us, and holds nothing that others wait for.
        set_aside.add([kept(b"meanwhile")])
        showing.stdout.close()
        assert showing.stderr is not None
        assert showing.stderr.read() == ""


def test_commands_without_a_file(tmp_path: Path, sqlite_url: str) -> None:
    failed = manage(str(tmp_path / "absent"), sqlite_url, "list")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
