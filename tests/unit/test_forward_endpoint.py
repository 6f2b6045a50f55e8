# SPDX-License-Identifier: Apache-2.0

"""What [forward] says, and what is wrong with it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from oslo_config import cfg

from profiler_bridge import exceptions, forward
from profiler_bridge.forward.endpoint import Endpoint
from profiler_bridge.forward.headers import HeadersFile


def configured(**options: object) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf.register_opts(forward.OPTS, forward.GROUP)
    conf([], default_config_files=[], default_config_dirs=[])
    for name, value in options.items():
        conf.set_override(name, value, forward.GROUP)
    return conf


def test_defaults() -> None:
    endpoint = Endpoint.of("otlp+http://collector")
    assert (endpoint.host, endpoint.port) == ("collector", 4318)
    assert (endpoint.path, endpoint.name) == (
        "/v1/traces",
        "collector:4318/v1/traces",
    )
    assert (endpoint.encoding, endpoint.compress) == ("protobuf", True)
    assert (endpoint.tls, endpoint.timeout) == (None, 10.0)
    assert str(endpoint) == "otlp+http://collector"
    conf = configured()
    assert forward.targets(conf) == []
    assert conf.forward.hold == 86400


def test_everything_of_a_url() -> None:
    endpoint = Endpoint.of(
        "otlp+https://me:p%40ss@[::1]:443/otlp/v1/traces?encoding=json"
        "&compression=none&timeout=2.5&name=tempo"
    )
    assert (endpoint.host, endpoint.port) == ("::1", 443)
    assert endpoint.path == "/otlp/v1/traces"
    assert (endpoint.encoding, endpoint.compress) == ("json", False)
    assert (endpoint.timeout, endpoint.name) == (2.5, "tempo")
    assert endpoint.tls is not None
    assert endpoint.authorization == "Basic bWU6cEBzcw=="
    assert "p%40ss" not in str(endpoint)
    assert str(endpoint).startswith("otlp+https://***@[::1]:443/otlp/")


def test_long_names_stay_apart() -> None:
    one, other = (
        Endpoint.of(f"otlp+http://{'x' * 60}:4318/{end}").name for end in "ab"
    )
    assert one != other
    assert {len(one), len(other)} == {64}
    assert "%20" not in Endpoint.of("otlp+http://host/a%20b").name


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("collector:4318", "does not begin like scheme://"),
        ("http://secret@collector", "otlp+http:// or otlp+https://"),
        ("otlp+grpc://collector", "otlp+http:// or otlp+https://"),
        ("otlp+http://", "a host"),
        ("otlp+http://:4318", "a host"),
        ("otlp+http://a..b", "a host"),
        ("otlp+http://host:0", "port is 0"),
        ("otlp+http://host:70000", "port is no number"),
        ("otlp+http://secret:secret@", "a host"),
        ("otlp+http://host/?encoding=xml", "protobuf or json"),
        ("otlp+http://host/?compression=zstd", "gzip or none"),
        ("otlp+http://host/?timeout=0", "a number of seconds"),
        ("otlp+http://host/?timeout=soon", "a number of seconds"),
        ("otlp+http://host/?name=", "at most 64"),
        (f"otlp+http://host/?name={'x' * 65}", "at most 64"),
        ("otlp+http://host/?name=a&name=b", "more than once"),
        ("otlp+http://host/?api-key=secret", "does not exist"),
        ("otlp+http://host/ü", "in ASCII"),
        ("otlp+http://host/?ca_file=/nowhere", "for otlp+https"),
        ("otlp+https://host/?ca_file=here.pem", "the whole path"),
        ("otlp+https://host/?ca_file=/nowhere", "No such file"),
        ("otlp+https://host/?key_file=/nowhere", "without cert_file"),
        ("otlp+http://host/?headers_file=/nowhere", "No such file"),
        ("otlp+http://host/?headers_file=/tmp", "no file"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(url: str, problem: str) -> None:
    with pytest.raises(exceptions.ConfigurationError) as error:
        forward.targets(configured(endpoint=[url]))
    said = str(error.value)
    assert re.search(re.escape(problem), said), said
    assert "secret" not in said
    assert said.isprintable()


def test_files_for_tls_that_cannot_be_used(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for option in ("ca_file", "cert_file"):
        with pytest.raises(exceptions.ConfigurationError, match=option):
            Endpoint.of(f"otlp+https://host/?{option}={wrong}")


def test_two_targets_of_one_name() -> None:
    urls = ["otlp+http://host", "otlp+http://host/?encoding=json"]
    with pytest.raises(exceptions.ConfigurationError, match="name=NAME"):
        forward.targets(configured(endpoint=urls))
    urls[1] += "&name=other"
    targets = forward.targets(configured(endpoint=urls))
    assert [target.name for target in targets] == [
        "host:4318/v1/traces",
        "other",
    ]


def test_a_rule_that_cannot_be_read() -> None:
    with pytest.raises(exceptions.ConfigurationError, match="match in"):
        forward.targets(configured(match=["slow"]))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_headers_are_read_again_when_they_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "headers"
    write(path, "# of the vendor\n\nX-Key: one: two \n")
    file = HeadersFile(path)
    assert file.headers() == {"X-Key": "one: two"}
    write(path, "X-Key: other\nX-Scope-OrgID: cloud\n")
    assert file.headers() == {"X-Key": "other", "X-Scope-OrgID": "cloud"}
    assert warnings(caplog) == []
    # What cannot be used does not replace what can, and is told once.
    path.unlink()
    for _ in range(2):
        assert file.headers()["X-Key"] == "other"
    assert len(warnings(caplog)) == 1
    write(path, "X-Key: third\n")
    assert file.headers() == {"X-Key": "third"}


def test_headers_that_others_may_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "headers", "X-Key: secret\n", 0o640)
    HeadersFile(tmp_path / "headers")
    assert warnings(caplog) == []
    write(tmp_path / "headers", "X-Key: secret\n", 0o644)
    HeadersFile(tmp_path / "headers")
    assert "Every user of this host" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("secret", "line 1"),
        ("a: b\nfoo bar: secret", "line 2"),
        ("X-Key: secret\x00", "line 1"),
        ("X-Key: s\u00e9cret", "not in ASCII"),
        ("Content-Length: 1", "by the bridge itself"),
        ("X-Key: secret\nx-key: secret", "there already"),
        ("X-Key: secret\n" * 10_000, "more than 65536"),
    ],
)
def test_headers_that_cannot_be_used(
    tmp_path: Path, text: str, problem: str
) -> None:
    write(tmp_path / "headers", text)
    with pytest.raises(exceptions.ConfigurationError) as error:
        HeadersFile(tmp_path / "headers")
    assert problem in str(error.value)
    assert "secret" not in str(error.value)
