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

"""Secrets go, and nothing else does."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg

from profiler_bridge import masking
from profiler_bridge.masking import MASK, Masker

# Version, time, initialisation vector, one block, signature.
FERNET = base64.urlsafe_b64encode(
    b"\x80" + (1_700_000_000).to_bytes(8, "big") + bytes(range(16 + 16 + 32))
).decode()
JWT = (
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJzdWIiOiIxMjM0NTY3ODkwIiwiaWF0IjoxNTE2MjM5MDIyfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

MASKED: list[tuple[Any, Any]] = [
    ({"password": "s"}, {"password": MASK}),
    ({"adminPass": "s"}, {"adminPass": MASK}),
    ({"X-Auth-Token": "s"}, {"X-Auth-Token": MASK}),
    ({"client_secret": 5}, {"client_secret": MASK}),
    (
        {"a": [{"b": {"auth_token": "s"}}]},
        {"a": [{"b": {"auth_token": MASK}}]},
    ),
    ({"passwords": ["a", "b"]}, {"passwords": MASK}),
    (
        {"token": {"id": "x", "secret": "s"}},
        {"token": {"id": "x", "secret": MASK}},
    ),
    ([f"X-Subject-Token: {FERNET}"], [f"X-Subject-Token: {MASK}"]),
    ({"path": f"/v3/{JWT}/x"}, {"path": f"/v3/{MASK}/x"}),
    (
        {"kwargs": "{'name': 'bob', 'password': 'it\\'s', 'n': 1}"},
        {"kwargs": "{'name': 'bob', 'password': '***', 'n': 1}"},
    ),
    (
        {"kwargs": "{'user_password': \"it's\", 'token': 12}"},
        {"kwargs": "{'user_password': '***', 'token': '***'}"},
    ),
]

LEFT_ALONE: list[Any] = [
    {"statement": "SELECT password FROM user WHERE password = ?"},
    {"db": {"params": ["password", "secret", 1, None]}},
    {"password": None, "token": True},
    {"kwargs": "{'name': 'password', 'n': {'a': 'b'}}"},
    {"kwargs": "a password: 'x'"},
    "eyJ is no token, nor is gAAAAA",
    {"name": "wsgi-start", "base_id": "x"},
    5,
    None,
]


@pytest.mark.parametrize(("payload", "masked"), MASKED)
def test_secrets_are_masked(payload: Any, masked: Any) -> None:
    assert Masker().mask(payload) == masked


@pytest.mark.parametrize("payload", LEFT_ALONE)
def test_what_is_no_secret_is_left_alone(payload: Any) -> None:
    assert Masker().mask(payload) is payload


def test_further_keys() -> None:
    assert Masker(["Sesame"]).mask({"openSESAME": "s", "a": "b"}) == {
        "openSESAME": MASK,
        "a": "b",
    }


def test_the_payload_itself_is_not_changed() -> None:
    payload = {"info": {"password": "s"}}
    Masker().mask(payload)
    assert payload == {"info": {"password": "s"}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_masking_twice_changes_no_more(value: Any) -> None:
    masker = Masker()
    once = masker.mask(value)
    assert masker.mask(once) == once


@pytest.mark.parametrize("on", [True, False])
def test_option(on: bool) -> None:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    conf.register_opts(masking.OPTS, masking.GROUP)
    conf.set_override("mask_secrets", on, masking.GROUP)
    assert (Masker.from_conf(conf) is not None) is on
