# SPDX-License-Identifier: Apache-2.0

"""No part of a password is shown, wherever it stands and however badly."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler_bridge import config, exceptions
from profiler_bridge.bus.transport import get_transport
from profiler_bridge.cmd import manage, report
from profiler_bridge.storage import get_storage

# With what is special to somebody after every second one of these, so that
# no four are in any text that is not about a password.
SPECIAL = "@/?#[]:%$&=+,;!*'\"(){}<>|\\^`~. é℀"
RARE = "QXZJKVqxzjkv"

PASSWORDS = st.lists(
    st.tuples(st.sampled_from(RARE), st.sampled_from(SPECIAL)),
    min_size=8,
    max_size=8,
).map(lambda pairs: "".join(map("".join, pairs)))

WRITTEN: list[Callable[[str], str]] = [
    str,
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: text.replace("@", "%40"),
    lambda text: text.replace("/", "%2F").replace("#", "%23"),
]

# Nothing listens at port 1, so who gets as far as that fails there.
STORAGES = [
    "mysql+pymysql://b:{}@127.0.0.1:1/h",
    "mysql://:{}@127.0.0.1:1/h?charset=utf8",
    "mysql:///b:{}@127.0.0.1:1/h",
    "postgresql:////b:{}@127.0.0.1:1/h",
    "redis:///:{}@127.0.0.1:1/0",
    "mysql://b:{}",
    "mysql://b:{}@[::1]:1/h",
    "mysql://b:{}@::1/h",
    "mysql://b@127.0.0.1:1/h?passwd={}",
    "mysql://b@127.0.0.1:1/h?ssl_key_password={}&charset=utf8",
    "postgresql://b:{}@127.0.0.1:1/h?connect_timeout=1",
    "postgresql://b@127.0.0.1:1/h?password={}",
    "redis://:{}@127.0.0.1:1/0",
    "redis://{}@127.0.0.1:1/0",
    "redis://b:{}@127.0.0.1:1/0?db=1",
    "redis://b:{}",
    "redis://127.0.0.1:1/0?password={}",
    "redis://127.0.0.1:1/0?no_such_password={}&db=1",
    "rediss://b:{}@127.0.0.1:1/0",
    "unix://b:{}@/nowhere/socket",
    "redissentinel://b:{}@127.0.0.1:1/0",
    "rediscluster://b:{}@127.0.0.1:1,127.0.0.1:2",
    "redissentinel://{}@127.0.0.1:1/0",
    "redissentinel://:{}@127.0.0.1:1,127.0.0.2:1/0",
    "b:{}@127.0.0.1://",
    "{}",
]
BUSES = [
    "rabbit://b:{}@127.0.0.1:1/",
    "rabbit:///b:{}@127.0.0.1:1/",
    "rabbit://b:c@127.0.0.1:1/v?ssl={}",
    "rabbit://b:c@127.0.0.1:1/v?rabbit_qos_prefetch_count={}",
    "rabbit://:{}@127.0.0.1:1/v",
    "rabbit://b:{}@127.0.0.1",
    "rabbit://b:{}@[::1]:1/",
    "rabbit://b:{}@::1:1/",
    "rabbit://b:{}@127.0.0.1:1,c:p4ss@127.0.0.1:2/",
    "rabbit://c:p4ss@127.0.0.1:1,b:{}@127.0.0.1:2/",
    "rabbit://b:{}",
    "kombu+memory://b:{}@/",
    "b:{}@127.0.0.1://",
    "{}",
]


def fill(form: str, text: str) -> str:
    """The URL with a password in it, made to mean no other valid URL."""
    if "//{}@" in form:
        # Else it is a user, with a password.
        text = text.replace(":", ".")
    if form.endswith(":{}"):
        # Else a host follows.
        text = text.replace("@", ".")
    if form in BUSES:
        # Else there are two hosts, with a login for each.
        before, at, after = text.partition("@")
        text = before + at + after.replace(",", ".")
    return form.format(text)


def leaks(text: str, password: str) -> set[str]:
    """Runs of four characters of a password, in any encoding of it."""
    forms = {password, *(write(password) for write in WRITTEN)}
    forms |= {unquote(form) for form in forms}
    forms |= {unquote_plus(form) for form in forms}
    forms |= {ascii(form)[1:-1] for form in forms}
    return {
        form[at : at + 4]
        for form in forms
        for at in range(len(form) - 3)
        if form[at : at + 4] in text
        # Those of a special character's escape alone.
        and any(char in RARE for char in form[at : at + 4])
    }


@contextlib.contextmanager
def everything_shown() -> Iterator[io.StringIO]:
    """What is logged, at any level, or printed."""
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with (
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(shown),
        ):
            yield shown
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    password=PASSWORDS,
    write=st.sampled_from(WRITTEN),
    form=st.sampled_from(STORAGES),
)
def test_storages_show_no_password(
    password: str, write: Callable[[str], str], form: str
) -> None:
    connection_string = fill(form, write(password))
    with everything_shown() as shown:
        try:
            storage = get_storage(connection_string)
        except exceptions.ConfigurationError as error:
            print(error)
        else:
            print(storage)
            try:
                storage.check()
            except exceptions.StorageError as error:
                print(error)
            finally:
                storage.close()
    assert leaks(shown.getvalue(), password) == set()


def configuration(folder: Path, transport_url: str, storage: str) -> str:
    path = folder / "bridge.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {transport_url}\n"
        f"[bridge]\nset_aside = {folder}/set-aside.sqlite\n"
        f"[osprofiler]\nconnection_string = {storage}\n"
    )
    return f"--config-file={path}"


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    password=PASSWORDS,
    write=st.sampled_from(WRITTEN),
    form=st.sampled_from(BUSES),
)
def test_buses_show_no_password(
    password: str,
    write: Callable[[str], str],
    form: str,
    tmp_path: Path,
) -> None:
    transport_url = fill(form, write(password))
    file = configuration(tmp_path, transport_url, "sqlite:////nowhere/x")
    with everything_shown() as shown:
        try:
            get_transport(config.load([file])).cleanup()
        except exceptions.ConfigurationError as error:
            print(error)
    assert leaks(shown.getvalue(), password) == set()


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    passwords=st.tuples(PASSWORDS, PASSWORDS),
    write=st.sampled_from(WRITTEN),
    bus=st.sampled_from(BUSES),
    storage=st.sampled_from(STORAGES),
)
def test_commands_show_no_password(
    passwords: tuple[str, str],
    write: Callable[[str], str],
    bus: str,
    storage: str,
    tmp_path: Path,
) -> None:
    file = configuration(
        tmp_path,
        fill(bus, write(passwords[0])),
        fill(storage, write(passwords[1])),
    )
    with everything_shown() as shown:
        for app, *command in (
            (report.main, "list"),
            (manage.main, "check"),
            (manage.main, "purge", "--older-than=1d"),
            (manage.main, "set-aside", "replay", "--all"),
        ):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("sys.argv", ["x", file, *command])
                print(app())
    for password in passwords:
        assert leaks(shown.getvalue(), password) == set()


def test_several_hosts_where_one_can_stand() -> None:
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_storage("postgresql://u:secret1@127.0.0.1:1,127.0.0.1:2/db")
    assert "?host=one:5432&host=another:5432" in str(caught.value)
    assert "secret1" not in str(caught.value)
