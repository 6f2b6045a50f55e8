# SPDX-License-Identifier: Apache-2.0

"""What spans did."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.notification import Notification
from profiler_bridge.operation import LONGEST, kind, operation
from tests import recorded
from tests.recorded import OPERATIONS
from tests.unit.test_trace import child


def start(info: dict[str, Any], name: str = "point") -> Notification:
    return Notification.from_payload(child(1, name=name, info=info)[0])


def function(name: object, **arguments: object) -> dict[str, Any]:
    return {"function": {"name": name, **arguments}}


# Of the recorded traces, those for which the rules are not plain to see.
PROXY = (
    "(<nova.network.neutron.ClientWrapper object at 0x7f3b543e1490>, <bound"
    " method Client.list_ports of <neutronclient.v2_0.client.Client object"
)
WRAPPED = (
    "oslo_messaging.rpc.server.expected_exceptions"
    ".<locals>.outer.<locals>.inner"
)
OBJECT = "nova.conductor.manager.ConductorManager.object_action"
OBJECT_CLASS = OBJECT.replace("_action", "_class_action_versions")

OPERATIONS_OF: list[tuple[dict[str, Any], str]] = [
    ({}, "point"),
    (
        {"request": {"method": "GET", "path": "/v2/images/cirros"}},
        "GET /v2/images/{id}",
    ),
    ({"request": {"method": "POST", "path": ""}}, "POST"),
    ({"request": {"path": "/v3/"}}, "/v3"),
    ({"request": {}}, "point"),
    (
        {
            "requests": {
                "method": "GET",
                "path": "/v2.0/ports/7",
                "hostname": "10.0.0.1",
                "port": 9696,
            }
        },
        "http GET /v2.0/ports/{id}",
    ),
    ({"requests": {"hostname": "10.0.0.1"}}, "point"),
    ({"db": {"statement": "SELECT a\nFROM b"}}, "SELECT b"),
    ({"db": {"statement": " "}}, "point"),
    (function("nova.compute.api.API.create"), "compute.API.create"),
    (function("keystone.identity.core.Manager.get"), "identity.Manager.get"),
    (
        function("neutronclient.v2_0.client.Client.list_ports"),
        "neutronclient.Client.list_ports",
    ),
    (function("api.API.get"), "API.get"),
    (function("API.get"), "API.get"),
    (
        function("nova.compute.manager.ComputeManager.build_and_run_instance"),
        "ComputeManager.build_and_run_instance",
    ),
    (function("main"), "main"),
    (
        function("nova.network.neutron.ClientWrapper.proxy", args=PROXY),
        "neutron.Client.list_ports",
    ),
    (
        function("nova.network.neutron.ClientWrapper.proxy"),
        "neutron.ClientWrapper.proxy",
    ),
    (
        function(
            WRAPPED,
            args="(<nova.scheduler.manager.SchedulerManager object at 0x7f>,",
        ),
        "SchedulerManager",
    ),
    (function(WRAPPED), "server.expected_exceptions"),
    (function("a.b.run.<locals>.build"), "run.build"),
    (
        function(
            OBJECT,
            kwargs="{'objinst': Service(id=1), 'objmethod': 'save', 'args': (",
        ),
        "Service.save",
    ),
    (
        function(
            OBJECT_CLASS,
            kwargs="{'objname': 'InstanceList', 'objmethod': 'get_by_host'",
        ),
        "InstanceList.get_by_host",
    ),
    (
        function(
            OBJECT.replace("_action", "_backport_versions"),
            kwargs="{'objinst': Flavor(id=1), 'object_versions': {'Flavor",
        ),
        "Flavor.object_backport_versions",
    ),
    (function(OBJECT), "ConductorManager.object_action"),
    (
        function(OBJECT, kwargs="{'objinst': <hidden>, 'objmethod': "),
        "ConductorManager.object_action",
    ),
]


@pytest.mark.parametrize(("info", "expected"), OPERATIONS_OF)
def test_operation(info: dict[str, Any], expected: str) -> None:
    assert operation(start(info)) == expected


def test_operations_of_a_cloud() -> None:
    """Every operation of the recorded traces, and how often.

    tests/data/operations.txt is what people will read in tables. Where a rule
    changes, look at what that does to it.
    """
    counts: Counter[str] = Counter()
    for trace in recorded.traces(
        recorded.server_create() + recorded.keystone()
    ):
        for span in trace.spans:
            first = span.first
            counts[
                f"{kind(first)} {first.project}:{first.service}"
                f" {operation(first)}"
            ] += 1
    lines = [f"{count:4} {line}" for line, count in sorted(counts.items())]
    assert "\n".join(lines) == OPERATIONS.read_text().rstrip("\n")


SURPRISING = {
    # Here the method is wrapped once more, and has no name.
    "function nova:osapi_compute neutron.ClientWrapper.proxy": 1,
    # select_destinations, as only its caller knows.
    "rpc nova:nova-scheduler SchedulerManager": 1,
    # The heartbeats, apart from what the request did.
    "rpc nova:nova-conductor Service.save": 7,
    "rpc nova:nova-conductor Instance.save": 6,
    # A flavor and a network were asked for by their names.
    "wsgi nova:osapi_compute GET /v2.1/flavors/{id}": 1,
    "wsgi nova:osapi_compute GET /v2.1/flavors/detail": 1,
    "wsgi neutron:neutron-server GET /v2.0/networks/{id}": 7,
    # 32 hexadecimal digits.
    "wsgi neutron:neutron-server GET /v2.0/quotas/{id}": 1,
    "wsgi glance:api GET /v2/schemas/image": 1,
    # From subqueries, joined in parentheses, under aliases.
    "db nova:nova-conductor SELECT instances, instance_info_caches,"
    " security_group_instance_association, security_groups +2": 6,
    "db neutron:neutron-server SELECT ports, porthints": 14,
    "db keystone:public BEGIN": 98,
}


def test_surprising_operations_of_a_cloud() -> None:
    lines = OPERATIONS.read_text().splitlines()
    counts = {line[5:]: int(line[:5]) for line in lines}
    assert SURPRISING.items() <= counts.items()


@pytest.mark.parametrize(
    ("name", "info", "expected"),
    [
        ("point", {"request": {}}, "wsgi"),
        ("point", {"requests": {}}, "http"),
        ("point", {"db": {}}, "db"),
        ("neutron.db", {}, "db"),
        ("wsgi", {}, "wsgi"),
        ("https", {}, "http"),
        ("rpc", function("x"), "rpc"),
        ("db", function("x"), "db"),
        ("neutron_api", function("x"), "function"),
        ("neutron_api", {"function": "x", "request": 1}, "other"),
    ],
)
def test_kind(name: str, info: dict[str, Any], expected: str) -> None:
    assert kind(start(info, name)) == expected


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
fields = st.sampled_from(
    [
        *("method", "path", "statement", "name", "args", "kwargs"),
        *("hostname", "port", "query"),
    ]
)
names = st.sampled_from(
    [WRAPPED, OBJECT, OBJECT_CLASS, "a.ClientWrapper.proxy"]
)
infos = st.dictionaries(
    st.sampled_from(["request", "requests", "db", "function", "host"]),
    values | st.dictionaries(fields, names | values),
)


@given(infos, st.text(min_size=1))
def test_whatever_comes_is_named(info: dict[str, Any], name: str) -> None:
    first = start(info, name)
    named = operation(first)
    assert 0 < len(named) <= LONGEST
    assert named.isprintable()
    assert kind(first) in ("wsgi", "http", "db", "rpc", "function", "other")


@pytest.mark.parametrize(
    "info",
    [
        {"request": {"method": "x" * 10_000, "path": "/y" * 10_000}},
        {"db": {"statement": f"SELECT FROM {'x' * 10_000}, {'y,' * 9}"}},
        function("x." * 10_000 + "y" * 10_000),
        function("\x1b[2J\n\u202e\ud800" * 100),
    ],
)
def test_long_and_unprintable_operations_are_cut(info: dict[str, Any]) -> None:
    named = operation(start(info))
    assert len(named) <= LONGEST
    assert named.isprintable()
    named.encode()
