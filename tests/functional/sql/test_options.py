# SPDX-License-Identifier: Apache-2.0

"""What a database's URL may say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profiler_bridge import exceptions
from profiler_bridge.storage import get_storage, known_schemes
from profiler_bridge.storage.sql.plugin import SQLPlugin
from profiler_bridge.testing.storage import (
    assert_no_password,
    assert_presentable,
)
from tests import servers
from tests.functional.sql.databases import changed, misconfigured


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@localhost/db",
        "mariadb://u:s3cret@localhost/db",
        "mariadb+pymysql://u:s3cret@localhost/db",
        "postgresql://u:s3cret@localhost/db",
        "postgresql+psycopg://u:s3cret@localhost/db",
        "sqlite:////var/lib/traces.sqlite",
    ],
)
def test_schemes(url: str) -> None:
    storage = get_storage(url)
    assert isinstance(storage.plugin, SQLPlugin)
    assert_no_password(str(storage), url)


def test_unknown_scheme_names_the_known() -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage("mysqll://u:s3cret@localhost/db")
    message = str(caught.value)
    assert "mysqll://" in message
    assert all(scheme in message for scheme in known_schemes())
    assert_presentable(caught.value, "mysqll://u:s3cret@localhost/db")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@localhost:port/db",
        "postgresql://u:s3cret@[::1/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:traces?mode=memory",
        "sqlite://localhost/traces.sqlite",
    ],
)
def test_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage(url)
    assert_presentable(caught.value, url.replace("[", ""))


def test_password_among_the_options_is_not_shown() -> None:
    url = "mysql://localhost/db?user=u&password=s3cret"
    assert "s3cret" not in str(get_storage(url))


def test_option_that_the_client_does_not_have(server_url: str) -> None:
    misconfigured(
        changed(server_url, query={"nonsense": "1"}),
        "nonsense.*: check the connection string",
    )


@pytest.mark.parametrize(
    "option", ["ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"]
)
def test_file_for_tls_that_is_missing(mariadb_url: str, option: str) -> None:
    misconfigured(
        changed(mariadb_url, query={option: "/nonexistent.pem"}),
        f"{option} /nonexistent.pem: No such file",
    )


def test_file_for_tls_that_is_missing_in_postgresql(
    postgresql_url: str,
) -> None:
    misconfigured(
        changed(postgresql_url, query={"sslrootcert": "/nonexistent.pem"}),
        "sslrootcert /nonexistent.pem: No such file",
    )


def test_file_for_tls_that_is_none(mariadb_url: str) -> None:
    misconfigured(
        changed(mariadb_url, query={"ssl_ca": __file__}), "ssl_ca: .*"
    )


def certificate(folder: Path, name: str) -> Path:
    """A self-signed one, for 127.0.0.1; its key is beside it."""
    path = folder / f"{name}.pem"
    subprocess.run(
        [
            servers.find("openssl", "openssl"),
            *("req", "-x509", "-nodes", "-newkey", "rsa:2048"),
            *("-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName = IP:127.0.0.1"),
            *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


def test_options_for_tls_are_all_heeded(tmp_path: Path) -> None:
    """Whichever of them stand together."""
    own, other = (certificate(tmp_path, name) for name in ("own", "other"))
    with servers.MariaDB(
        f"--ssl-cert={own}", f"--ssl-key={own.with_suffix('.key')}"
    ) as server:
        url = server.database()
        for query in (
            {"ssl_ca": str(own)},
            {"ssl_ca": str(own), "ssl_verify_cert": "true"},
            {"ssl_ca": str(own), "ssl_verify_identity": "true"},
            {"ssl_ca": str(own), "ssl_check_hostname": "false"},
            {"ssl_ca": str(other), "ssl_verify_cert": "false"},
            {"ssl_disabled": "true"},
            {"ssl_disabled": "false", "ssl_ca": str(own)},
        ):
            get_storage(changed(url, query=query)).prepare()
        for query in (
            {"ssl_ca": str(other)},
            {"ssl_ca": str(other), "ssl_verify_cert": "true"},
            {"ssl_verify_cert": "true"},
        ):
            with pytest.raises(
                exceptions.StorageUnavailable, match="CERTIFICATE_VERIFY"
            ) as caught:
                get_storage(changed(url, query=query)).check()
            assert_presentable(caught.value, url)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("read_timeout", "long", "a whole number"),
        ("max_allowed_packet", "16M", "a whole number"),
        ("ssl_verify_cert", "maybe", "true or false"),
    ],
)
def test_option_of_the_wrong_type(option: str, value: str, kind: str) -> None:
    url = f"mysql://u:s3cret@localhost/db?{option}={value}"
    with pytest.raises(
        exceptions.ConfigurationError, match=f"{option} is {kind}, not"
    ) as caught:
        get_storage(url)
    assert_presentable(caught.value, url)


def test_option_that_the_client_cannot_do(mariadb_url: str) -> None:
    misconfigured(
        changed(mariadb_url, query={"compress": "true"}), "not supported"
    )


def test_character_set_that_the_client_does_not_have(mariadb_url: str) -> None:
    misconfigured(
        changed(mariadb_url, query={"charset": "utf9"}),
        "check the connection string",
    )
