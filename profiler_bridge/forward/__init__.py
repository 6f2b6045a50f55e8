# SPDX-License-Identifier: Apache-2.0

"""Settled traces, sent to others as OTLP/HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from oslo_config import cfg

from profiler_bridge import exceptions, rules
from profiler_bridge.forward.options import GROUP, OPTS

if TYPE_CHECKING:
    from profiler_bridge.forward.target import Target

__all__ = ["GROUP", "OPTS", "targets"]


def targets(
    conf: cfg.ConfigOpts, endpoints: Sequence[str] | None = None
) -> list[Target]:
    """What traces are sent to; nothing is connected yet.

    :param conf: with the options of this module
    :param endpoints: URLs in place of the configured; these get all traces
    :returns: in the order in which they are given; empty without any
    :raises ConfigurationError: a URL, a file that it names or a rule cannot
        be used, or two have one name; without secrets
    """
    options = conf[GROUP]
    chosen = [_rule(text) for text in options.match]
    urls = options.endpoint
    if endpoints is not None:
        urls, chosen = endpoints, []
    if not urls:
        return []
    # Imported here, for most send nothing.
    from profiler_bridge.forward.endpoint import Endpoint
    from profiler_bridge.forward.target import Target

    targets = [Target(Endpoint.of(url), chosen) for url in urls]
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise exceptions.ConfigurationError(
                f"two endpoints in [forward] are called {name}: give one a"
                " name=NAME of its own"
            )
    return targets


def _rule(text: str) -> rules.Rule:
    try:
        return rules.parse(text)
    except ValueError as error:
        raise exceptions.ConfigurationError(
            f"match in [forward]: {error}"
        ) from None
