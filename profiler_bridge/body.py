# SPDX-License-Identifier: Apache-2.0

"""The body of a bus message: decompressed, decoded, its values plain."""

from __future__ import annotations

import base64
import bz2
import datetime
import json
import lzma
import uuid
import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from profiler_bridge import exceptions
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import plain

#: What a compressed body may become, in bytes: what RabbitMQ 4 takes of others
#: by default. As Python objects it can be thirty times that.
LARGEST = 16 << 20
# How bodies begin that kombu compressed (kombu/compression.py; its gzip is
# zlib), which no JSON does.
_DECOMPRESSORS: Mapping[bytes, Callable[[], Any]] = {
    b"x": zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
}

# kombu's JSON writes a value of such a type as an object of these two keys
# (kombu/utils/json.py), and oslo.messaging on RabbitMQ sends with it.
_TYPED = {"__type__", "__value__"}


def decode_body(body: bytes) -> object:
    """Read the body of a bus message, which may be compressed.

    Values that the sender's JSON marks with a type become the text that
    :func:`~profiler_bridge.notification.plain` makes of them. What only looks
    as if it were marked stays as it came.

    :returns: the message, without oslo.messaging's envelope if it has one
    :raises InvalidNotification: it is no JSON
    """
    if body.startswith((*_DECOMPRESSORS,)):
        body = _decompress(body)
    message = _from_json(body)
    if isinstance(message, dict) and "oslo.message" in message:
        enveloped = message["oslo.message"]
        if isinstance(enveloped, str):
            return _from_json(enveloped)
    return message


def _decompress(body: bytes) -> bytes:
    decompressor = next(
        make()
        for begin, make in _DECOMPRESSORS.items()
        if body.startswith(begin)
    )
    try:
        decompressed: bytes = decompressor.decompress(body, LARGEST)
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        raise exceptions.InvalidNotification(
            Reason.NOT_JSON, "is neither JSON nor JSON that is compressed"
        ) from None
    if not decompressor.eof:
        raise exceptions.InvalidNotification(
            Reason.NOT_JSON,
            "is compressed, and not whole"
            if len(decompressed) < LARGEST
            else f"is compressed, and larger than {LARGEST >> 20} MiB",
        )
    return decompressed


def _from_json(text: str | bytes) -> object:
    # Most have no typed values, and a hook is called for every object.
    mark = "__type__" if isinstance(text, str) else b"__type__"
    hook = _untyped if mark in text else None  # type: ignore[operator]
    try:
        try:
            return json.loads(text, object_hook=hook)
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
                raise
            # Python reads no number of more than 4,300 digits.
            return json.loads(text, object_hook=hook, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise exceptions.InvalidNotification(
            Reason.NOT_JSON, f"is not JSON: {str(error)[:60]!a}"
        ) from None


def _number(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def _untyped(value: dict[str, Any]) -> object:
    """A value that kombu marked with its type, as text; others as they are."""
    if value.keys() != _TYPED:
        return value
    kind, marked = value["__type__"], value["__value__"]
    try:
        return plain(_TYPES[kind](marked))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a hostile value leads to
        return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


# By kombu's names of them.
_TYPES: Mapping[object, Callable[[Any], object]] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": lambda text: datetime.datetime.fromisoformat(text).date(),
    "time": datetime.time.fromisoformat,
    "decimal": lambda text: Decimal(_text(text)),
    "uuid": lambda fields: uuid.UUID(hex=fields["hex"]),
    "bytes": _text,
    "base64": lambda text: base64.b64decode(text, validate=True),
}
