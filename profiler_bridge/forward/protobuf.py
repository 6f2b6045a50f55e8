# SPDX-License-Identifier: Apache-2.0

"""OTLP in protobuf: what is sent is written here, and answers are read.

The messages are those of https://github.com/open-telemetry/opentelemetry-proto
(trace/v1/trace.proto, collector/trace/v1/trace_service.proto), encoded as in
https://protobuf.dev/programming-guides/encoding/. To make objects of the
official classes first takes several times as long as to write these few
fields; tests hold the one against the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from profiler_bridge.report.otlp import ERROR, EXCEPTION, SCOPE, Exported

CONTENT_TYPE = "application/x-protobuf"

# A field's tag is its number, and how its value is written: as a varint (0),
# in 64 bits (1), or after its length (2). All below fit into one byte.
_SPANS_OF_RESOURCE = b"\x0a"  # ExportTraceServiceRequest.resource_spans
_RESOURCE = b"\x0a"  # ResourceSpans.resource
_SPANS_OF_SCOPE = b"\x12"  # ResourceSpans.scope_spans
_SCOPE = b"\x0a"  # ScopeSpans.scope
_SPAN = b"\x12"  # ScopeSpans.spans
_ATTRIBUTE_OF_RESOURCE = b"\x0a"
_NAME_OF_SCOPE = b"\x0a"
_ATTRIBUTE = b"\x4a"  # Span.attributes
_EVENT = b"\x5a"  # Span.events
_STATUS = b"\x7a"  # Span.status
_ATTRIBUTE_OF_EVENT = b"\x1a"
# Those of a span that each has, in their order: trace_id, span_id, kind,
# start_time_unix_nano, end_time_unix_nano.
_span_fields = struct.Struct("<2s16s2s8ssBsQsQ").pack
_time_of_event = struct.Struct("<sQ").pack

# Most lengths are less, and looking one up is faster than working it out.
_SHORT = 1024
_KEYS_KEPT = 10_000
_LONGEST_KEY_KEPT = 100


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


_LENGTHS = [_varint(length) for length in range(_SHORT)]


def _length(value: bytes) -> bytes:
    length = len(value)
    return _LENGTHS[length] if length < _SHORT else _varint(length)


def _field(tag: bytes, value: bytes) -> bytes:
    return b"%b%b%b" % (tag, _length(value), value)


class _Keys(dict[str, bytes]):
    """Keys of attributes, each with the tag of the value that follows it."""

    def __missing__(self, key: str) -> bytes:
        written = _field(b"\x0a", key.encode()) + b"\x12"
        # They are few and short, unless somebody makes up others.
        if len(key) <= _LONGEST_KEY_KEPT:
            if len(self) >= _KEYS_KEPT:
                self.clear()
            self[key] = written
        return written


_keys = _Keys()


def _attributes(
    tag: bytes, values: Mapping[str, str | int | bool]
) -> list[bytes]:
    """Attributes, in parts that are to be joined."""
    parts: list[bytes] = []
    for key, value in values.items():
        its_key = _keys[key]
        if isinstance(value, str):
            text = value.encode()
            length = len(text)
            if len(its_key) + length < _SHORT - 4:
                # Most are. The text's length decides on those of what it is
                # in: one byte up to 127, two above.
                inner = length + (2 if length < 0x80 else 3)
                outer = len(its_key) + inner + (1 if inner < 0x80 else 2)
                parts += (
                    tag,
                    _LENGTHS[outer],
                    its_key,
                    _LENGTHS[inner],
                    b"\x0a",
                    _LENGTHS[length],
                    text,
                )
                continue
            written = b"\x0a%b%b" % (_length(text), text)
        elif isinstance(value, bool):
            written = b"\x10\x01" if value else b"\x10\x00"
        else:
            # Negative ones as two's complement in 64 bits.
            written = b"\x18" + _varint(value & 2**64 - 1)
        pair = b"%b%b%b" % (its_key, _length(written), written)
        parts.append(_field(tag, pair))
    return parts


def resource(attributes: Mapping[str, str]) -> bytes:
    """What stands before the spans of a resource, as :func:`request` reads."""
    parts = _attributes(_ATTRIBUTE_OF_RESOURCE, attributes)
    return _field(_RESOURCE, b"".join(parts))


def span(exported: Exported) -> bytes:
    """A span, as :func:`request` reads it."""
    parts = [
        _span_fields(
            b"\x0a\x10",
            bytes.fromhex(exported.trace_id),
            b"\x12\x08",
            bytes.fromhex(exported.id),
            b"\x30",
            exported.kind,
            b"\x39",
            exported.start,
            b"\x41",
            exported.end,
        ),
        _field(b"\x2a", exported.name.encode()),
    ]
    if exported.parent_id is not None:
        parts.append(b"\x22\x08" + bytes.fromhex(exported.parent_id))
    parts += _attributes(_ATTRIBUTE, exported.attributes)
    error = exported.error
    if error is not None:
        event = [
            _time_of_event(b"\x09", error.at),
            _field(b"\x12", EXCEPTION.encode()),
            *_attributes(_ATTRIBUTE_OF_EVENT, error.attributes),
        ]
        status = _field(b"\x12", error.status.encode())
        parts.append(_field(_EVENT, b"".join(event)))
        parts.append(_field(_STATUS, status + b"\x18" + bytes((ERROR,))))
    return _field(_SPAN, b"".join(parts))


_SCOPE_FIELD = _field(_SCOPE, _field(_NAME_OF_SCOPE, SCOPE.encode()))


def request(groups: Mapping[bytes, Sequence[bytes]]) -> bytes:
    """An ExportTraceServiceRequest.

    :param groups: by their :func:`resource`, what :func:`span` gave
    """
    return b"".join(
        _field(
            _SPANS_OF_RESOURCE,
            its_resource
            + _field(_SPANS_OF_SCOPE, b"".join([_SCOPE_FIELD, *members])),
        )
        for its_resource, members in groups.items()
    )


def rejected(body: bytes) -> tuple[int, str]:
    """How many spans an ExportTraceServiceResponse rejects, and why.

    :returns: 0 and an empty text where all is well
    :raises ValueError: it is no such message
    """
    spans, why = 0, ""
    for number, value in _fields(body):
        if number == 1 and isinstance(value, bytes):  # partial_success
            for inner, its_value in _fields(value):
                if inner == 1 and isinstance(its_value, int):
                    spans = its_value if its_value < 2**63 else 0
                elif inner == 2 and isinstance(its_value, bytes):
                    why = its_value.decode()
    return spans, why


def refusal(body: bytes) -> str:
    """What a google.rpc.Status, which errors have, says; empty for nothing.

    :raises ValueError: it is no such message
    """
    text = ""
    for number, value in _fields(body):
        if number == 2 and isinstance(value, bytes):
            text = value.decode()
    return text


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values; of a value in 32 or 64 bits the bytes.

    :raises ValueError: it is no message
    """
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        match tag & 7:
            case 0:
                value, at = _read_varint(message, at)
                yield tag >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, at = _read_varint(message, at)
            case 5:
                length = 4
            case _:
                raise ValueError("is no protobuf")
        if length > len(message) - at:
            raise ValueError("ends too early")
        yield tag >> 3, message[at : at + length]
        at += length


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends.

    :raises ValueError: there is none
    """
    number = 0
    for place, byte in enumerate(message[at : at + 10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & 2**64 - 1, at + place + 1
    raise ValueError("ends too early, or is no protobuf")
