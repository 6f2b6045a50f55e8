# SPDX-License-Identifier: Apache-2.0

"""One notification of osprofiler: the start or the stop of a trace point."""

from __future__ import annotations

import base64
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

from profiler_bridge import exceptions
from profiler_bridge.exceptions import Reason

START = "start"
STOP = "stop"

#: A payload of many points is {FORMAT: VERSION, "points": [...]}.
FORMAT = "profiler_bridge"
VERSION = 1

#: Whether a text is an id as osprofiler makes them: uuid.uuid4() as text,
#: with or without its dashes.
is_id = re.compile(
    "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
).fullmatch
# osprofiler's "%Y-%m-%dT%H:%M:%S.%f", always UTC.
_is_timestamp = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}"
).fullmatch

_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - the bus sends naive UTC

#: How many levels of objects and lists a payload may have. The json module
#: and all that is recursive fails at some 1000 levels of the whole stack.
MAX_DEPTH = 250

# ASCII alone reaches a storage: no character set on the way can lose an
# emoji, a NUL or a lone surrogate. Sorted keys make equal payloads equal text.
_to_json = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

#: Stands before bytes in base64 that are no UTF-8.
BASE64 = "base64:"


@dataclass(frozen=True, slots=True)
class Notification:
    """A valid notification.

    :param base_id: the trace it belongs to; a UUID, as the next two
    :param trace_id: the span it starts or stops
    :param parent_id: the span around it; ``base_id`` for a root
    :param name: the operation, without its ``-start`` or ``-stop``
    :param phase: :data:`START` or :data:`STOP`
    :param timestamp: microseconds since 1970-01-01 UTC
    :param payload: what osprofiler sent, as it sent it
    :param text: the payload as JSON in ASCII; equal for equal payloads
    """

    base_id: str
    trace_id: str
    parent_id: str
    name: str
    phase: str
    timestamp: int
    payload: Mapping[str, Any]
    text: str

    @classmethod
    def from_payload(cls, payload: object) -> Self:
        """Validate the payload of a bus message.

        :raises InvalidNotification: with the first thing that is wrong
        """
        return cls._checked(payload, None)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Decode the :attr:`text` of a notification.

        :raises InvalidNotification: the text is no JSON, or no notification
        """
        try:
            payload = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise exceptions.InvalidNotification(
                Reason.NOT_AN_OBJECT, f"is not JSON: {error}"
            ) from None
        return cls._checked(payload, text)

    @classmethod
    def _checked(cls, payload: object, text: str | None) -> Self:
        if not isinstance(payload, dict):
            raise exceptions.InvalidNotification(
                Reason.NOT_AN_OBJECT,
                f"payload is {_kind(payload)}, not an object",
            )
        if text is None:
            payload, text = _encode(payload)
        base_id = _field(payload, "base_id")
        trace_id = _field(payload, "trace_id")
        parent_id = _field(payload, "parent_id")
        if not (is_id(base_id) and is_id(trace_id) and is_id(parent_id)):
            field, value = next(
                (field, payload[field])
                for field in ("base_id", "trace_id", "parent_id")
                if not is_id(payload[field])
            )
            raise exceptions.InvalidNotification(
                Reason.BAD_ID, f"{field} is not a UUID: {_shown(value)}"
            )
        full_name = _field(payload, "name")
        name, _, phase = full_name.rpartition("-")
        if not name or phase not in (START, STOP):
            raise exceptions.InvalidNotification(
                Reason.BAD_NAME,
                f"name does not end in -start or -stop: {_shown(full_name)}",
            )
        timestamp = parse_timestamp(_field(payload, "timestamp"))
        for field in ("project", "service"):
            optional = payload.get(field)
            if optional is not None and not isinstance(optional, str):
                raise exceptions.InvalidNotification(
                    Reason.WRONG_TYPE,
                    f"{field} is {_kind(optional)}, not a string",
                )
        if not isinstance(payload.get("info", {}), dict):
            raise exceptions.InvalidNotification(
                Reason.WRONG_TYPE,
                f"info is {_kind(payload['info'])}, not an object",
            )
        return cls(
            base_id,
            trace_id,
            parent_id,
            name,
            phase,
            timestamp,
            payload,
            text,
        )

    @property
    def info(self) -> Mapping[str, Any]:
        """What osprofiler says of the operation; ``{}`` for nothing."""
        info: Mapping[str, Any] = self.payload.get("info", {})
        return info

    @property
    def project(self) -> str | None:
        return self.payload.get("project")

    @property
    def service(self) -> str | None:
        return self.payload.get("service")

    @property
    def qualified_service(self) -> str | None:
        """``project:service``, or what of it there is, if anything.

        Services of several projects are called ``api``.
        """
        project, service = self.project, self.service
        if project:
            return f"{project}:{service or ''}"
        return service or None

    @property
    def host(self) -> str | None:
        host = self.info.get("host")
        return host if isinstance(host, str) else None

    @property
    def exception(self) -> str | None:
        """The class of the exception that ended the operation, if one did."""
        etype = self.info.get("etype")
        return None if etype is None else str(etype)

    def describe(self) -> str:
        """What the operation did, in a few words; empty where unknown."""
        info = self.info
        request = info.get("request")
        if isinstance(request, dict):
            return (
                f"{_text(request, 'method')} {_text(request, 'path')}".strip()
            )
        outgoing = info.get("requests")
        if isinstance(outgoing, dict):
            return (
                f"{_text(outgoing, 'method')}"
                f" {_text(outgoing, 'hostname')}{_text(outgoing, 'path')}"
            ).strip()
        function = info.get("function")
        if isinstance(function, dict):
            return _text(function, "name")
        db = info.get("db")
        if isinstance(db, dict):
            return " ".join(_text(db, "statement").split())
        return ""

    def digest(self) -> int:
        """Identify this notification among those of its trace.

        :returns: 64 bits as a signed integer; the same for a redelivery
        """
        return int.from_bytes(
            blake2b(self.text.encode("ascii"), digest_size=8).digest(),
            "big",
            signed=True,
        )


def _encode(payload: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A payload and its JSON.

    :returns: the payload with plain values only; others come only from a bus
        within the process
    :raises InvalidNotification: it is nested too deep
    """
    try:
        try:
            text = _to_json(payload)
        except (TypeError, ValueError):
            payload = plain(payload)
            text = _to_json(payload)
    except (ValueError, RecursionError):
        raise _too_deep() from None
    check_depth(payload, text)
    return payload, text


def plain(value: Any) -> Any:
    """The value with what JSON lacks as text; itself if that is nothing.

    As osprofiler's own driver for Redis has it: a datetime as
    ``2026-01-02T03:04:05.000000``, a date as ``2026-01-02``, UTF-8 bytes as
    their text, a Decimal, a UUID and anything else as :func:`str` has it.
    Where that driver fails: a time in ISO 8601, other bytes in base64 after
    :data:`BASE64`, and an integer that :mod:`json` cannot write in
    hexadecimal. A datetime that has an offset from UTC keeps it.

    :raises RecursionError: it is nested too deep
    """
    if isinstance(value, int) and value.bit_length() > 14_000:
        return hex(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [*map(plain, value)]
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return BASE64 + base64.b64encode(value).decode()
    return str(value)


def points(payload: object) -> Sequence[object]:
    """The points in a payload, which is one itself or has a list of them.

    :returns: not validated; empty if the list is
    """
    if isinstance(payload, dict) and payload.get(FORMAT) == VERSION:
        its_points = payload.get("points")
        if isinstance(its_points, list):
            return its_points
    return [payload]


def parse_timestamp(value: str) -> int:
    """Turn osprofiler's timestamp into microseconds since 1970-01-01 UTC.

    :raises InvalidNotification: the text is no such timestamp
    """
    if _is_timestamp(value):
        # fromisoformat takes three or six digits of a fraction, %f any.
        try:
            since = datetime.datetime.fromisoformat(value.ljust(26, "0"))
        except ValueError:
            pass
        else:
            delta = since - _EPOCH
            return (
                delta.days * 86400 + delta.seconds
            ) * 1_000_000 + delta.microseconds
    raise exceptions.InvalidNotification(
        Reason.BAD_TIMESTAMP,
        f"timestamp is not like 2026-01-31T23:59:59.123456: {_shown(value)}",
    )


def format_timestamp(microseconds: int) -> str:
    """The text that :func:`parse_timestamp` reads.

    :returns: with six digits after the point always, so that texts sort as
        times do
    """
    moment = _EPOCH + datetime.timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds")


def check_depth(payload: Mapping[str, Any], text: str) -> None:
    """Refuse a payload that could not be decoded from deeper in a stack.

    :param text: its JSON
    :raises InvalidNotification: it has more than :data:`MAX_DEPTH` levels
    """
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    level: list[Any] = [payload]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> exceptions.InvalidNotification:
    return exceptions.InvalidNotification(
        Reason.NOT_ENCODABLE, f"is nested more than {MAX_DEPTH} levels deep"
    )


def _field(payload: Mapping[str, Any], field: str) -> str:
    try:
        value = payload[field]
    except KeyError:
        raise exceptions.InvalidNotification(
            Reason.MISSING_FIELD, f"{field} is missing"
        ) from None
    if not isinstance(value, str):
        raise exceptions.InvalidNotification(
            Reason.WRONG_TYPE, f"{field} is {_kind(value)}, not a string"
        )
    return value


def _text(info: Mapping[str, Any], key: str) -> str:
    return str(info.get(key) or "")


def _kind(value: object) -> str:
    """JSON's name of a value's type, which the message's author knows."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "a string"


def _shown(value: str) -> str:
    """Any value, cut and with everything unprintable escaped."""
    return ascii(value[:60])
