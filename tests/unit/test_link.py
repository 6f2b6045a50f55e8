# SPDX-License-Identifier: Apache-2.0


"""Connections to RabbitMQ, and what a queue's reader does with them.

The broker is a script, so that all of it runs with the oldest py-amqp, too.
"""

from __future__ import annotations

import inspect
import logging
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import oslo_messaging
import oslo_messaging.opts
import pytest
from amqp import method_framing
from amqp.transport import SSLTransport, TCPTransport
from oslo_config import cfg

from profiler_bridge import exceptions
from profiler_bridge.bus import link as links
from profiler_bridge.bus import rabbit, rabbit_options
from profiler_bridge.bus.link import ERRORS, Hosts, Link
from profiler_bridge.bus.rabbit import RabbitSource
from profiler_bridge.bus.reader import Message
from tests import scripted_broker, servers
from tests.daemon import wait_for
from tests.scripted_broker import (
    ACK,
    BIND,
    CANCEL,
    CHANNEL_OPEN,
    CONSUME,
    DECLARE,
    HEARTBEAT,
    QOS,
    ScriptedBroker,
    delivery,
    frame,
    method,
    refusal,
)

EXCHANGE_DECLARE = (40, 10)
#: Those of [oslo_messaging_rabbit] that the installed release has.
OPTIONS = {
    option.dest
    for group, options in oslo_messaging.opts.list_opts()
    if group == "oslo_messaging_rabbit"
    for option in options
}


def make_transport(url: str) -> Any:
    conf = cfg.ConfigOpts()
    for group, options in oslo_messaging.opts.list_opts():
        conf.register_opts(options, group)
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_default(
        "rabbit_qos_prefetch_count", 1000, "oslo_messaging_rabbit"
    )
    return oslo_messaging.get_notification_transport(conf, url=url)


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as made:
        yield made


def with_options(broker: ScriptedBroker, **query: object) -> str:
    """Its URL with options of [oslo_messaging_rabbit]."""
    pairs = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{broker.transport_url}?{pairs}"


class Connected:
    """A link, and what was delivered on it."""

    def __init__(self, url: str) -> None:
        self.delivered: list[tuple[int, bytes]] = []
        transport = make_transport(url)
        self.link = Hosts(transport).connect(
            lambda tag, body: self.delivered.append((tag, body))
        )


# Names of py-amqp


def parameters(function: Any) -> set[str]:
    return {*inspect.signature(function).parameters}


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (
            amqp.Connection,
            "host userid password login_method virtual_host client_properties"
            " ssl connect_timeout heartbeat on_blocked on_unblocked"
            " socket_settings frame_handler",
        ),
        (
            amqp.Connection.Transport,
            "host connect_timeout ssl read_timeout write_timeout"
            " socket_settings",
        ),
        (method_framing.frame_handler, "connection callback"),
        *(
            (transport, "host connect_timeout")
            for transport in (TCPTransport, SSLTransport)
        ),
        (TCPTransport.having_timeout, "timeout"),
        (TCPTransport.read_frame, "unpack"),
        (amqp.Connection.connect, "self"),
        (amqp.Connection.channel, "self"),
        (amqp.Connection.send_heartbeat, "self"),
        (amqp.Connection.collect, "self"),
        (amqp.Connection.close, "self"),
        (amqp.Channel.open, "self"),
        (amqp.Channel.close, "self"),
        (amqp.Channel.basic_qos, "prefetch_size prefetch_count a_global"),
        (amqp.Channel.basic_consume, "queue arguments"),
        (amqp.Channel.basic_cancel, "consumer_tag nowait"),
        (amqp.Channel.basic_ack, "delivery_tag multiple"),
        (amqp.Channel.basic_reject, "delivery_tag requeue"),
        (
            amqp.Channel.queue_declare,
            "queue passive durable auto_delete arguments",
        ),
        (amqp.Channel.queue_bind, "queue exchange routing_key"),
        (amqp.Channel.queue_unbind, "queue exchange routing_key"),
        (
            amqp.Channel.exchange_declare,
            "exchange type durable auto_delete arguments",
        ),
    ],
)
def test_what_py_amqp_takes(function: Any, names: str) -> None:
    assert parameters(function) >= {*names.split()}


# Options of oslo.messaging


def test_each_option_is_in_the_table() -> None:
    table = (rabbit_options.__doc__ or "").replace(",", " ").split()
    assert OPTIONS - {*table} == set()


# Links


def test_the_login(broker: ScriptedBroker) -> None:
    for login, name in (("AMQPLAIN", b"LOGIN"), ("PLAIN", b"\0user\0pass")):
        broker.told.clear()
        url = with_options(broker, rabbit_login_method=login)
        Connected(url).link.close()
        [(_, start), *_] = broker.told
        assert name in start
        assert login.encode() in start
        assert b"connection_name" in start
        [open_] = [
            arguments
            for which, arguments in broker.told
            if which == scripted_broker.OPEN
        ]
        assert b"vhost" in open_


def test_what_comes_together_is_handled_together(
    broker: ScriptedBroker,
) -> None:
    bus = Connected(broker.transport_url)
    bus.link.channel()
    bus.link.read(0.01)
    assert bus.delivered == []
    broker.send(*delivery(1, b"a"), *delivery(2, b"b" * 250))
    bus.link.read(5)
    assert bus.delivered == [(1, b"a"), (2, b"b" * 250)]
    bus.link.close()
    assert not bus.link.connected


def test_the_end(broker: ScriptedBroker) -> None:
    bus = Connected(broker.transport_url)
    broker.end_connection()
    with pytest.raises(ERRORS):
        bus.link.read(5)
    assert not bus.link.connected
    bus.link.drop()
    bus.link.close()


def test_both_sides_have_heartbeats(broker: ScriptedBroker) -> None:
    bus = Connected(with_options(broker, heartbeat_timeout_threshold=1))

    def sent() -> bool:
        broker.send(frame(HEARTBEAT, channel=0))
        bus.link.read(0.1)
        return broker.heartbeats > 8  # three times a second

    wait_for(sent, "heartbeats")

    with pytest.raises(ConnectionResetError, match="silent"):
        wait_for(lambda: bus.link.read(0.1), "an error")


def test_no_heartbeats(broker: ScriptedBroker) -> None:
    bus = Connected(with_options(broker, heartbeat_timeout_threshold=0))
    for _ in range(10):
        bus.link.read(0.1)
    assert broker.heartbeats == 0


def test_a_refusal_closes_a_channel_of_its_own(broker: ScriptedBroker) -> None:
    bus = Connected(broker.transport_url)
    channel = bus.link.channel()
    broker.answers[BIND] = refusal(404, "NOT_FOUND - no exchange 'nova'")

    def bind(on: Any) -> None:
        on.queue_bind("q", "nova", "q")

    error = bus.link.refusal(bind)
    assert isinstance(error, amqp.NotFound)
    assert links.words(error) == "NOT_FOUND - no exchange 'nova'"
    assert channel.openings == 1
    assert bus.link.refusal(lambda on: on.queue_declare("q")) is None
    # One that is not about it is another's.
    broker.answers[BIND] = lambda _, arguments: refusal(406, "late")(
        channel.channel_id, arguments
    )
    with pytest.raises(amqp.PreconditionFailed):
        bus.link.refusal(bind)
    assert channel.openings == 2


def test_hosts_are_tried_in_turn() -> None:
    with ScriptedBroker() as one, ScriptedBroker() as two:
        dead = f"user:s3cret@127.0.0.1:{servers.free_port()}"
        url = (
            f"rabbit://user:s3cret@127.0.0.1:{one.port},{dead},"
            f"user:s3cret@127.0.0.1:{two.port}/"
        )
        hosts = Hosts(make_transport(url))
        for _ in range(4):
            hosts.connect().close()
        assert (one.accepted, two.accepted) == (2, 2)
    with pytest.raises(exceptions.BusUnavailable) as caught:
        hosts.connect()
    for port in (one.port, two.port):
        assert f"127.0.0.1:{port}: [Errno 111]" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_hosts_are_shuffled() -> None:
    with ScriptedBroker() as one, ScriptedBroker() as two:
        url = f"rabbit://127.0.0.1:{one.port},127.0.0.1:{two.port}/"
        hosts = Hosts(make_transport(f"{url}?kombu_failover_strategy=shuffle"))
        begun = []
        for _ in range(40):
            before = one.accepted
            hosts.connect().close()
            begun.append(one.accepted > before)
    # In turn no host would come twice.
    assert any(begun[i] == begun[i + 1] for i in range(39))


# Sources


class Reading:
    """A source, and what it hands over."""

    def __init__(
        self, url: str, *exchanges: str | None, pool: str | None = None
    ) -> None:
        self.messages: list[Message] = []
        self.source = RabbitSource(
            make_transport(url),
            [
                oslo_messaging.Target(topic="profiler", exchange=exchange)
                for exchange in exchanges or [None]
            ],
            pool,
            self.messages.extend,
        )

    def read_until(self, condition: Callable[[], object]) -> None:
        def read() -> object:
            self.source.read(0.01)
            return condition()

        wait_for(read, "what was sent")


def test_queues_are_declared_and_exchanges_are_not(
    broker: ScriptedBroker,
) -> None:
    reading = Reading(broker.transport_url, "nova", "glance", pool="pool")
    assert not reading.source.connected
    reading.source.connect()
    assert reading.source.connected
    assert not reading.source.paused
    methods = broker.methods()
    assert methods.count(DECLARE) == 1
    assert methods.count(BIND) == 2
    assert EXCHANGE_DECLARE not in methods
    assert methods[-2:] == [QOS, CONSUME]
    reading.source.close()
    assert not reading.source.connected


def test_verdicts(broker: ScriptedBroker) -> None:
    reading = Reading(broker.transport_url)
    reading.source.connect()
    broker.send(*delivery(1, b"a"), *delivery(2, b"b"), *delivery(3, b"c"))
    reading.read_until(lambda: len(reading.messages) == 3)
    reading.source.settle(reading.messages[:2], reading.messages[2:])
    wait_for(lambda: ACK in broker.methods(), "an acknowledgement")
    assert broker.told[-2:] == [
        (scripted_broker.REJECT, struct.pack(">QB", 3, 1)),
        (ACK, struct.pack(">QB", 2, 1)),
    ]


def test_a_channel_that_the_broker_closes(
    broker: ScriptedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading(broker.transport_url)
    reading.source.connect()
    broker.send(*delivery(1, b"a"))
    reading.read_until(lambda: reading.messages)
    broker.told.clear()
    channel = broker.consuming
    broker.send(
        refusal(406, "delivery acknowledgement timed out")(channel, b"")
    )
    reading.read_until(lambda: CONSUME in broker.methods())
    [line] = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]
    assert line.startswith("RabbitMQ closed the channel; opening it again: ")
    assert "timed out" in line
    assert QOS in broker.methods()
    assert reading.source.connected
    # What was delivered before comes again; the broker does not know its tag.
    broker.told.clear()
    reading.source.settle(reading.messages, [])
    broker.send(*delivery(1, b"a"))
    reading.read_until(lambda: len(reading.messages) == 2)
    reading.source.settle(reading.messages, [])
    wait_for(lambda: broker.told, "an acknowledgement")
    assert broker.told == [(ACK, struct.pack(">QB", 1, 1))]
    assert broker.accepted == 1


def test_a_consumer_that_the_broker_cancels(broker: ScriptedBroker) -> None:
    pauses = {"kombu_reconnect_delay": 0.5}
    if "kombu_reconnect_splay" in OPTIONS:
        pauses["kombu_reconnect_splay"] = 2
    reading = Reading(with_options(broker, **pauses))
    reading.source.connect()
    broker.send(
        *delivery(1, b"a"),
        method(CANCEL, scripted_broker.short(b"tag"), broker.consuming),
    )
    with pytest.raises(exceptions.BusUnavailable, match="queue was deleted"):
        reading.read_until(lambda: False)
    # What came before is there.
    assert len(reading.messages) == 1
    assert not reading.source.connected
    assert 0.5 <= reading.source.delay <= 2.5
    reading.source.settle(reading.messages, [])
    reading.source.connect()
    assert reading.source.connected
    assert broker.accepted == 2


def test_pauses_between_rounds_grow() -> None:
    nobody = f"rabbit://127.0.0.1:{servers.free_port()}/"
    reading = Reading(
        f"{nobody}?rabbit_retry_interval=2&rabbit_retry_backoff=3"
        "&rabbit_interval_max=9"
    )
    delays = []
    for _ in range(5):
        with pytest.raises(exceptions.BusUnavailable, match="refused"):
            reading.source.connect()
        delays.append(reading.source.delay)
    assert delays == [2, 5, 8, 9, 9]
    assert not reading.source.connected
    with pytest.raises(exceptions.BusUnavailable):
        reading.source.read(0.01)


def test_a_source_that_is_stopped_tries_no_further_host() -> None:
    with ScriptedBroker() as broker:
        reading = Reading(broker.transport_url)
        reading.source.stop()
        with pytest.raises(exceptions.BusUnavailable):
            reading.source.connect()
        assert broker.accepted == 0
        reading.source.close()


def test_exchanges_are_waited_for(
    broker: ScriptedBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(rabbit, "_FIRST_LOOK", 0.01)
    there = {b"nova"}

    def bind(channel: int, arguments: bytes) -> bytes:
        if any(name in arguments for name in there):
            return method(scripted_broker.BIND_OK, b"", channel)
        return refusal(404, "NOT_FOUND - no exchange")(channel, arguments)

    broker.answers[BIND] = bind
    reading = Reading(
        broker.transport_url, "nova", "glance", "heat", pool="pool"
    )
    reading.source.connect()
    assert "as soon as they exist: glance, heat" in caplog.text
    broker.send(*delivery(1, b"a"))
    looks = broker.methods().count(BIND)
    reading.read_until(lambda: broker.methods().count(BIND) > looks + 3)
    there |= {b"glance", b"heat"}
    reading.read_until(lambda: not reading.source._unbound)
    looks = broker.methods().count(BIND)
    for _ in range(10):
        reading.source.read(0.01)
    assert broker.methods().count(BIND) == looks
    # All on the channel that consumes since the beginning.
    assert broker.methods().count(CONSUME) == 1
    assert len(reading.messages) == 1
    assert broker.accepted == 1


def test_the_plain_queue_is_bound_by_who_sends(broker: ScriptedBroker) -> None:
    broker.answers[BIND] = refusal(404, "NOT_FOUND - no exchange 'openstack'")
    reading = Reading(broker.transport_url)
    reading.source.connect()
    assert broker.methods().count(BIND) == 1
    reading.source.read(0.01)
    assert broker.methods().count(BIND) == 1


def test_a_broker_that_refuses_to_be_read(broker: ScriptedBroker) -> None:
    broker.answers[CONSUME] = refusal(403, "ACCESS_REFUSED - no access")
    reading = Reading(broker.transport_url)
    with pytest.raises(exceptions.BusUnavailable, match="read queue"):
        reading.source.connect()
    assert reading.source.delay == rabbit._AFTER_REFUSAL
    assert not reading.source.connected


def test_a_pause(broker: ScriptedBroker) -> None:
    reading = Reading(broker.transport_url)
    reading.source.connect()
    reading.source.pause()
    assert reading.source.paused
    wait_for(lambda: CANCEL in broker.methods(), "the end of it")
    reading.source.keep_alive()
    reading.source.read(0.01)
    reading.source.resume()
    assert not reading.source.paused
    assert broker.methods()[-1] == CONSUME
    # A new connection has a new consumer.
    reading.source.pause()
    broker.end_connection()
    with pytest.raises(exceptions.BusUnavailable):
        reading.read_until(lambda: False)
    assert not reading.source.paused
    reading.source.connect()
    assert not reading.source.paused


def test_a_queue_that_deletes_itself_is_not_left_alone(
    broker: ScriptedBroker,
) -> None:
    reading = Reading(with_options(broker, amqp_auto_delete="true"))
    reading.source.connect()
    reading.source.pause()
    assert not reading.source.paused
    reading.source.read(0.01)
    assert CANCEL not in broker.methods()


def test_what_the_broker_says_when_it_blocks(
    broker: ScriptedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reading = Reading(broker.transport_url)
    reading.source.connect()
    broker.send(
        method((10, 60), scripted_broker.short(b"low on memory"), 0),
        method((10, 61), b"", 0),
    )
    reading.read_until(lambda: "unblocked" in caplog.text)
    assert "The broker has blocked the connection" in caplog.text


def test_every_opening_counts(broker: ScriptedBroker) -> None:
    bus = Connected(broker.transport_url)
    channel = bus.link.channel()
    assert broker.methods().count(CHANNEL_OPEN) == channel.openings == 1
    broker.send(refusal(406, "x")(channel.channel_id, b""))
    with pytest.raises(amqp.PreconditionFailed):
        wait_for(lambda: bus.link.read(1), "an error")
    assert broker.methods().count(CHANNEL_OPEN) == channel.openings == 2
    assert channel.is_open


def test_a_link_that_is_dropped_waits_for_nothing(
    broker: ScriptedBroker,
) -> None:
    bus: Link = Connected(broker.transport_url).link
    del broker.answers[scripted_broker.CLOSE]
    began = time.monotonic()
    bus.drop()
    assert not bus.connected
    assert time.monotonic() >= began
