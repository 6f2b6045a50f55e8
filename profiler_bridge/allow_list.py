# SPDX-License-Identifier: Apache-2.0

"""What of a notification's info may be stored, where not all may. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"


class AllowList:
    """Keys of an info, and of objects in it.

    :param names: such as ``host`` and ``db.statement``; what a name leads to
        is allowed as a whole
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._allowed = False
        self._below: dict[str, AllowList] = {}
        for name in names:
            one = self
            for key in name.split("."):
                one = one._below.setdefault(key, AllowList(()))
            one._allowed = True

    def keep(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """The info, with three asterisks in place of what is not allowed."""
        return {key: self._keep_item(key, item) for key, item in info.items()}

    def _keep_item(self, key: str, item: Any) -> Any:
        below = self._below.get(key)
        if below and below._allowed:
            return item
        if below and isinstance(item, dict):
            return below.keep(item)
        return MASK
