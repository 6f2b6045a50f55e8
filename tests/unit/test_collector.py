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

"""The dispatcher: a verdict for each message, whatever the storage does."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from profiler_bridge import collector, exceptions
from profiler_bridge.collector import Collector, Incoming
from profiler_bridge.masking import MASK, Masker
from profiler_bridge.notification import FORMAT, VERSION, Notification
from profiler_bridge.set_aside import SetAside
from profiler_bridge.storage.base import Storage
from profiler_bridge.testing.sample import request, seeded


class Message:
    """A message as a driver of oslo.messaging hands it over."""

    def __init__(self, payload: Any) -> None:
        self.message = {"payload": payload}


class Failing:
    """A storage that fails so many times, in the way it is told."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.times = times
        self.prepared = 0
        self.written: list[Notification] = []

    def __str__(self) -> str:
        return "failing://"

    def prepare(self) -> None:
        self.prepared += 1

    def write(self, notifications: Sequence[Notification]) -> None:
        if self.times:
            self.times -= 1
            raise self.error
        self.written += notifications


def make(
    storage: Failing, folder: Path, masker: Masker | None = None
) -> Collector:
    set_aside = SetAside(str(folder / "set-aside.sqlite"), 2**20)
    return Collector(cast(Storage, storage), set_aside, masker)


def messages() -> list[Incoming]:
    return [Message(each) for each in request(seeded(1))]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(collector, "LAST_PAUSE", 0.01)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.StorageUnavailable("away"),
        exceptions.StorageMisconfigured("password"),
        ZeroDivisionError("a bug of a plugin"),
    ],
)
def test_a_batch_is_tried_until_it_is_stored(
    error: Exception, tmp_path: Path
) -> None:
    storage = Failing(error, 5)
    assert make(storage, tmp_path).dispatch(messages()) == set()
    assert len(storage.written) == len(messages())


def test_tables_may_have_to_be_made_again(tmp_path: Path) -> None:
    storage = Failing(exceptions.StorageUnavailable("away"), 1)
    make(storage, tmp_path).dispatch(messages())
    assert storage.prepared == 2


def test_it_says_once_that_it_waits_and_once_that_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    storage = Failing(exceptions.StorageUnavailable("away"), 5)
    make(storage, tmp_path).dispatch(messages())
    assert [each.getMessage() for each in caplog.records] == [
        "Waiting for the storage: away",
        "The storage is back: failing://",
    ]


def test_messages_go_back_when_the_storage_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "HOLD", 0.05)
    storage = Failing(exceptions.StorageUnavailable("away"), -1)
    incoming = [*messages(), Message("nonsense")]
    assert make(storage, tmp_path).dispatch(incoming) == set(incoming)


def test_messages_go_back_at_once_when_it_stops(tmp_path: Path) -> None:
    storage = Failing(exceptions.StorageUnavailable("away"), -1)
    stopping = make(storage, tmp_path)
    threading.Timer(0.05, stopping.stop).start()
    incoming = messages()
    assert stopping.dispatch(incoming) == set(incoming)


def test_secrets_never_reach_the_storage(tmp_path: Path) -> None:
    storage = Failing(ValueError(), 0)
    payload = request(seeded(1))[0]
    payload["info"]["password"] = "secret"
    make(storage, tmp_path, Masker()).dispatch([Message(payload)])
    assert storage.written[0].info["password"] == MASK


def test_what_is_nested_too_deep_is_set_aside(tmp_path: Path) -> None:
    payload = request(seeded(1))[0]
    for _ in range(5000):
        payload["info"] = {"deeper": payload["info"]}
    storage = Failing(ValueError(), 0)
    assert make(storage, tmp_path, Masker()).dispatch([Message(payload)]) == (
        set()
    )
    [kept] = SetAside(str(tmp_path / "set-aside.sqlite"), 2**20).messages()
    assert kept.reason == exceptions.Reason.NOT_ENCODABLE


def test_many_points_in_one_message(tmp_path: Path) -> None:
    """A verdict for each point: of three one is bad, the others are stored."""
    storage = Failing(ValueError(), 0)
    good, other = request(seeded(1))[:2]
    bad = {**good, "base_id": "*"}
    points = Message({FORMAT: VERSION, "points": [good, bad, other]})
    single = Message(request(seeded(2))[0])
    assert make(storage, tmp_path).dispatch([points, single]) == set()
    assert [each.payload for each in storage.written] == [
        good,
        other,
        single.message["payload"],
    ]
    [kept] = SetAside(str(tmp_path / "set-aside.sqlite"), 2**20).messages()
    assert kept.reason == exceptions.Reason.BAD_ID
    assert json.loads(kept.body)["payload"] == bad


def test_many_points_of_a_later_format_are_set_aside(tmp_path: Path) -> None:
    storage = Failing(ValueError(), 0)
    later = Message({FORMAT: VERSION + 1, "points": []})
    assert make(storage, tmp_path).dispatch([later]) == set()
    [kept] = SetAside(str(tmp_path / "set-aside.sqlite"), 2**20).messages()
    assert json.loads(kept.body) == later.message
