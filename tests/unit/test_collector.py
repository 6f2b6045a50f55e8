# SPDX-License-Identifier: Apache-2.0


"""A verdict for each message, whatever happens to it or to the storage."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from profiler_bridge import exceptions, retry
from profiler_bridge import notification as notifications
from profiler_bridge.allow_list import MASK
from profiler_bridge.bus import reader
from profiler_bridge.bus.reader import Message
from profiler_bridge.daemon import collector, refused
from profiler_bridge.daemon.collector import Collector
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.exceptions import Reason
from profiler_bridge.masking import Masker
from profiler_bridge.notification import FORMAT, VERSION, Notification
from profiler_bridge.storage import get_storage, traces
from profiler_bridge.storage.sql.plugin import SQLPlugin
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import request, seeded
from tests import bus
from tests.verdicts import Verdicts, message


class Failing:
    """A storage that fails so many times, with the given error."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.times = times
        self.prepared = 0
        self.written: list[Notification] = []

    def __str__(self) -> str:
        return "failing://"

    def prepare(self) -> None:
        self.prepared += 1

    def write(self, notifications: Sequence[Notification]) -> int:
        if self.times:
            self.times -= 1
            raise self.error
        self.written += notifications
        return len(notifications)


@pytest.fixture
def set_aside(tmp_path: Path) -> SetAside:
    file = SetAside(str(tmp_path / "set-aside.sqlite"), 2**20)
    file.prepare()
    return file


def make(
    storage: Failing | Storage,
    set_aside: SetAside,
    masker: Masker | None = None,
    waiting_limit: int = 0,
) -> Collector:
    return Collector(
        cast(Storage, storage),
        set_aside,
        masker,
        waiting_limit=waiting_limit,
    )


def messages() -> list[Message]:
    return [message(bus.envelope(payload)) for payload in request(seeded(1))]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"first": 0.001, "last": 0.01}
    monkeypatch.setattr(retry.pauses, "__kwdefaults__", short)


# A storage that is away


@pytest.mark.parametrize(
    "error",
    [
        exceptions.StorageUnavailable("away"),
        exceptions.StorageMisconfigured("password"),
    ],
)
def test_a_batch_is_tried_until_it_is_stored(
    error: Exception, set_aside: SetAside
) -> None:
    storage = Failing(error, 5)
    batch, verdicts = messages(), Verdicts()
    make(storage, set_aside).collect(batch, verdicts)
    assert verdicts.acknowledged == batch
    assert len(storage.written) == len(batch)


def test_tables_may_have_to_be_made_again(set_aside: SetAside) -> None:
    storage = Failing(exceptions.StorageUnavailable("away"), 1)
    make(storage, set_aside).collect(messages(), Verdicts())
    assert storage.prepared == 2


def test_it_says_once_that_it_waits_and_once_that_it_is_over(
    set_aside: SetAside, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    storage = Failing(exceptions.StorageUnavailable("away"), 5)
    make(storage, set_aside).collect(messages(), Verdicts())
    assert [record.getMessage() for record in caplog.records] == [
        "Waiting for the storage: away",
        "The storage is back: failing://",
    ]


def test_messages_go_back_when_the_storage_stays_away(
    set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "HOLD", 0.05)
    storage = Failing(exceptions.StorageUnavailable("away"), -1)
    batch, verdicts = [*messages(), message("nonsense")], Verdicts()
    make(storage, set_aside).collect(batch, verdicts)
    assert verdicts.given_back == batch
    assert verdicts.acknowledged == []


def test_messages_go_back_at_once_when_it_stops(set_aside: SetAside) -> None:
    storage = Failing(exceptions.StorageUnavailable("away"), -1)
    stopping = make(storage, set_aside)
    threading.Timer(0.05, stopping.stop).start()
    batch, verdicts = messages(), Verdicts()
    stopping.collect(batch, verdicts)
    assert verdicts.given_back == batch


def test_a_bug_in_preparing_is_no_fault_of_messages(
    set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Failing(ValueError(), 0)
    bugs = iter([ZeroDivisionError(), ZeroDivisionError(), KeyError()] * 3)

    def prepare() -> None:
        for error in bugs:
            raise error

    monkeypatch.setattr(storage, "prepare", prepare)
    batch, verdicts = messages(), Verdicts()
    make(storage, set_aside).collect(batch, verdicts)
    assert verdicts.acknowledged == batch
    assert len(storage.written) == len(batch)


# What nobody expects


class Step:
    """A step on a message's way, made to fail.

    :param owner: of the function
    :param name: the function's
    """

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name

    def fail(
        self,
        monkeypatch: pytest.MonkeyPatch,
        fails: Callable[[str], bool],
        error: BaseException,
    ) -> None:
        """Raise where what is worked on fails."""
        work = getattr(self.owner, self.name)

        def work_or_fail(*args: Any, **kwargs: Any) -> Any:
            if fails(str([*map(_words, args)])):
                raise error
            return work(*args, **kwargs)

        monkeypatch.setattr(self.owner, self.name, work_or_fail)


def _words(value: object) -> object:
    """What a test recognizes a message by, at any step of its way."""
    if isinstance(value, list | tuple):
        return [*map(_words, value)]
    if isinstance(value, dict):
        return {key: _words(item) for key, item in value.items()}
    if isinstance(value, Message):
        return value.body
    return value


STEPS = {
    "decode": Step(reader, "decode_body"),
    "validate": Step(notifications, "_encode"),
    "mask": Step(Masker, "decode"),
    "split": Step(traces, "split_into_pieces"),
    "mark": Step(traces, "missing_marks"),
    "index": Step(traces, "missing_entries"),
    "insert": Step(SQLPlugin, "insert"),
}
ERRORS = [MemoryError(), ZeroDivisionError("a bug"), RecursionError("deep")]


def batch_with_poison() -> tuple[list[Message], Message, str]:
    """Messages of several traces, each with a secret; one has a trace alone.

    :returns: all of them, the poisonous one, and its base_id
    """
    batch = []
    for seed in range(1, 6):
        for payload in request(seeded(seed)):
            payload["info"]["password"] = "secret"
            batch.append(message(bus.envelope(payload)))
    payload = request(seeded(99))[0]
    payload["info"]["password"] = "secret"
    poison = message(bus.envelope(payload))
    batch.insert(7, poison)
    return batch, poison, payload["base_id"]


def everything(storage: Storage, batch: Sequence[Message]) -> int:
    """How many notifications of a batch's traces are stored."""
    base_ids = {
        json.loads(item.body or b"")["payload"]["base_id"] for item in batch
    }
    return sum(len(storage.notifications(base_id)) for base_id in base_ids)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("step", STEPS)
def test_what_fails_alone_is_set_aside_and_the_rest_is_stored(
    step: str,
    error: Exception,
    set_aside: SetAside,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch, poison, base_id = batch_with_poison()
    # Its marks in the index are positions, which know their trace.
    STEPS[step].fail(monkeypatch, lambda words: base_id in words, error)
    storage = get_storage(sqlite_url)
    verdicts = Verdicts()
    make(storage, set_aside, Masker()).collect(batch, verdicts)
    assert sorted(map(id, verdicts.acknowledged)) == sorted(map(id, batch))
    assert verdicts.given_back == []
    rest = [item for item in batch if item is not poison]
    assert everything(storage, rest) == len(rest)
    [kept] = set_aside.messages()
    assert kept.reason == Reason.FAILED
    assert kept.body == poison.body
    assert type(error).__name__ in kept.detail
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("step", STEPS)
def test_what_fails_for_a_while_is_stored(
    step: str,
    error: Exception,
    set_aside: SetAside,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = iter([True, False, True, True])
    STEPS[step].fail(monkeypatch, lambda words: next(failures, False), error)
    batch, _, _ = batch_with_poison()
    storage = get_storage(sqlite_url)
    verdicts = Verdicts()
    make(storage, set_aside, Masker()).collect(batch, verdicts)
    assert sorted(map(id, verdicts.acknowledged)) == sorted(map(id, batch))
    assert everything(storage, batch) == len(batch)
    assert [*set_aside.messages()] == []


def test_a_verdict_that_fails_is_no_verdict(
    set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole batch goes back to the queue."""
    monkeypatch.setattr(refused, "HOLD", 0.1)
    batch, later = messages(), [message(bus.envelope(request(seeded(2))[0]))]

    class Broken(Verdicts):
        def acknowledge(self, messages: Any) -> None:
            if messages and messages[0] in batch:
                raise MemoryError
            super().acknowledge(messages)

    verdicts = Broken(batch, later)
    make(Failing(ValueError(), 0), set_aside).run(verdicts)
    assert {*batch} <= {*verdicts.given_back}
    assert verdicts.acknowledged == later
    assert verdicts.finished


def test_no_message_is_blamed_where_there_is_no_memory(
    set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has to end; everything goes back with its connection."""
    monkeypatch.setattr("profiler_bridge.daemon.verdicts._SPARE", 1 << 60)
    verdicts = Verdicts(messages())
    with pytest.raises(MemoryError):
        make(Failing(MemoryError(), -1), set_aside).run(verdicts)
    assert verdicts.acknowledged == []
    assert [*set_aside.messages()] == []


def test_a_stop_tries_no_storage_that_is_away(set_aside: SetAside) -> None:
    storage = Failing(exceptions.StorageUnavailable("away"), -1)
    stopping, verdicts = make(storage, set_aside), Verdicts()
    stopping.stop()
    stopping.collect(messages(), verdicts)
    tries = storage.prepared
    stopping.collect(messages(), verdicts)
    assert storage.prepared == tries == 1
    assert len(verdicts.given_back) == 2 * len(messages())


# The set-aside file


class Away:
    """A set-aside file that cannot be used until it is told."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        self.is_away = True
        add = SetAside.add

        def add_or_fail(
            set_aside: SetAside, messages: Sequence[SetAsideMessage]
        ) -> int:
            if self.is_away:
                raise error
            return add(set_aside, messages)

        monkeypatch.setattr(SetAside, "add", add_or_fail)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.SetAsideUnavailable("read-only"),
        MemoryError(),
        sqlite3.OperationalError("a bug"),
    ],
)
def test_valid_messages_go_on_without_the_file(
    error: Exception, set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Away(monkeypatch, error)
    storage, verdicts = Failing(ValueError(), 0), Verdicts()
    collecting = make(storage, set_aside, waiting_limit=10)
    good, bad = messages(), [message({"bad": number}) for number in range(3)]
    collecting.collect([bad[0], *good[:3], *bad[1:], *good[3:]], verdicts)
    assert verdicts.acknowledged == good
    assert verdicts.laid_by == bad
    assert len(storage.written) == len(good)
    file.is_away = False
    threading.Event().wait(0.05)
    collecting.collect([], verdicts)
    assert verdicts.acknowledged == [*good, *bad]
    assert len([*set_aside.messages()]) == 3


def test_only_so_many_wait_for_the_file(
    set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Away(monkeypatch, exceptions.SetAsideUnavailable("read-only"))
    verdicts = Verdicts()
    collecting = make(Failing(ValueError(), 0), set_aside, waiting_limit=2)
    bad = [message({"bad": number}) for number in range(3)]
    collecting.collect(bad[:2], verdicts)
    third = threading.Thread(
        target=collecting.collect, args=([bad[2]], verdicts)
    )
    third.start()
    third.join(0.2)
    assert third.is_alive(), "went on with more than may wait"
    file.is_away = False
    third.join(10)
    assert verdicts.acknowledged == bad


def test_what_waits_for_the_file_goes_back_in_time(
    set_aside: SetAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "HOLD", 0.1)
    Away(monkeypatch, exceptions.SetAsideUnavailable("read-only"))
    verdicts = Verdicts()
    collecting = make(Failing(ValueError(), 0), set_aside, waiting_limit=2)
    bad = [message({"bad": number}) for number in range(2)]
    collecting.collect(bad, verdicts)
    assert verdicts.given_back == []
    threading.Event().wait(0.15)
    collecting.collect([], verdicts)
    assert verdicts.given_back == bad
    assert verdicts.acknowledged == []


def test_the_log_counts_all_that_was_set_aside(
    set_aside: SetAside, caplog: pytest.LogCaptureFixture
) -> None:
    """Not only the first batch of them."""
    batches = [[message({"bad": n})] for n in range(40)]
    make(Failing(ValueError(), 0), set_aside).run(Verdicts(*batches))
    told = [
        int(match[1])
        for record in caplog.records
        if (match := re.match(r"Set aside (\d+)", record.getMessage()))
    ]
    assert sum(told) == 40
    assert len(told) <= 2


# What messages say


def test_secrets_never_reach_the_storage(set_aside: SetAside) -> None:
    storage = Failing(ValueError(), 0)
    payload = request(seeded(1))[0]
    payload["info"]["password"] = "secret"
    make(storage, set_aside, Masker()).collect(
        [message(bus.envelope(payload))], Verdicts()
    )
    assert storage.written[0].info["password"] == MASK


@pytest.mark.parametrize(
    ("levels", "reason"),
    [(300, Reason.NOT_ENCODABLE), (20_000, Reason.NOT_JSON)],
)
def test_what_is_nested_too_deep_is_set_aside(
    levels: int, reason: Reason, set_aside: SetAside
) -> None:
    inner = '{"deeper":' * levels + "1" + "}" * levels
    payload = json.dumps(request(seeded(1))[0]).replace(
        '"info": {', '"info": {"x": ' + inner + ", ", 1
    )
    body = b'{"payload": ' + payload.encode() + b"}"
    batch, verdicts = [message(body)], Verdicts()
    make(Failing(ValueError(), 0), set_aside, Masker()).collect(
        batch, verdicts
    )
    [kept] = set_aside.messages()
    assert kept.reason == reason
    assert kept.body == body
    assert verdicts.acknowledged == batch


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe\xfd", b"\0" * 100, b"'single'", b"[1,]"]
)
def test_what_is_no_json_is_set_aside_as_it_came(
    body: bytes, set_aside: SetAside
) -> None:
    good, verdicts = messages(), Verdicts()
    make(Failing(ValueError(), 0), set_aside).collect(
        [message(body), *good], verdicts
    )
    [kept] = set_aside.messages()
    assert kept.reason == Reason.NOT_JSON
    assert kept.body == body
    assert len(verdicts.acknowledged) == len(good) + 1


def test_many_points_in_one_message(set_aside: SetAside) -> None:
    """A verdict for each point: one of three is bad, the rest are stored."""
    storage, verdicts = Failing(ValueError(), 0), Verdicts()
    good, other = request(seeded(1))[:2]
    bad = {**good, "base_id": "*"}
    points = bus.envelope({FORMAT: VERSION, "points": [good, bad, other]})
    single = request(seeded(2))[0]
    batch = [message(points), message(bus.envelope(single))]
    make(storage, set_aside).collect(batch, verdicts)
    assert sorted(map(id, verdicts.acknowledged)) == sorted(map(id, batch))
    assert [stored.payload for stored in storage.written] == [
        good,
        other,
        single,
    ]
    [kept] = set_aside.messages()
    assert kept.reason == exceptions.Reason.BAD_ID
    assert json.loads(kept.body)["payload"] == bad


def test_many_points_of_a_later_format_are_set_aside(
    set_aside: SetAside,
) -> None:
    later = bus.envelope({FORMAT: VERSION + 1, "points": []})
    make(Failing(ValueError(), 0), set_aside).collect(
        [message(later)], Verdicts()
    )
    [kept] = set_aside.messages()
    assert json.loads(kept.body) == later


def test_logging_is_quiet_without_trouble(
    set_aside: SetAside, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make(Failing(ValueError(), 0), set_aside).run(Verdicts(messages()))
    [line] = caplog.messages
    assert line.startswith("failing://: ending, received 14 in")
