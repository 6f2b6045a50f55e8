# SPDX-License-Identifier: Apache-2.0

"""The private names and behaviour of the bus libraries that the bridge uses.

A release that changes one fails here, and not in a cloud. The bus is one in
memory, of kombu; RabbitMQ's own driver runs it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import amqp
import kombu
import oslo_messaging
import pytest
from kombu.utils import json as kombu_json
from oslo_config import cfg
from oslo_messaging import transport as transports
from oslo_messaging._drivers import base, common, impl_rabbit, pool

from profiler_bridge.bus import private, rabbit_options

PACKAGE = Path(__file__).parents[2] / "profiler_bridge"


def parameters(function: Any) -> list[str]:
    return [*inspect.signature(function).parameters]


def make_transport(url: str) -> Any:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return oslo_messaging.get_notification_transport(conf, url=url)


@pytest.fixture
def transport() -> Iterator[Any]:
    made = make_transport("kombu+memory://")
    yield made
    made.cleanup()


# Which names, and where


def private_names(path: Path) -> set[str]:
    """The private attributes of other objects that a file uses."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }


PRIVATE = Path(private.__file__)
NAMES = private_names(PRIVATE)


def test_one_file_uses_them() -> None:
    others = {
        str(path): names
        for path in PACKAGE.rglob("*.py")
        if path != PRIVATE
        and (
            names := NAMES & private_names(path)
            or {
                *["_drivers"] * ("oslo_messaging._drivers" in path.read_text())
            }
        )
    }
    assert others == {}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_held_here(name: str) -> None:
    assert name in Path(__file__).read_text()


# Any bus


def test_urls(transport: Any) -> None:
    assert transport._driver._url.transport == "kombu+memory"
    several = make_transport("rabbit://u:p@a:1,u:p@b:2/vhost")
    url = private.transport_url(several)
    assert url is several._driver._url
    assert [(host.hostname, host.port) for host in url.hosts] == [
        *(("a", 1), ("b", 2))
    ]
    assert (url.transport, url.virtual_host) == ("rabbit", "vhost")


@pytest.mark.parametrize(
    ("url", "is_rabbitmq"),
    [
        *((f"{scheme}://h/", True) for scheme in ("rabbit", "kombu+amqp")),
        *((url, False) for url in ("kombu+memory://", "fake://")),
    ],
)
def test_which_bus_is_rabbitmq(url: str, is_rabbitmq: bool) -> None:
    assert private.is_rabbitmq(make_transport(url)) is is_rabbitmq


def test_options_are_with_those_of_the_url() -> None:
    url = "rabbit://h/?rabbit_qos_prefetch_count=5"
    options = make_transport(url).conf.oslo_messaging_rabbit
    assert options.rabbit_qos_prefetch_count == 5
    assert options.amqp_auto_delete is False


def test_whether_messages_are_taken_back(transport: Any) -> None:
    assert parameters(transport._require_driver_features) == ["requeue"]
    assert private.takes_back(transport)

    def require_features(requeue: bool) -> None:
        raise NotImplementedError

    transport._driver.require_features = require_features
    assert not private.takes_back(transport)


def test_listening(transport: Any) -> None:
    assert parameters(
        transports.NotificationTransport._listen_for_notifications
    ) == [
        "self",
        "targets_and_priorities",
        "pool",
        "batch_size",
        "batch_timeout",
    ]
    adapter = base.PollStyleListenerAdapter(
        SimpleNamespace(prefetch_size=0), 1, None
    )
    assert adapter._poll_style_listener.prefetch_size == 0
    fake = make_transport("fake://")
    listener = private.listen(fake, [oslo_messaging.Target(topic="t")], None)
    assert {"timeout", "batch_size"} <= {*parameters(listener.poll)}
    assert parameters(listener.stop) == parameters(listener.cleanup) == []


def test_notifiers_send_by_this_name() -> None:
    assert parameters(transports.NotificationTransport._send_notification) == [
        "self",
        "target",
        "ctxt",
        "message",
        "version",
        "retry",
    ]
    transport = make_transport("fake://")
    errors: list[Exception] = []
    notifier = private.get_notifier(transport, "vm", "t", errors.append)
    notifier.info({}, "event", {"a": 1})
    assert errors == []

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("away")

    transport._driver.send_notification = fail
    notifier.info({}, "event", {"a": 1})
    [error] = errors
    assert str(error) == "away"


@pytest.mark.parametrize(
    "value", [[], [1, 2.5, None, {"a": [{}]}], ["\U0001f600\0\ud800", '"']]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_the_bus_has_what_the_driver_would_encode(
    transport: Any, value: Any, as_json: bool
) -> None:
    points = value
    if as_json:
        points = private.take_json(transport)(kombu_json.dumps(value))
        assert isinstance(points, private.Json)
    errors: list[Exception] = []
    notifier = private.get_notifier(transport, "vm", "t", errors.append)
    for _ in range(2):  # the first connects
        notifier.info({}, "event", {"points": points, "\u2603": "\ud800"})
    assert errors == []
    [connection] = transport._driver._connection_pool.iter_free()
    for _ in range(2):
        message = connection.channel.basic_get("t.info", no_ack=True)
        assert message.content_type == "application/json"
        assert message.content_encoding == "utf-8"
        content = json.loads(message.body)
        assert content["payload"] == {"points": value, "\u2603": "\ud800"}
        assert content.keys() >= {"publisher_id", "event_type", "_unique_id"}
        assert bytes(message.body) == kombu_json.dumps(content).encode()


def test_the_driver_publishes_by_these_names(transport: Any) -> None:
    set_channel = impl_rabbit.Connection._set_current_channel
    assert parameters(set_channel) == ["self", "new_channel"]
    connection = transport._driver._connection_pool.create(
        common.PURPOSE_SEND, 0
    )
    assert isinstance(connection._producer, kombu.Producer)
    connection.close()


def test_json_is_what_it_is_of_where_the_driver_encodes() -> None:
    """A release may publish by other names than these."""
    given = {"points": private.Json('[1, {"a": null}]')}
    assert json.loads(kombu_json.dumps(given)) == {"points": [1, {"a": None}]}


def test_other_buses_are_given_what_json_is_of() -> None:
    make = private.take_json(make_transport("fake://"))
    text = kombu_json.dumps([{"a": uuid.UUID(int=1)}, 1.5])
    assert make(text) == [{"a": str(uuid.UUID(int=1))}, 1.5]


# Connections


def test_the_driver_makes_connections_by_these_names(transport: Any) -> None:
    connections = transport._driver._connection_pool
    assert isinstance(connections, pool.ConnectionPool)
    assert connections.connection_cls is impl_rabbit.Connection
    assert [*connections.iter_free()] == []
    assert parameters(pool.ConnectionPool.create) == [
        "self",
        "purpose",
        "retry",
    ]
    assert parameters(impl_rabbit.Connection) == [
        "conf",
        "url",
        "purpose",
        "retry",
    ]
    assert common.PURPOSE_LISTEN


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("rabbit://u:p@h:1/v", "amqp://u:p@h:1/v"),
        ("rabbit://u:a%2Fb@h:1/v%2F%3Fw", "amqp://u:a%2Fb@h:1/v%2F%3Fw"),
    ],
)
def test_the_driver_makes_urls_by_this_name(given: str, made: str) -> None:
    assert parameters(impl_rabbit.Connection._transform_transport_url)[:3] == [
        "self",
        "url",
        "host",
    ]
    transport = make_transport(given)
    private.escape_fully(transport)
    urls: list[str] = []
    connection_class = transport._driver._connection_pool.connection_cls

    class Unconnected(connection_class):  # type: ignore[misc,valid-type]
        def ensure_connection(self) -> None:
            urls.append(self._url)

    transport._driver._connection_pool.connection_cls = Unconnected
    transport._driver._connection_pool.create(common.PURPOSE_LISTEN, 0)
    assert urls == [made]


# What the driver makes of its options, and so do we


@pytest.mark.parametrize("limits", [0, 7])
@pytest.mark.parametrize(
    ("ha", "quorum"), [(False, False), (True, False), (False, True)]
)
def test_queues_have_the_drivers_arguments(
    ha: bool, quorum: bool, limits: int
) -> None:
    transport = make_transport(
        f"rabbit://h/?rabbit_quorum_delivery_limit={limits}"
        f"&rabbit_quorum_max_memory_length={2 * limits}"
        f"&rabbit_quorum_max_memory_bytes={3 * limits}"
        "&rabbit_transient_queues_ttl=60"
    )
    assert rabbit_options.queue_arguments(
        transport.conf.oslo_messaging_rabbit, ha=ha, quorum=quorum
    ) == impl_rabbit._get_queue_arguments(
        ha,
        0,
        quorum,
        impl_rabbit.QuorumMemConfig(limits, 2 * limits, 3 * limits),
        False,
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "ssl=true",
        "ssl=true&ssl_ca_file=/a&ssl_cert_file=/b&ssl_key_file=/c",
        "ssl=true&ssl_version=TLSv1_2",
        "ssl=true&ssl_version=sslv23&ssl_ca_file=/a",
    ],
)
def test_tls_has_the_drivers_parameters(query: str) -> None:
    transport = make_transport(f"rabbit://host/?{query}")

    class Unconnected(impl_rabbit.Connection):  # type: ignore[misc]
        def ensure_connection(self) -> None:
            pass

    theirs = Unconnected(
        transport.conf, private.transport_url(transport), common.PURPOSE_LISTEN
    )._fetch_ssl_params()
    ours = rabbit_options.tls(transport.conf.oslo_messaging_rabbit, "host")
    if isinstance(ours, dict):
        # Older releases do not verify the host's name.
        theirs = {"server_hostname": "host", **theirs}
        if "ca_certs" not in ours:
            del theirs["server_hostname"]
    assert ours == theirs


def test_a_connection_of_a_parent_process_is_closed_here_only() -> None:
    ours, theirs = socket.socketpair()
    parents = os.dup(ours.fileno())
    connection = amqp.Connection("h")
    connection._transport = SimpleNamespace(sock=ours, connected=True)
    channel = SimpleNamespace(connection=connection)
    transport = make_transport("rabbit://h/")
    connections = transport._driver._connection_pool
    connections.put(SimpleNamespace(channel=channel))
    connections.put(SimpleNamespace(channel=None))
    assert private.abandon(transport)
    assert ours.fileno() == -1
    os.write(parents, b"x")
    assert theirs.recv(1) == b"x"
    os.close(parents)
    theirs.close()
    assert not private.abandon(make_transport("fake://"))


def test_the_driver_logs_its_trouble_by_this_name() -> None:
    assert impl_rabbit.LOG.logger.name == private.DRIVER_LOGGER
