# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage reindex."""

from __future__ import annotations

import argparse

from profiler_bridge import exceptions
from profiler_bridge.cmd.app import CLEARED, BridgeCommand
from profiler_bridge.storage.traces import Storage


class Reindex(BridgeCommand):
    """Index all traces of all storages anew

    Run it once after an upgrade from a release with another kind of index,
    when no daemon of that release runs any more; 'check' says whether it is
    needed. It adds what is missing, changes and deletes nothing, and can be
    interrupted and run again. Daemons may run meanwhile.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        failed = 0
        for storage in self.storages:
            try:
                storage.prepare()
                traces = self._reindex(storage)
            except exceptions.StorageError as error:
                self.app.stderr.write(f"{error}\n")
                failed = 1
            else:
                self.app.stdout.write(
                    f"{traces} traces of {storage} are indexed\n"
                )
        return failed

    def _reindex(self, storage: Storage) -> int:
        """Reindex; count on a terminal meanwhile."""
        terminal = self.app.stderr.isatty()
        done = 0
        for done in storage.reindex():
            if terminal:
                self.app.stderr.write(f"\r{done} traces ")
                self.app.stderr.flush()
        if terminal:
            self.app.stderr.write(CLEARED)
        return done
