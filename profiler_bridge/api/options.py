# SPDX-License-Identifier: Apache-2.0

"""The options of [api]."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address

from oslo_config import cfg

GROUP = "api"

OPTS: Sequence[cfg.Opt] = [
    cfg.HostAddressOpt(
        "host",
        default="127.0.0.1",
        help="Where profiler-bridge-api listens. Another WSGI server has an"
        " option of its own for that.",
    ),
    cfg.PortOpt(
        "port",
        default=8095,
        min=1,
        help="The TCP port on which profiler-bridge-api listens.",
    ),
    cfg.IntOpt(
        "threads",
        default=8,
        min=1,
        max=15,
        help="How many requests profiler-bridge-api answers at a time; others"
        " wait. A storage has at most 15 connections for each process.",
    ),
    cfg.StrOpt(
        "auth_strategy",
        default="noauth",
        choices=[
            ("noauth", "whoever reaches the service reads all traces"),
            (
                "http_basic",
                "users and passwords of the file that"
                " http_basic_auth_user_file in [oslo_middleware] names",
            ),
            (
                "keystone",
                "tokens of Keystone, for those who have one of the roles;"
                " options in [keystone_authtoken]",
            ),
        ],
        help="Who may read. Whoever may, may read all that is stored: there"
        " is no view of one project alone.",
    ),
    cfg.ListOpt(
        "roles",
        default=["admin"],
        help="Who has one of these roles in the scope of the token may read,"
        " where auth_strategy is keystone.",
    ),
    cfg.BoolOpt(
        "allow_remote_noauth",
        default=False,
        help="Let profiler-bridge-api listen on an address that is not"
        " loopback while auth_strategy is noauth.",
    ),
    cfg.ListOpt(
        "trusted_hosts",
        default=[],
        help="Names that clients may call the service by, without a port;"
        " .example.org is for all in that domain. Requests to others are"
        " answered with 400. With noauth this keeps foreign web pages from"
        " reading traces through a browser that reaches the service. Empty:"
        " any name.",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1500,
        min=1,
        help="How many traces one answer has at most, whatever is asked for.",
    ),
    cfg.FloatOpt(
        "time_limit",
        default=10.0,
        min=0.1,
        help="After so many seconds a search ends, with what it has found,"
        " and says so.",
    ),
    cfg.BoolOpt(
        "metrics",
        default=False,
        help="Answer /metrics, for Prometheus, with counts of requests and"
        " how long they took. It is answered without authentication, as"
        " /healthcheck is.",
    ),
]


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address, or a name's.

    :raises OSError: the name has no address
    """
    addresses = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    return all(ip_address(to[4][0]).is_loopback for to in addresses)
