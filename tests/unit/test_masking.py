# SPDX-License-Identifier: Apache-2.0

"""Secrets go, and nothing else does."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg

from profiler_bridge import masking
from profiler_bridge.allow_list import MASK
from profiler_bridge.masking import Masker
from tests.unit.test_trace import child

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

PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n"
    "MIIEpAIBAAKCAQEA7bq\n-----END RSA PRIVATE KEY-----"
)
BCRYPT = "$2b$12$" + "R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
SCRYPT = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4"
PBKDF2 = "$pbkdf2-sha512$25000$kZLyXgshBEAIoRRCSAlBqBWC0A$Hy2wT/V.MP1wsDnXcA"
CONNECTION_INFO = (
    '{"driver_volume_type": "iscsi", "data": {"auth_method": "CHAP",'
    ' "auth_username": "u", "auth_password": "p4ss\\"w0rd", "n": 1,'
    ' "chap_secret": 12, "encrypted": false, "discovery_auth_password": null}}'
)

MASKED += [
    # What is in them are files, some with passwords.
    ({"user_data": "I2Nsb3VkLWNvbmZpZw=="}, {"user_data": MASK}),
    ({"instances_user_data": "x"}, {"instances_user_data": MASK}),
    ({"injected_files": [["/etc/a", "x"]]}, {"injected_files": MASK}),
    ({"injected_files": {"/etc/a": "x"}}, {"injected_files": MASK}),
    ({"auth_key": "AQBk"}, {"auth_key": MASK}),
    # JSON in a text, and such text in a text.
    (
        {"connection_info": CONNECTION_INFO},
        {
            "connection_info": CONNECTION_INFO.replace(
                'p4ss\\"w0rd', MASK
            ).replace("12", '"***"')
        },
    ),
    (
        [json.dumps({"a": json.dumps({"password": 'x"y', "b": "c"})})],
        [json.dumps({"a": json.dumps({"password": MASK, "b": "c"})})],
    ),
    ('{"password" : "s", "a": 1}', '{"password" : "***", "a": 1}'),
    ('{"password": "cut off he', '{"password": "***"'),
    # The repr() of what functions get and return.
    (
        {"args": "(<C>, {'auth_key': 's'}, 5)"},
        {"args": "(<C>, {'auth_key': '***'}, 5)"},
    ),
    (
        {"kwargs": "{'injected_files': [('/a', 'x]')], 'n': [1]}"},
        {"kwargs": "{'injected_files': '***', 'n': [1]}"},
    ),
    (
        {"kwargs": "{'injected_files': {'/a': {'x': 1}}, 'n': {}}"},
        {"kwargs": "{'injected_files': '***', 'n': {}}"},
    ),
    (
        "Instance(user_data='SQ==',user_id='u',auth_token=x,uuid=8)",
        "Instance(user_data='***',user_id='u',auth_token=***,uuid=8)",
    ),
    # Passwords in URLs.
    (
        "mysql+pymysql://nova:PASSWORD@db/nova?charset=utf8",
        "mysql+pymysql://nova:***@db/nova?charset=utf8",
    ),
    (
        "to rabbit://u:s1@h1:5672,u:s2@h2:5672//, refused",
        "to rabbit://u:***@h1:5672,u:***@h2:5672//, refused",
    ),
    ("http://u:p@ss/word@host/", "http://u:***@ss/word@host/"),
    ("redis://:s3/cret@host/0", "redis://:***@host/0"),
    # Parameters.
    (
        {"query": "a=1&token=s&password=t,u&X-Amz-Signature=0a&b=2"},
        {"query": "a=1&token=***&password=***&X-Amz-Signature=***&b=2"},
    ),
    (
        "/v1/A/c/o?temp_url_sig=0a1b&temp_url_expires=1",
        "/v1/A/c/o?temp_url_sig=***&temp_url_expires=1",
    ),
    ("https://h/?sv=1&sig=a%2Bb%3D", "https://h/?sv=1&sig=***"),
    ("cmd --password='a b' -x", "cmd --password='***' -x"),
    # Literals in SQL, which services send as text.
    ("SET password = 'it''s', b = 'c'", "SET password = '***', b = 'c'"),
    ("SET `password` = 's', a = 1", "SET `password` = '***', a = 1"),
    (
        'WHERE "user"."password" = \'s\' AND id = 1',
        'WHERE "user"."password" = \'***\' AND id = 1',
    ),
    ("WHERE [token]='s'", "WHERE [token]='***'"),
    ("SET password  =\n  's'", "SET password  =\n  '***'"),
    ("SET password\n= 's'", "SET password\n= '***'"),
    # What looks like a secret by itself.
    (f"a {PEM} b {PEM}", "a *** b ***"),
    (f"a {PEM[:70]}", "a ***"),
    (PEM.replace("RSA ", "OPENSSH "), MASK),
    (f"it is {BCRYPT}.", "it is ***"),
    (f"('{SCRYPT}', 1)", "('***', 1)"),
    ([PBKDF2], [MASK]),
    ("scrypt:32768:8:1$2WVJ5Sz$1a2b3c4d5e6f7a8b9c", MASK),
    ("pbkdf2_sha256$260000$abcdefgh$1a2b3c4d5e6f7a8b9c=", MASK),
]

LEFT_ALONE: list[Any] = [
    {"statement": "SELECT password FROM user WHERE password = ?"},
    {"db": {"params": ["password", "secret", 1, None]}},
    {"password": None, "token": True},
    {"kwargs": "{'name': 'password', 'n': {'a': 'b'}}"},
    {"kwargs": "a password: 'x'"},
    {"user_data": None, "injected_files": []},
    {"kwargs": "{'injected_files': [], 'user_data': None}"},
    "Instance(user_data=None,user_id='u',auth_token=<?>,uuid=8)",
    "eyJ is no token, nor is gAAAAA",
    "SELECT a FROM user WHERE password=%(password)s AND token=? AND b=:b",
    "SELECT a FROM user WHERE token=$1 AND password=:password",
    'SELECT "user".password FROM "user" WHERE "user".id = \'x\'',
    "http://host:8080/a@b?c=d:e@f",
    "ssh://git@host/x, see https://docs/a:b",
    "limit=1&sort_key=id&marker=x==",
    {"query": "limit=1&sort_key=id&marker=x==&password=&c"},
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----",
    "it costs $2 or $6$ each",
    '{"name": "password", "a": {"b": ["c", "d"]}}',
    "{'token_data': {'id': 'x'}}",
    {"name": "wsgi-start", "base_id": "x"},
    5,
    None,
]


@pytest.mark.parametrize(
    "value",
    [
        *("p", ":p", "=p", "?p", "%sp", "$1p", "None-p", "a)p", "a;p", "a'p"),
        *("a<p", "a,b=p", "true.p", "%2Fp", "p q"),
    ],
)
@pytest.mark.parametrize(
    "name", ["password", "pass%77ord", "password[]", "X-Amz-Signature", "sig"]
)
def test_a_requests_query_is_masked_to_the_next_parameter(
    name: str, value: str
) -> None:
    info = {"request": {"query": f"a=1&{name}={value}&b=2"}}
    masker = Masker()
    assert masker.may_find(info, "{}")
    assert masker.mask(info) == {"request": {"query": f"a=1&{name}=***&b=2"}}


@pytest.mark.parametrize(
    "key",
    [
        *("provider_auth", "Authorization", "Set-Cookie", "passwd"),
        *("user-data", "userData", "api_key", "AccountKey", "temp_url_key"),
    ],
)
def test_keys_of_other_libraries(key: str) -> None:
    assert Masker().mask({key: "CHAP user word"}) == {key: MASK}
    assert Masker().mask(f"{key}=word") == f"{key}={MASK}"


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


def test_fernet_token_in_what_begins_like_a_jwt() -> None:
    assert Masker().mask(f"eyJhbGciOiJFUzI1NiIs_{FERNET}").endswith(MASK)


@pytest.mark.parametrize("key", ["name", "id", "time", "service", "info"])
def test_only_info_is_masked(key: str) -> None:
    """Else nothing would be a notification any more."""
    start, _ = child(1, host="h")
    start["info"]["my_" + key] = "s"
    masked = Masker([key]).decode(start)
    assert masked.payload == {
        **start,
        "info": {"host": "h", "my_" + key: MASK},
    }


def test_keys_that_are_made_up_are_not_kept() -> None:
    masker = Masker()
    for number in range(1000):
        masker.mask({f"{number:0200}": "s"})
    assert not masker._is_secret


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
