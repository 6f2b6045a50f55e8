# SPDX-License-Identifier: Apache-2.0

"""What the URL of a target says."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from profiler_bridge import exceptions
from profiler_bridge.url import MASK, check

#: OTLP/HTTP's, with TLS and without.
PORT = 4318
PATH = "/v1/traces"
_LONGEST_NAME = 64
_SCHEMES = {"otlp+http": False, "otlp+https": True}
_is_path = re.compile("[!-~]*").fullmatch
_is_name = re.compile(rf"[A-Za-z0-9._:/\[\]-]{{1,{_LONGEST_NAME}}}").fullmatch


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return read


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        raise ValueError("a number of seconds, such as 10")
    return float(text)


def _name(text: str) -> str:
    if not _is_name(text):
        raise ValueError(
            f"at most {_LONGEST_NAME} letters, digits and . _ : / [ ] -"
        )
    return text


def _file(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("the whole path of a file, from /")
    return text


_TLS_FILES = ("ca_file", "cert_file", "key_file")
_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "encoding": _one_of("protobuf", "json"),
    "compression": _one_of("gzip", "none"),
    "headers_file": _file,
    **dict.fromkeys(_TLS_FILES, _file),
    "timeout": _seconds,
    "name": _name,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send, and how.

    :param name: names it in metrics, and what it has had in the storage
    :param text: its URL, without secrets
    :param path: and nothing behind it
    :param tls: None without
    :param authorization: of the URL's user and password; empty without
    :param headers_file: None without
    :param timeout: seconds, for one request as a whole
    """

    name: str
    text: str
    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None
    encoding: str
    compress: bool
    authorization: str
    headers_file: Path | None
    timeout: float

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Read a URL, and the files for TLS that it names.

        :raises ConfigurationError: it cannot be used; the words have nothing
            of its user and password
        """
        check(url, "an endpoint")
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise exceptions.ConfigurationError(
                f"an endpoint begins with {parts.scheme}://;"
                " write otlp+http:// or otlp+https://"
            )
        login, _, place = parts.netloc.rpartition("@")
        text = f"{parts.scheme}://{f'{MASK}@' if login else ''}{place}"
        try:
            host = (parts.hostname or "").encode("idna").decode()
        except UnicodeError:
            host = ""
        if not host:
            _refuse(text, "there has to be a host that can be looked up in it")
        path = PATH if parts.path in ("", "/") else parts.path
        if not _is_path(path):
            _refuse(text, "its path has to be in ASCII, with %XX for others")
        text += parts.path
        options = _options(text, parts.query)
        text += f"?{parts.query}" if parts.query else ""
        port = PORT if parts.port is None else parts.port
        if not port:
            _refuse(text, "its port is 0")
        headers_file = options.get("headers_file")
        return cls(
            options.get("name") or _default_name(host, port, path),
            text,
            host,
            port,
            path,
            _tls(text, options, _SCHEMES[parts.scheme]),
            options.get("encoding", "protobuf"),
            options.get("compression", "gzip") == "gzip",
            _basic(login),
            Path(headers_file) if headers_file else None,
            options.get("timeout", 10.0),
        )


def _refuse(text: str, problem: str) -> NoReturn:
    raise exceptions.ConfigurationError(
        f"the endpoint {text} cannot be used: {problem}"
    )


def _options(text: str, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, given in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            # Its name may be a key of a vendor.
            _refuse(
                text,
                "it has an option that does not exist; there are"
                f" {', '.join(_OPTIONS)}; what a server wants to be told goes"
                " into a headers_file",
            )
        if name in options:
            _refuse(text, f"it has {name} more than once")
        try:
            options[name] = _OPTIONS[name](given)
        except ValueError as error:
            _refuse(text, f"{name} has to be {error}")
    return options


def _default_name(host: str, port: int, path: str) -> str:
    name = f"[{host}]" if ":" in host else host
    name = f"{name}:{port}{path}"
    if _is_name(name):
        return name
    # What distinguishes it may be what is cut off, or replaced.
    digest = blake2b(name.encode(), digest_size=8).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9._:/\[\]-]", "_", name)
    return f"{plain[: _LONGEST_NAME - 17]}-{digest}"


def _basic(login: str) -> str:
    if not login:
        return ""
    user, _, password = login.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _tls(
    text: str, options: Mapping[str, Any], wanted: bool
) -> ssl.SSLContext | None:
    given = [name for name in _TLS_FILES if name in options]
    if not wanted:
        if given:
            _refuse(text, f"{given[0]} is for otlp+https://")
        return None
    if "key_file" in options and "cert_file" not in options:
        _refuse(text, "key_file is there without cert_file")
    for name in given:
        try:
            Path(options[name]).read_bytes()
        except OSError as error:
            _refuse(text, f"{name}: {error.strerror}")
    problem = "ca_file: there is no certificate in it"
    try:
        context = ssl.create_default_context(cafile=options.get("ca_file"))
        if "cert_file" in options:
            problem = (
                "cert_file and key_file are no certificate with its key; the"
                " key must not be encrypted"
            )
            context.load_cert_chain(
                options["cert_file"],
                options.get("key_file"),
                # Otherwise OpenSSL asks on the terminal.
                password="",
            )
    except (ssl.SSLError, ValueError):
        _refuse(text, problem)
    return context
