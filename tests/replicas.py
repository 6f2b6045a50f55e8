# SPDX-License-Identifier: Apache-2.0

"""Servers that have, a while later or at once, what another one has."""

from __future__ import annotations

from tests import servers


class PostgreSQLStandby(servers.PostgreSQL):
    """A hot standby, from a copy of a primary that runs.

    :param primary: it lasts as long as this one does
    :param behind: how many seconds later it has what the primary has
    """

    def __init__(self, primary: servers.PostgreSQL, behind: int = 0) -> None:
        folders = "usr/lib/postgresql/*/bin"
        self.backup = servers.find(
            "postgresql", "pg_basebackup", folders=folders
        )
        super().__init__()
        self.primary = primary
        self.behind = behind

    def prepare(self) -> None:
        self.run(
            self.backup,
            f"--pgdata={self.data}",
            f"--host={self.primary.folder}",
            f"--port={self.primary.port}",
            "--username=postgres",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--no-sync",
        )
        self.data.chmod(0o700)

    def command(self) -> list[str]:
        return [
            *super().command(),
            f"--recovery_min_apply_delay={self.behind}s",
            "--hot_standby_feedback=on",
            "--cluster_name=standby",
            # So that it does not wait for long where the primary was away.
            "--wal_retrieve_retry_interval=200ms",
        ]

    def promote(self) -> None:
        """Make it the primary."""
        self.execute("SELECT pg_promote()")


class MariaDBReplica(servers.MariaDB):
    """A replica of a new master, which has nothing yet but its own tables.

    :param master: it lasts as long as this one does
    :param behind: how many seconds later it has what the master has
    """

    #: What a master needs.
    MASTER = ("--log-bin", "--server-id=1")

    def __init__(self, master: servers.MariaDB, behind: int = 0) -> None:
        super().__init__("--server-id=2")
        self.master = master
        self.behind = behind

    def start(self) -> None:
        super().start()
        self.execute(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1',"
            f" MASTER_PORT = {self.master.port}, MASTER_USER = 'replica',"
            f" MASTER_PASSWORD = 'replica', MASTER_DELAY = {self.behind},"
            " MASTER_USE_GTID = slave_pos"
        )
        self.execute("START SLAVE")
