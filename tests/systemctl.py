#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0

"""A stand-in for systemctl where systemd is not the first process.

It starts what a unit names, as the unit's user, waits until that is ready,
and ends it. What a unit takes from its processes is systemd's to take, and
they keep it. All else is for Debian's own systemctl, which works on files
where systemd does not run. For tests.bare_root: this uses no more than
python3-minimal has.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SYSTEMCTL = "/usr/bin/systemctl.debian"
UNITS = (Path("/etc/systemd/system"), Path("/lib/systemd/system"))
STATE = Path("/run/systemctl")
LOGS = Path("/var/log/journal")
OTHER_KINDS = (".path", ".socket", ".target", ".timer")


class Unit:
    """A service, of which there is a file or not."""

    def __init__(self, name: str) -> None:
        self.name = name.removesuffix(".service")
        self.file = f"{self.name}.service"
        paths = [folder / self.file for folder in UNITS]
        self.path = next((path for path in paths if path.exists()), None)
        text = self.path.read_text() if self.path else ""
        self.lines: list[tuple[str, str]] = re.findall(
            r"^(\w+)=(.*)$", text.replace("\\\n", " "), re.MULTILINE
        )
        self.user = pwd.getpwnam(self.value("User", "root"))
        group = self.value("Group")
        self.gid = grp.getgrnam(group).gr_gid if group else self.user.pw_gid
        self.log = LOGS / self.name
        self.pid_file = STATE / f"{self.name}.pid"

    def values(self, key: str) -> list[str]:
        return [value for name, value in self.lines if name == key]

    def value(self, key: str, default: str = "") -> str:
        return [default, *self.values(key)][-1]

    def pid(self) -> int | None:
        """The main process, if it runs."""
        try:
            pid = int(self.pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def popen(self, line: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start what a line says, with a shell, as what it names has signs."""
        mask = self.value("UMask", "0022")
        command = ["bash", "-c", f"umask {mask}; exec {line.lstrip('-+!@:')}"]
        if not line.startswith(("+", "!")):
            ids = [f"--reuid={self.user.pw_uid}", f"--regid={self.gid}"]
            command = ["setpriv", *ids, "--init-groups", *command]
        for name, value in re.findall(
            r'^"?(\w+)=(.*?)"?$', "\n".join(self.values("Environment")), re.M
        ):
            variables.setdefault(name, value)
        with self.log.open("ab") as log:
            # In the network of the first process, whoever asks for it.
            return subprocess.Popen(
                ["nsenter", "--target=1", "--net", *command],
                env={
                    "PATH": os.environ["PATH"],
                    "LC_ALL": "C.UTF-8",
                    "HOME": self.user.pw_dir,
                    "USER": self.user.pw_name,
                    **variables,
                },
                cwd=self.value("WorkingDirectory", "/"),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def make_folders(self) -> None:
        for folder in (STATE, LOGS):
            folder.mkdir(parents=True, exist_ok=True)
        for key, parent in (
            ("StateDirectory", "/var/lib"),
            ("RuntimeDirectory", "/run"),
        ):
            for name in self.value(key).split():
                path = Path(parent, name)
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(int(self.value(f"{key}Mode", "0755"), 8))
                os.chown(path, self.user.pw_uid, self.gid)

    def start(self) -> int:
        if self.pid():
            return 0
        self.make_folders()
        for line in self.values("ExecStartPre"):
            if self.popen(line).wait() and not line.startswith("-"):
                return self.failed()
        notices = STATE / f"{self.name}.notify"
        notices.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notices))
            notices.chmod(0o777)
            ready.settimeout(1)
            process = self.popen(
                self.value("ExecStart"), NOTIFY_SOCKET=str(notices)
            )
            self.pid_file.write_text(str(process.pid))
            deadline = time.monotonic() + 300
            is_ready = self.value("Type") != "notify"
            while not is_ready:
                if process.poll() is not None or time.monotonic() > deadline:
                    return self.failed()
                with contextlib.suppress(TimeoutError):
                    is_ready = b"READY=1" in ready.recv(4096)
        return 0

    def failed(self) -> int:
        end = "\n".join(self.log.read_text().splitlines()[-20:])
        sys.stderr.write(f"{self.file} failed:\n{end}\n")
        return 1

    def stop(self) -> int:
        if pid := self.pid():
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 90
            while self.pid():
                if time.monotonic() > deadline:
                    os.killpg(pid, signal.SIGKILL)
                time.sleep(0.1)
        return 0

    def reload(self) -> int:
        return self.popen(
            self.value("ExecReload"), MAINPID=str(self.pid())
        ).wait()

    def restart(self) -> int:
        return self.stop() or self.start()

    def is_active(self) -> int:
        if "--quiet" not in sys.argv:
            sys.stdout.write("active\n" if self.pid() else "inactive\n")
        return 0 if self.pid() else 3


ACTIONS = {
    "is-active": Unit.is_active,
    "reload": Unit.reload,
    "restart": Unit.restart,
    "start": Unit.start,
    "stop": Unit.stop,
}
AT_ONCE = {"enable": Unit.start, "disable": Unit.stop}


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    command = words[0] if words else ""
    action = ACTIONS.get(command)
    codes = [0]
    if not action:
        own = [word for word in sys.argv[1:] if word != "--now"]
        offline = os.environ | {"SYSTEMD_OFFLINE": "1"}
        codes = [subprocess.run([SYSTEMCTL, *own], env=offline).returncode]
        action = AT_ONCE.get(command) if "--now" in sys.argv else None
    for name in words[1:] if action else []:
        # Other kinds of units are there, and nothing is to be done for them.
        if action and not name.endswith(OTHER_KINDS):
            unit = Unit(name)
            if unit.path or action is Unit.stop:
                codes.append(action(unit))
            else:
                sys.stderr.write(f"Unit {unit.file} not found.\n")
                codes.append(5)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
