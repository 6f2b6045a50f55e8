# SPDX-License-Identifier: Apache-2.0

"""What the options of [oslo_messaging_rabbit] mean to the bridge.

They are those of oslo.messaging's driver, and mean what they mean there:

======================================  =======================================
option                                  used for
======================================  =======================================
ssl, ssl_version, ssl_key_file,         TLS; the host's name is verified where
ssl_cert_file, ssl_ca_file              ssl_ca_file is set
rabbit_login_method                     the login
heartbeat_timeout_threshold,            heartbeats, and how long what is sent
heartbeat_rate                          may go without an answer
kombu_failover_strategy                 the order of the hosts
rabbit_retry_interval,                  the pauses between rounds in which no
rabbit_retry_backoff,                   host answers
rabbit_interval_max
kombu_reconnect_delay,                  the pause after a connection is lost,
kombu_reconnect_splay                   or the broker cancels a consumer
amqp_durable_queues, amqp_auto_delete,  declaring queues
rabbit_ha_queues, rabbit_quorum_queue,
rabbit_quorum_delivery_limit,
rabbit_quorum_max_memory_length,
rabbit_quorum_max_memory_bytes
enable_cancel_on_failover               an argument of each consumer
rabbit_qos_prefetch_count               the most messages that a worker is
                                        sent; 0: all there are
======================================  =======================================

Others mean nothing to a consumer of notifications:

======================================  =======================================
option                                  is about
======================================  =======================================
rpc_conn_pool_size,                     connections of senders
conn_pool_min_size, conn_pool_ttl
kombu_compression                       what is sent; what comes is
                                        decompressed by how it begins
kombu_missing_consumer_retry_timeout,   replies
direct_mandatory_flag
rabbit_transient_quorum_queue,          queues for replies and fanouts
rabbit_transient_queues_ttl,
rabbit_stream_fanout,
use_queue_manager, hostname,
processname
ssl_enforce_hostname_verification       nothing: it is always enforced
ssl_enforce_fips_mode                   nothing since OpenSSL 3
heartbeat_in_pthread                    senders under eventlet
======================================  =======================================
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import amqp

from profiler_bridge import exceptions
from profiler_bridge.bus import private

# Numbers of 16 bits, and strings with one byte for their length, in AMQP.
_LARGEST_SHORT = 65535
_LONGEST_NAME = 255


# Of ssl_version.
_TLS_VERSIONS = {
    "tlsv1": "PROTOCOL_TLSv1",
    "sslv23": "PROTOCOL_SSLv23",
    "sslv2": "PROTOCOL_SSLv2",
    "sslv3": "PROTOCOL_SSLv3",
    "tlsv1_1": "PROTOCOL_TLSv1_1",
    "tlsv1_2": "PROTOCOL_TLSv1_2",
}


def tls(options: Any, hostname: str) -> dict[str, Any] | bool:
    """What py-amqp takes as ``ssl`` of a connection to a host.

    :raises ValueError: ssl_version is not one that Python has here
    """
    if not options.ssl:
        return False
    made: dict[str, Any] = {}
    if options.ssl_version:
        name = _TLS_VERSIONS.get(options.ssl_version.lower(), "")
        if not hasattr(ssl, name):
            raise ValueError(f"Invalid SSL version: {options.ssl_version}")
        made["ssl_version"] = getattr(ssl, name)
    if options.ssl_key_file:
        made["keyfile"] = options.ssl_key_file
    if options.ssl_cert_file:
        made["certfile"] = options.ssl_cert_file
    if options.ssl_ca_file:
        made["ca_certs"] = options.ssl_ca_file
        made["cert_reqs"] = ssl.CERT_REQUIRED
        made["server_hostname"] = hostname
    return made or True


def queue_arguments(options: Any, *, ha: bool, quorum: bool) -> dict[str, Any]:
    """The arguments of a queue that oslo.messaging would declare.

    :param ha: as rabbit_ha_queues
    :param quorum: as rabbit_quorum_queue
    """
    arguments: dict[str, Any] = {}
    if ha:
        arguments["x-ha-policy"] = "all"
    if quorum:
        arguments["x-queue-type"] = "quorum"
        for name, value in (
            ("x-delivery-limit", options.rabbit_quorum_delivery_limit),
            (
                "x-max-in-memory-length",
                options.rabbit_quorum_max_memory_length,
            ),
            ("x-max-in-memory-bytes", options.rabbit_quorum_max_memory_bytes),
        ):
            if value:
                arguments[name] = value
    return arguments


def check_options(transport: Any) -> None:
    """Check whether these options can be used, without a broker.

    Of a bus that is no RabbitMQ nothing is checked.

    :param transport: of oslo.messaging
    :raises ConfigurationError: they cannot
    """
    if not private.is_rabbitmq(transport):
        return
    options = transport.conf.oslo_messaging_rabbit
    if options.ssl:
        _check_certificates(options)
    if options.rabbit_qos_prefetch_count > _LARGEST_SHORT:
        raise exceptions.ConfigurationError(
            "rabbit_qos_prefetch_count in [oslo_messaging_rabbit], which is"
            f" prefetch in [bridge] unless set: at most {_LARGEST_SHORT}"
        )
    _check_numbers(options)
    if len(transport.conf.control_exchange.encode()) > _LONGEST_NAME:
        raise exceptions.ConfigurationError(
            f"control_exchange in [DEFAULT]: at most {_LONGEST_NAME} bytes"
        )
    if options.rabbit_ha_queues and options.rabbit_quorum_queue:
        raise exceptions.ConfigurationError(
            "[oslo_messaging_rabbit] cannot be used: a queue is quorum or HA,"
            " not both, but rabbit_quorum_queue and rabbit_ha_queues are set"
        )
    if not options.heartbeat_rate:
        raise exceptions.ConfigurationError(
            "[oslo_messaging_rabbit] cannot be used: heartbeat_rate is 0"
        )
    try:
        amqp.Connection(
            login_method=options.rabbit_login_method, ssl=tls(options, "")
        )
    except ValueError as error:
        raise exceptions.ConfigurationError(
            f"[oslo_messaging_rabbit] cannot be used: {error}"
        ) from None


def _check_numbers(options: Any) -> None:
    """Check numbers that oslo.config takes, and RabbitMQ does not."""
    for name, value in options.items():
        if isinstance(value, int | float) and value < 0:
            raise exceptions.ConfigurationError(
                f"{name} in [oslo_messaging_rabbit] is {value}: it cannot be"
                " below 0"
            )
    if options.heartbeat_timeout_threshold > _LARGEST_SHORT:
        raise exceptions.ConfigurationError(
            "heartbeat_timeout_threshold in [oslo_messaging_rabbit]: at most"
            f" {_LARGEST_SHORT}"
        )


def _check_certificates(options: Any) -> None:
    """Check the files of TLS, as errors of a connection do not name them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, load in (
        ("ssl_ca_file", context.load_verify_locations),
        ("ssl_cert_file", _read),
        ("ssl_key_file", _read),
    ):
        path = getattr(options, name)
        try:
            if path:
                load(path)
        except OSError as error:
            raise exceptions.ConfigurationError(
                f"{name} in [oslo_messaging_rabbit]: {path}: {error.strerror}"
            ) from None
    if options.ssl_cert_file:
        try:
            context.load_cert_chain(
                options.ssl_cert_file,
                options.ssl_key_file or None,
                # Otherwise OpenSSL asks for it at the terminal.
                password="",
            )
        except OSError as error:
            raise exceptions.ConfigurationError(
                "ssl_cert_file and ssl_key_file in [oslo_messaging_rabbit]"
                f" cannot be used: {error.strerror or error}"
            ) from None


def _read(path: str) -> None:
    Path(path).read_bytes()
