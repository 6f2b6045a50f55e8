# SPDX-License-Identifier: Apache-2.0

"""Whether two sets of measurements differ by more than noise. Pure.

Times are spread unevenly, a few being very long, and have ties. So they are
compared by their ranks, and nothing is supposed of how they are spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

#: With fewer measurements on a side there is no telling: even if all of one
#: are less than all of the other, that happens by chance too often, and the
#: normal distribution is not near enough.
FEWEST = 8


def mann_whitney(
    one: Mapping[int, int], other: Mapping[int, int]
) -> float | None:
    """How probable it is that two sets differ so by chance.

    Mann and Whitney's U test, two-sided, by the normal distribution with
    corrections for ties and for continuity.

    :param one: how often each value was measured; the values themselves, or
        anything in their order, such as numbers of buckets
    :returns: from 0 to 1, the less the surer; None where there are fewer
        than :data:`FEWEST` on a side: too few
    """
    n_one, n_other = sum(one.values()), sum(other.values())
    if min(n_one, n_other) < FEWEST:
        return None
    # Integers as far as possible, because ranks of millions are large: twice
    # the sum of the ranks of one, and how many are alike, cubed.
    ranks = ties = below = 0
    for value in sorted({*one, *other}):
        alike_in_one = one.get(value, 0)
        alike = alike_in_one + other.get(value, 0)
        ranks += alike_in_one * (2 * below + alike + 1)
        ties += alike**3 - alike
        below += alike
    n = n_one + n_other
    # Twice the distance of U from the middle, and its variance.
    distance = abs(ranks - n_one * (n_one + 1) - n_one * n_other)
    variance = n_one * n_other / 12 * (n + 1 - ties / (n * (n - 1)))
    if variance <= 0:
        return 1.0  # all alike
    z = max(distance - 1, 0) / 2 / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def benjamini_hochberg(
    probabilities: Sequence[float | None],
) -> list[float | None]:
    """Adjust what was found in many rows for there being many.

    Of the rows whose adjusted value is at most 0.05, about one in twenty at
    most is there by chance (Benjamini and Hochberg, 1995).

    :param probabilities: None where nothing could be told; these count for
        nothing
    :returns: in the same order, None where it was None; never less than
        before, at most 1
    """
    known = sorted(
        (probability, row)
        for row, probability in enumerate(probabilities)
        if probability is not None
    )
    adjusted: list[float | None] = [None] * len(probabilities)
    least = 1.0
    for place in range(len(known), 0, -1):
        probability, row = known[place - 1]
        least = min(least, probability * (len(known) / place))
        adjusted[row] = least
    return adjusted
