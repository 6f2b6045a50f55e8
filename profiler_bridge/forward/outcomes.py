# SPDX-License-Identifier: Apache-2.0

"""What becomes of requests and spans; documented for operators."""

from __future__ import annotations

import enum


class Outcome(enum.StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    PARTIAL = "partial"
    TOO_LARGE = "too-large"
    REFUSED = "refused"
    REDIRECTED = "redirected"
    #: These two are tried again.
    BUSY = "busy"
    UNREACHABLE = "unreachable"


class Drop(enum.StrEnum):
    """Why spans are not sent again."""

    REFUSED = "refused"
    REDIRECTED = "redirected"
    TOO_LARGE = "too-large"
