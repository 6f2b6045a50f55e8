# SPDX-License-Identifier: Apache-2.0

"""A program that makes spans and sends them: by ``bridge://``, or OTLP.

Run by :mod:`tests.benchmarks.notifier` with a :class:`Task` as JSON. Prints
how many seconds of CPU time the whole process took, in all its threads, from
the first span until the last one was sent.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import util
from typing import Any

from tests.benchmarks import payloads

BRIDGE = "bridge"
OPENTELEMETRY = "OpenTelemetry"

_WITHIN = 60.0

# Makes a span of a name with what osprofiler calls its info.
Start = Callable[[str, dict[str, Any]], AbstractContextManager[Any]]
# Sends what has gathered; returns whether all the spans so far, so many, are
# where they belong.
Finish = Callable[[int], bool]


@dataclass(frozen=True)
class Task:
    """What to run.

    :param kind: BRIDGE or OPENTELEMETRY
    :param url: of the bus, or of the collector's traces
    """

    kind: str
    url: str
    spans: int


def opentelemetry_is_installed() -> bool:
    """Whether its SDK and its exporter over HTTP are there."""
    try:
        return all(
            util.find_spec(f"opentelemetry.{module}") is not None
            for module in ("sdk", "exporter.otlp.proto.http")
        )
    except ModuleNotFoundError:
        return False


def bridge(task: Task) -> tuple[Start, Finish]:
    # Imported here, as nothing of it is in a program with OpenTelemetry.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oslo_config import cfg
        from osprofiler import notifier, profiler

        import profiler_bridge.sender.driver  # noqa: F401 - registers bridge://

    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    notify = notifier.create(
        "bridge://",
        conf=conf,
        transport_url=task.url,
        project="nova",
        service="api",
        host="vm",
    )
    notifier.set(notify)
    profiler.init("SECRET_KEY")
    buffered = notify.__self__._notifier

    def finish(made: int) -> bool:
        return bool(buffered.flush(_WITHIN)) and buffered.dropped == 0

    return (lambda name, info: profiler.Trace(name, info=info)), finish


def opentelemetry(task: Task) -> tuple[Start, Finish]:
    """BatchSpanProcessor, with a queue that holds all, and OTLP over HTTP."""
    # Imported here: it may not be installed, and would count as the bridge's.
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.sdk import resources, trace
    from opentelemetry.sdk.trace import export

    sent = 0

    class Exporter(trace_exporter.OTLPSpanExporter):  # type: ignore[misc]
        def export(self, spans: Any) -> Any:
            nonlocal sent
            result = super().export(spans)
            if result is export.SpanExportResult.SUCCESS:
                sent += len(spans)
            return result

    provider = trace.TracerProvider(
        resource=resources.Resource.create(
            {
                "service.namespace": "nova",
                "service.name": "api",
                "host.name": "vm",
            }
        )
    )
    provider.add_span_processor(
        export.BatchSpanProcessor(
            Exporter(endpoint=task.url), max_queue_size=task.spans + 1
        )
    )
    tracer = provider.get_tracer("benchmarks")

    def finish(made: int) -> bool:
        provider.force_flush(int(_WITHIN * 1000))
        return sent == made

    return (
        lambda name, info: tracer.start_as_current_span(name, attributes=info)
    ), finish


KINDS = {BRIDGE: bridge, OPENTELEMETRY: opentelemetry}


def _attributes(info: dict[str, Any]) -> dict[str, Any]:
    """The same as OpenTelemetry has it: without dictionaries."""
    return {
        f"{group}.{name}": value
        for group, values in info.items()
        for name, value in values.items()
    }


def run(task: Task) -> float:
    spans = [
        (
            payload["name"].removesuffix("-start"),
            {
                group: payload["info"][group]
                for group in ("db", "request")
                if group in payload["info"]
            },
        )
        for payload in payloads.points(2000)
        if payload["name"].endswith("-start")
    ]
    if task.kind == OPENTELEMETRY:
        spans = [(name, _attributes(info)) for name, info in spans]
    start, finish = KINDS[task.kind](task)
    with start(*spans[0]):
        pass
    connected = finish(1)
    began = time.process_time()
    for number in range(task.spans):
        with start(*spans[number % len(spans)]):
            pass
    if not (connected and finish(1 + task.spans)):
        raise RuntimeError(f"{task}: spans were lost")
    return time.process_time() - began


if __name__ == "__main__":
    print(run(Task(**json.loads(sys.argv[1]))))
