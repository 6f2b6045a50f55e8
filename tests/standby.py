# SPDX-License-Identifier: Apache-2.0

"""A server of PostgreSQL that follows another one."""

from __future__ import annotations

from tests import servers


class PostgreSQLStandby(servers.PostgreSQL):
    """A hot standby; it begins with a copy of all that there is.

    :param primary: one that runs, and goes on until this one is closed
    """

    #: As which the primary knows it.
    NAME = "standby"

    def __init__(self, primary: servers.PostgreSQL) -> None:
        self.backup = servers.find(
            "postgresql",
            "pg_basebackup",
            folders="usr/lib/postgresql/*/bin",
        )
        super().__init__()
        self.primary = primary

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
        return [*super().command(), f"--cluster_name={self.NAME}"]

    def fall_behind(self, seconds: int) -> None:
        """Have from now on what the primary had so long ago."""
        self.execute(
            f"ALTER SYSTEM SET recovery_min_apply_delay = '{seconds}s'"
        )
        self.execute("SELECT pg_reload_conf()")

    def confirm(self) -> None:
        """Have the primary wait for this one with what it commits."""
        self.primary.execute(
            f"ALTER SYSTEM SET synchronous_standby_names = '{self.NAME}'"
        )
        self.primary.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        self.execute("SELECT pg_promote()")
