# SPDX-License-Identifier: Apache-2.0

"""The report commands as commands of ``openstack``.

It takes them from its group of entry points, and loads one when it is run.
"""

from __future__ import annotations

import argparse

from profiler_bridge.cmd import report
from profiler_bridge.cmd.app import BridgeCommand, Source, add_source


class OpenStackCommand(BridgeCommand):
    """A command of somebody else's program."""

    # Nothing of the cloud is asked.
    auth_required = False
    _source: Source

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_source(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        self._source = Source(parsed_args)
        try:
            return super().run(parsed_args)
        finally:
            self._source.close()

    @property
    def source(self) -> Source:
        return self._source


class Diff(OpenStackCommand, report.Diff):
    __doc__ = report.Diff.__doc__


class Findings(OpenStackCommand, report.Findings):
    __doc__ = report.Findings.__doc__


class List(OpenStackCommand, report.List):
    __doc__ = report.List.__doc__


class Show(OpenStackCommand, report.Show):
    __doc__ = report.Show.__doc__


class Stats(OpenStackCommand, report.Stats):
    __doc__ = report.Stats.__doc__
