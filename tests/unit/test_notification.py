# SPDX-License-Identifier: Apache-2.0

"""Decoding and validating one payload."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profiler_bridge import exceptions
from profiler_bridge.exceptions import Reason
from profiler_bridge.notification import (
    START,
    STOP,
    Notification,
    format_timestamp,
    parse_timestamp,
)
from profiler_bridge.testing.helpers import as_text
from profiler_bridge.testing.sample import Payload, one_span, request, seeded

# Nothing here is about time, and machines are busy.

# Every character that JSON can bring, lone surrogates and NUL too.
texts = st.text(st.characters(codec=None, exclude_categories=()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
).map(lambda value: json.loads(json.dumps(value)))
start, stop = one_span()
# Valid, but for at most two fields with anything in them.
nearly_valid = st.builds(
    lambda payload, changes: payload | changes,
    st.sampled_from([start, stop]),
    st.dictionaries(
        st.sampled_from([*start, "info", "more"]), json_values, max_size=2
    ),
)


def decoded(**changes: Any) -> Notification:
    return Notification.from_payload(start | changes)


def refusal(payload: object) -> exceptions.InvalidNotification:
    with pytest.raises(exceptions.InvalidNotification) as caught:
        Notification.from_payload(payload)
    return caught.value


def without(field: str) -> Payload:
    return {key: value for key, value in start.items() if key != field}


@given(nearly_valid | json_values)
@example(start)
@example(stop | {"info": {"x": [math.nan, math.inf, 10**400, "\0\udc80"]}})
def test_valid_and_the_same_again_or_refused(payload: object) -> None:
    try:
        first = Notification.from_payload(payload)
    except exceptions.InvalidNotification:
        return
    again = Notification.from_text(first.text)
    assert as_text(again.payload) == as_text(payload)
    assert again.text == first.text
    assert again.digest() == first.digest()
    assert (again.timestamp, again.phase) == (first.timestamp, first.phase)


@given(nearly_valid | json_values)
def test_refusal_is_one_harmless_line(payload: object) -> None:
    message = "valid"
    try:
        Notification.from_payload(payload)
    except exceptions.InvalidNotification as error:
        message = str(error)
    assert message.isprintable()
    assert message.isascii()


@given(nearly_valid)
def test_text_is_ascii_on_one_line(payload: Payload) -> None:
    try:
        text = Notification.from_payload(payload).text
    except exceptions.InvalidNotification:
        return
    assert text.isascii()
    assert text.isprintable()


@given(nearly_valid)
def test_whatever_is_valid_can_be_described(payload: Payload) -> None:
    """Nothing in ``info`` is checked, so nothing is taken for granted."""
    try:
        notification = Notification.from_payload(payload)
    except exceptions.InvalidNotification:
        return
    assert isinstance(notification.describe(), str)
    assert isinstance(notification.host, str | None)
    assert isinstance(notification.exception, str | None)


@given(json_values)
def test_any_info_can_be_described(value: Any) -> None:
    for kind in ("request", "requests", "function", "db", "host", "etype"):
        notification = decoded(info={kind: value})
        assert isinstance(notification.describe(), str)
        notification = decoded(
            info={kind: {"method": value, "statement": value}}
        )
        assert isinstance(notification.describe(), str)


def test_fields() -> None:
    notification = Notification.from_payload(request(seeded(1))[0])
    assert notification.name == "wsgi"
    assert notification.phase == START
    assert notification.parent_id == notification.base_id
    assert notification.timestamp == parse_timestamp(
        "2026-02-03T04:05:06.000007"
    )
    assert (notification.project, notification.service, notification.host) == (
        "shop",
        "api",
        "node-1",
    )


def test_exception_of_a_stop() -> None:
    _, failed = one_span(error="DBDeadlock")
    assert Notification.from_payload(failed).exception == "DBDeadlock"
    assert Notification.from_payload(stop).exception is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("db-start", ("db", START)),
        ("db-stop", ("db", STOP)),
        ("neutron-api-start", ("neutron-api", START)),
        ("a-stop-start", ("a-stop", START)),
        ("--start", ("-", START)),
        (" -stop", (" ", STOP)),
    ],
)
def test_name_keeps_its_hyphens(name: str, parts: tuple[str, str]) -> None:
    notification = decoded(name=name)
    assert (notification.name, notification.phase) == parts


def test_what_is_optional() -> None:
    for field in ("project", "service"):
        assert getattr(decoded(**{field: None}), field) is None
        notification = Notification.from_payload(without(field))
        assert getattr(notification, field) is None
    assert Notification.from_payload(without("info")).info == {}


def test_unknown_fields_are_kept() -> None:
    assert "later" in Notification.from_text(decoded(later=1).text).payload


def test_order_of_fields_makes_no_difference() -> None:
    turned = dict(reversed(start.items()))
    assert Notification.from_payload(turned).text == decoded().text
    assert Notification.from_payload(turned).digest() == decoded().digest()


def test_any_difference_makes_another_digest() -> None:
    digests = {decoded(more=more).digest() for more in range(100)}
    assert len(digests) == 100
    assert all(-(2**63) <= digest < 2**63 for digest in digests)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (None, "null"),
        ([], "a list"),
        ("text", "a string"),
        (5, "a number"),
        (0.5, "a number"),
        (True, "a boolean"),
    ],
)
def test_payload_that_is_no_object(payload: object, kind: str) -> None:
    error = refusal(payload)
    assert str(error) == f"payload is {kind}, not an object"
    assert error.reason == Reason.NOT_AN_OBJECT


@pytest.mark.parametrize(
    "field", ["base_id", "trace_id", "parent_id", "name", "timestamp"]
)
def test_missing_field(field: str) -> None:
    error = refusal(without(field))
    assert str(error) == f"{field} is missing"
    assert error.reason == Reason.MISSING_FIELD


@pytest.mark.parametrize(
    "field",
    ["base_id", "trace_id", "parent_id", "name", "timestamp"],
)
@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "null"), (5, "a number"), ([], "a list"), ({}, "an object")],
)
def test_field_that_is_no_string(field: str, value: Any, kind: str) -> None:
    error = refusal(start | {field: value})
    assert str(error) == f"{field} is {kind}, not a string"
    assert error.reason == Reason.WRONG_TYPE


@pytest.mark.parametrize("field", ["project", "service"])
def test_optional_field_that_is_no_string(field: str) -> None:
    error = refusal(start | {field: 5})
    assert str(error) == f"{field} is a number, not a string"
    assert error.reason == Reason.WRONG_TYPE


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_info_that_is_no_object(value: object) -> None:
    error = refusal(start | {"info": value})
    assert str(error).startswith("info is ")
    assert str(error).endswith(", not an object")
    assert error.reason == Reason.WRONG_TYPE


@pytest.mark.parametrize("field", ["base_id", "trace_id", "parent_id"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        start["base_id"] + "0",
        start["base_id"] + "\n",
        " " + start["base_id"],
        "{" + start["base_id"] + "}",
        "g" * 32,
        "٣" * 32,
        "\0" * 36,
    ],
    ids=ascii,
)
def test_id_that_is_no_uuid(field: str, value: str) -> None:
    error = refusal(start | {field: value})
    assert str(error).startswith(f"{field} is not a UUID: ")
    assert error.reason == Reason.BAD_ID


@pytest.mark.parametrize(
    "base_id", [start["base_id"].replace("-", ""), start["base_id"].upper()]
)
def test_other_writings_of_a_uuid(base_id: str) -> None:
    assert decoded(base_id=base_id).base_id == base_id


@pytest.mark.parametrize(
    "name",
    [
        "",
        "db",
        "start",
        "-start",
        "-stop",
        "db-",
        "db-begin",
        "db-START",
        "db-start ",
        "db_start",
        "db-stop\n",
    ],
    ids=ascii,
)
def test_name_without_its_phase(name: str) -> None:
    error = refusal(start | {"name": name})
    assert str(error) == (f"name does not end in -start or -stop: {name!a}")
    assert error.reason == Reason.BAD_NAME


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "2026-02-03 04:05:06.000007",
        "2026-02-03T04:05:06",
        "2026-02-03T04:05:06.",
        "2026-02-03T04:05:06.0000007",
        "2026-02-03T04:05:06.000007Z",
        "2026-02-03T04:05:06.000007+01:00",
        "2026-02-30T04:05:06.000007",
        "2026-02-03T24:05:06.000007",
        "2026-02-03T04:05:60.000007",
        "0000-02-03T04:05:06.000007",
        "٢٠٢٦-02-03T04:05:06.000007",
        "1770091506.000007",
    ],
    ids=ascii,
)
def test_timestamp_that_is_none(timestamp: str) -> None:
    error = refusal(start | {"timestamp": timestamp})
    assert str(error) == (
        f"timestamp is not like 2026-01-31T23:59:59.123456: {timestamp!a}"
    )
    assert error.reason == Reason.BAD_TIMESTAMP


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [("7", 700_000), ("77", 770_000), ("0007", 700), ("000007", 7)],
)
def test_timestamp_with_fewer_digits(fraction: str, microseconds: int) -> None:
    """As strptime's ``%f`` takes them, which osprofiler reads with."""
    assert parse_timestamp(f"1970-01-01T00:00:00.{fraction}") == microseconds


@given(st.datetimes())
def test_timestamps_are_exact(moment: Any) -> None:
    text = moment.isoformat(timespec="microseconds")
    assert format_timestamp(parse_timestamp(text)) == text


@given(st.datetimes(), st.datetimes())
def test_timestamps_sort_as_their_text(one: Any, other: Any) -> None:
    first, second = (
        moment.isoformat(timespec="microseconds") for moment in (one, other)
    )
    assert (parse_timestamp(first) < parse_timestamp(second)) == (
        first < second
    )


def test_refusals_show_little_of_what_is_hostile() -> None:
    message = str(refusal(start | {"name": "\x1b[2J\n💥" * 1000}))
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 500


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("field", ["more", "info"])
def test_nested_too_deeply(field: str) -> None:
    error = refusal(start | {field: {"x": nested(100_000)}})
    assert error.reason == Reason.NOT_ENCODABLE
    assert len(str(error).splitlines()) == 1


def test_number_too_long_for_json() -> None:
    stored = Notification.from_payload(start | {"more": 10**5000})
    assert stored.payload["more"] == hex(10**5000)
    assert Notification.from_text(stored.text).payload == stored.payload


def deeper(levels: int, call: Callable[[], str]) -> str:
    """Call a function from so many levels deeper in the stack."""
    return deeper(levels - 1, call) if levels else call()


@pytest.mark.parametrize("levels", [0, 100, 300])
def test_what_is_accepted_can_be_used_from_anywhere(levels: int) -> None:
    """A reader may be deeper in the stack than the writer was."""
    for depth in range(100, 1000, 10):
        try:
            notification = decoded(info={"request": {"method": nested(depth)}})
        except exceptions.InvalidNotification:
            break
        assert deeper(levels, functools.partial(read, notification.text))
        assert deeper(levels, notification.describe)


def read(text: str) -> str:
    return Notification.from_text(text).text


@pytest.mark.parametrize(
    "text", ["", "{", "nonsense", "\0", "[" * 100_000, "1" * 5000]
)
def test_text_that_is_no_json(text: str) -> None:
    with pytest.raises(exceptions.InvalidNotification) as caught:
        Notification.from_text(text)
    assert str(caught.value).startswith("is not JSON: ")
    assert len(str(caught.value).splitlines()) == 1


def test_text_that_is_no_notification() -> None:
    with pytest.raises(exceptions.InvalidNotification, match="not an object"):
        Notification.from_text("[]")


@pytest.mark.parametrize(
    ("info", "description"),
    [
        ({"request": {"method": "GET", "path": "/v3"}}, "GET /v3"),
        (
            {
                "requests": {
                    "method": "PUT",
                    "hostname": "images",
                    "path": "/v2/1",
                }
            },
            "PUT images/v2/1",
        ),
        ({"function": {"name": "app.build"}}, "app.build"),
        ({"db": {"statement": "SELECT 1 \nFROM  t"}}, "SELECT 1 FROM t"),
        ({"host": "node-1"}, ""),
        ({}, ""),
        ({"request": "text", "db": None}, ""),
        ({"function": {}}, ""),
        ({"request": {}}, ""),
        ({"requests": {}}, ""),
    ],
)
def test_describe(info: dict[str, Any], description: str) -> None:
    assert decoded(info=info).describe() == description
