# SPDX-License-Identifier: Apache-2.0

"""Rules that choose traces."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.rules import parse
from profiler_bridge.summary import TraceSummary

SERVER = "0d8f2b3c-5c1f-4a56-9a3e-0f1de2c3b4a5"
OPERATIONS = ("SELECT instances", "compute.API.create", "research and develop")


def summary(
    *,
    duration: int = 1_000_000,
    errors: int = 0,
    unfinished: int = 0,
    base_id: str = SERVER,
) -> TraceSummary:
    return TraceSummary(
        base_id=base_id,
        started=0,
        finished=duration,
        name="POST /v2.1/servers",
        requests=1,
        answered=None,
        roots=("POST /v2.1/servers",),
        about=(SERVER,),
        spans=3,
        unfinished=unfinished,
        headless=0,
        missing_parents=0,
        errors=errors,
        services=("nova:nova-api", "neutron-server"),
        hosts=("control-1",),
        names=("wsgi", "db"),
    )


def never() -> Collection[str]:
    raise AssertionError("the notifications need not be read")


@pytest.mark.parametrize(
    "text",
    [
        "not error",
        "not incomplete",
        "slower than 999ms",
        "slower than 0.9s",
        "slower than 999999us",
        "not slower than 1s",
        "not slower than 1m",
        "service nova",
        "service nova-api",
        "service nova:nova-api",
        "service neutron-server",
        "project nova",
        "not project neutron-server",
        "host control-1",
        "not host control",
        "root POST /v2.1/servers",
        "root 'POST *'",
        'root "POST *"',
        "not root GET *",
        f"about {SERVER.upper()}",
        "sample 1/1",
        "error or slower than 10ms",
        "slower than 10ms and service nova",
        "error and service nova or slower than 10ms and not error",
        "  not\n error\n and service   nova ",
        "not error or operation x",
        "slower than 10ms and service nova or operation x and error",
    ],
)
def test_what_the_summary_decides(text: str) -> None:
    assert parse(text).matches(summary(), never)


@pytest.mark.parametrize(
    "text",
    [
        "error",
        "incomplete",
        "slower than 1s",
        "slower than 1h",
        "service compute",
        "project neutron-server",
        "host control",
        "root GET *",
        "about 00000000-0000-0000-0000-000000000000",
        "not sample 1/1",
        "error and not error or error",
        "slower than 10ms and error or incomplete",
        "error and operation *",
    ],
)
def test_what_the_summary_decides_against(text: str) -> None:
    assert not parse(text).matches(summary(), never)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("operation SELECT*", True),
        ("operation select*", False),
        ("not operation SELECT*", False),
        ("not operation DELETE*", True),
        ("operation 'research and develop'", True),
        ("operation SELECT* and operation *create", True),
        ("operation SELECT* and operation *delete", False),
        ("operation x or operation *.create and not error", True),
        ("operation x or operation *.create and error", False),
    ],
)
def test_what_the_operations_decide(text: str, matches: bool) -> None:
    asked = []

    def operations() -> Collection[str]:
        asked.append(1)
        return OPERATIONS

    rule = parse(text)
    assert rule.needs_operations
    assert rule.matches(summary(), operations) == matches
    assert len(asked) == 1


def test_rules_about_summaries_need_no_operations() -> None:
    assert not parse("error or slower than 1s").needs_operations
    assert parse("error or operation *").needs_operations


def test_errors_and_what_is_missing() -> None:
    assert parse("error").matches(summary(errors=1), never)
    assert parse("incomplete").matches(summary(unfinished=1), never)


def test_a_sample_has_its_share_and_is_part_of_a_larger_one() -> None:
    base_ids = [str(uuid.UUID(int=number)) for number in range(20_000)]
    tenth, twentieth = (
        {
            base_id
            for base_id in base_ids
            if parse(text).matches(summary(base_id=base_id), never)
        }
        for text in ("sample 1/10", "sample 1/20")
    )
    assert 1800 < len(tenth) < 2200
    assert 900 < len(twentieth) < 1100
    assert twentieth < tenth


def test_a_sample_is_the_same_ever_after() -> None:
    """On every host, of every release."""
    sampled = [
        number
        for number in range(100)
        if parse("sample 1/20").matches(
            summary(base_id=str(uuid.UUID(int=number))), never
        )
    ]
    assert sampled == [26, 52, 92]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there has to be a condition"),
        (" \n", "there has to be a condition"),
        ("error and", "a condition is missing in 'error and'"),
        ("or error", "a condition is missing in 'or error'"),
        ("not", "a condition is missing in 'not'"),
        ("errors", "'errors' is no condition; there are error, incomplete,"),
        ("error x", "'error x' is no condition"),
        ("not not error", "'not error' is no condition"),
        ("(error)", "'(error)' is no condition"),
        ("slower 2s", "'slower 2s' is no condition"),
        ("slower than", "slower than of what is missing"),
        ("slower than 2", "'2' is no duration like 250ms or 1.5s"),
        ("slower than -2s", "'-2s' is no duration like"),
        ("slower than 999999999h", "'999999999h' is out of range"),
        ("service", "service of what is missing"),
        ("about me", "'me' is no UUID"),
        ("sample 5%", "'5%' is no part of traces like 1/20"),
        ("sample 0/20", "'0/20' is no part of traces like 1/20"),
        ("sample 1/0", "'1/0' is no part of traces like 1/20"),
        ("sample 3/2", "'3/2' is no part of traces like 1/20"),
        ("root 'POST", "quotes are to stand around all of"),
        ("root ''", "quotes are to stand around all of"),
        ("root 'a' 'b'", "quotes are to stand around all of"),
        ("x" * 99, f"'{'x' * 57}...' is no condition"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}") as error:
        parse(text)
    assert str(error.value).isprintable()


def test_a_rule_says_what_it_is() -> None:
    assert str(parse(" error\n or  slower than 2s ")) == (
        "error or slower than 2s"
    )


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [
                "not",
                "and",
                "or",
                "error",
                "slower",
                "than",
                "2s",
                "root",
                "'",
                '"x"',
                "operation",
                "sample",
                "1/2",
            ]
        )
    ).map(" ".join)
)
def test_any_text_is_a_rule_or_told_what_is_wrong(text: str) -> None:
    rule = None
    with contextlib.suppress(ValueError):
        rule = parse(text)
    if rule is not None:
        assert rule.matches(summary(), lambda: OPERATIONS) in (True, False)
