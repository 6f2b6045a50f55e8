# SPDX-License-Identifier: Apache-2.0

"""OTLP in JSON, as ``show -f otlp`` has it; and answers in it.

See https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from profiler_bridge.report.otlp import CLOSING, Exported, fields, opening
from profiler_bridge.report.spans import encode

CONTENT_TYPE = "application/json"


def resource(attributes: Mapping[str, str]) -> bytes:
    """What stands before the spans of a resource."""
    return opening(attributes).encode()


def span(exported: Exported) -> bytes:
    """A span, as :func:`request` reads it."""
    return encode(fields(exported)).encode()


def request(groups: Mapping[bytes, Sequence[bytes]]) -> bytes:
    """An ExportTraceServiceRequest.

    :param groups: by their :func:`resource`, what :func:`span` gave
    """
    return b'{"resourceSpans":[%b]}' % b",".join(
        b"%b%b%b" % (its_resource, b",".join(members), CLOSING.encode())
        for its_resource, members in groups.items()
    )


def rejected(body: bytes) -> tuple[int, str]:
    """How many spans an ExportTraceServiceResponse rejects, and why.

    :returns: 0 and an empty text where all is well
    :raises ValueError: it is no such message
    """
    answer = _read(body).get("partialSuccess") or {}
    if not isinstance(answer, dict):
        raise ValueError("is no answer")
    # As int64 a text in JSON; some write a number.
    spans = answer.get("rejectedSpans") or 0
    if not isinstance(spans, str | int):
        raise ValueError("is no answer")
    return int(spans), str(answer.get("errorMessage") or "")


def refusal(body: bytes) -> str:
    """What a google.rpc.Status, which errors have, says; empty for nothing.

    :raises ValueError: it is no such message
    """
    return str(_read(body).get("message") or "")


def _read(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        answer = json.loads(body)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if not isinstance(answer, dict):
        raise ValueError("is no object")
    return answer
