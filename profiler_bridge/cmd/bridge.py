# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""profiler-bridge: the daemon."""

from __future__ import annotations

import sys

from oslo_log import log

from profiler_bridge import config, exceptions, service


def main() -> int:
    try:
        conf = config.prepare(sys.argv[1:], *config.modules())
        log.setup(conf, config.PROJECT)
        service.run(conf)
    except exceptions.BridgeError as error:
        print(f"profiler-bridge: {error}", file=sys.stderr)
        return 1
    return 0
