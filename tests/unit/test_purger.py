# SPDX-License-Identifier: Apache-2.0

"""How much of the time is spent on deleting old traces."""

import pytest

from profiler_bridge.daemon.purger import next_share

EVERY = 60.0


def purge_for(hours: float, work: float, share: float) -> tuple[float, float]:
    """Purge what comes meanwhile, again and again.

    :param work: seconds that it takes to delete what comes in a second
    :param share: of the first purge
    :returns: seconds that the last purge took, and the next one's share
    """
    passed = taken = 0.0
    while passed < hours * 3600:
        taken = work * (taken + EVERY) / share
        share = next_share(share, taken, EVERY)
        passed += taken + EVERY
    return taken, share


@pytest.mark.parametrize("work", [0.01, 0.1, 0.14, 0.3, 0.5])
def test_a_purge_keeps_up_with_what_comes(work: float) -> None:
    taken, share = purge_for(1, work, share=0.05)
    assert taken <= EVERY * 1.001
    assert share < 1 or work > 1 / 3


def test_a_purge_with_little_to_do_rests_most_of_the_time() -> None:
    assert purge_for(1, 0.001, share=1.0)[1] == 0.05
    assert next_share(1.0, 0.0, EVERY) == 0.05


def test_a_purge_of_all_that_is_there_works_without_rests_afterwards() -> None:
    assert next_share(0.05, 5 * 3600, EVERY) == 1.0
