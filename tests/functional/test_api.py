# SPDX-License-Identifier: Apache-2.0

"""The service for reading: what is around its views, and how it is run."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import http.server
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import bcrypt
import flask
import pytest
from oslo_config import cfg
from prometheus_client import values
from werkzeug.test import Client

from profiler_bridge import config, exceptions
from profiler_bridge.api import etags
from profiler_bridge.api.app import make_app, storage
from profiler_bridge.cmd import api
from profiler_bridge.query import TraceQuery
from profiler_bridge.storage import get_storage
from profiler_bridge.testing import sample
from profiler_bridge.testing.helpers import write
from tests import servers
from tests.daemon import wait_for

ROOT = Path(__file__).parents[2]
COMMAND = "from profiler_bridge.cmd import api; raise SystemExit(api.main())"
SECRET = "s3cret-of-somebody"


def views() -> flask.Blueprint:
    """Views as those of the parts: they read, they stream, they fail."""
    blueprint = flask.Blueprint("views", __name__, url_prefix="/t")

    @blueprint.get("/traces/<base_id>")
    def trace(base_id: str) -> Any:
        if unchanged := etags.unchanged(base_id):
            return unchanged
        trace = storage().trace(base_id)
        return {"spans": sum(1 for _ in trace.walk())}

    @blueprint.get("/traces")
    def traces() -> Any:
        limit = flask.current_app.config["OPTIONS"].max_limit
        page = storage().page(TraceQuery(limit=limit))
        return {
            "traces": [summary.base_id for summary in page.traces],
            "services": storage().services(),
            "failed": len(storage().list_error_traces(TraceQuery())),
        }

    @blueprint.get("/fails/<how>")
    def fails(how: str) -> Any:
        raise FAILURES[how]

    @blueprint.get("/streams/<int:parts>/<how>")
    def streams(parts: int, how: str) -> Any:
        def body() -> Iterator[str]:
            yield ""
            for number in range(parts):
                yield f"{number:05}" * 2000
            if how in FAILURES:
                raise FAILURES[how]

        return flask.Response(body(), content_type="text/plain")

    @blueprint.get("/own")
    def own() -> Any:
        headers = {"Content-Security-Policy": "default-src 'self'"}
        return "own", 200, headers

    return blueprint


FAILURES: dict[str, Exception] = {
    "bad": argparse.ArgumentTypeError("no duration\nlike 250us"),
    "gone": exceptions.TraceNotFound("trace x is not in this storage"),
    "away": exceptions.StorageUnavailable(f"db at {SECRET}: no answer"),
    "wrong": exceptions.StorageMisconfigured(f"db at {SECRET}: no table"),
    "bug": KeyError(SECRET),
}

Configure = Callable[..., cfg.ConfigOpts]


@pytest.fixture
def configure(tmp_path: Path, sqlite_url: str) -> Configure:
    """Give a configuration with these lines."""
    numbers = itertools.count()

    def configure(text: str = "", url: str = sqlite_url) -> cfg.ConfigOpts:
        path = tmp_path / f"api-{next(numbers)}.conf"
        path.write_text(
            f"[osprofiler]\nconnection_string = {url}\n[api]\n{text}\n"
        )
        return config.load_api([f"--config-file={path}"])

    return configure


def app_of(conf: cfg.ConfigOpts) -> flask.Flask:
    app = make_app(conf)
    app.register_blueprint(views())
    return app


@pytest.fixture
def client(configure: Configure) -> Client:
    return Client(app_of(configure()))


@contextlib.contextmanager
def served(conf: cfg.ConfigOpts) -> Iterator[int]:
    """Run the real server with the views, on the port that this gives."""
    server = api.make_server(app_of(conf), conf)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.effective_port
    finally:
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(30)
        assert not thread.is_alive()


def on_free_port(text: str = "") -> str:
    return f"port = {servers.free_port()}\n{text}"


# Answers


def test_the_root_leads_to_the_pages(client: Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 302
    assert answer.location == "/traces"


def test_every_answer_forbids_what_it_does_not_need(client: Client) -> None:
    for path in ("/", "/nothing", "/t/fails/bug", "/healthcheck"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "private, no-cache"
    own = client.get("/t/own").headers.getlist("Content-Security-Policy")
    assert own == ["default-src 'self'"]


def test_head_is_answered_as_get_without_a_body(client: Client) -> None:
    answer, head = client.get("/t/traces"), client.head("/t/traces")
    assert head.data == b""
    assert head.headers["Content-Length"] == str(len(answer.data))
    assert client.head("/t/streams/100000000/well").data == b""
    assert client.post("/t/traces").status_code == 405


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("bad", 400, "no duration\\nlike 250us"),
        ("gone", 404, "trace x is not in this storage"),
        ("away", 503, "the storage does not answer now"),
        ("wrong", 500, "the storage cannot be read: the log says why"),
        ("bug", 500, "this failed: the log says why"),
    ],
)
def test_errors_are_one_line(
    how: str,
    status: int,
    message: str,
    client: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Also where nothing of an answer is sent yet.
    for path in (f"/t/fails/{how}", f"/t/streams/0/{how}"):
        caplog.clear()
        answer = client.get(path)
        assert answer.status_code == status
        assert answer.json == {"error": {"code": status, "message": message}}
        assert ("Retry-After" in answer.headers) == (status == 503)
        answer.close()
        logged = [
            record
            for record in caplog.records
            if record.levelno >= logging.WARNING
        ]
        assert len(logged) == (status >= 500)
        for record in logged:
            assert bool(record.exc_info) == (how == "bug")
    text = client.get(f"/t/fails/{how}", headers={"Accept": "text/html,*/*"})
    assert text.text == f"{message}\n"
    assert text.content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize("how", ["away", "bug"])
def test_what_fails_half_way_ends_the_connection(
    how: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    # One server each: what it has to say it has said when it ends.
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        caplog.clear()
        caplog.set_level(logging.INFO)
        with served(configure(on_free_port())) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", f"/t/streams/50/{how}", headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
            connection.close()
        warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert len(warnings) == 1


def test_answers_are_compressed_part_by_part(
    client: Client,
) -> None:
    taken = {"Accept-Encoding": "br;q=1, gzip;q=0.5"}
    answer = client.get("/t/streams/200/well", headers=taken)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert "Content-Length" not in answer.headers
    plain = client.get("/t/streams/200/well")
    assert "Content-Encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert gzip.decompress(answer.data) == plain.data
    # The first part of very many comes at once, and who leaves is let go.
    endless = client.get("/t/streams/1000000000/well", headers=taken)
    assert next(iter(endless.response))
    endless.close()
    for path, headers in (
        ("/t/own", taken),  # it is small
        ("/t/streams/200/well", {"Accept-Encoding": "gzip;q=0"}),
        ("/t/fails/bug", taken),
    ):
        other = client.get(path, headers=headers)
        assert "Content-Encoding" not in other.headers


def test_a_trace_is_given_again_when_it_has_changed(
    client: Client, sqlite_url: str
) -> None:
    traces = get_storage(sqlite_url)
    traces.prepare()
    first = sample.request(sample.seeded(1))
    second = sample.one_span(seed=2)
    write(traces, first[:2], second)
    path = f"/t/traces/{first[0]['base_id']}"
    answer = client.get(path)
    assert answer.status_code == 200
    tag = answer.headers["ETag"]
    assert client.get(path).headers["ETag"] == tag
    asked = {"If-None-Match": tag}
    unchanged = client.get(path, headers=asked)
    assert unchanged.status_code == 304
    assert unchanged.data == b""
    assert unchanged.headers["ETag"] == tag
    other = client.get(f"/t/traces/{second[0]['base_id']}", headers=asked)
    assert other.status_code == 200
    write(traces, first[2:])
    changed = client.get(path, headers=asked)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag
    unknown = client.get(f"/t/traces/{sample.new_id(sample.seeded(9))}")
    assert unknown.status_code == 404
    assert "ETag" not in unknown.headers
    traces.close()


# The log, counts, others around it


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "profiler_bridge.api.front"
    ]


def test_a_line_of_the_log_for_each_request(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.get(
        "/nothing%0Aforged%1b[2J",
        query_string=f"password={SECRET}",
        headers={"X-Auth-Token": SECRET, "Authorization": SECRET},
        environ_base={"REMOTE_ADDR": "192.0.2.7\nforged"},
    ).close()
    client.get("/t/traces?" + "a=%0a&" * 1000).close()
    client.get("/t/streams/3/well").close()
    lines = access_lines(caplog)
    assert len(lines) == 3
    assert lines[0].startswith(
        '192.0.2.7\\nforged - "GET /nothing%0Aforged%1B%5B2J?password=***" 404'
    )
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert ' "GET /t/streams/3/well" 200 ' in lines[2]
    assert SECRET not in caplog.text


def test_requests_are_counted_by_route(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests make this process one of the daemon's.
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    client = Client(app_of(configure("metrics = true")))
    for path in (
        "/t/traces/1",
        "/t/traces/2",
        "/t/streams/2/well",
        "/x",
        "/y",
    ):
        answer = client.get(path)
        assert answer.data
        answer.close()
    told = client.get("/metrics").text
    for labels, count in (
        ('route="/t/traces/<base_id>",status="500"', 2),
        ('route="/t/streams/<int:parts>/<how>",status="200"', 1),
        ('route="",status="404"', 2),
    ):
        assert (
            f"profiler_bridge_api_requests_total{{{labels}}} {count}.0" in told
        )
    assert "profiler_bridge_api_request_seconds_bucket{" in told
    assert Client(app_of(configure())).get("/metrics").status_code == 404


def test_proxies_are_believed_where_told_so(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {
        "X-Forwarded-For": "192.0.2.9",
        "X-Forwarded-Prefix": "/profiler",
    }
    believed = "[oslo_middleware]\nenable_proxy_headers_parsing = true"
    for text in ("", believed):
        with served(configure(on_free_port(text))) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/t/own", headers=headers)
            assert connection.getresponse().read() == b"own"
            connection.close()
    before, after = access_lines(caplog)
    assert before.startswith('127.0.0.1 - "GET /t/own"')
    assert after.startswith('192.0.2.9 - "GET /profiler/t/own"')


def test_other_origins_read_where_told_so(configure: Configure) -> None:
    asked = {
        "Origin": "https://grafana.example.org",
        "Access-Control-Request-Method": "GET",
    }
    allowed = "Access-Control-Allow-Origin"
    assert allowed not in Client(app_of(configure())).get("/t/own").headers
    text = (
        "auth_strategy = http_basic\n"
        f"[oslo_middleware]\nhttp_basic_auth_user_file = {os.devnull}\n"
        "[cors]\nallowed_origin = https://grafana.example.org\n"
    )
    client = Client(app_of(configure(text)))
    preflight = client.options("/t/own", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers[allowed] == asked["Origin"]
    refused = client.get("/t/own", headers=asked)
    assert refused.status_code == 401
    assert refused.headers[allowed] == asked["Origin"]
    asked["Origin"] = "https://elsewhere.example.org"
    assert allowed not in client.get("/t/own", headers=asked).headers


def test_by_other_names_it_does_not_answer(configure: Configure) -> None:
    text = "trusted_hosts = localhost, .example.org"
    client = Client(app_of(configure(text)))
    for name, status in (
        ("localhost:8095", 200),
        ("traces.example.org", 200),
        ("rebound.example.com", 400),
    ):
        answer = client.get("/t/own", headers={"Host": name})
        assert answer.status_code == status, name


def test_health_needs_no_storage(configure: Configure, tmp_path: Path) -> None:
    away = f"mysql+pymysql://u:p@127.0.0.1:{servers.free_port()}/d"
    stop = tmp_path / "stop"
    text = (
        "[healthcheck]\nbackends = disable_by_file\n"
        f"disable_by_file_path = {stop}\n"
    )
    client = Client(app_of(configure(text, away)))
    assert client.get("/healthcheck").status_code == 200
    assert client.get("/t/traces").status_code == 503
    stop.touch()
    assert client.get("/healthcheck").status_code == 503


# Who may read


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def test_basic_authentication(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "htpasswd"
    path.write_text(f"anna:{hashed(SECRET)}\nüwe:{hashed('x:y')}\n")
    text = (
        "auth_strategy = http_basic\n"
        f"[oslo_middleware]\nhttp_basic_auth_user_file = {path}\n"
    )
    client = Client(app_of(configure(text)))
    for given, status in (
        (None, 401),
        (("anna", SECRET), 200),
        (("anna", SECRET), 200),
        (("üwe", "x:y"), 200),
        (("anna", "wrong"), 401),
        (("anna", "w" * 100), 401),
        (("anna", "\0"), 401),
        (("nobody", SECRET), 401),
        (("anna\nforged", SECRET), 401),
        (("", ""), 401),
    ):
        answer = client.get("/t/own", auth=given)
        assert answer.status_code == status, given
        if status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        answer.close()
    for header in ("Basic", "Basic ???", f"Bearer {SECRET}", "\n"):
        wrong = {"HTTP_AUTHORIZATION": header}
        answer = client.get("/t/own", environ_overrides=wrong)
        assert answer.status_code == 401
    # What fails behind it is no wrong password.
    assert client.get("/t/fails/bug", auth=("anna", SECRET)).status_code == 500
    assert client.get("/healthcheck").status_code == 200
    path.write_text(f"anna:{hashed('another')}\n")
    assert client.get("/t/own", auth=("anna", SECRET)).status_code == 401
    assert client.get("/t/own", auth=("anna", "another")).status_code == 200
    assert any(
        ' anna "GET /t/own" 200' in message for message in caplog.messages
    )
    assert all(message.isprintable() for message in caplog.messages)
    assert SECRET not in " ".join(caplog.messages)
    path.unlink()
    assert client.get("/t/own", auth=("anna", "another")).status_code == 500
    with pytest.raises(exceptions.ConfigurationError, match="htpasswd cannot"):
        make_app(configure(text))
    path.write_text("anna:plain\n")
    with pytest.raises(exceptions.ConfigurationError, match="bcrypt"):
        make_app(configure(text))


class Keystone(http.server.BaseHTTPRequestHandler):
    """What keystonemiddleware asks of Keystone."""

    users: ClassVar = {"reads": ["Admin"], "other": ["member"]}

    def answer(self, status: int, body: Any, token: str = "") -> None:
        self.send_response(status)
        data = json.dumps(body).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if token:
            self.send_header("X-Subject-Token", token)
        self.end_headers()
        self.wfile.write(data)

    @property
    def url(self) -> str:
        return f"http://{self.headers['Host']}/v3/"

    def token(self, user: str, roles: list[str]) -> dict[str, Any]:
        domain = {"id": "default", "name": "Default"}
        return {
            "token": {
                "methods": ["password"],
                "user": {"id": f"id-{user}", "name": user, "domain": domain},
                "project": {"id": "p", "name": "p", "domain": domain},
                "roles": [{"id": role, "name": role} for role in roles],
                "issued_at": "2020-01-01T00:00:00.000000Z",
                "expires_at": "2100-01-01T00:00:00.000000Z",
                "catalog": [
                    {
                        "type": "identity",
                        "name": "keystone",
                        "id": "k",
                        "endpoints": [
                            {
                                "interface": interface,
                                "url": self.url,
                                "region_id": "here",
                                "region": "here",
                                "id": interface,
                            }
                            for interface in ("internal", "public", "admin")
                        ],
                    }
                ],
            }
        }

    def do_GET(self) -> None:
        if self.path.startswith("/v3/auth/tokens"):
            user = self.headers["X-Subject-Token"]
            if user in self.users:
                self.answer(200, self.token(user, self.users[user]))
            else:
                self.answer(404, {})
            return
        link = {"rel": "self", "href": self.url}
        version = {"id": "v3.14", "status": "stable", "links": [link]}
        self.answer(
            200,
            {"version": version}
            if self.path.startswith("/v3")
            else {"versions": {"values": [version]}},
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, self.token("service", ["service"]), "of-the-service")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def keystone_url() -> Iterator[str]:
    """Return the URL of a stand-in for Keystone."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keystone)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_tokens_of_keystone(
    configure: Configure, keystone_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text = (
        "auth_strategy = keystone\n"
        "[keystone_authtoken]\nauth_type = password\n"
        f"auth_url = {keystone_url}\nwww_authenticate_uri = {keystone_url}\n"
        f"username = bridge\npassword = {SECRET}\nproject_name = service\n"
        "user_domain_name = Default\nproject_domain_name = Default\n"
    )
    client = Client(app_of(configure(text)))
    forged = {"X-Roles": "admin", "X-Identity-Status": "Confirmed"}
    for headers, status in (
        ({}, 401),
        (forged, 401),
        ({"X-Auth-Token": "invalid"}, 401),
        ({"X-Auth-Token": "other"}, 403),
        ({"X-Auth-Token": "other", **forged}, 403),
        ({"X-Auth-Token": "reads"}, 200),
    ):
        answer = client.get("/t/own", headers=headers)
        assert answer.status_code == status, headers
        if status == 401:
            assert keystone_url in answer.headers["WWW-Authenticate"]
        assert "Content-Security-Policy" in answer.headers
        answer.close()
    assert client.get("/healthcheck").status_code == 200
    assert any(
        ' reads "GET /t/own" 200' in message for message in caplog.messages
    )
    assert any(
        ' other "GET /t/own" 403' in message for message in caplog.messages
    )
    assert SECRET not in caplog.text


def test_without_authentication_it_stays_on_loopback(
    configure: Configure,
) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(
            exceptions.ConfigurationError, match="is not loopback"
        ):
            api.check(configure(f"host = {host}"))
        for text in ("allow_remote_noauth = true", "auth_strategy=keystone"):
            assert not api.check(configure(f"host = {host}\n{text}"))
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert api.check(configure(f"host = {host}"))


# Nothing but reading


def assert_reads(url: str, writer_url: str, conf: cfg.ConfigOpts) -> None:
    """Every question of the views is answered with the rights of a URL."""
    traces = get_storage(writer_url)
    traces.prepare()
    payloads = sample.assorted_traces()
    write(traces, *payloads)
    traces.close()
    client = Client(app_of(conf))
    listed = client.get("/t/traces")
    assert listed.json is not None
    assert len(listed.json["traces"]) == len(payloads)
    assert listed.json["services"]
    assert listed.json["failed"]
    for base_id in listed.json["traces"]:
        answer = client.get(f"/t/traces/{base_id}")
        assert answer.status_code == 200
        assert "ETag" in answer.headers
    with pytest.raises(exceptions.StorageError):
        write(get_storage(url), payloads[0])


@pytest.mark.parametrize("name", ["mariadb", "postgresql"])
def test_select_is_all_the_right_it_needs(
    name: str, request: pytest.FixtureRequest, configure: Configure
) -> None:
    writer_url = request.getfixturevalue(f"{name}_url")
    server = request.getfixturevalue(name)
    db = writer_url.rpartition("/")[2].partition("?")[0]
    # The tables have to be there before a right to them can be given.
    get_storage(writer_url).prepare()
    user = f"reports_{db}"
    if name == "mariadb":
        server.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'p'")
        server.execute(f"GRANT SELECT ON {db}.* TO {user}@'%'")
    else:
        server.execute(f"CREATE USER {user} PASSWORD 'p'")
        server.execute(
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}", db
        )
    scheme = writer_url.partition(":")[0]
    url = f"{scheme}://{user}:p@127.0.0.1:{server.port}/{db}"
    assert_reads(url, writer_url, configure(url=url))


def test_a_user_of_redis_who_may_only_read(
    redis_server: servers.Redis, redis_url: str, configure: Configure
) -> None:
    """With the rights that the operator's guide gives for reports."""
    page = (ROOT / "doc/source/admin/security.rst").read_text()
    [line] = [
        line for line in page.splitlines() if "ACL SETUSER reports" in line
    ]
    redis_server.execute(*line.split())
    try:
        url = f"redis://reports:password@127.0.0.1:{redis_server.port}/0"
        assert_reads(url, redis_url, configure(url=url))
    finally:
        redis_server.execute("ACL", "DELUSER", "reports")


# How it is run


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def test_the_command_answers_until_it_is_told_to_end(
    configure: Configure, tmp_path: Path
) -> None:
    conf = configure(on_free_port())
    with (tmp_path / "log").open("w+") as log:
        running = subprocess.Popen(
            [
                sys.executable,
                "-c",
                COMMAND,
                "--config-file",
                *conf.config_file,
            ],
            env=environment(),
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(
                lambda: "Listening on" in (tmp_path / "log").read_text(),
                "the service listening",
            )
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", conf.api.port)
            ) as connection:
                connection.request("GET", "/healthcheck")
                answer = connection.getresponse()
                assert answer.status == 200
                assert answer.headers["Server"] is None
            running.send_signal(signal.SIGTERM)
            assert running.wait(90) == 0
        finally:
            running.kill()
            running.wait()
    assert '"GET /healthcheck" 200' in (tmp_path / "log").read_text()


def test_the_command_says_what_it_refuses(configure: Configure) -> None:
    conf = configure("host = 0.0.0.0")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "--config-file", *conf.config_file],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("profiler-bridge-api: host in [api]:")
    assert done.stderr.count("\n") == 1


FORKING = """
import os, sys
from profiler_bridge.api.app import storage
from profiler_bridge.query import TraceQuery
from profiler_bridge.wsgi import application
from werkzeug.test import Client

@application.get("/t/traces")
def traces():
    return {"traces": len(storage().list_traces(TraceQuery()))}

children = []
for _ in range(3):
    if not (child := os.fork()):
        answers = [Client(application).get("/t/traces") for _ in range(5)]
        os._exit(any(answer.json != {"traces": 1} for answer in answers))
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def test_other_servers_import_it_and_fork(
    mariadb_url: str, configure: Configure
) -> None:
    traces = get_storage(mariadb_url)
    traces.prepare()
    write(traces, sample.one_span())
    traces.close()
    conf = configure(url=mariadb_url)
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env=environment(
            OS_PROFILER_BRIDGE_CONFIG_FILES=";".join(conf.config_file)
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]


PREFORKED = """
import os, signal, socket, sys
import waitress
from profiler_bridge.wsgi import application

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
children = []
for own in sockets:
    if not (child := os.fork()):
        waitress.serve(application, sockets=[own], _quiet=True)
        os._exit(0)
    children.append(child)
print(*(own.getsockname()[1] for own in sockets), flush=True)
sys.stdin.read()
for child in children:
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
"""


def test_several_processes_count_together(
    configure: Configure, tmp_path: Path
) -> None:
    """Each is told apart by a socket of its own; the rest is as usual."""
    conf = configure("metrics = true")
    (tmp_path / "counts").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", PREFORKED],
        env=environment(
            OS_PROFILER_BRIDGE_CONFIG_FILES=";".join(conf.config_file),
            PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "counts"),
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def get(port: str, path: str = "/healthcheck") -> str:
            url = f"http://127.0.0.1:{port}{path}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return str(answer.read().decode())

        with server.stdin:
            ports = server.stdout.readline().split()
            assert len(ports) == 2
            with ThreadPoolExecutor(4) as pool:
                [*pool.map(get, [ports[0]] * 30 + [ports[1]] * 50)]
            for port in ports:
                # The last may be counted after its answer.
                wait_for(
                    lambda port=port: (  # type: ignore[misc]
                        'requests_total{route="/healthcheck",status="200"}'
                        " 80.0" in get(port, "/metrics")
                    ),
                    "all of them in what each says",
                )
                told = get(port, "/metrics")
                assert 'seconds_count{route="/healthcheck"} 80.0' in told
    assert server.returncode == 0


def test_counts_of_several_processes_need_a_folder(
    configure: Configure, tmp_path: Path
) -> None:
    conf = configure(on_free_port("metrics = true"))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "--config-file", *conf.config_file],
        env=environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "none")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"profiler-bridge-api: PROMETHEUS_MULTIPROC_DIR={tmp_path}/none is"
    )
    assert done.stderr.count("\n") == 1
