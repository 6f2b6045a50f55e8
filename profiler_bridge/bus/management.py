# SPDX-License-Identifier: Apache-2.0

"""What only RabbitMQ's management plugin tells of a queue.

AMQP has neither policies nor the names of consumers. The plugin's HTTP API
has: https://www.rabbitmq.com/docs/http-api-reference
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from oslo_config import cfg

from profiler_bridge import exceptions, url
from profiler_bridge.bus import private

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.StrOpt(
        "management_url",
        help="URL of RabbitMQ's management plugin, such as"
        " http://controller:15672. It tells who else reads the queue, and"
        " which policies lose messages. By default port 15672, or 15671 with"
        " TLS, of the hosts in transport_url. It is asked as the user in"
        " transport_url, who needs the tag management. The bridge works"
        " without it. With several buses it cannot be set.",
    ),
]

# Seconds for each answer.
_TIMEOUT = 3.0
_LARGEST_ANSWER = 16 << 20
_PORT, _TLS_PORT = 15672, 15671
# For each reader there is a request of its own.
_MOST_READERS = 100

#: The program at the head of the names of a bridge's connections.
BRIDGE = "profiler-bridge"

# What happens to messages by a policy, or an argument of the queue.
_LOSSES = {
    "max-length": "when more messages wait, some are dropped",
    "max-length-bytes": "when more bytes wait, messages are dropped",
    "message-ttl": "messages that wait for so many ms are dropped",
    "expires": "when nobody reads for so many ms it goes, with its messages",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer of a queue.

    :param name: of its connection, such as ``program:process:uuid``; of
        oslo.messaging's programs the program's own
    :param user: of RabbitMQ
    :param host: where it is
    """

    name: str
    user: str
    host: str

    @property
    def is_bridge(self) -> bool:
        return self.name.startswith(f"{BRIDGE}:")

    def __str__(self) -> str:
        name = self.name or "one without a name"
        return f"{name} (user {self.user}, at {self.host})"


class Management:
    """The management plugin, on one of the hosts of a transport.

    It is asked as the transport's user, who needs the tag ``management``; and
    over TLS if the transport uses TLS.

    :param conf: with the options of this module
    :param transport: of oslo.messaging
    :raises ConfigurationError: management_url is not like http://host:15672
    """

    def __init__(self, conf: cfg.ConfigOpts, transport: Any) -> None:
        where = conf[GROUP].management_url
        self._options = transport.conf.oslo_messaging_rabbit
        bus = private.transport_url(transport)
        self._virtual_host = bus.virtual_host or "/"
        hosts = bus.hosts
        login = (
            f"{hosts[0].username}:{hosts[0].password}"
            if hosts and hosts[0].username
            else "guest:guest"
        )
        self._authorization = base64.b64encode(login.encode()).decode()
        if where:
            url.check(where, "management_url")
            parts = urlsplit(where)
            if parts.scheme not in ("http", "https"):
                raise exceptions.ConfigurationError(
                    "management_url cannot be used: it is not like"
                    " http://host:15672"
                )
            tls = parts.scheme == "https"
            self._tls = tls
            self._places = [
                (
                    parts.hostname or "",
                    parts.port or (_TLS_PORT if tls else _PORT),
                )
            ]
        else:
            self._tls = bool(self._options.ssl)
            self._places = [
                (
                    host.hostname or "localhost",
                    _TLS_PORT if self._tls else _PORT,
                )
                for host in hosts
            ] or [("localhost", _PORT)]

    def losses(self, queue: str) -> list[str]:
        """The limits at which messages of a queue are lost, one line each.

        :returns: empty when there is none
        :raises BusUnavailable: the plugin does not answer, or refuses the
            user, or there is no such queue
        """
        return [*_losses(self._queue(queue))]

    def readers(self, queue: str) -> list[Reader]:
        """Who reads a queue, at most a hundred of them.

        :returns: empty when nobody reads. Who began some seconds ago may be
            missing
        :raises BusUnavailable: as for :meth:`losses`
        """
        consumers = self._queue(queue).get("consumer_details", [])
        return [
            self._reader(consumer.get("channel_details") or {})
            for consumer in consumers[:_MOST_READERS]
        ]

    def _queue(self, name: str) -> dict[str, Any]:
        return self._get(
            f"/api/queues/{quote(self._virtual_host, safe='')}"
            f"/{quote(name, safe='')}"
        )

    def _reader(self, channel: Mapping[str, Any]) -> Reader:
        connection = str(channel.get("connection_name", ""))
        name = ""
        try:
            details = self._get(
                f"/api/connections/{quote(connection, safe='')}"
            )
            properties = details.get("client_properties", {})
            name = properties.get("connection_name") or properties.get(
                "product", ""
            )
        except exceptions.BusUnavailable:
            pass  # it may be closed, or another user's
        return Reader(
            str(name), str(channel.get("user")), str(channel.get("peer_host"))
        )

    def _get(self, path: str) -> dict[str, Any]:
        problem = ""
        for host, port in self._places:
            try:
                status, body = self._ask(host, port, path)
            except (OSError, http.client.HTTPException) as error:
                words = getattr(error, "strerror", None) or error
                problem = problem or f"{host}:{port}: {words}"
                continue
            if status == http.HTTPStatus.OK:
                try:
                    answer = json.loads(body)
                except ValueError:
                    answer = None
                if isinstance(answer, dict):
                    self._places = [(host, port)]
                    return answer
            problem = f"{host}:{port}: {status} {_reason(status)}"
            if status == http.HTTPStatus.UNAUTHORIZED:
                problem += ", for its user has no tag management"
        raise exceptions.BusUnavailable(problem)

    def _ask(self, host: str, port: int, path: str) -> tuple[int, bytes]:
        link: http.client.HTTPConnection
        if self._tls:
            context = ssl.create_default_context(
                cafile=self._options.ssl_ca_file or None
            )
            link = http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT, context=context
            )
        else:
            link = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        try:
            link.request(
                "GET",
                path,
                headers={"Authorization": f"Basic {self._authorization}"},
            )
            answer = link.getresponse()
            return answer.status, answer.read(_LARGEST_ANSWER)
        finally:
            link.close()


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def _losses(queue: Mapping[str, Any]) -> Iterator[str]:
    policy = queue.get("effective_policy_definition") or {}
    arguments = queue.get("arguments") or {}
    names = [
        queue[kind]
        for kind in ("policy", "operator_policy")
        if queue.get(kind)
    ]
    for name, loss in _LOSSES.items():
        argument = arguments.get(f"x-{name}")
        if name in policy:
            yield (
                f"{name} is {policy[name]} in policy {' or '.join(names)}:"
                f" {loss}"
            )
        elif argument is not None:
            yield f"x-{name} is {argument}, as it was made: {loss}"
