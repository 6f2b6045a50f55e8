# SPDX-License-Identifier: Apache-2.0

"""Points as osprofiler gives them: encoded."""

from __future__ import annotations

import json.encoder
from collections.abc import Callable
from typing import Any

from kombu.utils.json import JSONEncoder

from profiler_bridge.notification import MAX_DEPTH, check_depth

Point = dict[str, Any]

# What is shorter is not nested so deep that it would hurt anybody.
_SHORT = 3 * MAX_DEPTH

_SAMPLE: Point = {"a": ["\u2603", None, {"b": 2.5}], "c": 1}


def _fastest(encoder: JSONEncoder) -> Callable[[Point], str]:
    """The encoder's ``encode``, without most of what it does in Python.

    Those take a fifth of the time. What it calls in C is not documented, so
    where that is not as expected it is ``encode`` itself.
    """
    options = (
        encoder.default,
        json.encoder.encode_basestring_ascii,
        None,  # no indentation
        encoder.key_separator,
        encoder.item_separator,
        encoder.sort_keys,
        encoder.skipkeys,
        encoder.allow_nan,
    )

    def encode_in_c(point: Point) -> str:
        # The first is what it is within of, by which it sees a cycle.
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
        return "".join(make({}, *options)(point, 0))

    try:
        as_expected = encode_in_c(_SAMPLE) == encoder.encode(_SAMPLE)
    except Exception:  # noqa: BLE001 - whatever another one raises
        as_expected = False
    return encode_in_c if as_expected else encoder.encode


# As the bus library encodes a message on RabbitMQ.
_encode = _fastest(JSONEncoder())


def encode(point: Point) -> str:
    """The JSON of a point, in ASCII.

    It is also the copy that is needed: osprofiler's decorators use the same
    dictionaries for the next call. To copy, and measure, and encode later
    would cost more of everything but time in the request.

    :raises Exception: there is none; it is nested too deep; or any value's own
    """
    text = _encode(point)
    if (
        len(text) > _SHORT
        and text.count("{") + text.count("[") > MAX_DEPTH  # it may be deep
    ):
        check_depth(json.loads(text), text)
    return text
