# SPDX-License-Identifier: Apache-2.0

"""Settled traces, sent to others as OTLP/HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from oslo_config import cfg

from profiler_bridge import exceptions, rules
from profiler_bridge.storage.retention import Duration

if TYPE_CHECKING:
    from profiler_bridge.forward.target import Target

GROUP = "forward"

OPTS: Sequence[cfg.Opt] = [
    cfg.MultiStrOpt(
        "endpoint",
        default=[],
        secret=True,
        help="Where traces are sent when nothing comes to them any more, over"
        " OTLP/HTTP: otlp+http://collector:4318 or"
        " otlp+https://user:password@collector:4318/v1/traces. May be given"
        " more than once. Options in its query: encoding=protobuf or json;"
        " compression=gzip or none; headers_file=/path, with lines like"
        " name: value; ca_file, cert_file and key_file, paths of PEM files for"
        " otlp+https; timeout=10, in seconds, of a request; name=NAME, which"
        " names it in metrics, and in the storage what it has had: by default"
        " host:port/path.",
    ),
    cfg.Opt(
        "hold",
        type=Duration(),
        default=86400,
        help="How long retention waits for an endpoint that is away: traces"
        " that it has not had are not deleted before. 0 never waits.",
    ),
    cfg.MultiStrOpt(
        "match",
        default=[],
        help="Which traces are sent: those that a rule like 'error or slower"
        " than 2s' or 'service nova and sample 1/20' chooses. Given more than"
        " once, one has to choose it. By default all are.",
    ),
]


def targets(
    conf: cfg.ConfigOpts, endpoints: Sequence[str] | None = None
) -> list[Target]:
    """What traces are sent to; nothing is connected yet.

    :param conf: with the options of this module
    :param endpoints: URLs in place of the configured
    :returns: in the order in which they are given; empty without any
    :raises ConfigurationError: a URL, a file that it names or a rule cannot
        be used, or two have one name; without secrets
    """
    options = conf[GROUP]
    chosen = [_rule(text) for text in options.match]
    urls = options.endpoint if endpoints is None else endpoints
    if not urls:
        return []
    # Imported here, for most send nothing.
    from profiler_bridge.forward.endpoint import Endpoint
    from profiler_bridge.forward.target import Target

    found = [Target(Endpoint.of(url), chosen) for url in urls]
    names = [target.name for target in found]
    for name in names:
        if names.count(name) > 1:
            raise exceptions.ConfigurationError(
                f"two endpoints in [forward] are called {name}: give one a"
                " name=NAME of its own"
            )
    return found


def _rule(text: str) -> rules.Rule:
    try:
        return rules.parse(text)
    except ValueError as error:
        raise exceptions.ConfigurationError(
            f"match in [forward]: {error}"
        ) from None
