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

"""The notifier, on oslo.messaging's in-process bus and on broken ones."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import oslo_messaging
import pytest
from oslo_config import cfg
from osprofiler import notifier as osprofiler_notifier
from osprofiler import profiler as osprofiler_profiler

from profiler_bridge import exceptions, notifier
from profiler_bridge.notification import FORMAT, VERSION, Notification
from profiler_bridge.notifier import BufferedNotifier
from tests.daemon import wait_for

DOC = Path(__file__).parents[2] / "doc/source"


def conf() -> cfg.ConfigOpts:
    found = cfg.ConfigOpts()
    found([], default_config_files=[], default_config_dirs=[])
    return found


def point(number: int = 0, **info: Any) -> dict[str, Any]:
    """What osprofiler's profiler hands to a notifier."""
    return {
        "name": "db-start",
        "base_id": str(uuid.UUID(int=1)),
        "trace_id": str(uuid.UUID(int=number)),
        "parent_id": str(uuid.UUID(int=1)),
        "timestamp": "2026-11-23T00:39:46.817662",
        "info": {"host": "vm", **info},
    }


class Bus:
    """Makes real transports whose messages end here.

    :ivar messages: those that were taken
    :ivar away: the bus fails meanwhile
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.away = False
        self.tries = 0
        self.transports: list[Any] = []
        self.cleaned = 0

    def __call__(self) -> Any:
        transport = oslo_messaging.get_notification_transport(
            conf(), url="fake://"
        )
        transport._send_notification = self._take
        transport.cleanup = self._clean
        self.transports.append(transport)
        return transport

    def _take(
        self, target: Any, ctxt: object, message: Any, **kwargs: Any
    ) -> None:
        self.tries += 1
        if self.away:
            raise oslo_messaging.MessageDeliveryFailure("away")
        assert target.topic == "profiler.info"
        assert ctxt == {}
        self.messages.append(message)

    def _clean(self) -> None:
        self.cleaned += 1

    @property
    def points(self) -> list[dict[str, Any]]:
        return [
            each
            for message in self.messages
            for each in message["payload"]["points"]
        ]

    @property
    def numbers(self) -> list[int]:
        return [uuid.UUID(each["trace_id"]).int for each in self.points]


@pytest.fixture
def bus() -> Bus:
    return Bus()


Make = Callable[..., BufferedNotifier]


@pytest.fixture
def make(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make notifiers that are stopped at the end, with quick retries."""
    monkeypatch.setattr(notifier, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(notifier, "LAST_PAUSE", 0.02)
    made: list[BufferedNotifier] = []
    handler, leave = signal.getsignal(signal.SIGTERM), os._exit

    def make_one(
        transport: Callable[[], Any] = bus, **options: Any
    ) -> BufferedNotifier:
        options = {"max_age": 3600, **options}
        made.append(
            BufferedNotifier(transport, "vm", "nova", "api", **options)
        )
        return made[-1]

    yield make_one
    bus.away = False
    for each in made:
        each.stop(30)
    signal.signal(signal.SIGTERM, handler)
    signal.set_wakeup_fd(-1)
    os._exit = leave


def test_points_are_sent_in_one_notification(bus: Bus, make: Make) -> None:
    one = make()
    for number in range(3):
        one.notify(point(number))
    assert one.flush(30)
    [message] = bus.messages
    assert message["publisher_id"] == "vm"
    assert message["event_type"] == "profiler.api"
    assert message["priority"] == "INFO"
    assert message["payload"] == {
        "profiler_bridge": 1,
        "points": [
            point(number) | {"project": "nova", "service": "api"}
            for number in range(3)
        ],
    }


def test_points_are_sent_at_an_age(bus: Bus, make: Make) -> None:
    make(max_age=0.01).notify(point())
    wait_for(lambda: bus.points, "a message")


def test_points_are_sent_at_a_number(bus: Bus, make: Make) -> None:
    one = make(batch_size=4)
    for number in range(4):
        one.notify(point(number))
    wait_for(lambda: len(bus.points) == 4, "a full message")


def test_messages_are_bounded(
    bus: Bus, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "MESSAGE_BYTES", 2000)
    bus.away = True
    one = make(batch_size=4)
    for number in range(9):
        one.notify(point(number))
    for number in range(9, 11):
        one.notify(point(number, large="x" * 3000))
    one.notify(point(11))
    bus.away = False
    assert one.flush(30)
    assert bus.numbers == list(range(12))
    sizes = [len(each["payload"]["points"]) for each in bus.messages]
    assert sizes == [4, 4, 2, 1, 1]


def test_what_osprofiler_uses_again_is_copied(bus: Bus, make: Make) -> None:
    function = {"name": "f", "args": "(1,)"}
    row = {"id": 1}
    rows = [row, (2, [3])]
    given = point(function=function, db={"params": rows})
    before = repr(given)
    one = make()
    one.notify(given)
    assert repr(given) == before
    function["args"] = "(2,)"
    rows.append({"id": 4})
    row["id"] = 5
    given["info"]["host"] = "other"
    assert one.flush(30)
    [sent] = bus.points
    assert sent["info"] == {
        "host": "vm",
        "function": {"name": "f", "args": "(1,)"},
        "db": {"params": [{"id": 1}, [2, [3]]]},
    }


def test_points_without_info_are_sent(bus: Bus, make: Make) -> None:
    one = make()
    given = point()
    del given["info"]
    one.notify(given, {"user": "osprofiler's context"})
    assert one.flush(30)
    assert bus.points == [given | {"project": "nova", "service": "api"}]


def test_what_is_no_json_costs_itself_only(
    bus: Bus,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("changed meanwhile")

    monkeypatch.setattr(notifier, "LARGEST_POINT", 10_000)
    endless: dict[str, Any] = {}
    endless["again"] = endless
    bad: list[Any] = [
        point(db=object()),
        point(db={("a", "b"): 1}),
        point(db=endless),
        point(db=Broken(a=1)),
        point(db="x" * 10_000),
        None,
    ]
    one = make()
    for each in bad:
        one.notify(each)
    assert one.flush(30)
    assert one.dropped == len(bad)
    for number, each in enumerate(bad):
        one.notify(point(number))
        one.notify(each)
    assert one.flush(30)
    assert bus.numbers == list(range(len(bad)))
    assert one.dropped == len(bad) * 2
    said = [each.message for each in caplog.records if "dropped" in each.msg]
    assert said == ["A profiling point that cannot be sent was dropped"]


def test_points_wait_for_the_bus(
    bus: Bus, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "profiler_bridge")
    bus.away = True
    one = make(batch_size=2)
    for number in range(5):
        one.notify(point(number))
    assert not one.flush(0.01)
    wait_for(lambda: bus.tries > 3, "tries")
    bus.away = False
    assert one.flush(30)
    assert bus.numbers == list(range(5))
    assert one.dropped == 0
    said = [each.message for each in caplog.records]
    assert len(said) == 2, said
    assert said[0].startswith("The bus takes no profiling points.")
    assert said[1] == "The bus takes profiling points again"


def test_oldest_points_are_dropped_counted_and_said(
    bus: Bus, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bus.away = True
    one = make(buffer_size=10, batch_size=3)
    for number in range(3):
        one.notify(point(number))
    wait_for(lambda: bus.tries, "a first try with the first message")
    for number in range(3, 30):
        one.notify(point(number))
    assert one.dropped == 17
    tries = bus.tries
    wait_for(lambda: bus.tries > tries + 3, "more tries")
    bus.away = False
    assert one.flush(30)
    # What was in a message already is not among the oldest of the buffer.
    assert bus.numbers == [0, 1, 2, *range(20, 30)]
    assert one.dropped == 17
    said = [each.message for each in caplog.records if "dropped" in each.msg]
    assert said == [
        "Profiling points are dropped, the oldest first",
        "17 profiling points were dropped",
    ]


def test_bus_that_cannot_be_made_is_one_that_is_away(
    bus: Bus, make: Make
) -> None:
    def transport() -> Any:
        if bus.away:
            raise OSError("no such host")
        return bus()

    bus.away = True
    one = make(transport)
    one.notify(point(7))
    assert not one.flush(0.01)
    bus.away = False
    assert one.flush(30)
    assert bus.numbers == [7]


def test_nothing_starts_before_the_first_point(bus: Bus, make: Make) -> None:
    threads = threading.active_count()
    one = make()
    assert one.flush()
    assert one.dropped == 0
    assert one.stop()
    assert threading.active_count() == threads
    assert bus.transports == []


def test_process_without_threads_to_spare(
    bus: Bus, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one = make()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        one.notify(point(1))
        assert not one.flush(0.01)
    one.notify(point(2))
    assert one.flush(30)
    assert bus.numbers == [1, 2]


def test_stop_ends_the_thread_until_the_next_point(
    bus: Bus, make: Make
) -> None:
    threads = threading.active_count()
    one = make()
    for number in range(2):
        one.notify(point(number))
        assert threading.active_count() == threads + 1
        assert one.stop(30)
        assert threading.active_count() == threads
        assert bus.cleaned == number + 1
    assert bus.numbers == [0, 1]


def test_stop_does_not_wait_for_ever(bus: Bus, make: Make) -> None:
    threads = threading.active_count()
    bus.away = True
    one = make()
    one.notify(point(1))
    assert not one.stop(0.01)
    wait_for(lambda: threading.active_count() == threads, "the thread's end")
    bus.away = False
    assert one.flush(30)  # with a new thread
    assert bus.numbers == [1]


def test_many_threads_at_once(bus: Bus, make: Make) -> None:
    one = make(batch_size=7, buffer_size=1_000_000)
    together = threading.Barrier(8)

    def work(first: int) -> None:
        together.wait()
        for number in range(first, first + 500):
            one.notify(point(number))

    threads = [
        threading.Thread(target=work, args=[each * 500]) for each in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert one.flush(30)
    assert sorted(bus.numbers) == list(range(4000))
    assert len(bus.transports) == 1


def test_number_lost_by_many_threads_is_what_is_counted(
    bus: Bus, make: Make
) -> None:
    bus.away = True
    one = make(batch_size=7, buffer_size=50)

    def work() -> None:
        for number in range(1000):
            one.notify(point(number))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    wait_for(lambda: one.dropped > 1000, "overflow")
    bus.away = False
    for each in threads:
        each.join()
    assert one.flush(30)
    assert len(bus.points) + one.dropped == 8000


def test_sigterm_is_left_to_who_has_it(make: Make) -> None:
    def own(number: int, frame: object) -> None:
        pass

    for handler in (own, signal.SIG_IGN):
        signal.signal(signal.SIGTERM, handler)
        make()
        assert signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_is_left_to_who_has_it_in_c(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uwsgi sets its handlers behind Python's back."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", pytest.fail)
        make()


def test_sigterm_is_left_alone_outside_the_main_thread(make: Make) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    make()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


@pytest.fixture
def schema() -> jsonschema.Draft202012Validator:
    """The one in the documentation."""
    found = json.loads((DOC / "user/message-1.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_what_is_sent_is_as_documented(
    bus: Bus, make: Make, schema: jsonschema.Draft202012Validator
) -> None:
    one = make()
    osprofiler_notifier.set(one.notify)
    osprofiler_profiler.init("SECRET_KEY")
    try:
        with (
            pytest.raises(ValueError, match="boom"),
            osprofiler_profiler.Trace("a-b\n", info={"db": {"params": [1]}}),
        ):
            raise ValueError("boom")
    finally:
        osprofiler_profiler.clean()
        osprofiler_notifier.set(lambda *_args, **_kwargs: None)
    assert one.flush(30)
    [message] = bus.messages
    assert len(message["payload"]["points"]) == 2
    schema.validate(json.loads(json.dumps(message["payload"])))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"base_id": uuid.UUID(int=1).hex},
        {"project": None, "service": None},
        {"name": "-start"},
        {"name": "db-begin"},
        {"name": None},
        {"base_id": "1"},
        {"trace_id": 1},
        {"parent_id": "g" * 32},
        {"timestamp": "2026-11-23T00:39:46"},
        {"timestamp": "2026-11-23 00:39:46.817662"},
        {"project": 1},
        {"service": []},
        {"info": None},
    ],
)
def test_what_is_no_point_is_none_by_the_documentation(
    change: dict[str, Any], schema: jsonschema.Draft202012Validator
) -> None:
    changed = point() | change
    try:
        Notification.from_payload(changed)
        good = True
    except exceptions.InvalidNotification:
        good = False
    assert schema.is_valid({FORMAT: VERSION, "points": [changed]}) is good
