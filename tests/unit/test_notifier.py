# SPDX-License-Identifier: Apache-2.0

"""The notifier, on oslo.messaging's in-process bus and on broken ones."""

from __future__ import annotations

import datetime
import decimal
import functools
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

from profiler_bridge import exceptions, retry
from profiler_bridge.notification import FORMAT, VERSION, Notification
from profiler_bridge.sender import notifier as notifiers
from profiler_bridge.sender.notifier import BufferedNotifier
from tests.daemon import wait_for

DOC = Path(__file__).parents[2] / "doc/source"


def conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return conf


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
            point
            for message in self.messages
            for point in message["payload"]["points"]
        ]

    @property
    def numbers(self) -> list[int]:
        return [uuid.UUID(point["trace_id"]).int for point in self.points]


@pytest.fixture
def bus() -> Bus:
    return Bus()


Make = Callable[..., BufferedNotifier]


@pytest.fixture
def make(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make notifiers that are stopped at the end, with quick retries."""
    monkeypatch.setattr(
        notifiers,
        "pauses",
        functools.partial(retry.pauses, first=0.01, last=0.02),
    )
    made: list[BufferedNotifier] = []

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
    for notifier in made:
        notifier.stop(30)


def test_points_are_sent_in_one_notification(bus: Bus, make: Make) -> None:
    notifier = make()
    for number in range(3):
        notifier.notify(point(number))
    assert notifier.flush(30)
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
    notifier = make(batch_size=4)
    for number in range(4):
        notifier.notify(point(number))
    wait_for(lambda: len(bus.points) == 4, "a full message")


def test_messages_are_bounded(
    bus: Bus, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifiers, "MESSAGE_BYTES", 2000)
    bus.away = True
    notifier = make(batch_size=4)
    for number in range(9):
        notifier.notify(point(number))
    for number in range(9, 11):
        notifier.notify(point(number, large="x" * 3000))
    notifier.notify(point(11))
    bus.away = False
    assert notifier.flush(30)
    assert bus.numbers == list(range(12))
    sizes = [len(message["payload"]["points"]) for message in bus.messages]
    assert sizes == [4, 4, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "filling",
    [
        "\U0001f600" * 5000,
        "\x01" * 5000,
        ["\0"] * 1000,
        [None, False] * 1000,
        [0.1 + 0.2] * 2000,
        [2**63] * 100,
        [{}, []] * 1000,
        {"\x01" * 100 + str(number): {} for number in range(50)},
    ],
    ids=[
        "emoji",
        "control",
        "short",
        "none",
        "floats",
        "ints",
        "empty",
        "key",
    ],
)
def test_no_message_is_more_than_rabbitmq_takes(
    bus: Bus, make: Make, monkeypatch: pytest.MonkeyPatch, filling: Any
) -> None:
    """Whatever JSON makes of it. RabbitMQ 4 takes 16 MiB; here a tenth."""
    monkeypatch.setattr(
        notifiers, "MESSAGE_BYTES", notifiers.MESSAGE_BYTES // 10
    )
    notifier = make()
    for number in range(30):
        notifier.notify(point(number, filling=filling))
    notifier.notify(point(large="x" * (notifiers.LARGEST_POINT // 10 - 300)))
    assert notifier.flush(30)
    assert len(bus.points) == 31
    sizes = [len(json.dumps(message)) for message in bus.messages]
    assert max(sizes) < 2**24 // 10


def test_what_comes_while_a_message_is_sent_fills_the_next_one(
    bus: Bus, make: Make
) -> None:
    notifier = make(batch_size=10)
    take = bus._take

    def take_meanwhile(*args: Any, **kwargs: Any) -> None:
        take(*args, **kwargs)
        if len(bus.messages) < 3:
            notifier.notify(point())

    bus._take = take_meanwhile  # type: ignore[method-assign]
    for _ in range(20):
        notifier.notify(point())
    wait_for(lambda: len(bus.messages) == 2, "what was there")
    assert len(bus.points) == 20
    assert notifier.flush(30)
    assert [len(message["payload"]["points"]) for message in bus.messages] == [
        *(10, 10, 2)
    ]


def test_values_that_only_an_encoder_knows_are_sent(
    bus: Bus, make: Make
) -> None:
    values = {
        "when": datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.5"),
        "id": uuid.UUID(int=1),
        "bytes": b"\xff",
        "text": type("Text", (str,), {})("text"),
        "numbers": {1: 2.5, None: True},
    }
    notifier = make()
    notifier.notify(point(**values))
    assert notifier.flush(30)
    assert notifier.dropped == 0
    [sent] = bus.points
    assert {key: sent["info"][key] for key in values} == {
        "when": "2026-11-23T00:00:00.000000+00:00",
        "price": "1.5",
        "id": str(uuid.UUID(int=1)),
        "bytes": "base64:/w==",
        "text": "text",
        "numbers": {"1": 2.5, "null": True},
    }


def test_what_osprofiler_uses_again_is_copied(bus: Bus, make: Make) -> None:
    function = {"name": "f", "args": "(1,)"}
    row = {"id": 1}
    rows = [row, (2, [3])]
    given = point(function=function, db={"params": rows})
    before = repr(given)
    notifier = make()
    notifier.notify(given)
    assert repr(given) == before
    function["args"] = "(2,)"
    rows.append({"id": 4})
    row["id"] = 5
    given["info"]["host"] = "other"
    assert notifier.flush(30)
    [sent] = bus.points
    assert sent["info"] == {
        "host": "vm",
        "function": {"name": "f", "args": "(1,)"},
        "db": {"params": [{"id": 1}, [2, [3]]]},
    }


def test_points_without_info_are_sent(bus: Bus, make: Make) -> None:
    notifier = make()
    given = point()
    del given["info"]
    notifier.notify(given, {"user": "osprofiler's context"})
    assert notifier.flush(30)
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

    monkeypatch.setattr(notifiers, "LARGEST_POINT", 10_000)
    endless: dict[str, Any] = {}
    endless["again"] = endless
    nested: list[Any] = []
    for _ in range(400):
        nested = [nested]
    bad: list[Any] = [
        point(db=object()),
        point(db={("a", "b"): 1}),
        point(db=10**5000),
        point(db=endless),
        point(db=nested),
        point(db=Broken(a=1)),
        point(db="x" * 10_000),
        None,
    ]
    notifier = make()
    for bad_point in bad:
        notifier.notify(bad_point)
    assert notifier.flush(30)
    assert notifier.dropped == len(bad)
    for number, bad_point in enumerate(bad):
        notifier.notify(point(number))
        notifier.notify(bad_point)
    assert notifier.flush(30)
    assert bus.numbers == list(range(len(bad)))
    assert notifier.dropped == len(bad) * 2
    logged = [
        record.message for record in caplog.records if "dropped" in record.msg
    ]
    assert logged == ["A profiling point that cannot be sent was dropped"]


def test_points_wait_for_the_bus(
    bus: Bus, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "profiler_bridge")
    bus.away = True
    notifier = make(batch_size=2)
    assert notifier.waiting == 0
    for number in range(5):
        notifier.notify(point(number))
    assert not notifier.flush(0.01)
    wait_for(lambda: bus.tries > 3, "tries")
    assert notifier.waiting == 5  # what is being sent, too
    bus.away = False
    assert notifier.flush(30)
    assert notifier.waiting == 0
    assert bus.numbers == list(range(5))
    assert notifier.dropped == 0
    logged = [record.message for record in caplog.records]
    assert len(logged) == 2, logged
    assert logged[0].startswith("The bus takes no profiling points.")
    assert logged[1] == "The bus takes profiling points again"


def test_oldest_points_are_dropped_counted_and_logged(
    bus: Bus, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bus.away = True
    notifier = make(buffer_size=10, batch_size=3)
    for number in range(3):
        notifier.notify(point(number))
    wait_for(lambda: bus.tries, "a first try with the first message")
    for number in range(3, 30):
        notifier.notify(point(number))
    assert notifier.dropped == 17
    tries = bus.tries
    wait_for(lambda: bus.tries > tries + 3, "more tries")
    bus.away = False
    assert notifier.flush(30)
    # What was in a message already is not among the oldest of the buffer.
    assert bus.numbers == [0, 1, 2, *range(20, 30)]
    assert notifier.dropped == 17
    logged = [
        record.message for record in caplog.records if "dropped" in record.msg
    ]
    assert logged == [
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
    notifier = make(transport)
    notifier.notify(point(7))
    assert not notifier.flush(0.01)
    bus.away = False
    assert notifier.flush(30)
    assert bus.numbers == [7]


def test_nothing_starts_before_the_first_point(bus: Bus, make: Make) -> None:
    threads = threading.active_count()
    notifier = make()
    assert notifier.flush()
    assert notifier.dropped == 0
    assert notifier.stop()
    assert threading.active_count() == threads
    assert bus.transports == []


def test_process_without_threads_to_spare(
    bus: Bus, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    notifier = make()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        notifier.notify(point(1))
        assert not notifier.flush(0.01)
    notifier.notify(point(2))
    assert notifier.flush(30)
    assert bus.numbers == [1, 2]


def test_stop_ends_the_thread_until_the_next_point(
    bus: Bus, make: Make
) -> None:
    threads = threading.active_count()
    notifier = make()
    for number in range(2):
        notifier.notify(point(number))
        assert threading.active_count() == threads + 1
        assert notifier.stop(30)
        assert threading.active_count() == threads
        assert bus.cleaned == number + 1
    assert bus.numbers == [0, 1]


def test_stop_does_not_wait_for_ever(bus: Bus, make: Make) -> None:
    threads = threading.active_count()
    bus.away = True
    notifier = make()
    notifier.notify(point(1))
    assert not notifier.stop(0.01)
    wait_for(lambda: threading.active_count() == threads, "the thread's end")
    bus.away = False
    assert notifier.flush(30)  # with a new thread
    assert bus.numbers == [1]


def test_many_threads_at_once(bus: Bus, make: Make) -> None:
    notifier = make(batch_size=7, buffer_size=1_000_000)
    together = threading.Barrier(8)

    def work(first: int) -> None:
        together.wait()
        for number in range(first, first + 500):
            notifier.notify(point(number))

    threads = [
        threading.Thread(target=work, args=[first])
        for first in range(0, 4000, 500)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notifier.flush(30)
    assert sorted(bus.numbers) == list(range(4000))
    assert len(bus.transports) == 1


def test_number_lost_by_many_threads_is_what_is_counted(
    bus: Bus, make: Make
) -> None:
    bus.away = True
    notifier = make(batch_size=7, buffer_size=50)

    def work() -> None:
        for number in range(1000):
            notifier.notify(point(number))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: notifier.dropped > 1000, "overflow")
    bus.away = False
    for thread in threads:
        thread.join()
    assert notifier.flush(30)
    assert len(bus.points) + notifier.dropped == 8000


def test_process_is_left_as_it_is(bus: Bus, make: Make) -> None:
    """What happens at its end is for those who ask for it."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    leave = os._exit
    # Somebody else's, if there is one.
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    notifier = make()
    notifier.notify(point())
    assert notifier.flush(30)
    assert handlers == [
        signal.getsignal(number) for number in signal.valid_signals()
    ]
    assert os._exit is leave
    assert signal.set_wakeup_fd(woken) == woken


def test_start_is_told_whenever_a_thread_starts(bus: Bus, make: Make) -> None:
    starts: list[int] = []
    notifier = make(on_start=lambda: starts.append(len(bus.transports)))
    assert notifier.flush(30)
    assert starts == []
    for number in range(2):
        notifier.notify(point(number))
        notifier.notify(point(number))
        assert notifier.stop(30)
        assert len(starts) == number + 1
    assert bus.numbers == [0, 0, 1, 1]


@pytest.fixture
def schema() -> jsonschema.Draft202012Validator:
    """The one in the documentation."""
    schema = json.loads((DOC / "user/message-1.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_what_is_sent_is_as_documented(
    bus: Bus, make: Make, schema: jsonschema.Draft202012Validator
) -> None:
    notifier = make()
    osprofiler_notifier.set(notifier.notify)
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
    assert notifier.flush(30)
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
