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

"""Secrets, taken out of payloads before anything is stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_utils import strutils

from profiler_bridge.notification import Notification

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.BoolOpt(
        "mask_secrets",
        default=True,
        help="Replace secrets by three asterisks before notifications are"
        " stored: values under keys that name one, such as password or"
        " auth_token, and Fernet and JWT tokens wherever they stand.",
    ),
    cfg.ListOpt(
        "mask_keys",
        default=[],
        help="Further keys whose values are secrets. A key that contains one"
        " of these, in upper or lower case, counts.",
    ),
]

MASK = "***"

# Keys are few, but for somebody who makes up others.
_KEYS_KEPT = 10_000

# Fernet: version 0x80 and a 64-bit time of which the first bytes are zero,
# then at least 56 bytes more, in base64url (github.com/fernet/spec).
# JWT: two JSON objects and a signature, in base64url (RFC 7519).
_replace_tokens = re.compile(
    r"gAAAAA[\w-]{80,}={0,2}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    re.ASCII,
).sub


# In the repr() of a dictionary: a key, and a text or a number as its value.
_find_items = re.compile(
    r"""(['"])(?P<key>[^'"\\]+)\1:\ (?P<value>
        [bu]?'(?:[^'\\]|\\.)*' | [bu]?"(?:[^"\\]|\\.)*" | \d+
    )""",
    re.VERBOSE | re.DOTALL,
).sub


class _SecretKeys(dict[str, bool]):
    """Whether a key names a secret, worked out once for each key.

    :param extra: in lower case, what keys contain beside those of oslo.utils
    """

    def __init__(self, extra: Iterable[str]) -> None:
        self._extra = tuple(extra)

    def __missing__(self, key: str) -> bool:
        lower = key.lower()
        secret = any(each in lower for each in self._extra) or (
            strutils.mask_dict_password({key: "x"}, MASK)[key] == MASK
        )
        if len(self) < _KEYS_KEPT:
            self[key] = secret
        return secret


class Masker:
    """Takes secrets out of payloads.

    :param keys: what keys of secrets contain, beside those of oslo.utils
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._is_secret = _SecretKeys(each.lower() for each in keys if each)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Masker | None:
        """None where secrets are to stay."""
        options = conf[GROUP]
        return cls(options.mask_keys) if options.mask_secrets else None

    def decode(self, payload: object) -> Notification:
        """As :meth:`Notification.from_payload`, without its secrets."""
        found = Notification.from_payload(payload)
        if not self.may_find(found.payload, found.text):
            return found
        return Notification.from_payload(self.mask(found.payload))

    def may_find(self, payload: Mapping[str, Any], text: str) -> bool:
        """Whether it is worth the time to mask a payload: few have secrets.

        :param text: the payload's JSON
        """
        if "gAAAAA" in text or "eyJ" in text:
            return True
        is_secret = self._is_secret
        level: list[Any] = [payload]
        for each in level:
            if isinstance(each, dict):
                for key, value in each.items():
                    if is_secret[key] or key == "kwargs":
                        return True
                    if isinstance(value, dict | list):
                        level.append(value)
            else:
                level += [one for one in each if isinstance(one, dict | list)]
        return False

    def mask(self, value: Any) -> Any:
        """The value with its secrets masked; itself if it has none.

        :raises RecursionError: it is nested too deep
        """
        if isinstance(value, str):
            masked = _replace_tokens(MASK, value)
            return value if masked == value else masked
        if isinstance(value, dict):
            changed = {
                key: masked
                for key, each in value.items()
                if (masked := self._mask_item(key, each)) is not each
            }
            return {**value, **changed} if changed else value
        if isinstance(value, list):
            items = [self.mask(each) for each in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else items
        return value

    def _mask_item(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, dict):
            return self.mask(value)
        if self._is_secret[key]:
            return MASK
        if key == "kwargs" and isinstance(value, str):
            # osprofiler sends the arguments of a function as their repr().
            masked = _find_items(self._mask_found_item, value)
            return self.mask(value if masked == value else masked)
        return self.mask(value)

    def _mask_found_item(self, item: re.Match[str]) -> str:
        if not self._is_secret[item["key"]]:
            return item[0]
        return item[0].removesuffix(item["value"]) + repr(MASK)
