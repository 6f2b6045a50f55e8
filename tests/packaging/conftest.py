# SPDX-License-Identifier: Apache-2.0

"""A bare Debian for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.bare_root import BareRoot


@pytest.fixture(scope="module")
def bare_root() -> Iterator[BareRoot]:
    with BareRoot() as root:
        yield root
