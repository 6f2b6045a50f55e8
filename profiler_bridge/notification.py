# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""One message of osprofiler: the start or the stop of a trace point."""

from __future__ import annotations

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

#: What a payload of many points has: {FORMAT: VERSION, "points": [...]}.
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

# The json module, and whatever else is recursive, ends at some 1000 levels of
# the whole stack.
MAX_DEPTH = 250

# ASCII alone reaches a storage: no character set on the way can lose an
# emoji, a NUL or a lone surrogate. Sorted keys make equal payloads equal text.
_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


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
        """Decode what :attr:`text` gave.

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
        if text is None:
            try:
                text = _encode(payload)
            except (TypeError, ValueError, RecursionError) as error:
                raise exceptions.InvalidNotification(
                    Reason.NOT_ENCODABLE, f"cannot be encoded as JSON: {error}"
                ) from None
            _check_depth(payload, text)
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
        """What osprofiler tells of the operation; ``{}`` when nothing."""
        info: Mapping[str, Any] = self.payload.get("info", {})
        return info

    @property
    def project(self) -> str | None:
        return self.payload.get("project")

    @property
    def service(self) -> str | None:
        return self.payload.get("service")

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
        """What the operation did, in a few words; empty when nothing tells."""
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

        :returns: 64 bits as a signed integer; equal for a redelivery
        """
        return int.from_bytes(
            blake2b(self.text.encode("ascii"), digest_size=8).digest(),
            "big",
            signed=True,
        )


def points(payload: object) -> Sequence[object]:
    """The points of a payload: many, or the one that it is.

    :returns: not validated; empty for an empty payload of many
    """
    if isinstance(payload, dict) and payload.get(FORMAT) == VERSION:
        many = payload.get("points")
        if isinstance(many, list):
            return many
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
    """Undo :func:`parse_timestamp`: always with six digits, sortable."""
    moment = _EPOCH + datetime.timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds")


def _check_depth(payload: Mapping[str, Any], text: str) -> None:
    """Refuse what who reads it deeper in a stack could not decode."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    level: list[Any] = [payload]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise exceptions.InvalidNotification(
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
    """The JSON name of a value's type, as who wrote the message knows it."""
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
    """A hostile value, short and with everything unprintable escaped."""
    return ascii(value[:60])
