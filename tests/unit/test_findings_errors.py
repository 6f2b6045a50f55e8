# SPDX-License-Identifier: Apache-2.0

"""What a trace says of errors: what they brought down, and who went on."""

from __future__ import annotations

from profiler_bridge.report.findings import Rule, findings
from tests.examples import STARTED, Example, call
from tests.unit.test_findings_repeated import (
    API,
    COMPUTE,
    NEUTRON,
    Served,
    of,
    request,
)
from tests.unit.test_trace import uid


def titles(made: Example) -> list[tuple[str, str]]:
    return [
        (finding.rule.value, finding.title)
        for finding in findings(made.trace())
    ]


def failing(handled: bool = True) -> Example:
    """A scheduler finds no host; its caller may go on."""
    made = Example(3, STARTED)
    error = None if handled else "NoValidHost"
    top = made.span(API, "wsgi", 0, 100, request("/v2.1/servers", "POST"))
    build = made.span(
        *(COMPUTE, "rpc", 10, 90, call("a.Conductor.build"), top), error
    )
    select = made.span(
        *(NEUTRON, "rpc", 20, 80, call("a.Scheduler.select"), build),
        "NoValidHost",
    )
    made.span(
        *(NEUTRON, "f", 30, 40, call("a.Filter.hosts"), select), "NoValidHost"
    )
    return made


def test_an_error_goes_up_until_it_is_handled() -> None:
    assert titles(failing()) == [
        (
            "handled-error",
            "NoValidHost in Filter.hosts (No valid host was found.) brought"
            " down Scheduler.select, handled by Conductor.build",
        )
    ]


def test_the_evidence_leads_from_the_error_upwards() -> None:
    made = failing(handled=False)
    made.payloads[1]["info"] |= {"etype": "NoValidHost"}
    [finding] = findings(made.trace())
    assert finding.rule is Rule.ERROR
    assert finding.title == (
        "the first error: NoValidHost in Filter.hosts (No valid host was"
        " found.) brought down Scheduler.select, then Conductor.build, then"
        " POST /v2.1/servers"
    )
    ids = [payload["trace_id"] for payload in made.payloads[::2]]
    assert finding.spans == tuple(reversed(ids))
    # What is above counts with all that is below it, once.
    assert finding.critical == finding.total == 100_000


def test_nobody_waits_for_what_a_cast_started() -> None:
    made = failing(handled=False)
    made.payloads[1]["timestamp"] = made.payloads[2]["timestamp"]
    [finding] = of(made, Rule.ERROR)
    assert finding.title.endswith("then Conductor.build; nobody waited for it")


def test_a_cast_does_not_fail_with_who_sent_it() -> None:
    made = Example(3, STARTED)
    top = made.span(API, "wsgi", 0, 100, request("/v2.1/x"), error="Gone")
    made.span(COMPUTE, "rpc", 90, 300, call("a.Manager.f"), top, "Timeout")
    first, second = (title for _, title in sorted(titles(made))[::-1])
    assert first.startswith("the first error: Gone in GET /v2.1/x (")
    assert second.startswith("Timeout in a.Manager.f (")
    assert second.endswith("; nobody waited for it")


def test_of_what_fails_at_once_the_error_is_below() -> None:
    made = failing()
    for payload in made.payloads[-3::2]:
        payload["timestamp"] = made.payloads[-3]["timestamp"]
    [(_, title)] = titles(made)
    assert title.startswith("NoValidHost in Filter.hosts")


def test_who_has_no_end_handled_nothing() -> None:
    made = failing()
    del made.payloads[3]
    [finding] = of(made, Rule.ERROR)
    assert finding.title.endswith("; Conductor.build above has no end")


def test_the_first_of_several_errors() -> None:
    """A second attempt fails in another way, and so does the caller."""
    made = Example(3, STARTED)
    top = made.span(
        API, "wsgi", 0, 100, request("/v2.1/servers"), error="Gone"
    )
    for start, error in ((10, "Refused"), (40, "Timeout")):
        made.span(
            *(API, "f", start, start + 20, call("a.Client.ask"), top), error
        )
    made.span(API, "wsgi", 200, 300, request("/v2.1/flavors"), error="Gone")
    [first, second] = sorted(
        of(made, Rule.ERROR), key=lambda finding: finding.title, reverse=True
    )
    assert first.title.startswith("the first error: Refused in")
    assert first.title.endswith("brought down GET /v2.1/servers")
    assert second.title.startswith("Gone in GET /v2.1/flavors")


def client(*requests: tuple[str, str, bool]) -> Example:
    """What a client asks for one after the other.

    :param requests: method, path, and whether Nova finds no such server; it
        answers 404 then, of which a span says nothing
    """
    made = Example(5, STARTED)
    for number, (method, path, is_missing) in enumerate(requests):
        start = 50 * number
        top = made.span(
            *(API, "wsgi", start, start + 40), request(path, method)
        )
        made.span(
            *(API, "compute_api", start + 10, start + 20),
            call("nova.compute.api.API.get"),
            top,
            "InstanceNotFound" if is_missing else None,
        )
    return made


SERVER = f"/v2.1/servers/{uid(77)}"


def handled(made: Example) -> list[str]:
    assert of(made, Rule.ERROR) == []
    return [
        finding.title.partition(", handled by ")[2]
        for finding in of(made, Rule.HANDLED_ERROR)
    ]


def test_a_look_up_by_name_goes_on() -> None:
    made = client(
        ("GET", "/v2.1/servers/web", True),
        ("GET", "/v2.1/servers", False),
        ("GET", SERVER, False),
    )
    assert handled(made) == [
        "GET /v2.1/servers/{id}; the client went on with GET /v2.1/servers"
    ]


def test_a_poll_ends_a_delete() -> None:
    """Whatever the client does then."""
    asked = (
        ("GET", "/v2.1/servers/web", True),
        ("GET", SERVER, False),
        ("DELETE", SERVER, False),
        ("GET", SERVER, False),
        ("GET", SERVER, True),
    )
    for more in ((), (("GET", "/v2.1/flavors", False),)):
        ends = [
            title.partition("; ")[2]
            for title in handled(client(*asked, *more))
        ]
        assert sorted(ends) == [
            "it is gone, as the client's DELETE had asked for",
            "the client went on with GET /v2.1/servers/{id}",
        ]


def test_a_client_gives_up() -> None:
    made = client(("DELETE", "/v2.1/flavors", False), ("GET", SERVER, True))
    assert handled(made) == [
        "GET /v2.1/servers/{id}; the client asked for nothing more"
    ]


def test_errors_that_are_alike_are_one_finding() -> None:
    made = Served()
    for start in (10, 30, 50):
        made.span(
            *(API, "f", start, start + 9), call("a.C.f"), made.top, "Timeout"
        )
    [finding] = of(made, Rule.HANDLED_ERROR)
    assert len(finding.spans) == 3
    assert finding.title.startswith("3 times Timeout in C.f (")
