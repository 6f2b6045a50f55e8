# SPDX-License-Identifier: Apache-2.0

"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0


def pauses(
    within: float | None = None,
    *,
    first: float = FIRST_PAUSE,
    last: float = LAST_PAUSE,
) -> Iterator[float]:
    """Pauses that grow, each shortened at random.

    So many who lost the same server do not come back to it all at once.

    :param within: ends after so many seconds; never when None
    :param first: the first pause at its longest, in seconds; each that
        follows is twice as long
    :param last: the longest
    """
    end = None if within is None else time.monotonic() + within
    pause = first
    while end is None or time.monotonic() < end:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        pause = min(2 * pause, last)
