# SPDX-License-Identifier: Apache-2.0

"""The notifier in programs of their own, with a real RabbitMQ."""

from __future__ import annotations

import datetime
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import oslo_messaging
import oslo_messaging.opts
import pytest
from amqp.exceptions import NotFound
from oslo_config import cfg
from osprofiler import notifier as osprofiler_notifier
from osprofiler import profiler

from profiler_bridge.sender import driver as osprofiler_driver
from profiler_bridge.sender.notifier import BufferedNotifier
from tests import bus, servers

# Nothing is sent but at the end: it has to be, or it is missed.
PROGRAM = """
import os, signal, sys, threading, time, uuid
import oslo_messaging
from oslo_config import cfg
from profiler_bridge.sender import ending
from profiler_bridge.sender.notifier import BufferedNotifier

conf = cfg.ConfigOpts()
conf([], default_config_files=[], default_config_dirs=[])
notifier = BufferedNotifier(
    lambda: oslo_messaging.get_notification_transport(conf, url=sys.argv[1]),
    "vm",
    "nova",
    "api",
    max_age=3600,
    on_start=ending.watch_signals,
)
ending.call_at_end(notifier.flush)

def notify(*numbers):
    for number in numbers:
        trace_id = str(uuid.UUID(int=number))
        notifier.notify({"name": "db-start", "trace_id": trace_id})
"""

PYTHON = [sys.executable, "-W", "ignore"]
INSTRUMENT = [
    sys.executable,
    "-c",
    "import sys; from profiler_bridge.cmd import instrument;"
    " sys.exit(instrument.main())",
]


# Machines are busy: what matters is that a program that ends sends first, not
# how long it would wait for that.
PATIENT = "ending.TIMEOUT = 20.0\n"


def program(
    transport_url: str, code: str, first: str = "", then: str = PATIENT
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PYTHON, "-c", first + PROGRAM + then + code, transport_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(transport_url: str, code: str, first: str = "") -> str:
    """What a program prints; it has to end well, with no warnings."""
    process = program(transport_url, code, first)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out


def received(transport_url: str) -> list[dict[str, Any]]:
    """Take all messages that are there from the queue."""
    url = transport_url.replace("rabbit://", "amqp://")
    messages = []
    with kombu.Connection(url) as connection:
        channel = connection.default_channel
        try:
            while message := channel.basic_get(bus.QUEUE, no_ack=True):
                messages.append(channel.message_to_python(message).decode())
        except NotFound:
            pass
    return messages


def points(transport_url: str) -> list[dict[str, Any]]:
    return [
        point
        for message in received(transport_url)
        for point in message["payload"]["points"]
    ]


def numbers(transport_url: str) -> list[int]:
    return sorted(
        uuid.UUID(point["trace_id"]).int for point in points(transport_url)
    )


def configuration(durable: bool = False) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    for group, options in oslo_messaging.opts.list_opts():
        conf.register_opts(options, group)
    conf.set_override("amqp_durable_queues", durable, "oslo_messaging_rabbit")
    return conf


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Undo what the driver does to the process it is used in."""
    handler, leave = signal.getsignal(signal.SIGTERM), os._exit
    yield
    signal.signal(signal.SIGTERM, handler)
    signal.set_wakeup_fd(-1)
    os._exit = leave


def test_program_that_ends(transport_url: str) -> None:
    run(transport_url, "notify(1, 2)")
    [message] = received(transport_url)
    assert message["event_type"] == "profiler.api"
    assert message["publisher_id"] == "vm"
    assert message["payload"] == {
        "profiler_bridge": 1,
        "points": [
            {
                "name": "db-start",
                "trace_id": str(uuid.UUID(int=number)),
                "project": "nova",
                "service": "api",
            }
            for number in (1, 2)
        ],
    }


def test_program_that_fails(transport_url: str) -> None:
    process = program(transport_url, "notify(1); sys.exit('no more')")
    assert process.communicate(timeout=60)[1] == "no more\n"
    assert numbers(transport_url) == [1]


def test_program_that_leaves_at_once(transport_url: str) -> None:
    """As workers of oslo.service, cotyledon and multiprocessing do."""
    process = program(transport_url, "notify(1); os._exit(7)")
    process.communicate(timeout=60)
    assert process.returncode == 7
    assert numbers(transport_url) == [1]


@pytest.mark.parametrize(
    "first", ["", "import eventlet; eventlet.monkey_patch()\n"]
)
@pytest.mark.parametrize(
    "waits",
    [
        "print(flush=True); time.sleep(60)",
        "print(flush=True); threading.Event().wait()",
        "print(flush=True)\nwhile True: notify()",
    ],
)
def test_sigterm(transport_url: str, waits: str, first: str) -> None:
    process = program(transport_url, f"notify(1)\n{waits}", first)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGTERM, "")
    assert numbers(transport_url) == [1]


def test_sigterm_of_a_program_that_handles_it(transport_url: str) -> None:
    process = program(
        transport_url,
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "notify(1)\nprint(flush=True)\ntime.sleep(60)",
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert numbers(transport_url) == [1]


@pytest.mark.parametrize("before", ["", "logging.lastResort.acquire()\n"])
def test_sigterm_while_the_bus_is_away(before: str) -> None:
    """Not even a lock that somebody holds for good keeps it from ending."""
    process = program(
        f"rabbit://127.0.0.1:{servers.free_port()}/",
        f"notify(1)\n{before}print(flush=True)\ntime.sleep(600)",
        first="import logging\n",
        then="",
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


# Python's main thread waits for good in C, and so never comes to a handler.
HANG = """
import ctypes
libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(100)
libc.pthread_mutex_lock(lock)
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()
libc.pthread_mutex_lock(lock)
"""


@pytest.mark.parametrize(
    ("code", "ends", "sent"),
    [
        ("notify(1)", -signal.SIGTERM, [1]),
        # It ends the child, and not its parent.
        (
            "notify(1)\nif os.fork(): sys.exit(os.wait()[1])\nnotify(2)",
            signal.SIGTERM,
            [1, 2],
        ),
    ],
)
def test_sigterm_while_a_library_hangs(
    transport_url: str, code: str, ends: int, sent: list[int]
) -> None:
    process = program(transport_url, code + HANG)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (ends, "")
    assert numbers(transport_url) == sent


@pytest.mark.parametrize("flush", ["", "notifier.flush(30)"])
def test_forked_processes(transport_url: str, flush: str) -> None:
    """Each sends its own, whether the parent had connected or not."""
    run(
        transport_url,
        f"""
notify(0, 1)
{flush}
notify(2)
if not os.fork():
    notify(10, 11)
    if not os.fork():
        notify(20)
        assert notifier.flush(30)
        notify(21)
        sys.exit()
    os.wait()
    os._exit(0)
if not os.fork():
    assert notifier.flush(30) and notifier.dropped == 0  # nothing is its own
    os._exit(0)
os.wait()
os.wait()
notify(3)
""",
    )
    assert numbers(transport_url) == [0, 1, 2, 3, 10, 11, 20, 21]


def test_a_long_line_of_forks(transport_url: str) -> None:
    """A child keeps nothing of its ancestors; all keep their connections."""
    run(
        transport_url,
        """
notify(0)
assert notifier.flush(30)
for generation in range(1, 6):
    if os.fork():
        os.wait()
        break
    notify(10 * generation)
    assert notifier.flush(30)
    assert len(notifier._senders) == 1
notify(10 * generation + 1)
assert notifier.flush(30)
""",
    )
    assert numbers(transport_url) == [
        *(0, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 51)
    ]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("batch_size=0", "batch_size is 0, it is 1 or more"),
        ("buffer_size=-5", "buffer_size is -5, it is 1 or more"),
        ("max_age=0", "max_age is 0.0, it is 0.01 or more"),
        ("max_age=nan", "max_age is nan, it is 0.01 or more"),
        ("batch_size=", "batch_size in bridge://?batch_size= is no number"),
        ("batch_size=1.5", "is no number"),
        ("batchsize=5", "bridge:// has no option batchsize; it has"),
    ],
)
def test_options_that_are_wrong(query: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        osprofiler_driver.BridgeDriver(
            f"bridge://?{query}", conf=configuration(), transport_url="fake://"
        )


def test_pool_of_processes(transport_url: str) -> None:
    run(
        transport_url,
        """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(notify, range(100), chunksize=1)
    pool.close()
    pool.join()
""",
    )
    assert numbers(transport_url) == list(range(100))


def test_eventlet(transport_url: str) -> None:
    """Greenlets go on while points are sent, or cannot be."""
    out = run(
        transport_url,
        f"""
notifier.max_age = 0.01
went_on = []
eventlet.spawn_after(0.05, went_on.append, True)
notify(*range(1000))
while not went_on or not notifier.flush(0.1):
    time.sleep(0.01)
notify(1000)
lost = BufferedNotifier(
    lambda: oslo_messaging.get_notification_transport(
        conf, url="rabbit://127.0.0.1:{servers.free_port()}/"
    ),
    "vm", "nova", "api",
)
import logging
logging.disable()
lost.notify({{"name": "db-start"}})
eventlet.spawn_after(0.05, print, "went on")
print(lost.flush(0.5))
assert notifier.flush(30)
""",
        "import eventlet; eventlet.monkey_patch()\n",
    )
    assert out == "went on\nFalse\n"
    assert numbers(transport_url) == list(range(1001))


def test_eventlets_greenlets_in_a_forked_process(transport_url: str) -> None:
    """A child inherits greenlets; what they hold is the parent's to send."""
    run(
        transport_url,
        """
notifier.max_age = 0.3
notify(1)
assert notifier.flush(30)
notify(2)
if not os.fork():
    time.sleep(1)
    os._exit(0)
os.wait()
""",
        "import eventlet; eventlet.monkey_patch()\n",
    )
    assert numbers(transport_url) == [1, 2]


@pytest.mark.parametrize("then", ["notify(3)", ""])
def test_eventlets_native_threads(transport_url: str, then: str) -> None:
    """A greenlet that is started in such a thread would never run."""
    run(
        transport_url,
        f"tpool.execute(notify, 1, 2)\n{then}",
        "import eventlet; eventlet.monkey_patch()\n"
        "from eventlet import tpool\n",
    )
    assert numbers(transport_url)[:2] == [1, 2]


@pytest.mark.parametrize("room", [100_000, 1000])
def test_broker_that_stops_meanwhile(
    rabbitmq: servers.RabbitMQ, transport_url: str, room: int
) -> None:
    conf = configuration(durable=True)
    notifier = BufferedNotifier(
        lambda: oslo_messaging.get_notification_transport(
            conf, url=transport_url
        ),
        "vm",
        "nova",
        "api",
        buffer_size=room,
        max_age=0.05,
    )

    def notify(*among: int) -> None:
        for number in range(*among):
            trace_id = str(uuid.UUID(int=number))
            notifier.notify({"name": "db-start", "trace_id": trace_id})

    notify(500)
    assert notifier.flush(60)
    notify(500, 1000)
    rabbitmq.stop()
    notify(1000, 9000)
    rabbitmq.start()
    notify(9000, 10000)
    assert notifier.stop(60)
    # What was sent while the broker stopped may come twice, as any message.
    there = set(numbers(transport_url))
    assert len(there) + notifier.dropped == 10000
    if room == 1000:
        assert notifier.dropped
        assert there > set(range(500)) | set(range(9000, 10000))
    else:
        assert notifier.dropped == 0


def test_osprofilers_drivers_send_the_same(transport_url: str) -> None:
    """bridge:// sends in one message what messaging:// does in many."""
    conf = configuration()
    bridge, messaging = (
        osprofiler_notifier.create(
            connection_string,
            conf=conf,
            context={},
            transport_url=transport_url,
            project="nova",
            service="api",
            host="vm",
        )
        for connection_string in (
            "bridge://?buffer_size=2000",
            "messaging://",
        )
    )

    def both(info: dict[str, Any]) -> None:
        bridge(info)
        messaging(info)

    @profiler.trace("rpc", hide_result=False)  # type: ignore[untyped-decorator]
    def work(number: int) -> int:
        return -number

    osprofiler_notifier.set(both)
    profiler.init("SECRET_KEY")
    try:
        with profiler.Trace("wsgi", info={"request": {"path": "/v3/☃"}}):
            work(1)
            work(2)
            moment = datetime.datetime(2026, 11, 23)  # noqa: DTZ001
            params = {"now": moment, "id": uuid.uuid4(), "raw": b"\xff"}
            with (
                pytest.raises(ValueError, match="boom"),
                profiler.Trace("db", info={"db": {"params": params}}),
            ):
                raise ValueError("boom")
    finally:
        profiler.clean()
        osprofiler_notifier.set(lambda *_args, **_kwargs: None)
        osprofiler_notifier.clear_notifier_cache()
        messaging.__self__.transport.cleanup()
        assert bridge.__self__._notifier.stop(30)
    *single, many = received(transport_url)
    assert len(single) == 8
    assert [message.pop("payload") for message in single] == many.pop(
        "payload"
    )["points"]
    assert single[0].keys() == many.keys()
    for key in ("publisher_id", "event_type", "priority"):
        assert single[0][key] == many[key]


# What a service does, as far as osprofiler is concerned.
SERVICE = """
import sys
from oslo_config import cfg
import osprofiler.initializer, osprofiler.opts
from osprofiler import profiler

conf = cfg.CONF
conf(sys.argv[1:], project="service")
osprofiler.opts.set_defaults(conf)
osprofiler.initializer.init_from_conf(
    conf=conf, context={}, project="nova", service="api", host="vm"
)
profiler.init("SECRET_KEY")
with profiler.Trace("wsgi"):
    pass
"""


@pytest.fixture
def service(transport_url: str, tmp_path: Path) -> list[str]:
    """The command of an unmodified service that is to use bridge://."""
    code = tmp_path / "service.py"
    code.write_text(SERVICE)
    conf = tmp_path / "service.conf"
    conf.write_text(
        f"[DEFAULT]\ntransport_url = {transport_url}\n[profiler]\n"
        "enabled = true\nhmac_keys = SECRET_KEY\n"
        "connection_string = bridge://\n"
    )
    return [*PYTHON, str(code), f"--config-file={conf}"]


def test_instrumented_service(transport_url: str, service: list[str]) -> None:
    done = subprocess.run(
        [*INSTRUMENT, *service], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [point["name"] for point in points(transport_url)] == [
        "wsgi-start",
        "wsgi-stop",
    ]


def test_service_that_is_not_instrumented(
    transport_url: str, service: list[str]
) -> None:
    """osprofiler says so, and the service runs."""
    done = subprocess.run(service, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Driver not found for connection string: bridge://" in done.stderr
    assert points(transport_url) == []


def test_service_with_a_sitecustomize_of_its_own(
    transport_url: str, service: list[str], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(
            f"print('sitecustomize {name}')"
        )
    done = subprocess.run(
        [*INSTRUMENT, *service],
        env=os.environ
        | {"PYTHONPATH": f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    # Once for the instrumenting program, once for the service.
    assert (done.stdout, done.stderr) == ("sitecustomize one\n" * 2, "")
    assert len(points(transport_url)) == 2


def test_instrumented_program_without_osprofiler() -> None:
    """Its imports are watched; nothing else is different."""
    code = "import sys; print(sorted(sys.modules), sys.path, sys.argv[1:])"
    command = [sys.executable, "-c", code, "-x", "--help"]
    plain, instrumented = (
        subprocess.run(
            [*start, *command], capture_output=True, text=True, check=True
        ).stdout
        for start in ([], INSTRUMENT)
    )
    assert instrumented.replace("'sitecustomize', ", "") == plain.replace(
        "'sitecustomize', ", ""
    )


def test_instrumented_program_that_is_not_there() -> None:
    done = subprocess.run(
        [*INSTRUMENT, "no-such-program", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 127
    assert done.stderr == (
        "profiler-bridge-instrument: no-such-program:"
        " No such file or directory\n"
    )


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["trace", "show", "--json", str(uuid.UUID(int=1))], "report show"),
        (["trace", "list"], "report list"),
    ],
)
def test_osprofilers_command_says_where_reports_are(
    command: list[str], hint: str
) -> None:
    done = subprocess.run(
        [*INSTRUMENT, *PYTHON, "-m", "osprofiler.cmd.shell", *command],
        env=os.environ | {"OSPROFILER_CONNECTION_STRING": "bridge://"},
        capture_output=True,
        text=True,
    )
    assert f"profiler-bridge-{hint}" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
