# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What cannot be stored: kept, shown, replayed and dropped."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge import exceptions
from profiler_bridge.collector import Collector
from profiler_bridge.exceptions import Reason
from profiler_bridge.set_aside import SetAside, SetAsideMessage
from profiler_bridge.storage import get_storage
from tests import bus
from tests.daemon import script
from tests.functional.test_bridge import pieces

MIB = 2**20


class Message:
    """A message as a driver of oslo.messaging hands it over."""

    def __init__(self, message: Any) -> None:
        self.message = message


def body(number: int, size: int = 10) -> SetAsideMessage:
    return SetAsideMessage(
        Reason.BAD_ID, "base_id is not a UUID", "here", f"{number:0{size}}"
    )


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
    assert [each.body for each in set_aside.messages()] == [
        each.body for each in messages
    ]


def test_a_redelivered_message_is_kept_once(set_aside: SetAside) -> None:
    set_aside.add([body(1)])
    set_aside.add([body(1), body(2)])
    assert len(list(set_aside.messages())) == 2


def test_when_it_is_full_the_oldest_go(path: str) -> None:
    small = SetAside(path, MIB)
    gone = sum(small.add([body(number, 10_000)]) for number in range(300))
    left = [int(each.body[-4:]) for each in small.messages()]
    assert gone > 0
    assert left == list(range(gone, 300))
    assert Path(path).stat().st_size < 2 * MIB


def test_no_place_for_it_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        exceptions.ConfigurationError, match="set set_aside in"
    ):
        SetAside(str(tmp_path / "nowhere" / "file"), MIB).prepare()


def test_a_full_disk_is_no_verdict(set_aside: SetAside, path: str) -> None:
    """The collector holds the batch then, as it does for a storage."""
    set_aside.prepare()
    with sqlite3.connect(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(exceptions.StorageUnavailable):
            set_aside.add([body(1)])


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
    back = collector.dispatch([Message(message), Message(bus.envelope(good))])
    [kept] = set_aside.messages()
    assert back == set()
    assert kept.reason == reason
    assert json.loads(kept.body) == message
    assert len(storage.notifications(good["base_id"])) == 1


def test_every_reason_is_met() -> None:
    """So that none is documented that cannot happen, or the other way."""
    seen = {reason for _, reason in REFUSED}
    assert seen | {Reason.STORAGE_REFUSED, Reason.NOT_ENCODABLE} == {*Reason}


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
    collector.dispatch([Message(bus.envelope(each)) for each in payloads])
    kept = [json.loads(each.body)["payload"] for each in set_aside.messages()]
    assert sorted(kept, key=str) == sorted(
        (payloads[each] for each in culprits), key=str
    )
    assert {each.reason for each in set_aside.messages()} == {
        Reason.STORAGE_REFUSED
    }
    assert len(storage.notifications(payloads[0]["base_id"])) == 100 - len(
        kept
    )


def manage(
    path: str, url: str, *args: str
) -> subprocess.CompletedProcess[str]:
    config = Path(path).with_name("manage.conf")
    config.write_text(
        f"[bridge]\nset_aside = {path}\n"
        f"[osprofiler]\nconnection_string = {url}\n"
    )
    environment = dict(os.environ)
    environment.pop("OSPROFILER_CONNECTION_STRING", None)
    return subprocess.run(
        [
            script("profiler-bridge-manage"),
            f"--config-file={config}",
            "set-aside",
            *args,
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_commands(set_aside: SetAside, path: str, sqlite_url: str) -> None:
    good, bad = payload(), {**payload(), "base_id": "\x1b[2J"}
    for each in (bus.envelope(good), bus.envelope(bad)):
        set_aside.add(
            [
                SetAsideMessage(
                    Reason.BAD_ID, "an \x1b escape", "a", json.dumps(each)
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


def test_commands_without_a_file(tmp_path: Path, sqlite_url: str) -> None:
    failed = manage(str(tmp_path / "absent"), sqlite_url, "list")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
