# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Storage in the Redis server that sentinels name as the master."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast
from urllib.parse import unquote, urlsplit

import redis
import redis.sentinel
from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.storage.redis import (
    CLIENT,
    PATIENCE,
    RedisStorage,
    line,
)
from profiler_bridge.storage.retention import RETENTION

DEFAULT_PORT = 26379

OPTS: Sequence[cfg.Opt] = [
    cfg.FloatOpt(
        "socket_timeout",
        default=0.1,
        min=0.01,
        deprecated_group="profiler",
        help="How many seconds to wait for the sentinels, and for the master"
        " they name, each time something is sent or awaited. Only writes of"
        " more than 256 KB, and those that replicas must confirm, may take 5"
        " seconds.",
    ),
    cfg.StrOpt(
        "sentinel_service_name",
        default="mymaster",
        deprecated_group="profiler",
        help="The name under which the sentinels know the master.",
    ),
    cfg.StrOpt(
        "sentinel_username",
        help="The user of the sentinels themselves, if they have users.",
    ),
    cfg.StrOpt(
        "sentinel_password",
        secret=True,
        help="The password of the sentinels themselves, if they have one. The"
        " one in the connection string is the master's.",
    ),
]


class RedisSentinelStorage(RedisStorage):
    """The master that Redis Sentinel names, whichever that is.

    :param connection_string:
        ``redissentinel://[[user]:password@]host[:port][,host[:port]]...[/db]``
        with the sentinels' hosts, and the master's user, password, database
    :param options: those of :class:`RedisStorage`
    :raises ConfigurationError: the connection string cannot be used
    """

    OPTS: ClassVar[Sequence[cfg.Opt]] = [*RedisStorage.OPTS, *OPTS]

    def __init__(
        self,
        connection_string: str,
        *,
        socket_timeout: float = 0.1,
        sentinel_service_name: str = "mymaster",
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        **options: Any,
    ) -> None:
        self._service = sentinel_service_name
        self._timeout = socket_timeout
        self._sentinel_login = {
            "username": sentinel_username,
            "password": sentinel_password,
        }
        super().__init__(connection_string, **options)
        self._patient_client = self._master(max(socket_timeout, PATIENCE))

    def _make_client(self, url: str) -> redis.Redis:
        match = re.fullmatch(
            "redissentinel://"
            "(?:(?P<username>[^:/?#]*):(?P<password>[^/?#]*)@)?"
            "(?P<hosts>[^@/?#]+)/?(?P<db>[0-9]*)",
            url,
        )
        try:
            if match is None:
                raise ValueError
            hosts = [_address(each) for each in match["hosts"].split(",")]
        except ValueError:
            # The error's words may hold a part of the password.
            raise exceptions.ConfigurationError(
                "the connection string is not like redissentinel://[[user]"
                ":password@]host[:port][,host[:port]]...[/db]; in the password"
                " write %2F for / and so on"
            ) from None
        # The client's types leave out much of its Sentinel.
        sentinel_class: Any = _Sentinels
        self._sentinels = sentinel_class(
            hosts,
            sentinel_kwargs={
                **self._sentinel_login,
                "socket_timeout": self._timeout,
                "socket_connect_timeout": self._timeout,
                "protocol": CLIENT["protocol"],
                "retry": CLIENT["retry"],
            },
            **CLIENT,
            socket_connect_timeout=self._timeout,
            db=int(match["db"] or 0),
            username=unquote(match["username"] or "") or None,
            password=unquote(match["password"] or "") or None,
        )
        self._sentinels.storage = self
        return self._master(self._timeout)

    def _master(self, timeout: float) -> redis.Redis:
        client: redis.Redis = self._sentinels.master_for(
            self._service, socket_timeout=timeout
        )
        return client

    def _count_replicas(self) -> int:
        states = self._sentinels.states(self._service)
        return max(int(state["num-slaves"]) for state in states)

    def close(self) -> None:
        super().close()
        for sentinel in self._sentinels.sentinels:
            sentinel.connection_pool.disconnect()


class _Sentinels(redis.sentinel.Sentinel):
    """The client's sentinels, with our errors."""

    storage: RedisStorage

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Called by the client, each time it connects.

        :returns: host and port
        """
        for state in self.states(service_name):
            if not (state["is_sdown"] or state["is_odown"]):
                return state["ip"], state["port"]
        raise exceptions.StorageUnavailable(
            f"{self.storage}: its sentinels say that the master of"
            f" {service_name} is down"
        )

    def states(self, service_name: str) -> Iterator[Mapping[str, Any]]:
        """What each sentinel that knows the service says of its master.

        :raises StorageError: in place of the first, when there is none
        """
        known = False
        silent = []
        refusals = []
        for sentinel in self.sentinels:
            options = sentinel.connection_pool.connection_kwargs
            where = f"{options['host']}:{options['port']}"
            try:
                masters = cast(dict[str, Any], sentinel.sentinel_masters())
            except redis.AuthenticationError as error:
                refusals.append(
                    f"sentinel {where}: {line(error)}: check sentinel_password"
                )
            except (redis.ConnectionError, redis.TimeoutError) as error:
                silent.append(f"{where}: {line(error)}")
            except redis.RedisError as error:
                refusals.append(f"sentinel {where}: {line(error)}")
            else:
                if service_name in masters:
                    known = True
                    yield masters[service_name]
                else:
                    refusals.append(
                        f"sentinel {where} knows no {service_name}, it knows"
                        f" {', '.join(masters)}: check sentinel_service_name"
                    )
        if known:
            return
        if refusals:
            raise exceptions.StorageMisconfigured(
                f"{self.storage}: {refusals[0]}"
            )
        raise exceptions.StorageUnavailable(
            f"{self.storage}: no sentinel answers: {'; '.join(silent)}"
        )


def _address(text: str) -> tuple[str, int]:
    """Host and port.

    :raises ValueError: it is neither host nor host:port
    """
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError
    parts.hostname.encode("idna")
    return parts.hostname, parts.port or DEFAULT_PORT


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """What oslo-config-generator writes of this plugin and of ``redis``."""
    own = [each for each in RedisSentinelStorage.OPTS if each != RETENTION]
    return [("osprofiler", own)]
