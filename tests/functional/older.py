# SPDX-License-Identifier: Apache-2.0

"""What older releases stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def without_roots(observed: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The same without what older releases did not keep."""
    return [
        (
            dataclasses.replace(
                summary, name=None, requests=0, answered=None, roots=()
            ),
            *rest,
        )
        for summary, *rest in observed
    ]
