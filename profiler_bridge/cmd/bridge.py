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
from importlib import metadata

from oslo_config import cfg
from oslo_log import log

from profiler_bridge import config, exceptions, service


class _Version:
    """What a report on the process says of the program."""

    def vendor_string(self) -> str:
        return "OpenStack"

    def product_string(self) -> str:
        return config.PROJECT

    def version_string_with_package(self) -> str:
        return metadata.version(config.PROJECT)


def report_on_signal(conf: cfg.ConfigOpts) -> None:
    """On SIGUSR2 write what each thread is doing, and options, to stderr.

    This process does so, and all that are forked from it.
    """
    # Imported where the daemon starts: nobody else needs it.
    from oslo_reports import guru_meditation_report
    from oslo_reports.generators.conf import ConfigReportGenerator

    report = guru_meditation_report.TextGuruMeditation
    report.register_section(
        f"Configuration of {config.PROJECT}", ConfigReportGenerator(conf)
    )
    report.setup_autorun(_Version())


def main() -> int:
    try:
        conf = config.prepare(sys.argv[1:], *config.modules())
        log.setup(conf, config.PROJECT)
        report_on_signal(conf)
        service.run(conf)
    except exceptions.BridgeError as error:
        print(f"profiler-bridge: {error}", file=sys.stderr)
        return 1
    return 0
