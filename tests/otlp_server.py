# SPDX-License-Identifier: Apache-2.0

"""A server that takes OTLP/HTTP, on the official protobuf classes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests import servers

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_HEXADECIMAL = ("traceId", "spanId", "parentSpanId")


@dataclass(frozen=True)
class Reply:
    """What is answered to a request in place of taking it.

    :param takes: whether it is taken nevertheless
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: bool = False


def partial(rejected: int, why: str, kind: str = PROTOBUF) -> Reply:
    message = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(
            rejected_spans=rejected, error_message=why
        )
    )
    body = (
        message.SerializeToString()
        if kind == PROTOBUF
        else json_format.MessageToJson(message).encode()
    )
    return Reply(200, body, {"Content-Type": kind}, takes=True)


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    size: int
    content: ExportTraceServiceRequest

    @property
    def spans(self) -> int:
        return len([*_spans(self.content)])


# What is done with the handler of the next request: a reply, or anything.
Act = Reply | Callable[[http.server.BaseHTTPRequestHandler], None]


class Collector:
    """Takes what comes, unless it was told otherwise.

    :ivar acts: what is done with the next requests, one after the other
    :ivar requests: all that were decoded, in their order
    :ivar taken: those that were taken
    :ivar connections: how many were opened
    :ivar most: spans of a request; one with more is answered with 413
    """

    def __init__(self, certificates: servers.Certificates | None) -> None:
        self.acts: deque[Act] = deque()
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.connections = 0
        self.most = 10**9
        self.port = servers.free_port()
        self._certificates = certificates
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        kind = "https" if self._certificates else "http"
        return f"otlp+{kind}://127.0.0.1:{self.port}"

    def start(self) -> None:
        collector = self

        class Handler(_Handler):
            def setup(self) -> None:
                self.collector = collector
                collector.connections += 1
                super().setup()

        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", self.port), Handler
        )
        self._server.daemon_threads = True
        # A connection that a client keeps is not waited for.
        self._server.block_on_close = False
        if self._certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                self._certificates.certificate, self._certificates.key
            )
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True
            )
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        ).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def spans(self) -> dict[bytes, tuple[bytes, Span]]:
        """Those that were taken, by their ids, each with its resource."""
        spans: dict[bytes, tuple[bytes, Span]] = {}
        for request in self.taken:
            for resource, span in _spans(request.content):
                assert span.span_id not in spans, "it was sent twice"
                spans[span.span_id] = resource, span
        return spans


def spans_of(content: Any) -> dict[bytes, tuple[bytes, Span]]:
    """As :meth:`Collector.spans`, of a request or of TracesData."""
    return {
        span.span_id: (resource, span) for resource, span in _spans(content)
    }


def _spans(content: Any) -> Iterator[tuple[bytes, Span]]:
    for resource in content.resource_spans:
        for scope in resource.scope_spans:
            assert scope.scope.name == "osprofiler"
            for span in scope.spans:
                yield resource.resource.SerializeToString(), span


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(
            self.path,
            dict(self.headers.items()),
            len(body),
            self._decoded(body),
        )
        self.collector.requests.append(request)
        kind = self.headers["Content-Type"]
        act: Act = Reply(
            200,
            b"{}" if kind == JSON else b"",
            {"Content-Type": kind},
            takes=True,
        )
        if request.spans > self.collector.most:
            act = Reply(413, b"too large", {"Content-Type": "text/plain"})
        if self.collector.acts:
            act = self.collector.acts.popleft()
        if not isinstance(act, Reply):
            act(self)
            return
        if act.takes:
            self.collector.taken.append(request)
        self.send_response(act.status)
        for name, value in act.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(act.body)))
        self.end_headers()
        self.wfile.write(act.body)

    def _decoded(self, body: bytes) -> ExportTraceServiceRequest:
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.headers["Content-Type"] == JSON:
            return from_json(body)
        return ExportTraceServiceRequest.FromString(body)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *args: object) -> None:
        pass


def from_json(body: bytes | str) -> ExportTraceServiceRequest:
    """OTLP has ids in hexadecimal, where protobuf's JSON has base64."""
    document = json.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in _HEXADECIMAL:
                    if name in span:
                        binary = bytes.fromhex(span[name])
                        span[name] = base64.b64encode(binary).decode()
    decoded: ExportTraceServiceRequest = json_format.ParseDict(
        document, ExportTraceServiceRequest()
    )
    return decoded


@contextlib.contextmanager
def collector(
    certificates: servers.Certificates | None = None,
) -> Iterator[Collector]:
    serving = Collector(certificates)
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()
