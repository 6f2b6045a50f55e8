# SPDX-License-Identifier: Apache-2.0

"""The bus: how it is reached, read and looked at."""

import warnings

with warnings.catch_warnings():
    # oslo.messaging imports eventlet where it is installed, which warns that
    # it is deprecated. Whoever only profiles or stores has not chosen it.
    warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
    warnings.filterwarnings("ignore", "eventletutils")
    import oslo_messaging  # noqa: F401
