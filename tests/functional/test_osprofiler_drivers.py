# SPDX-License-Identifier: Apache-2.0

"""Reading through osprofiler: as Horizon, Rally and its command do it."""

from __future__ import annotations

import configparser
import contextlib
import json
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from osprofiler import exc, notifier, opts
from osprofiler.drivers.base import get_driver

import profiler_bridge.osprofiler  # registers the drivers
from profiler_bridge.notification import format_timestamp
from profiler_bridge.reading import served
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import cut, write
from profiler_bridge.testing.sample import (
    SECOND,
    STARTED,
    Payload,
    new_id,
    request,
    seeded,
    span,
)
from tests import http_service, servers
from tests.osprofiler_report import equal_reports, osprofiler_report

UNKNOWN = str(uuid.UUID(int=1))
STORAGES = ["sqlite_url", "redis_url"]
SCHEMES = ["bridge", "bridge+http"]
ROOT = Path(__file__).parents[2]


def traces() -> list[list[Payload]]:
    """From the oldest to the newest; the last has no root that started."""
    made = [
        request(
            seeded(number),
            STARTED + number * SECOND,
            calls=2 + number,
            error="LookupError" if number == 1 else None,
        )
        for number in range(4)
    ]
    made[-1] = [
        payload
        for payload in made[-1]
        if payload["parent_id"] != payload["base_id"]
    ]
    return made


def base_ids() -> list[str]:
    return [str(trace[0]["base_id"]) for trace in traces()]


@pytest.fixture(params=STORAGES)
def url(request: pytest.FixtureRequest) -> str:
    """Return a storage's URL."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    storage = get_storage(url)
    storage.prepare()
    for trace in traces():
        write(storage, *cut(trace, 7))
    yield storage
    storage.close()


@pytest.fixture(params=SCHEMES)
def connection_str(
    request: pytest.FixtureRequest, storage: Storage, url: str, tmp_path: Path
) -> Iterator[str]:
    """Return what Horizon and Rally are given."""
    if request.param == "bridge":
        path = tmp_path / "bridge #1.conf"
        path.write_text(f"[osprofiler]\nconnection_string = {url}\n")
        yield f"bridge://{str(path).replace(' ', '%20').replace('#', '%23')}"
    else:
        with http_service.serving(storage) as place:
            yield f"bridge+http://{place}"


def test_reports_are_osprofilers(connection_str: str, url: str) -> None:
    for trace in traces():
        base_id = trace[0]["base_id"]
        report = get_driver(connection_str).get_report(base_id)
        assert equal_reports(report, osprofiler_report(trace))
        if url.startswith("redis"):
            conf = cfg.ConfigOpts()
            opts.set_defaults(conf)
            theirs = get_driver(url, conf=conf).get_report(base_id)
            assert equal_reports(report, theirs)


def test_reports_as_deep_as_they_are(
    storage: Storage, connection_str: str
) -> None:
    """Deeper than the json module goes."""
    rng = seeded(50)
    base_id = parent = new_id(rng)
    trace: list[Payload] = []
    for number in range(1000):
        own = new_id(rng)
        trace += span(base_id, own, parent, STARTED + 1000 * number)
        parent = own
    write(storage, trace)
    report = get_driver(connection_str).get_report(base_id)
    assert equal_reports(report, osprofiler_report(trace))


def test_unknown_traces(connection_str: str) -> None:
    driver = get_driver(connection_str)
    nothing = osprofiler_report([])
    assert driver.get_report(UNKNOWN) == nothing
    assert driver.get_report("../../etc/passwd\0\ud800") == nothing


def test_lists(connection_str: str) -> None:
    driver = get_driver(connection_str)
    expected = [
        {"base_id": base_id, "timestamp": format_timestamp(started)}
        for number, base_id in enumerate(base_ids())
        for started in [
            STARTED + number * SECOND + (2000 if number == 3 else 0)
        ]
    ]
    expected.reverse()
    assert driver.list_traces() == expected
    assert driver.list_traces({"base_id", "timestamp"}) == expected
    assert driver.list_traces(["timestamp", "of_none"]) == [
        {"timestamp": item["timestamp"]} for item in expected
    ]
    assert driver.list_error_traces() == expected[2:3]
    capped = get_driver(f"{connection_str}?limit=2")
    assert capped.list_traces() == expected[:2]


def horizons_list(connection_str: str) -> list[tuple[str, str, str]]:
    """What Horizon 27.0.0 makes of a list."""
    fields = ["base_id", "timestamp", "info.request.path", "info"]
    return [
        (
            trace["base_id"],
            trace["timestamp"],
            trace["info"]["request"]["path"],
        )
        for trace in get_driver(connection_str).list_traces(fields)
    ]


def test_horizon_lists(connection_str: str) -> None:
    assert [origin for _, _, origin in horizons_list(connection_str)] == [
        "-",
        *["POST /v1/servers"] * 3,
    ]


def test_horizon_lists_what_is_hostile(
    storage: Storage, connection_str: str
) -> None:
    rng = seeded(99)
    info = {"request": {"method": "GET\0\x1b[2J\n", "path": "/" + "é" * 5000}}
    base_id = new_id(rng)
    write(
        storage,
        span(base_id, new_id(rng), base_id, STARTED + 60 * SECOND, info=info),
    )
    origin = horizons_list(connection_str)[0][2]
    assert origin.isprintable()
    assert len(origin) < 300


def horizons_nodes(node: dict[str, Any], level: int = 0) -> Iterator[int]:
    """What Horizon 27.0.0 reads of a report, and sets in it."""
    node["level"] = level
    node["is_leaf"] = not node["children"]
    yield node["info"]["finished"]
    for child in node["children"]:
        yield from horizons_nodes(child, level + 1)


def test_horizon_shows(connection_str: str) -> None:
    for trace in traces():
        report = get_driver(connection_str).get_report(trace[0]["base_id"])
        finished = [*horizons_nodes(report)]
        assert len(finished) == 1 + len({point["trace_id"] for point in trace})
        assert max(finished) == report["info"]["finished"]
        # Its views answer with JSON.
        json.dumps(report)


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_rally_has_one_driver_for_each_iteration(
    connection_str: str, url: str, redis_server: servers.Redis
) -> None:
    """It makes them one after the other, and closes none."""
    kept = []

    def iterate() -> None:
        driver = get_driver(connection_str)
        kept.append((driver, driver.get_report(base_ids()[0])))

    iterate()
    before = open_files()
    clients = redis_server.execute("CLIENT", "LIST").count("\n")
    for _ in range(20):
        iterate()
    assert json.loads(json.dumps(kept[-1][1])) == kept[0][1]
    # The service's threads may not have closed their last one yet.
    assert servers.wait_until(lambda: open_files() <= before + 1, 10)
    assert redis_server.execute("CLIENT", "LIST").count("\n") <= clients


def test_threads_of_horizon(connection_str: str) -> None:
    """Each request of a browser has its own driver."""
    stderr = sys.stderr

    def answer(number: int) -> str:
        driver = get_driver(f"{connection_str}?limit={number % 4 + 1}")
        report = driver.get_report(driver.list_traces()[-1]["base_id"])
        return str(report["children"][0]["trace_id"])

    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(answer, range(40))]
    assert answers == answers[:4] * 10
    # Options are read with errors of oslo.config caught there.
    assert sys.stderr is stderr


def test_rally_finds_the_drivers() -> None:
    """By an entry point, whose module it imports."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, module = setup["entry_points"]["rally_plugins"].strip().split(" = ")
    assert name == "path"
    assert module == profiler_bridge.osprofiler.__name__


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "profiler_bridge.osprofiler", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_osprofilers_command(sqlite_url: str, tmp_path: Path) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    for trace in traces():
        write(storage, trace)
    storage.close()
    path = tmp_path / "bridge.conf"
    path.write_text(f"[osprofiler]\nconnection_string = {sqlite_url}\n")
    source = f"--connection-string=bridge://{path}"
    done = run("trace", "show", "--json", source, base_ids()[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert equal_reports(
        json.loads(done.stdout), osprofiler_report(traces()[0])
    )
    done = run("trace", "show", "--json", f"{source}.not", UNKNOWN)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"Failed to find some config files: {path}.not"
    ]


def test_it_imports_what_it_needs() -> None:
    """To send, and to read over HTTP, needs no storage; to read no bus."""
    code = """
import sys
import profiler_bridge.osprofiler
from osprofiler.drivers import base
driver = base.get_driver("bridge+http://127.0.0.1:1")
assert not driver.sends
try:
    driver.list_traces()
except Exception as error:
    print(error)
unwanted = {"sqlalchemy", "redis", "oslo_messaging", "futurist", "flask",
            "profiler_bridge.storage", "profiler_bridge.config"}
print(unwanted & {*sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            "bridge+http://127.0.0.1:1 cannot be read: Connection refused",
            "set()",
        ],
    )


# What goes wrong


def said(connection_str: str) -> str:
    """The line that a list ends with."""
    with pytest.raises(exc.CommandError) as caught:
        get_driver(connection_str).list_traces()
    line = str(caught.value)
    assert "\n" not in line
    assert "hunter2" not in line
    return line


@contextlib.contextmanager
def answering(*parts: bytes, close: bool = True) -> Iterator[str]:
    """A server that says this to everybody; give its place."""
    asked: list[bytes] = []
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    asked.append(connection.recv(65536))
                    for part in parts:
                        connection.sendall(part)
                    if not close:
                        over.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)


OK = b"HTTP/1.1 200 OK\r\n\r\n"
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "it closes the connection without an answer"),
        (b"220 hello\r\n", "what it answers is not HTTP"),
        (
            b"HTTP/1.1 500 Oh\x1b[2J\r\nContent-Length: 0\r\n\r\n",
            "it answers 500 Oh\\x1b[2J",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            "it answers 302 Found",
        ),
        (
            b"HTTP/1.1 503 Oh\r\n\r\n"
            b'{"error": {"message": "the storage is\\nslow"}}',
            "it answers 503 the storage is\\nslow",
        ),
        (
            b"HTTP/1.1 503 Oh\r\n\r\n" + b'{"error": ' * 10_000,
            "it answers 503 Oh",
        ),
        (REFUSED, "it refuses this user (401)"),
        (
            b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n"
            b"WWW-Authenticate: Keystone uri='http://k'\r\n\r\n",
            "it wants a token of Keystone (401), which is not sent",
        ),
        (OK + b"[", "what it answers is cut off, or not of profiler-bridge"),
        (OK + b"[" * 100_000, "what it answers is cut off, or not"),
        (OK + b"{}", "what it answers is cut off, or not"),
        (OK + b"[{}]", "what it answers is cut off, or not"),
        (OK + b"[" + b" " * 3_000_000 + b"]", "its answer has more than 2"),
    ],
)
def test_answers_that_are_none(
    answer: bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_MOST_READ", 2**21)
    with answering(answer) as place:
        line = said(f"bridge+http://me:hunter2@{place}")
        assert line.startswith(
            f"bridge+http://***@{place} cannot be read: {expected}"
        )


def test_who_has_no_user_is_told() -> None:
    with answering(REFUSED) as place:
        assert said(f"bridge+http://{place}").endswith(
            "who asks (401); write bridge+http://user:password@host"
        )


def test_a_request_has_a_time() -> None:
    with answering(OK, b"[", close=False) as place:
        line = said(f"bridge+http://{place}?timeout=0.2")
    assert line.endswith("cannot be read: it does not answer in time")


def test_points_that_are_none() -> None:
    with answering(OK + b'[{"base_id": 1}]') as place:
        driver = get_driver(f"bridge+http://{place}")
        with pytest.raises(exc.CommandError, match="or not of profiler-br"):
            driver.get_report(UNKNOWN)


def test_tls(sqlite_url: str) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    certificates = servers.Certificates()
    with http_service.serving(storage, certificates) as place:
        url = f"bridge+https://{place}"
        assert "its certificate is not valid" in said(url)
        trusting = f"{url}?ca_file={certificates.authority}"
        assert get_driver(trusting).list_traces() == []
    storage.close()


def test_proxies_of_the_environment_are_not_used(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    storage = get_storage(sqlite_url)
    storage.prepare()
    with http_service.serving(storage) as place:
        assert get_driver(f"bridge+http://{place}").list_traces() == []
    storage.close()


def test_a_storage_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "bridge.conf"
    path.write_text(
        "[osprofiler]\nconnection_string = redis://:hunter2@127.0.0.1:1/0\n"
    )
    assert said(f"bridge://{path}")


@pytest.mark.parametrize(
    ("connection_str", "expected"),
    [
        ("bridge:///nowhere.conf", "Failed to find some config files"),
        ("bridge:///dev/null", "no storage is configured in /dev/null"),
        ("bridge://etc/bridge.conf", "with three slashes"),
        ("bridge:///a.conf?limit=0", "limit in .* has to be a number from 1"),
        ("bridge:///a.conf?limit=1&limit=2", "limit more than once"),
        ("bridge:///a.conf?max_age=1", "no such option; it has limit"),
        ("bridge+http://h?limit=²", "a number from 1 to 10000"),
        ("bridge+http://h?ca_file=/x", "has no such option"),
        ("bridge+http://h?timeout=0", "a number of seconds"),
        ("bridge+http://me:hunter2/@h", "write %2F for /"),
        ("bridge+http://", "a host that can be looked up"),
        (f"bridge+http://{'h' * 80}", "a host that can be looked up"),
        ("bridge+http://h/é", "a path in ASCII"),
        ("bridge+https://h?ca_file=x", "the whole path of a file"),
        ("bridge+https://h?ca_file=/x", "ca_file: No such file"),
        ("bridge+https://h?ca_file=/dev/null", "there is no certificate"),
    ],
)
def test_connection_strings_that_cannot_be_used(
    connection_str: str, expected: str
) -> None:
    """Rally shows no more than a trace's id then, so they fail early."""
    with pytest.raises(Exception, match=expected) as caught:
        get_driver(connection_str)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "connection_str", ["bridge:///a.conf", "bridge+http://127.0.0.1:1"]
)
def test_services_cannot_send_by_them(
    connection_str: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A service is told so at its start, and runs on without."""
    notify = notifier.create(
        connection_str, project="nova", service="api", host="localhost"
    )
    notify({"name": "db-start"})
    assert "a service sends by bridge://" in caplog.text


def test_what_reads_does_not_send(tmp_path: Path) -> None:
    path = tmp_path / "bridge.conf"
    path.write_text("[osprofiler]\nconnection_string = sqlite:////a.db\n")
    for url in (f"bridge://{path}", "bridge+http://127.0.0.1:1"):
        driver = get_driver(url)
        with pytest.raises(exc.CommandError, match="only reads"):
            driver.notify({"name": "db-start"})


def test_what_sends_does_not_read() -> None:
    driver = get_driver("bridge://", transport_url="fake://")
    assert driver.sends
    calls: list[Callable[[], object]] = [
        driver.list_traces,
        driver.list_error_traces,
        lambda: driver.get_report(UNKNOWN),
    ]
    for call in calls:
        with pytest.raises(exc.CommandError, match="bridge:// only sends"):
            call()
