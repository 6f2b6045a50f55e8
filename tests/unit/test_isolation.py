# SPDX-License-Identifier: Apache-2.0

"""Each request has a profiler of its own, whatever its thread did before.

On real RPC of oslo.messaging and real HTTP, with one thread for each.
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import futurist
import pytest
from osprofiler import notifier as osprofiler_notifier
from osprofiler import profiler, web
from osprofiler.drivers import base

from profiler_bridge.sender import isolation
from tests import small_service
from tests.small_service import RPC, Endpoint, profiled, spans, trace_id

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service; nothing is left of it after a test."""
    for pool in (
        futurist.ThreadPoolExecutor,
        futurist.GreenThreadPoolExecutor,
    ):
        monkeypatch.setattr(pool, "submit", inspect.unwrap(pool.submit))
    monkeypatch.setattr(
        web.WsgiMiddleware,
        "__call__",
        inspect.unwrap(vars(web.WsgiMiddleware)["__call__"]),
    )
    monkeypatch.setattr(isolation, "_isolated", False)
    isolation.isolate_requests()


@pytest.fixture
def points() -> Iterator[small_service.Points]:
    with small_service.recorded() as made:
        yield made


@pytest.fixture
def rpc() -> Iterator[RPC]:
    with RPC() as made:
        yield made


@pytest.fixture
def pool() -> Iterator[futurist.ThreadPoolExecutor]:
    made = futurist.ThreadPoolExecutor(max_workers=1)
    yield made
    made.shutdown()


def parents(points: small_service.Points) -> dict[str, str]:
    """The name of the span, or "", that each span hangs below."""
    names = {
        point["trace_id"]: point["name"].removesuffix("-start")
        for point in points
        if point["name"].endswith("-start")
    }
    return {
        names[point["trace_id"]]: names.get(point["parent_id"], "")
        for point in points
    }


# RPC


@pytest.mark.parametrize("url", ["fake://", "kombu+memory://"])
@pytest.mark.parametrize("kind", ["call", "cast"])
def test_rpc_on_one_thread(
    points: small_service.Points, url: str, kind: str
) -> None:
    with RPC(url) as rpc:
        rpc.serve("topic", Endpoint())
        client = rpc.client("topic")
        threads = set()
        for number, name in (
            (1, "one"),
            (None, "not profiled"),
            (2, "two"),
            (1, "one again"),
            (None, "not profiled either"),
        ):
            with profiled(number):
                getattr(client, kind)({}, "method", name=name)
            # After it; a cast does not wait.
            threads.add(client.call({}, "method", name="waited for"))
    assert len(threads) == 1
    assert spans(points) == {
        trace_id(1): ["one", "one again"],
        trace_id(2): ["two"],
    }


def test_rpc_that_fails(points: small_service.Points, rpc: RPC) -> None:
    def fail() -> None:
        raise ValueError("no such server")

    endpoint = Endpoint(fail)
    rpc.serve("topic", endpoint)
    client = rpc.client("topic")
    with profiled(1), pytest.raises(ValueError, match="no such"):
        client.call({}, "method", name="fails")
    endpoint.work = lambda: None
    client.call({}, "method", name="not profiled")
    assert spans(points) == {trace_id(1): ["fails"]}
    assert points[-1]["info"]["etype"] == "ValueError"
    assert points[-1]["info"]["message"] == "no such server"


def test_rpc_within_rpc(points: small_service.Points, rpc: RPC) -> None:
    """As nova-conductor calls itself, and goes on."""

    def work() -> None:
        with profiler.Trace("before"):
            inner.call({}, "method", name="inner")
        with profiler.Trace("after"):
            pass

    rpc.serve("inner", Endpoint())
    inner = rpc.client("inner")
    rpc.serve("outer", Endpoint(work))
    outer = rpc.client("outer")
    for number in (1, 2):
        with profiled(number):
            outer.call({}, "method", name="outer")
    outer.call({}, "method", name="not profiled")
    assert spans(points) == {
        trace_id(number): ["inner", "before", "after", "outer"]
        for number in (1, 2)
    }
    assert parents(points) == {
        "outer": "",
        "before": "outer",
        "inner": "before",
        "after": "outer",
    }


# Threads of a service's own


def traced(name: str) -> None:
    with profiler.Trace(name):
        pass


def test_what_is_handed_to_a_pool_stays_in_the_trace(
    points: small_service.Points, rpc: RPC, pool: futurist.ThreadPoolExecutor
) -> None:
    """As nova.thread_pool_factory does, on Nova's native threads."""
    jobs = []
    rpc.serve(
        "topic",
        Endpoint(
            lambda: jobs.append(small_service.spawn(pool, traced, "job"))
        ),
    )
    client = rpc.client("topic")
    for number, name in ((1, "one"), (None, "not profiled"), (2, "two")):
        with profiled(number):
            client.call({}, "method", name=name)
    for job in jobs:
        job.result()
    assert {base: sorted(names) for base, names in spans(points).items()} == {
        trace_id(1): ["job", "one"],
        trace_id(2): ["job", "two"],
    }
    assert parents(points)["job"] == "two"


def test_a_new_thread_stays_in_the_trace(
    points: small_service.Points,
) -> None:
    """As neutron.common.utils does; it may go on when the request is over."""
    over = threading.Event()
    threads = []

    def work() -> None:
        over.wait()
        traced("thread")

    class Threads:
        def submit(self, function: Any) -> None:
            threads.append(threading.Thread(target=function))
            threads[-1].start()

    with RPC() as rpc, profiled(1):
        rpc.serve(
            "topic", Endpoint(lambda: small_service.spawn(Threads(), work))
        )
        rpc.client("topic").call({}, "method", name="request")
        over.set()
        [thread] = threads
        thread.join()
    assert spans(points) == {trace_id(1): ["request", "thread"]}
    assert parents(points)["thread"] == "request"


def test_periodic_tasks_are_not_profiled(
    points: small_service.Points, pool: futurist.ThreadPoolExecutor
) -> None:
    """A loop is a job too, whatever the thread did before."""
    with profiled(1):
        small_service.spawn(pool, traced, "job").result()
    pool.submit(traced, "periodic").result()
    assert spans(points) == {trace_id(1): ["job"]}


def test_pools_are_as_before(pool: futurist.ThreadPoolExecutor) -> None:
    def job(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert pool.submit(job, 1, function=2, pool=3).result() == (
        (1,),
        {"function": 2, "pool": 3},
    )
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result()
    assert pool.statistics.failures == 1
    assert pool.submit(fn=profiler.get).result() is None


def test_greenlets() -> None:
    """A pool that is full has its next jobs done by the same greenlet."""
    code = """
import eventlet
eventlet.monkey_patch()
import futurist
from osprofiler import profiler
from profiler_bridge.sender import isolation
from tests import small_service

isolation.isolate_requests()
pool = futurist.GreenThreadPoolExecutor(max_workers=1)

def job(name):
    with profiler.Trace(name):
        eventlet.sleep(0)

with small_service.recorded() as points:
    jobs = []
    for number in (1, None, 2, None):
        with small_service.profiled(number):
            jobs.append(small_service.spawn(pool, job, f"job {number}"))
    for done in jobs:
        done.result()
print([*small_service.spans(points).values()])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.stderr, done.stdout) == ("", "[['job 1'], ['job 2']]\n")


# WSGI


def environ(path: str) -> dict[str, Any]:
    """A request as a server sees it, with what this thread's sends."""
    return {
        "PATH_INFO": path,
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "vm",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        **{
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in web.get_trace_id_headers().items()
        },
    }


def test_wsgi_on_one_thread(points: small_service.Points) -> None:
    """The application leaves a profiler behind, as a call within might."""
    threads = set()

    def application(given: Any, start_response: Any) -> list[bytes]:
        threads.add(threading.get_ident())
        try:
            return small_service.application(given, start_response)
        finally:
            profiler.init("KEY", base_id=trace_id(99))

    with small_service.wsgi(application) as get:
        for number, path in ((1, "/a"), (None, "/b"), (2, "/c"), (None, "/d")):
            with profiled(number):
                assert get(path) == 200
    assert len(threads) == 1
    assert spans(points) == {
        trace_id(1): ["a", "wsgi"],
        trace_id(2): ["c", "wsgi"],
    }


def test_wsgi_leaves_nothing_behind(points: small_service.Points) -> None:
    def application(given: Any, start_response: Any) -> list[bytes]:
        profiler.init("KEY", base_id=trace_id(99))
        return small_service.application(given, start_response)

    middleware = web.WsgiMiddleware(application)
    middleware(environ("/a"), lambda *args: None)
    assert profiler.get() is None
    assert spans(points) == {trace_id(99): ["a"]}


def test_wsgi_that_fails(points: small_service.Points) -> None:
    def application(given: Any, start_response: Any) -> list[bytes]:
        if given["PATH_INFO"] == "/fails":
            raise ValueError("no such server")
        return small_service.application(given, start_response)

    with small_service.wsgi(application) as get:
        with profiled(1):
            assert get("/fails") == 500
        assert get("/b") == 200
    assert spans(points) == {trace_id(1): ["wsgi"]}
    assert points[-1]["info"]["etype"] == "ValueError"


def test_wsgi_that_answers_bit_by_bit(points: small_service.Points) -> None:
    """osprofiler takes the profiler away before the server asks for these."""

    def application(given: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        traced("start")
        return rest()

    def rest() -> Iterator[bytes]:
        traced("later")
        yield b"a"

    with small_service.wsgi(application) as get:
        for number in (1, None, 2):
            with profiled(number):
                assert get("/") == 200
    assert spans(points) == {
        trace_id(1): ["start", "wsgi"],
        trace_id(2): ["start", "wsgi"],
    }


@pytest.mark.parametrize("headers", [True, False])
def test_wsgi_within_wsgi(points: small_service.Points, headers: bool) -> None:
    """A service that asks another within its process goes on in its trace."""

    def outer(given: Any, start_response: Any) -> list[bytes]:
        with profiler.Trace("before"):
            asked = environ("/inner")
            if not headers:
                del asked["HTTP_X_TRACE_INFO"]
            inner(asked, lambda *args: None)
        traced("after")
        return small_service.application(given, start_response)

    inner = web.WsgiMiddleware(
        small_service.application, hmac_keys=small_service.KEY, enabled=True
    )
    with small_service.wsgi(outer) as ask, profiled(1):
        assert ask("/outer") == 200
    assert spans(points) == {
        trace_id(1): [
            *["inner", "wsgi"] * headers,
            "before",
            "after",
            "outer",
            "wsgi",
        ]
    }


# From when on, and where it cannot be


SERVICE = [sys.executable, "-W", "ignore", "-m", "tests.small_service"]
INSTRUMENT = [
    sys.executable,
    "-c",
    "import sys; from profiler_bridge.cmd import instrument;"
    " sys.exit(instrument.main())",
]


@pytest.mark.parametrize(
    ("start", "connection_string", "traces"),
    [
        ([], "messaging://", [["first", "second", "third"]]),
        (INSTRUMENT, "messaging://", [["first"], ["second"]]),
        (INSTRUMENT, "bridge://", [["first"], ["second"]]),
    ],
)
def test_service(
    start: list[str],
    connection_string: str,
    traces: list[list[str]],
    tmp_path: Path,
) -> None:
    """The first case is what osprofiler does by itself."""
    conf = tmp_path / "service.conf"
    conf.write_text(
        "[DEFAULT]\ntransport_url = fake://\n[profiler]\nenabled = true\n"
        "hmac_keys = SECRET_KEY\n"
        f"connection_string = {connection_string}\n"
    )
    done = subprocess.run(
        [*start, *SERVICE, f"--config-file={conf}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [*json.loads(done.stdout).values()] == traces


def test_nothing_is_changed_before_a_driver_is_made() -> None:
    code = """
import sys
import profiler_bridge.sender.driver
from osprofiler.drivers import base
print({"futurist", "osprofiler.web", "oslo_messaging"} & {*sys.modules})
try:
    base.get_driver("nonsense://")
except ValueError:
    print("futurist" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.stderr, done.stdout) == ("", "set()\nFalse\n")


@pytest.mark.parametrize(
    ("seam", "name", "text"),
    [
        (futurist, "ThreadPoolExecutor", "Jobs of thread pools"),
        (web, "WsgiMiddleware", "WSGI requests"),
    ],
)
def test_release_without_a_seam(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seam: Any,
    name: str,
    text: str,
) -> None:
    """The other one is changed all the same; and the log says it once."""
    pools = futurist.ThreadPoolExecutor
    before = pools.submit, vars(web.WsgiMiddleware)["__call__"]
    middleware = web.WsgiMiddleware
    monkeypatch.delattr(seam, name)
    monkeypatch.setattr(isolation, "_isolated", False)
    with caplog.at_level(logging.WARNING):
        isolation.isolate_requests()
        isolation.isolate_requests()
    [record] = caplog.records
    assert record.getMessage().startswith(text)
    after = pools.submit, vars(middleware)["__call__"]
    assert [a is b for a, b in zip(before, after, strict=True)] == [
        seam is futurist,
        seam is web,
    ]


def test_release_without_green_pools(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As it will be when eventlet is gone."""
    before = futurist.ThreadPoolExecutor.submit
    monkeypatch.delattr(futurist, "GreenThreadPoolExecutor")
    monkeypatch.setattr(isolation, "_isolated", False)
    isolation.isolate_requests()
    assert futurist.ThreadPoolExecutor.submit is not before
    assert caplog.records == []


def test_release_that_keeps_profilers_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    points: small_service.Points,
    pool: futurist.ThreadPoolExecutor,
) -> None:
    """Requests in requests lose their end, all others are as they should."""
    storage = vars(profiler)["__local_ctx"]
    monkeypatch.setattr(
        profiler, "get", lambda: getattr(storage, "profiler", None)
    )
    monkeypatch.setattr(
        profiler, "clean", lambda: setattr(storage, "profiler", None)
    )
    monkeypatch.delattr(profiler, "__local_ctx")
    storage.profiler = object()
    assert isolation._run_isolated(profiler.get) is None
    assert profiler.get() is None


# The names of other libraries


def parameters(function: Any) -> list[str]:
    return [*inspect.signature(function).parameters]


def test_one_file_uses_osprofilers_private_names() -> None:
    private = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "profiler_bridge").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "__local_ctx"
    }
    assert private == {"profiler_bridge/sender/isolation.py"}


def test_osprofiler_keeps_profilers_by_this_name() -> None:
    with profiled(1):
        current = profiler.get()
        assert vars(profiler)["__local_ctx"].profiler is current
        # What all of this is for.
        assert profiler.init("KEY", base_id=trace_id(2)) is current
    assert profiler.get() is None


def test_drivers_are_made_by_this_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class Driver:
        def __init__(self, connection_string: str) -> None:
            made.append(connection_string)

        def notify(self, info: dict[str, Any]) -> None:
            pass

    monkeypatch.setattr(base, "get_driver", Driver)
    osprofiler_notifier.clear_notifier_cache()
    osprofiler_notifier.create("bridge://")
    osprofiler_notifier.clear_notifier_cache()
    assert made == ["bridge://"]


def test_pools_take_jobs_by_this_name() -> None:
    for pool in (
        futurist.ThreadPoolExecutor,
        futurist.GreenThreadPoolExecutor,
    ):
        assert parameters(inspect.unwrap(pool.submit)) == [
            "self",
            "fn",
            "args",
            "kwargs",
        ]
    dynamic = getattr(futurist, "DynamicThreadPoolExecutor", None)  # if new
    if dynamic is not None:
        assert "submit" not in vars(dynamic)


def test_rpc_servers_have_these_pools() -> None:
    with RPC() as rpc:
        server = rpc.serve("topic", Endpoint())
        assert type(server._work_executor) is futurist.ThreadPoolExecutor


def test_the_librarys_own_pools_are_left_alone() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(profiler.init, "KEY", trace_id(1)).result()
        current = pool.submit(profiler.get).result()
        assert current is not None
