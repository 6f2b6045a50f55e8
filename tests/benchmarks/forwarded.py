# SPDX-License-Identifier: Apache-2.0

"""A program that sends traces: by a target, or by OpenTelemetry's exporter.

Run by :mod:`tests.benchmarks.forwarding` with a :class:`Task` as JSON. Prints
:class:`Taken` as JSON. The exporter gets spans of the SDK that say the same
as what the target sends, and are made beforehand.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from profiler_bridge.forward.batches import MOST_SPANS
from profiler_bridge.forward.endpoint import PATH, Endpoint
from profiler_bridge.forward.target import Counts, Target
from profiler_bridge.query import TraceQuery
from profiler_bridge.report.otlp import (
    EXCEPTION,
    SCOPE,
    Exported,
    Group,
    exported,
)
from profiler_bridge.settled import Settled
from profiler_bridge.storage import get_storage
from profiler_bridge.trace import Trace

BRIDGE = "bridge"
OPENTELEMETRY = "OpenTelemetry"

#: How often all is sent and measured, after a rehearsal.
ROUNDS = 3

# Sends what was made before; returns how many spans were taken.
Send = Callable[[], int]


@dataclass(frozen=True)
class Task:
    """What to run.

    :param kind: BRIDGE or OPENTELEMETRY
    :param storage: that the traces are in
    :param port: of the server, on 127.0.0.1
    :param compression: gzip or none
    """

    kind: str
    storage: str
    port: int
    compression: str


@dataclass(frozen=True)
class Taken:
    """Seconds of CPU time, of all threads.

    :param reading: until traces were read from the storage and decoded
    :param sending: from then until all was sent, in the round that was
        disturbed least; without what the exporter's spans took to be made
    """

    spans: int
    reading: float
    sending: float


def bridge(task: Task, traces: list[Settled]) -> Send:
    target = Target(
        Endpoint.of(
            f"otlp+http://127.0.0.1:{task.port}?compression={task.compression}"
        )
    )

    def send() -> int:
        counts = target.report = Counts()
        target.take(traces, time.sleep)
        return counts.sent

    return send


def opentelemetry(task: Task, traces: list[Settled]) -> Send:
    # Imported here: it may not be installed, and would count as the bridge's.
    from opentelemetry.exporter.otlp.proto import http
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.sdk.trace import export

    exporter = trace_exporter.OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{task.port}{PATH}",
        compression={
            "gzip": http.Compression.Gzip,
            "none": http.Compression.NoCompression,
        }[task.compression],
    )
    spans = [
        span
        for trace, _, _ in traces
        for group in exported(trace)
        for span in _readable(group)
    ]

    def send() -> int:
        sent = 0
        # As many in a request as the bridge has.
        for at in range(0, len(spans), MOST_SPANS):
            some = spans[at : at + MOST_SPANS]
            if exporter.export(some) is export.SpanExportResult.SUCCESS:
                sent += len(some)
        return sent

    return send


_resources: dict[tuple[tuple[str, str], ...], Any] = {}


def _readable(group: Group) -> Iterator[Any]:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    # The spans of a program share theirs, as those of one of ours do.
    key = tuple(group.resource.items())
    resource = _resources.setdefault(key, Resource(dict(group.resource)))
    scope = InstrumentationScope(SCOPE)
    for span in group.spans:
        yield _of_sdk(span, resource, scope)


def _of_sdk(span: Exported, resource: Any, scope: Any) -> Any:
    import opentelemetry.trace as api
    from opentelemetry.sdk import trace as sdk

    def context(span_id: str) -> api.SpanContext:
        return api.SpanContext(
            int(span.trace_id, 16), int(span_id, 16), is_remote=False
        )

    error = span.error
    return sdk.ReadableSpan(
        span.name,
        context(span.id),
        None if span.parent_id is None else context(span.parent_id),
        resource,
        dict(span.attributes),
        events=[]
        if error is None
        else [sdk.Event(EXCEPTION, dict(error.attributes), error.at)],
        # The SDK counts from 0.
        kind=api.SpanKind(span.kind - 1),
        instrumentation_scope=scope,
        status=api.Status()
        if error is None
        else api.Status(api.StatusCode.ERROR, error.status),
        start_time=span.start,
        end_time=span.end,
    )


KINDS = {BRIDGE: bridge, OPENTELEMETRY: opentelemetry}


def run(task: Task) -> Taken:
    storage = get_storage(task.storage)
    summaries = storage.list_traces(TraceQuery(limit=100_000))
    began = time.process_time()
    read: list[Trace] = [
        storage.trace(summary.base_id) for summary in summaries
    ]
    reading = time.process_time() - began
    traces = [
        Settled(trace, summary, {span.trace_id for span in trace.spans})
        for trace, summary in zip(read, summaries, strict=True)
    ]
    send = KINDS[task.kind](task, traces)
    send()  # connects, and fills whatever is remembered
    # What was made before is no work of what is measured.
    gc.collect()
    gc.freeze()
    wanted = sum(len(trace.spans) for trace in read)
    sending = []
    for _ in range(ROUNDS):
        began = time.process_time()
        sent = send()
        sending.append(time.process_time() - began)
        if sent != wanted:
            raise RuntimeError(f"{task}: {sent} spans of {wanted} were sent")
    return Taken(wanted, reading, min(sending))


if __name__ == "__main__":
    print(json.dumps(asdict(run(Task(**json.loads(sys.argv[1]))))))
