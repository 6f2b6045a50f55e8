# SPDX-License-Identifier: Apache-2.0

"""A service as OpenStack's are, but small: RPC, WSGI, one thread for each.

As a program it serves two profiled requests and one that is not, of both
kinds, and prints which spans each trace has.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import http.client
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref import simple_server

import oslo_messaging
from oslo_config import cfg
from osprofiler import initializer, notifier, opts, profiler, web

KEY = "SECRET_KEY"
Points = list[dict[str, Any]]
WSGIApplication = Callable[..., Any]


@contextlib.contextmanager
def recorded() -> Iterator[Points]:
    """The points of all threads, instead of what the notifier does."""
    points: Points = []
    before = notifier.get()
    notifier.set(lambda info: points.append(copy.deepcopy(info)))
    try:
        yield points
    finally:
        notifier.set(before)


def spans(points: Points) -> dict[str, list[str]]:
    """The names of the finished spans of each trace, as they stopped."""
    names: dict[str, list[str]] = {}
    for point in points:
        if point["name"].endswith("-stop"):
            name = point["name"].removesuffix("-stop")
            names.setdefault(point["base_id"], []).append(name)
    assert 2 * sum(map(len, names.values())) == len(points)
    return names


def trace_id(number: int) -> str:
    return str(uuid.UUID(int=number))


@contextlib.contextmanager
def profiled(number: int | None) -> Iterator[None]:
    """What is in this block is in a trace; in none if None."""
    if number is not None:
        profiler.init(KEY, base_id=trace_id(number))
    try:
        yield
    finally:
        profiler.clean()


def trace_info() -> dict[str, Any] | None:
    """What the services hand over: in a message, or to a thread."""
    current = profiler.get()
    return current and {
        "hmac_key": current.hmac_key,
        "base_id": current.get_base_id(),
        "parent_id": current.get_id(),
    }


def spawn(pool: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in another thread, as nova.utils and others do."""
    info = trace_info()

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        if info:
            profiler.init(**info)
        return function(*args)

    return pool.submit(wrapper, *args)


class Serializer(oslo_messaging.NoOpSerializer):  # type: ignore[misc]
    """That of nova, neutron, cinder, ..., without their contexts."""

    def serialize_context(self, context: Any) -> dict[str, Any]:
        return {"trace_info": trace_info()} if profiler.get() else {}

    def deserialize_context(self, context: Any) -> Any:
        info = context.pop("trace_info", None)
        if info:
            profiler.init(**info)
        return context


class RPC:
    """RPC servers, each with one thread, and clients of them.

    :param url: of a transport; the library's own in memory if not given
    """

    def __init__(self, url: str = "fake://") -> None:
        # oslo.messaging 18.3 serves RPC with no other configuration.
        self.transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=url)
        self._servers: list[Any] = []

    def __enter__(self) -> RPC:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self._servers:
            server.stop()
            server.wait()
        self.transport.cleanup()

    def serve(self, topic: str, endpoint: Any) -> Any:
        # The threading executor, as nothing here is eventlet's.
        server = oslo_messaging.get_rpc_server(
            self.transport,
            oslo_messaging.Target(topic=topic, server="vm"),
            [endpoint],
            serializer=Serializer(),
        )
        server.start(override_pool_size=1)
        self._servers.append(server)
        return server

    def client(self, topic: str) -> Any:
        return oslo_messaging.get_rpc_client(
            self.transport,
            oslo_messaging.Target(topic=topic),
            serializer=Serializer(),
            timeout=30,
        )


class Endpoint:
    """Does one thing, in which it does what it is given."""

    def __init__(self, work: Callable[[], Any] = lambda: None) -> None:
        self.work = work

    def method(self, context: Any, name: str) -> int:
        with profiler.Trace(name):
            self.work()
        return threading.get_ident()


@contextlib.contextmanager
def wsgi(application: WSGIApplication) -> Iterator[Callable[..., int]]:
    """A server with one thread; what asks it returns the status."""

    class Handler(simple_server.WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    class Server(simple_server.WSGIServer):
        def handle_error(self, *args: Any) -> None:
            pass  # the server goes on

    middleware = web.WsgiMiddleware(application, hmac_keys=KEY, enabled=True)
    server = simple_server.make_server(
        "127.0.0.1", 0, middleware, Server, Handler
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def get(path: str) -> int:
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.server_port, timeout=30
        )
        connection.request("GET", path, headers=web.get_trace_id_headers())
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    try:
        yield get
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def application(environ: Any, start_response: Any) -> list[bytes]:
    """Has a span of the path's name."""
    with profiler.Trace(environ["PATH_INFO"].strip("/")):
        start_response("200 OK", [])
    return [b""]


def main() -> None:
    conf = cfg.CONF
    conf(sys.argv[1:], project="service")
    opts.set_defaults(conf)
    initializer.init_from_conf(
        conf=conf, context={}, project="nova", service="api", host="vm"
    )
    with recorded() as points, RPC() as rpc:
        rpc.serve("topic", Endpoint())
        client = rpc.client("topic")
        for number, name in ((1, "first"), (2, "second"), (None, "third")):
            with profiled(number):
                client.call({}, "method", name=name)
    print(json.dumps(spans(points)))


if __name__ == "__main__":
    main()
