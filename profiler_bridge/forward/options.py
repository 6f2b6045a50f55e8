# SPDX-License-Identifier: Apache-2.0

"""The options of [forward]."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from profiler_bridge.storage.retention import Duration

GROUP = "forward"

OPTS: Sequence[cfg.Opt] = [
    cfg.MultiStrOpt(
        "endpoint",
        default=[],
        secret=True,
        help="Where settled traces are sent, over OTLP/HTTP:"
        " otlp+http://collector:4318 or"
        " otlp+https://user:password@collector:4318/v1/traces. May be given"
        " more than once. Options in its query: encoding=protobuf or json;"
        " compression=gzip or none; headers_file=/path, with lines like name:"
        " value; ca_file, cert_file and key_file, paths of PEM files for"
        " otlp+https; timeout=10, in seconds, of a request; name=NAME, the"
        " endpoint's name in metrics, and in the storage's notes of what it"
        " was sent; by default host:port/path.",
    ),
    cfg.Opt(
        "hold",
        type=Duration(),
        default=86400,
        help="How long retention waits for an endpoint that is away, and does"
        " not delete traces that were not sent to it. 0 never waits.",
    ),
    cfg.MultiStrOpt(
        "match",
        default=[],
        help="Which traces are sent: those that match a rule like 'error or"
        " slower than 2s' or 'service nova and sample 1/20'. Given more than"
        " once, one of them has to match. By default all are sent.",
    ),
]
