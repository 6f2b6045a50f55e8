# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-report: what is stored, for people and programs."""

from __future__ import annotations

import gc
import io
import sys

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.cmd.report.diff import Diff
from profiler_bridge.cmd.report.findings import Findings
from profiler_bridge.cmd.report.list import List
from profiler_bridge.cmd.report.show import Show
from profiler_bridge.cmd.report.stats import Stats

__all__ = ["main", "Diff", "Findings", "List", "Show", "Stats"]


def main() -> int:
    # What is read stays until it is printed. To look again and again whether
    # it is garbage takes as long as all the rest.
    gc.set_threshold(100_000, 50, 1000)
    # Where not every character can be shown, escapes stand for those of a
    # trace that cannot.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return BridgeApp(
        "profiler_bridge.report",
        "Reports from the traces that profiler-bridge stored.",
    ).run(sys.argv[1:])
