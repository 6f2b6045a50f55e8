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
        help="The address on which profiler-bridge-api listens. Other WSGI"
        " servers have options of their own for that.",
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
        help="How many requests profiler-bridge-api answers at the same time;"
        " others wait. A process has at most 15 connections to a storage.",
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
        help="Who may read. Whoever may read sees all that is stored: there is"
        " no view of one project alone.",
    ),
    cfg.ListOpt(
        "roles",
        default=["admin"],
        help="If auth_strategy is keystone: the roles that may read. A token"
        " needs one of them in its scope.",
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
        help="Host names by which clients may call the service, without a"
        " port; .example.org is for all in that domain. Requests to others are"
        " answered with 400. With noauth this keeps foreign web pages from"
        " reading traces through a browser that reaches the service. By"
        " default any name is answered.",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1500,
        min=1,
        help="How many traces one answer has at most.",
    ),
    cfg.FloatOpt(
        "time_limit",
        default=10.0,
        min=0.1,
        help="How many seconds a search may take. Then it ends, gives what it"
        " has found, and says so.",
    ),
    cfg.BoolOpt(
        "metrics",
        default=False,
        help="Serve /metrics for Prometheus, with counts and durations of"
        " requests. It needs no authentication, like /healthcheck.",
    ),
]


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address, or a name's.

    :raises OSError: the name has no address
    """
    addresses = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    return all(ip_address(to[4][0]).is_loopback for to in addresses)
