# SPDX-License-Identifier: Apache-2.0

"""What settled traces set off, as it is configured."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from oslo_config import cfg

from profiler_bridge import exceptions, forward
from profiler_bridge.bus.transport import GROUP
from profiler_bridge.daemon.keeping import Keeping
from profiler_bridge.settled import Consumer
from profiler_bridge.storage import get_retention
from profiler_bridge.storage.traces import Storage

# RequestMetrics' name; its module is imported where metrics are on.
_METRICS = "metrics"


def is_any(conf: cfg.ConfigOpts, storage: Storage) -> bool:
    """Whether traces of this storage set anything off."""
    return bool(
        conf[forward.GROUP].endpoint
        or conf[GROUP].request_metrics
        or _keeps(conf, storage)
    )


def get_names(conf: cfg.ConfigOpts, storage: Storage) -> list[str]:
    """What the consumers are called, those that traces are sent to first.

    :param storage: whose traces they are
    :raises ConfigurationError: one cannot be used, or two have one name
    """
    names = [target.name for target in forward.targets(conf)]
    for name in (_METRICS, Keeping.name):
        if name in names:
            raise exceptions.ConfigurationError(
                f"an endpoint in [{forward.GROUP}] is called {name}, as"
                " something else is: give it another name=NAME"
            )
    if conf[GROUP].request_metrics:
        names.append(_METRICS)
    if _keeps(conf, storage):
        names.append(Keeping.name)
    return names


def get_targets(conf: cfg.ConfigOpts) -> Sequence[str]:
    """What those are called that traces are sent to."""
    return [target.name for target in forward.targets(conf)]


def get_consumer(
    conf: cfg.ConfigOpts, storage: Storage, name: str, *, has_metrics: bool
) -> Consumer:
    """The consumer of one of these names, in the process that it is for.

    :param has_metrics: whether the daemon serves any
    """
    if name == _METRICS:
        from profiler_bridge.daemon.request_metrics import RequestMetrics

        return RequestMetrics(conf[GROUP].request_metrics_series)
    if name == Keeping.name:
        return Keeping(storage, get_retention(conf))
    (target,) = (
        target for target in forward.targets(conf) if target.name == name
    )
    if has_metrics:
        from profiler_bridge.daemon.metrics import ForwardMetrics

        target.report = ForwardMetrics(name, process_name(name))
    return target


def _keeps(conf: cfg.ConfigOpts, storage: Storage) -> bool:
    """Whether a storage has to be told to keep some of its traces."""
    return Keeping(storage, get_retention(conf)).is_needed


def process_name(name: str) -> str:
    """By which metrics know a consumer's process."""
    # Names of files have neither slashes nor underscores there.
    return f"settled-{blake2b(name.encode(), digest_size=8).hexdigest()}"
