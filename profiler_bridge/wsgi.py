# SPDX-License-Identifier: Apache-2.0

"""The application for uwsgi, gunicorn and mod_wsgi, ready when imported.

Without a command line, ``OS_PROFILER_BRIDGE_CONFIG_FILES`` names the
configuration files, with ``;`` between them; without it they are looked for
where the commands do.
"""

from __future__ import annotations

import os

from profiler_bridge import config
from profiler_bridge.api.app import make_app

ENVIRONMENT = "OS_PROFILER_BRIDGE_CONFIG_FILES"


def _config_files() -> list[str]:
    files = os.environ.get(ENVIRONMENT, "").split(";")
    return [f"--config-file={path.strip()}" for path in files if path.strip()]


_conf = config.load_api(_config_files())
config.set_up_logging(_conf)
application = make_app(_conf)
