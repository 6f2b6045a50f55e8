# SPDX-License-Identifier: Apache-2.0

"""What the connection strings of Redis say."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler_bridge import exceptions
from profiler_bridge.url import MASK, check


def _natural(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("a number")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text) or not float(text):
        raise ValueError("a number of seconds")
    return float(text)


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "t", "true", "on", "y", "yes"):
        return True
    if text.lower() in ("0", "f", "false", "off", "n", "no"):
        return False
    raise ValueError("true or false")


def _requirement(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError("none, optional or required")
    return text


#: Redis-py's names, and tooz's for sentinels; both have them for TLS.
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(FILES, str),
    "ssl_ca_path": str,
    "ssl_password": str,
    "ssl_ciphers": str,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _boolean,
}
_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "db": _natural,
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _boolean,
    "health_check_interval": _seconds,
    "ssl": _boolean,
    **TLS,
    "sentinel": str,
    "sentinel_fallback": str,
    "sentinel_username": str,
    "sentinel_password": str,
    "sentinel_ssl": _boolean,
}
# What others' URLs have and nothing here depends on.
_WITHOUT_EFFECT = frozenset(
    {
        *("decode_responses", "encoding", "encoding_errors", "protocol"),
        *("max_connections", "retry_on_error", "retry_on_timeout"),
    }
)
_SECRETS = frozenset({"password", "sentinel_password", "ssl_password"})

_split = re.compile(
    "(?P<scheme>redis|rediss|redissentinel|rediscluster)://"
    "(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^@/?#]*)(?:/(?P<db>[0-9]*))?"
    r"(?:\?(?P<query>[^@#]*))?"
    "|unix://(?:(?P<unix_login>[^/?#]*)@)?(?P<path>/[^?#]+)"
    r"(?:\?(?P<unix_query>[^@#]*))?"
).fullmatch


@dataclass(frozen=True, slots=True)
class Target:
    """What a connection string says.

    :param name: the connection string without secrets
    :param addresses: hosts and ports: of one server, or of the sentinels, or
        of some of a cluster's nodes
    :param path: of a Unix socket
    :param service: the master's name among the sentinels; None without
    :param is_cluster: whether it is a Redis Cluster
    :param options: typed, those of the query and what else goes by their names
    """

    name: str
    addresses: Sequence[tuple[str, int]]
    path: str | None
    service: str | None
    is_cluster: bool
    options: Mapping[str, Any]

    @classmethod
    def of(cls, url: str, service: str) -> Target:
        """Read a connection string.

        :param service: the sentinels' service where the URL names none
        :raises ConfigurationError: it cannot be used; the words have nothing
            of it, for anything might be a part of a password
        """
        check(
            url,
            "the connection string",
            plain="@,",
            several=True,
            lone_user=False,
        )
        parts = _split(url)
        try:
            if parts is None:
                raise ValueError
            return cls._of(parts, service)
        except ValueError:
            raise exceptions.ConfigurationError(
                "the connection string is not like"
                " redis://[[user]:password@]host[:port][/db],"
                " redissentinel://[[user]:password@]host[:port]"
                "[,host[:port]]...[/db],"
                " rediscluster://[[user]:password@]host[:port][,host[:port]]..."
                " or"
                " unix://[[user]:password@]/path[?db=N]"
            ) from None

    @classmethod
    def _of(cls, parts: re.Match[str], service: str) -> Target:
        query = urllib.parse.parse_qsl(
            parts["query"] or parts["unix_query"] or "",
            keep_blank_values=True,
            strict_parsing=bool(parts["query"] or parts["unix_query"]),
        )
        options = _typed(query)
        scheme = parts["scheme"] or "unix"
        login = parts["login"] or parts["unix_login"]
        if login is not None:
            options.update(_login(login))
        if parts["db"]:
            options.setdefault("db", _natural(parts["db"]))
        if scheme == "rediss":
            options |= {"ssl": True, "sentinel_ssl": True}
        named: str | None = options.pop("sentinel", None)
        if named is None and scheme == "redissentinel":
            named = service
        hosts = [] if parts["path"] else (parts["hosts"] or "").split(",")
        hosts += options.pop("sentinel_fallback", [])
        port = 6379 if named is None else 26379
        addresses = [_address(host, port) for host in hosts]
        is_cluster = scheme == "rediscluster"
        if is_cluster and (named is not None or options.get("db")):
            raise ValueError
        if named is None and not is_cluster:
            if len(addresses) > 1:
                raise ValueError
        elif not all(hosts):
            raise ValueError
        return cls(
            _without_secrets(parts),
            addresses,
            urllib.parse.unquote(parts["path"]) if parts["path"] else None,
            named,
            is_cluster,
            options,
        )


def _typed(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in query:
        if name in _WITHOUT_EFFECT:
            continue
        if name not in _OPTIONS:
            # Its name may be what follows an & in a password.
            raise exceptions.ConfigurationError(
                "the connection string has an option that does not exist;"
                f" there are {', '.join(_OPTIONS)}"
            )
        try:
            value = _OPTIONS[name](text)
        except ValueError as error:
            raise exceptions.ConfigurationError(
                f"{name} in the connection string must be {error}"
            ) from None
        if name == "sentinel_fallback":
            options.setdefault(name, []).extend(value.split(","))
        else:
            options[name] = value
    return options


def _login(text: str) -> dict[str, str]:
    user, _, password = text.partition(":")
    login = {"username": user, "password": password}
    return {
        name: urllib.parse.unquote(part)
        for name, part in login.items()
        if part
    }


def _address(text: str, port: int) -> tuple[str, int]:
    """Host and port.

    :raises ValueError: it is neither host nor host:port
    """
    parts = urllib.parse.urlsplit(f"//{text}")
    host = parts.hostname or "localhost"
    if text and not parts.hostname and not parts.port:
        raise ValueError
    host.encode("idna")
    return host, port if parts.port is None else parts.port


def _without_secrets(parts: re.Match[str]) -> str:
    name = f"{parts['scheme'] or 'unix'}://"
    login = parts["login"] or parts["unix_login"]
    if login:
        name += f"{login.partition(':')[0]}:{MASK}@"
    name += parts["path"] or parts["hosts"]
    if parts["db"] is not None:
        name += f"/{parts['db']}"
    query = parts["query"] or parts["unix_query"]
    if query:
        name += "?" + "&".join(map(_without_secret, query.split("&")))
    return name


def _without_secret(option: str) -> str:
    key = option.partition("=")[0]
    is_secret = urllib.parse.unquote_plus(key) in _SECRETS
    return f"{key}={MASK}" if is_secret else option
