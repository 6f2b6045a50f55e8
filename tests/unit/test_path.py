# SPDX-License-Identifier: Apache-2.0

"""Paths of OpenStack's APIs: what in them is variable, and what they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.path import (
    MOST_IDS,
    is_authentication,
    is_discovery,
    template,
    uuids,
)

UUID = "81a72687-c1e0-4013-b3a8-42c2210c790e"
HEX = "7cb51c2b663e43c0ac50057bda1b637f"

TEMPLATES = {
    "": "/",
    "/": "/",
    "//": "/",
    "/v3/": "/v3",
    "/v2.1/servers?all_tenants=1": "/v2.1/servers",
    f"/v2.1/servers/{UUID}": "/v2.1/servers/{id}",
    f"/v2.1/servers/{UUID.upper()}/action": "/v2.1/servers/{id}/action",
    f"/compute/v2.1/{HEX}/servers/detail": "/compute/v2.1/{id}/servers/detail",
    f"/v2.1/servers/{UUID}/os-instance-actions/req-{UUID}": (
        "/v2.1/servers/{id}/os-instance-actions/{id}"
    ),
    "/v2.1/os-aggregates/12/action": "/v2.1/os-aggregates/{id}/action",
    # Names, by what is before them.
    "/v2/images/cirros": "/v2/images/{id}",
    "/v2.1/flavors/tiny/os-extra_specs/hw:cpu_policy": (
        "/v2.1/flavors/{id}/os-extra_specs/{id}"
    ),
    "/v2.1/flavors/detail": "/v2.1/flavors/detail",
    f"/v2.1/servers/{UUID}/metadata/owner": "/v2.1/servers/{id}/metadata/{id}",
    f"/resource_providers/{UUID}/inventories/VCPU": (
        "/resource_providers/{id}/inventories/{id}"
    ),
    f"/v1/{HEX}/stacks/mine/{UUID}/resources/web/metadata": (
        "/v1/{id}/stacks/{id}/{id}/resources/{id}/metadata"
    ),
    "/v2.1/os-keypairs/detail": "/v2.1/os-keypairs/detail",
    "/v1/nodes/node-1/states/power": "/v1/nodes/{id}/states/power",
    # Plurals that hold no names.
    f"/v2.0/qos/policies/{UUID}/bandwidth_limit_rules/{UUID}": (
        "/v2.0/qos/policies/{id}/bandwidth_limit_rules/{id}"
    ),
    "/v2/lbaas/loadbalancers": "/v2/lbaas/loadbalancers",
    "/v2.1/os-services/force-down": "/v2.1/os-services/force-down",
    "/v2/schemas/image": "/v2/schemas/image",
    "/v2/metadefs/namespaces/OS::Compute::Watchdog/objects": (
        "/v2/metadefs/namespaces/{id}/objects"
    ),
    f"/v2/images/{UUID}/actions/deactivate": (
        "/v2/images/{id}/actions/deactivate"
    ),
    f"/v3/{HEX}/scheduler-stats/get_pools": (
        "/v3/{id}/scheduler-stats/get_pools"
    ),
    f"/v2/zones/tasks/imports/{UUID}": "/v2/zones/tasks/imports/{id}",
    f"/v3/users/{HEX}/credentials/OS-EC2/{HEX}": (
        "/v3/users/{id}/credentials/OS-EC2/{id}"
    ),
    "/v3/domains/config/ldap/default": "/v3/domains/config/ldap/default",
    "/services/v2.1/servers": "/services/v2.1/servers",
    # What no API's word is.
    "/v2.1/x/a b": "/v2.1/x/{id}",
    "/v2.1/x/a%20b": "/v2.1/x/{id}",
    "/v2.1/x/\u00e9": "/v2.1/x/{id}",
    "/v2.1/x/\x1b[2J": "/v2.1/x/{id}",
    "/v2.1/x/" + "y" * 64: "/v2.1/x/" + "y" * 64,
    "/v2.1/x/" + "y" * 65: "/v2.1/x/{id}",
    # Object stores.
    f"/v1/AUTH_{HEX}": "/v1/{account}",
    f"/swift/v1/AUTH_{HEX}/photos/": "/swift/v1/{account}/{container}",
    f"/v1/AUTH_{HEX}/photos/2026/may/1.jpg": (
        "/v1/{account}/{container}/{object}"
    ),
    "/x" * 15: "/x" * 15,
    "/x" * 1000: "/x" * 15 + "/…",
}


@pytest.mark.parametrize("path", TEMPLATES)
def test_template(path: str) -> None:
    assert template(path) == TEMPLATES[path]


@given(st.text() | st.text("/sav1-.").map("/v2/images".__add__))
def test_any_path_has_a_template_that_is_its_own(path: str) -> None:
    once = template(path)
    assert len(once) <= 16 * 65
    assert template(once) == once


def test_uuids() -> None:
    other = UUID.replace("8", "9")
    assert uuids(f"/v2.1/{HEX}/servers/{UUID}/{other.upper()}/{UUID}") == [
        UUID,
        other,
    ]
    assert [*uuids(f"/x/req-{UUID}")] == []
    assert [*uuids(f"/x/{UUID}0")] == []
    assert [*uuids(f"/servers/{UUID}.json?x={UUID}")] == [UUID]
    assert [*uuids("/v2.0/a-b-c-d-e")] == []
    many = "".join(f"/{n:08x}-0000-4000-8000-{0:012x}" for n in range(100))
    assert len(uuids(many)) == MOST_IDS


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/v3", "/v2.1/", "/v3.14", "/identity", "/identity/v3/"),
        *("/compute/v2.1/", "/our-nova/v2.1", "/placement", "/v2//"),
    ],
)
def test_discovery(path: str) -> None:
    assert is_discovery(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/usages", "/v3/auth", "/v2.0/networks", "/identity/v3/users"),
        *("/a/b/v3", f"/v2.1/{HEX}", "/v3x", "/version"),
    ],
)
def test_no_discovery(path: str) -> None:
    assert not is_discovery(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/v3/auth/tokens", "/v3/auth/tokens/", "/identity/v3/auth/projects"),
        *("/v2.0/tokens", "/v3/auth/OS-FEDERATION/saml2"),
    ],
)
def test_authentication(path: str) -> None:
    assert is_authentication(path)


@pytest.mark.parametrize(
    "path", ["", "/v3", "/auth", "/v3/users", "/v2/x/auth", f"/tokens/{HEX}"]
)
def test_no_authentication(path: str) -> None:
    assert not is_authentication(path)
