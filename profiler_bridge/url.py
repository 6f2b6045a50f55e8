# SPDX-License-Identifier: Apache-2.0

"""URLs with passwords: what is wrong with one, without showing any of it.

Each library reads a URL that is not as RFC 3986 has it in its own way, takes
parts of a password for a host, a port or a path, and shows these in its
errors. So a URL is checked before a library sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote, unquote_plus, urlsplit

from profiler_bridge import exceptions

MASK = "***"

# What ends or splits a login, a host or a path, for some library.
_SPECIAL = "@/?#[],"
_is_scheme = re.compile("[A-Za-z][A-Za-z0-9+.-]*").fullmatch
_is_host = re.compile(r"\[[\w.:%-]+\]|[\w.-]*").fullmatch
# For libpq it may be several hosts, or the path of a socket.
_is_any_host = re.compile(r"\[[\w.:%-]+\]|[\w.,%-]*").fullmatch
# An option with a secret, up to the end of the text: where its & is not
# escaped, the secret goes on after it.
_find_secret = re.compile(
    "(?:^|&)(?P<name>[^&=]*(?:pass|pwd|secret|token)[^&=]*)=(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
).search
_has_controls = re.compile(r"[\x00-\x1f\x7f]").search
# URLs of these schemes have three slashes, no host, and any path.
_OF_PATHS = ("sqlite", "unix")
# Fewer characters of a secret than this tell nothing.
_SHORT = 4


def check(
    url: str,
    what: str,
    *,
    plain: str = "",
    several: bool = False,
    lone_user: bool = True,
) -> None:
    """Refuse a URL that could be read in more than one way.

    :param what: what the URL is of, for the error
    :param plain: those of ``@/?#[],`` that the URL's library takes in a
        password as they are
    :param several: whether it may have several hosts, with commas between
        them; each has a login of its own, unless a comma is plain
    :param lone_user: whether it may have a user without a password
    :raises ConfigurationError: says what to write, and shows nothing of the
        URL
    """
    problem = _problem(url, plain, several, lone_user)
    if problem:
        raise exceptions.ConfigurationError(
            f"{what} cannot be used: {problem}"
        )


def scheme(url: str) -> str:
    """A URL's scheme; empty if it does not begin with one and ``://``."""
    name, separator, _ = url.partition("://")
    return name if separator and _is_scheme(name) else ""


def without_secret_option(url: str) -> tuple[str, str]:
    """Cut off an option with a secret, and all behind it.

    :returns: the URL before it; what to show in its place, empty if there is
        no such option
    """
    start = url.find("?", url.rfind("@") + 1) + 1
    secret = _find_secret(url[start:]) if start else None
    if secret is None:
        return url, ""
    cut = start + secret.start()
    mark = "&" if secret.start() else "?"
    left = url[:cut] if mark == "&" else url[: cut - 1]
    return left, f"{mark}{secret['name']}={MASK}"


def scrub(text: str, url: str) -> str:
    """Mask every part of a URL's passwords in a library's message."""
    parts = {
        secret[at : at + _SHORT]
        for secret in _secrets(url)
        for at in range(len(secret) - _SHORT + 1)
    }
    hidden = bytearray(len(text))
    for at in range(len(text) - _SHORT + 1):
        if text[at : at + _SHORT] in parts:
            hidden[at : at + _SHORT] = b"\1" * _SHORT
    return re.sub(
        "\0+",
        MASK,
        "".join(
            "\0" if secret else char
            for char, secret in zip(text, hidden, strict=True)
        ),
    )


def _problem(url: str, plain: str, several: bool, lone_user: bool) -> str:
    if not scheme(url):
        return "it does not begin like scheme://"
    if _has_controls(url):
        return "there is a line end or a tab in it"
    rest = url.partition("://")[2]
    if rest.startswith("/"):
        if "@" in rest and scheme(url) not in _OF_PATHS:
            return "write two slashes, not more, before user and password"
        return ""  # a path
    before, _, after = rest.rpartition("@")
    is_host = _is_host
    if {*"/?#"} <= {*plain}:
        is_host = _is_any_host
        authority = f"{before}@{re.split('[/?]', after)[0]}"
    else:
        authority = re.split("[/?#]", rest)[0]
        if "@" in rest[len(authority) :]:
            return _escapes(before, plain)
        if "#" in rest:
            return _escapes("#", plain)
    if not several:
        pairs = [authority.rpartition("@")[::2]]
    elif "," in plain:
        login, _, hosts = authority.rpartition("@")
        pairs = [(login, host) for host in hosts.split(",")]
    else:
        pairs = [part.rpartition("@")[::2] for part in authority.split(",")]
        if len(pairs) > 1:
            # Else these could be parts of a password with a comma in it.
            plain, lone_user = plain.replace("@", ""), False
    for login, host in pairs:
        user, _, password = login.partition(":")
        problem = (
            _escapes(user, "")
            or _escapes(password, plain)
            or _host_problem(host, is_host)
        )
        if problem:
            return _escapes(before, plain) or problem
        if user and not password and not lone_user:
            return (
                "a user without a password is in it; write"
                f" {scheme(url)}://:password@host where there is no user"
            )
    if several and "," in plain:
        return ""  # every host was checked above
    try:
        urlsplit(url)
    except ValueError:  # whose message shows the URL
        if not {*"/?#[]"} <= {*plain}:
            return (
                "in user and password write what is no letter and no digit as"
                " %XX, its bytes in hexadecimal"
            )
    return ""


def _escapes(login: str, plain: str) -> str:
    """What to write for special characters of a login; empty for none."""
    wrong = [
        f"%{ord(char):02X} for {char}"
        for char in _SPECIAL
        if char in login and char not in plain
    ]
    return f"in user and password write {', '.join(wrong)}" if wrong else ""


def _host_problem(text: str, is_host: Callable[[str], object]) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    if not is_host(host):
        if "," in host:
            return (
                "only one host can stand there; several are for"
                " rediscluster://, and for PostgreSQL at the URL's end, as in"
                " ?host=one:5432&host=another:5432"
            )
        if ":" in host:
            return "write an IPv6 address in brackets, as in [::1]"
        return "its host is no name and no address"
    if port and not (
        port.isascii() and port.isdecimal() and int(port) < 2**16
    ):
        return (
            "its port is no number up to 65535; in the password write %40 for"
            " @, %2F for /, %3F for ?, %23 for #"
        )
    return ""


def _secrets(url: str) -> Iterator[str]:
    """The passwords in a URL, as they are written and unquoted."""
    rest = url.partition("://")[2]
    login = rest.rpartition("@")[0]
    for part in [login, *login.split(",")]:
        password = part.rpartition("@")[0] or part
        for text in (password.partition(":")[2], part.partition(":")[2]):
            yield text
            yield unquote(text)
    secret = _find_secret(rest.partition("?")[2])
    if secret:
        yield secret["value"]
        yield unquote_plus(secret["value"])
