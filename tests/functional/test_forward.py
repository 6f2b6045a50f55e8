# SPDX-License-Identifier: Apache-2.0

"""Targets, held to a server on the official protobuf classes."""

from __future__ import annotations

import contextlib
import email.utils
import http.server
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from profiler_bridge import exceptions, rules
from profiler_bridge.forward import batches, client
from profiler_bridge.forward import target as targets
from profiler_bridge.forward.endpoint import Endpoint
from profiler_bridge.forward.outcomes import Drop, Outcome
from profiler_bridge.forward.target import Counts, Target
from profiler_bridge.settled import Settled
from profiler_bridge.summary import PartialSummary
from profiler_bridge.trace import Trace
from tests import otlp_server, recorded, servers
from tests.otlp_server import JSON, Collector, Reply, partial, spans_of
from tests.report_cases import CASES, render


@pytest.fixture
def collector() -> Iterator[Collector]:
    with otlp_server.collector() as serving:
        yield serving


@pytest.fixture(scope="module")
def certificates() -> servers.Certificates:
    return servers.Certificates()


def settled(trace: Trace) -> Settled:
    summary = PartialSummary.of(trace.notifications()).summary(trace.base_id)
    return Settled(trace, summary, {span.trace_id for span in trace.spans})


SIMPLE = settled(CASES["simple"])
SPANS = len(SIMPLE.new)


def printed(*traces: Trace) -> dict[bytes, Any]:
    """What show -f otlp has."""
    spans: dict[bytes, Any] = {}
    for trace in traces:
        spans |= spans_of(otlp_server.from_json(render("otlp", trace)))
    return spans


class Waits:
    """A wait() that takes no time.

    :ivar pauses: what it was called with, zeros left out
    :param acts: what is done meanwhile, one at each pause
    """

    def __init__(self, *acts: Callable[[], object]) -> None:
        self.pauses: list[float] = []
        self._acts = iter(acts)

    def __call__(self, seconds: float) -> None:
        if seconds:
            self.pauses.append(seconds)
            next(self._acts, lambda: None)()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


class Ended(Exception):
    """What wait() raises when all is to end."""


class Sending:
    """A target, what it counts, and how it waits."""

    def __init__(self, url: str, *texts: str, waits: Waits | None = None):
        self.counts = Counts()
        self.target = Target(
            Endpoint.of(url), [*map(rules.parse, texts)], self.counts
        )
        self.waits = waits or Waits()

    def send(self, *traces: Settled) -> None:
        self.target.take(traces or (SIMPLE,), self.waits)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_recorded_traces_arrive(
    collector: Collector, encoding: str, compression: str
) -> None:
    traces = recorded.traces(recorded.keystone())
    sending = Sending(
        f"{collector.url}?encoding={encoding}&compression={compression}"
    )
    for trace in traces:
        sending.send(settled(trace))
    assert collector.spans() == printed(*traces)
    assert sending.counts.sent == sum(len(trace.spans) for trace in traces)
    assert sending.counts.requests == {Outcome.ACCEPTED: 3}
    assert {request.path for request in collector.requests} == {"/v1/traces"}
    assert collector.connections == 1
    headers = collector.requests[0].headers
    assert ("Content-Encoding" in headers) == (compression == "gzip")
    assert headers["User-Agent"].startswith("profiler-bridge/")


def test_tls(
    certificates: servers.Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with otlp_server.collector(certificates) as serving:
        url = f"{serving.url}/?ca_file={certificates.authority}"
        sending = Sending(url)
        sending.send()
        sending.send()
        assert sending.counts.sent == 2 * SPANS
        assert serving.connections == 1
        # Whom nobody vouches for gets nothing.
        unknown = Sending(serving.url, waits=Waits(end))
        with pytest.raises(Ended):
            unknown.send()
        assert unknown.counts.requests == {Outcome.UNREACHABLE: 1}
        assert "its certificate is not valid" in caplog.text
        assert not unknown.counts.waiting


def end() -> None:
    raise Ended


def test_a_client_shows_its_certificate(
    certificates: servers.Certificates,
) -> None:
    endpoint = Endpoint.of(
        f"otlp+https://host/?cert_file={certificates.certificate}"
        f"&key_file={certificates.key}"
    )
    assert endpoint.tls is not None
    for option in ("authority", "key"):
        with pytest.raises(
            exceptions.ConfigurationError, match="no certificate with its key"
        ):
            Endpoint.of(
                f"otlp+https://host/?cert_file={certificates.authority}"
                f"&key_file={getattr(certificates, option)}"
            )


def test_headers(collector: Collector, tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("X-Scope-OrgID: cloud\nauthorization: Bearer one\n")
    host = collector.url.replace("://", "://user:password@")
    sending = Sending(f"{host}/traces?headers_file={path}")
    sending.send()
    path.write_text("X-Scope-OrgID: other cloud\n")
    sending.send()
    one, other = (request.headers for request in collector.requests)
    assert one["X-Scope-OrgID"] == "cloud"
    assert one["authorization"] == "Bearer one"
    assert "Authorization" not in one
    assert other["X-Scope-OrgID"] == "other cloud"
    assert other["Authorization"] == "Basic dXNlcjpwYXNzd29yZA=="
    assert collector.requests[0].path == "/traces"
    assert "password" not in str(sending.target)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_it_is_tried_again(collector: Collector, status: int) -> None:
    for after in ("7", "-1", "0", "soon", "1e9", "9" * 5000, ""):
        collector.acts.append(Reply(status, b"", {"Retry-After": after}))
    moment = email.utils.formatdate(time.time() + 1000, usegmt=True)
    collector.acts.append(Reply(status, b"", {"Retry-After": moment}))
    sending = Sending(collector.url)
    sending.send()
    asked, *backoff, most, _, until = sending.waits.pauses
    assert 7 <= asked <= 7.7
    assert all(0.5 <= pause <= 30 for pause in backoff)
    for pause in (most, until):
        assert 300 <= pause <= 330
    assert collector.spans() == printed(CASES["simple"])
    assert sending.counts.requests == {Outcome.BUSY: 8, Outcome.ACCEPTED: 1}
    assert not sending.counts.waiting


def test_pauses_grow(collector: Collector) -> None:
    collector.acts.extend([Reply(503)] * 8)
    sending = Sending(collector.url)
    sending.send()
    pauses = sending.waits.pauses
    assert pauses[0] <= 1
    assert 15 <= pauses[-1] <= 30


@pytest.mark.parametrize("kind", [otlp_server.PROTOBUF, JSON])
def test_partial_success(
    collector: Collector, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    collector.acts.append(partial(1, "no such\n\x1b[31mtenant" * 99, kind))
    collector.acts.append(partial(10**9, "none of them", kind))
    collector.acts.append(partial(0, "slow down", kind))
    sending = Sending(collector.url)
    for _ in range(3):
        sending.send()
    counts = sending.counts
    assert (counts.sent, counts.rejected) == (SPANS - 1 + SPANS, 1 + SPANS)
    assert counts.requests == {Outcome.PARTIAL: 2, Outcome.ACCEPTED: 1}
    assert len(collector.requests) == 3
    # What a server says neither fills the log nor forges a line.
    said = [message for message in caplog.messages if "tenant" in message]
    assert len(said) == 1
    assert len(said[0]) < 600
    assert said[0].isprintable()
    assert "with a warning: slow down" in caplog.text


def test_what_is_too_large_is_halved(collector: Collector) -> None:
    trace = recorded.traces(recorded.keystone())[0]
    count = len(trace.spans)
    collector.most = count // 3
    sending = Sending(collector.url)
    sending.send(settled(trace))
    assert collector.spans() == printed(trace)
    assert sending.counts.sent == count
    assert sending.counts.requests[Outcome.TOO_LARGE] == 3
    # One span alone cannot become less.
    collector.most = 0
    sending.send()
    assert sending.counts.dropped == {Drop.TOO_LARGE: SPANS}


@pytest.mark.parametrize(
    ("reply", "reason", "said"),
    [
        (Reply(400, b"\x12\x03bad"), Drop.REFUSED, "400: bad;"),
        (
            Reply(401, b'{"message": "who?"}', {"Content-Type": JSON}),
            Drop.REFUSED,
            "401: who?;",
        ),
        (
            Reply(404, b"<h1>\xff\n", {"Content-Type": "text/html"}),
            Drop.REFUSED,
            "404: <h1>",
        ),
        (
            Reply(500, b"x" * 10**6, {"Content-Type": "text/plain"}),
            Drop.REFUSED,
            "500: xx",
        ),
        (
            Reply(307, b"", {"Location": "http://127.0.0.1:1/"}),
            Drop.REDIRECTED,
            "307, to http://127.0.0.1:1/;",
        ),
    ],
)
def test_what_is_refused_is_dropped(
    collector: Collector,
    caplog: pytest.LogCaptureFixture,
    reply: Reply,
    reason: Drop,
    said: str,
) -> None:
    if "Content-Type" not in reply.headers:
        headers = {**reply.headers, "Content-Type": otlp_server.PROTOBUF}
        reply = Reply(reply.status, reply.body, headers)
    collector.acts.extend([reply, reply])
    sending = Sending(collector.url)
    for _ in range(3):
        sending.send()
    assert sending.counts.dropped == {reason: 2 * SPANS}
    assert sending.counts.sent == SPANS
    assert sending.waits.pauses == []
    (message,) = warnings(caplog)  # once in a while
    assert said in message
    assert f"{SPANS} spans are dropped" in message
    assert message.isprintable()
    assert len(message) < 500


def test_nothing_is_lost_while_the_target_is_away(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sending = Sending(collector.url)
    sending.waits = Waits(
        lambda: None,
        lambda: waiting.append(sending.counts.waiting),
        collector.start,
    )
    waiting: list[bool] = []
    collector.stop()
    sending.send()
    assert waiting == [True]
    assert collector.spans() == printed(CASES["simple"])
    assert sending.counts.requests == {
        Outcome.UNREACHABLE: 3,
        Outcome.ACCEPTED: 1,
    }
    assert len(caplog.messages) == 2
    assert "is waited for: Connection refused" in caplog.messages[0]
    assert "answers again" in caplog.messages[1]


def test_a_connection_that_was_closed_meanwhile(collector: Collector) -> None:
    sending = Sending(collector.url)
    closed = Reply(200, b"", {"Connection": "close"}, takes=True)
    for act in (closed, hang_up_later, None):
        if act is not None:
            collector.acts.append(act)
        sending.send()
    assert sending.counts.requests == {Outcome.ACCEPTED: 3}
    assert sending.waits.pauses == []
    assert collector.connections == 3


def hang_up_later(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer, and close without having said so."""
    handler.send_response(200)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    handler.close_connection = True


def raw(*parts: bytes, pause: float = 0) -> Any:
    """Sends just this, and closes the connection."""

    def act(handler: http.server.BaseHTTPRequestHandler) -> None:
        for part in parts:
            handler.wfile.write(part)
            time.sleep(pause)
        handler.close_connection = True

    return act


@pytest.mark.parametrize(
    "garbage",
    [
        raw(),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        raw(b"HTTP/1.1 2"),
        raw(b"HTTP/1.1 abc OK\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 5),
    ],
)
def test_what_is_no_answer_is_tried_again(
    collector: Collector, garbage: Any
) -> None:
    collector.acts.append(garbage)
    sending = Sending(collector.url)
    sending.send()
    assert collector.spans() == printed(CASES["simple"])
    assert sending.counts.requests == {
        Outcome.UNREACHABLE: 1,
        Outcome.ACCEPTED: 1,
    }


@pytest.mark.parametrize(
    "garbage",
    [
        Reply(200, b"<html>", {"Content-Type": "text/html"}),
        Reply(200, b"\xff", {"Content-Type": otlp_server.PROTOBUF}),
        Reply(200, b"[1]", {"Content-Type": JSON}),
        Reply(200, b"x" * 10**6, {"Content-Type": JSON}),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbut few"),
    ],
)
def test_who_takes_it_without_a_word_of_otlp(
    collector: Collector, garbage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """200 is 200, but somebody should look."""
    collector.acts.append(garbage)
    sending = Sending(collector.url)
    sending.send()
    sending.send()
    assert sending.counts.requests == {Outcome.ACCEPTED: 2}
    (message,) = warnings(caplog)
    assert "with what is not OTLP" in message


def test_a_server_that_takes_its_time(collector: Collector) -> None:
    """A byte now and then does not make a request last."""
    drip = raw(*[b"x"] * 100, pause=0.05)
    collector.acts.extend([drip, drip])
    sending = Sending(f"{collector.url}?timeout=0.2")
    sending.send()
    assert sending.counts.requests == {
        Outcome.UNREACHABLE: 2,
        Outcome.ACCEPTED: 1,
    }


def test_a_server_that_does_not_read() -> None:
    """More than what the kernel takes for it waits no longer than told."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sender = client.Client(
            Endpoint.of(f"otlp+http://127.0.0.1:{port}?timeout=0.2")
        )
        with pytest.raises(client.Unreachable, match="in time"):
            sender.post(bytes(50_000_000), {})


def test_it_ends_when_it_is_told_to(collector: Collector) -> None:
    sending = Sending(collector.url, waits=Waits(end))
    collector.acts.append(Reply(503))
    with pytest.raises(Ended):
        sending.send()
    assert collector.taken == []
    assert not sending.counts.waiting
    sending.send()
    assert collector.spans() == printed(CASES["simple"])


def test_large_traces_may_end_between_requests(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_SPANS", 1)
    called: list[float] = []
    target = Target(Endpoint.of(collector.url))
    target.take([SIMPLE], called.append)
    assert called == [0.0] * SPANS
    assert collector.spans() == printed(CASES["simple"])


def chosen(*texts: str) -> Callable[[Settled], Sequence[bool]]:
    target = Target(
        Endpoint.of("otlp+http://nowhere"), [*map(rules.parse, texts)]
    )

    def both(one: Settled) -> Sequence[bool]:
        """Before it is read, and after."""
        return target.wants(one.summary), bool([*target._chosen([one])])

    return both


def test_rules_choose() -> None:
    error = settled(CASES["error"])
    assert chosen()(SIMPLE) == (True, True)
    assert chosen("error")(SIMPLE) == (False, False)
    assert chosen("error")(error) == (True, True)
    assert chosen("error", "sample 1/1")(SIMPLE) == (True, True)
    did = "operation 'GET /servers'"
    assert chosen(did)(SIMPLE) == (True, True)
    assert chosen("operation nothing")(SIMPLE) == (True, False)
    assert chosen("operation nothing", "not error")(SIMPLE) == (True, True)
    assert chosen(f"error and {did}")(SIMPLE) == (False, False)


def test_proxies_of_the_environment_have_no_part(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    sending = Sending(collector.url)
    sending.send()
    assert sending.counts.sent == SPANS


def test_some_messages_are_logged_again_later(
    collector: Collector,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "_LOG_EVERY", 0.0)
    collector.acts.extend([Reply(400)] * 2)
    sending = Sending(collector.url)
    with contextlib.closing(sending.target):
        sending.send()
        sending.send()
    assert len(warnings(caplog)) == 2
