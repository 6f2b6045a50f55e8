# SPDX-License-Identifier: Apache-2.0

"""What is not allowed is not stored, and what is stored can be read."""

from __future__ import annotations

from typing import Any

import pytest
from oslo_config import cfg

from profiler_bridge import masking
from profiler_bridge.allow_list import MASK, AllowList
from profiler_bridge.masking import Masker
from profiler_bridge.notification import Notification
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.testing.sample import notifications, request, seeded
from profiler_bridge.trace import Trace

INFO = {
    "host": "api-1",
    "db": {"statement": "SELECT 1", "params": {"name": "s3cret"}},
    "function": {"name": "f", "args": ("s3cret",), "deep": {"host": "x"}},
    "note": None,
}


def make(*names: str, secrets: bool = True) -> Masker:
    """The masker of a file with these names."""
    conf = cfg.ConfigOpts()
    conf.register_opts(masking.OPTS, masking.GROUP)
    conf.set_override("mask_all_but", list(names), masking.GROUP)
    conf.set_override("mask_secrets", secrets, masking.GROUP)
    masker = Masker.from_conf(conf)
    assert masker
    return masker


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["host"], {"host": "api-1", "db": MASK, "function": MASK}),
        (
            ["db.statement", "function.name"],
            {
                "host": MASK,
                "db": {"statement": "SELECT 1", "params": MASK},
                "function": {"name": "f", "args": MASK, "deep": MASK},
            },
        ),
        # A name leads to all that is below it, and from the top alone.
        (["db"], {"host": MASK, "db": INFO["db"], "function": MASK}),
        (["db", "db.statement"], {"host": MASK, "db": INFO["db"]}),
        (["db.statement", "db"], {"host": MASK, "db": INFO["db"]}),
        # What is no object has nothing below it.
        (["host.x", "", "nobody"], {"host": MASK, "db": MASK}),
    ],
)
def test_nothing_but_what_is_allowed(
    names: list[str], kept: dict[str, Any]
) -> None:
    given = AllowList(names).keep(INFO)
    assert {**given, **kept} == given
    assert [*given] == [*INFO]
    assert given["note"] == MASK


def test_what_identifies_a_notification_stays() -> None:
    [payload, *_] = request(seeded(1))
    decoded = make("nothing").decode(payload)
    whole = Notification.from_payload(payload)
    assert {**decoded.payload, "info": None} == {
        **whole.payload,
        "info": None,
    }
    assert {*decoded.info.values()} == {MASK}


def test_a_notification_without_info_stays_as_it_is() -> None:
    [payload, *_] = request(seeded(1))
    del payload["info"]
    assert make("host").decode(payload) == Notification.from_payload(payload)


@pytest.mark.parametrize(("secrets", "left"), [(True, MASK), (False, "s")])
def test_secrets_in_what_is_allowed(secrets: bool, left: str) -> None:
    [payload, *_] = request(seeded(1))
    info = {"host": "h", "function": {"kwargs": {"password": "s"}, "x": "y"}}
    decoded = make("function.kwargs", secrets=secrets).decode(
        {**payload, "info": info}
    )
    assert decoded.info == {
        "host": MASK,
        "function": {"kwargs": {"password": left}, "x": MASK},
    }


@pytest.mark.parametrize("names", [["nothing"], ["host", "request.method"]])
def test_every_report_can_be_made_of_what_is_left(names: list[str]) -> None:
    payloads = request(seeded(1), error="ValueError")
    masker = make(*names)
    base_id = payloads[0]["base_id"]
    trace = Trace.build(base_id, [masker.decode(one) for one in payloads])
    whole = Trace.build(base_id, notifications(payloads))
    assert [
        (depth, span.name, span.duration, span.exception is None)
        for depth, span in trace.walk()
    ] == [
        (depth, span.name, span.duration, span.exception is None)
        for depth, span in whole.walk()
    ]
    for render in FORMATS.values():
        text = "".join(render(trace))
        assert "/v1/servers" in "".join(render(whole))
        assert "/v1/servers" not in text
