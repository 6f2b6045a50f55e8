# SPDX-License-Identifier: Apache-2.0

"""What is forwarded, held to the official protobuf classes."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from profiler_bridge.forward import batches, json, protobuf
from profiler_bridge.report.otlp import Error, Exported
from profiler_bridge.trace import Trace
from tests import otlp_server, recorded
from tests.otlp_server import spans_of
from tests.report_cases import CASES, cases, render, uuid

ENCODINGS: list[batches.Encoding] = [protobuf, json]
both = pytest.mark.parametrize("encoding", ENCODINGS, ids=["protobuf", "json"])


def decode(
    encoding: batches.Encoding, body: bytes
) -> ExportTraceServiceRequest:
    if encoding is json:
        return otlp_server.from_json(body)
    return ExportTraceServiceRequest.FromString(body)


def everything(trace: Trace) -> set[str]:
    return {span.trace_id for span in trace.spans}


def sent(
    encoding: batches.Encoding, *traces: Trace
) -> list[ExportTraceServiceRequest]:
    made = batches.batches(
        encoding, [(trace, everything(trace)) for trace in traces]
    )
    return [decode(encoding, batch.encode(encoding)) for batch in made]


@cases
def test_it_is_what_show_prints(trace: Trace) -> None:
    printed = otlp_server.from_json(render("otlp", trace))
    for encoding in ENCODINGS:
        made = sent(encoding, trace)
        assert made == ([printed] if trace.spans else [])


@both
def test_recorded_traces_are_what_show_prints(
    encoding: batches.Encoding,
) -> None:
    traces = recorded.traces(recorded.server_create())
    traces += recorded.traces(recorded.keystone())
    wanted: dict[bytes, tuple[bytes, Span]] = {}
    for trace in traces:
        wanted |= spans_of(otlp_server.from_json(render("otlp", trace)))
    exported: dict[bytes, tuple[bytes, Span]] = {}
    for request in sent(encoding, *traces):
        exported |= spans_of(request)
    assert exported == wanted
    assert len(exported) == sum(len(trace.spans) for trace in traces)


@both
def test_some_spans_are_as_among_all(encoding: batches.Encoding) -> None:
    trace = CASES["rpc"]
    (whole,) = sent(encoding, trace)
    (batch,) = batches.batches(encoding, [(trace, {uuid(2), uuid(4)})])
    some = spans_of(decode(encoding, batch.encode(encoding)))
    assert len(some) == 2
    assert some.items() <= spans_of(whole).items()
    assert [*batches.batches(encoding, [(trace, {uuid(99)})])] == []


@both
def test_small_traces_go_together(encoding: batches.Encoding) -> None:
    (request,) = sent(encoding, CASES["simple"], CASES["error"])
    resources = [
        group.resource.SerializeToString() for group in request.resource_spans
    ]
    count = sum(
        len(scope.spans)
        for group in request.resource_spans
        for scope in group.scope_spans
    )
    assert count == len(CASES["simple"].spans) + len(CASES["error"].spans)
    assert len({*resources}) == len(resources)


@both
def test_large_traces_are_split(
    encoding: batches.Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = recorded.traces(recorded.keystone())[0]
    monkeypatch.setattr(batches, "MOST_SPANS", 40)
    monkeypatch.setattr(batches, "MOST_BYTES", 20_000)
    made = [*batches.batches(encoding, [(trace, everything(trace))])]
    assert sum(batch.spans for batch in made) == len(trace.spans)
    for batch in made:
        assert batch.spans <= 40
        # Beside the spans there are a few bytes around them.
        assert len(batch.encode(encoding)) < 21_000
    # What is larger than that goes alone.
    monkeypatch.setattr(batches, "MOST_BYTES", 10)
    alone = [*batches.batches(encoding, [(CASES["rpc"], {uuid(1), uuid(2)})])]
    assert [batch.spans for batch in alone] == [1, 1]


@both
def test_a_batch_has_halves(encoding: batches.Encoding) -> None:
    trace = recorded.traces(recorded.keystone())[0]
    (batch,) = batches.batches(encoding, [(trace, everything(trace))])
    exported: dict[bytes, tuple[bytes, Span]] = {}
    for half in batch.halves():
        exported |= spans_of(decode(encoding, half.encode(encoding)))
        assert abs(half.spans - batch.spans / 2) < 1
    assert exported == spans_of(decode(encoding, batch.encode(encoding)))


texts = st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
) | st.integers(0, 3).map(lambda power: "x" * (125 + 8 * power**5))
integers = st.integers(-(2**63), 2**63 - 1)
nanoseconds = st.integers(0, 2**63 - 1)
exported = st.builds(
    Exported,
    trace_id=st.integers(1, 2**128 - 1).map("{:032x}".format),
    id=st.integers(1, 2**64 - 1).map("{:016x}".format),
    parent_id=st.none() | st.integers(1, 2**64 - 1).map("{:016x}".format),
    name=texts,
    kind=st.integers(1, 3),
    start=nanoseconds,
    end=nanoseconds,
    attributes=st.dictionaries(texts, texts | integers | st.booleans()),
    error=st.none() | st.builds(Error, nanoseconds, texts, texts),
)


@given(exported, st.dictionaries(texts, texts))
@example(
    Exported("1".zfill(32), "1".zfill(16), None, "", 1, 0, 0, {"": ""}, None),
    {},
)
def test_both_encodings_say_the_same(
    span: Exported, resource: dict[str, str]
) -> None:
    one, other = (
        decode(
            encoding,
            encoding.request(
                {encoding.resource(resource): [encoding.span(span)] * 2}
            ),
        )
        for encoding in ENCODINGS
    )
    assert one == other
    ((spans,),) = [group.scope_spans for group in one.resource_spans]
    assert isinstance(spans.spans[1], Span)
    assert spans.spans[1].name == span.name


def test_long_keys_are_not_kept() -> None:
    before = len(protobuf._keys)
    text = "x" * 2000
    span = Exported("01" * 16, "01" * 8, None, "", 1, 0, 0, {text: "v"}, None)
    protobuf.span(span)
    assert len(protobuf._keys) == before


@given(st.integers(0, 2**63 - 1), texts)
def test_answers_are_read(rejected: int, why: str) -> None:
    for kind, encoding in zip(
        (otlp_server.PROTOBUF, otlp_server.JSON), ENCODINGS, strict=True
    ):
        reply = otlp_server.partial(rejected, why, kind)
        assert encoding.rejected(reply.body) == (rejected, why)


@both
def test_answers_without_rejected_spans(encoding: batches.Encoding) -> None:
    assert encoding.rejected(b"") == (0, "")
    assert encoding.refusal(b"") == ""
    assert json.rejected(b'{"partialSuccess": {"rejectedSpans": 3}}')[0] == 3


@given(st.binary(max_size=40))
@example(b'{"partialSuccess": {"rejectedSpans": "x"}}')
@example(b'{"partialSuccess": 1}')
@example(b'{"partialSuccess": {"rejectedSpans": []}}')
@example(b"[" * 100_000)
@example(b"[]")
def test_garbage_is_not_taken_for_an_answer(body: bytes) -> None:
    for encoding in ENCODINGS:
        for read in (encoding.rejected, encoding.refusal):
            with contextlib.suppress(ValueError):
                read(body)


@given(st.binary(max_size=40))
def test_what_is_read_of_answers_is_what_others_read(body: bytes) -> None:
    try:
        official = ExportTraceServiceResponse.FromString(body)
    except DecodeError:
        return
    assert isinstance(official.partial_success, ExportTracePartialSuccess)
    try:
        spans, why = protobuf.rejected(body)
    except ValueError:
        return  # groups, which nobody writes any more
    assert why == official.partial_success.error_message
    assert spans == max(official.partial_success.rejected_spans, 0)
