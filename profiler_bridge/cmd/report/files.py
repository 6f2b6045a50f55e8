# SPDX-License-Identifier: Apache-2.0

"""Files that commands write: what is in them is for their user only."""

from __future__ import annotations

import os
from collections.abc import Iterable

from profiler_bridge import exceptions


def write_private(path: str, pieces: Iterable[str]) -> None:
    """Write a text, readable for the user only.

    :raises BridgeError: that is not possible
    """
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(pieces)
    except OSError as error:
        raise exceptions.BridgeError(f"{path}: {error.strerror}") from None
