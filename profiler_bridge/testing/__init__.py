# SPDX-License-Identifier: Apache-2.0

"""The conformance suite that every storage plugin must pass.

It needs pytest. See :mod:`profiler_bridge.testing.storage`.
"""

import pkgutil

import pytest

# Before their import, so that their assertions say what they compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)
