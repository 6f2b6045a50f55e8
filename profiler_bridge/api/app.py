# SPDX-License-Identifier: Apache-2.0

"""The application."""

from __future__ import annotations

from typing import cast

import flask

from profiler_bridge.storage.traces import Storage


def storage() -> Storage:
    """That of the current application."""
    return cast(Storage, flask.current_app.config["STORAGE"])
