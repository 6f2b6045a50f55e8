#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0

"""A stand-in for systemctl where systemd is not the first process.

It starts what units say, as whom they say, and ends it. What takes rights
from a process is systemd's, and is not done. For tests.bare_root.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FOLDERS = ("/etc/systemd/system", "/lib/systemd/system")
STATE = Path("/run/systemctl")
LOGS = Path("/var/log/journal")


class Unit:
    def __init__(self, name: str) -> None:
        self.name = name.removesuffix(".service")
        self.path = next(
            (
                path
                for folder in FOLDERS
                if (path := Path(folder, f"{self.name}.service")).exists()
            ),
            None,
        )
        # Names may come more than once.
        self.values: dict[str, list[str]] = {}
        text = self.path.read_text() if self.path else ""
        text = re.sub(r"\\\n", " ", text)
        for key, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
            self.values.setdefault(key, []).append(value)
        self.pid_file = STATE / self.name

    def value(self, key: str, default: str = "") -> str:
        return self.values.get(key, [default])[-1]

    @property
    def pid(self) -> int | None:
        """Of its main process, if that runs."""
        try:
            pid = int(self.pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def command(self, line: str) -> list[str]:
        """As the unit's user, with variables that the unit sets or not."""
        user = self.value("User", "root")
        privileged = line.startswith(("+", "!"))
        line = line.lstrip("-+!@:")
        group = (
            self.value("Group")
            or subprocess.run(
                ["id", "-gn", user], check=True, capture_output=True, text=True
            ).stdout.strip()
        )
        mask = self.value("UMask", "0022")
        script = f"umask {mask}; exec {line}"
        as_user = ["setpriv", "--reuid", user, "--regid", group]
        as_user += ["--init-groups"]
        return [*([] if privileged else as_user), "bash", "-c", script]

    def environment(self) -> dict[str, str]:
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            "LC_ALL": "C.UTF-8",
        }
        for line in self.values.get("Environment", []):
            name, _, value = line.strip('"').partition("=")
            variables[name] = value
        return variables

    def make_folders(self) -> None:
        for key, parent in (
            ("StateDirectory", "/var/lib"),
            ("RuntimeDirectory", "/run"),
            ("LogsDirectory", "/var/log"),
        ):
            for name in self.value(key).split():
                path = Path(parent, name)
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(int(self.value(f"{key}Mode", "0755"), 8))
                user = self.value("User", "root")
                shutil.chown(path, user, self.value("Group") or None)

    def start(self) -> int:
        if self.pid:
            return 0
        if not self.path:
            sys.stderr.write(f"Unit {self.name}.service not found.\n")
            return 5
        self.make_folders()
        STATE.mkdir(exist_ok=True)
        LOGS.mkdir(parents=True, exist_ok=True)
        notices = STATE / f"{self.name}.notify"
        notices.unlink(missing_ok=True)
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(str(notices))
        notices.chmod(0o777)
        environment = self.environment()
        if self.value("Type") == "notify":
            environment["NOTIFY_SOCKET"] = str(notices)
        # In the network of the first process, whoever asks for it.
        enter = ["nsenter", "--target", "1", "--net", "--"]
        folder = self.value("WorkingDirectory", "/")
        with (LOGS / self.name).open("ab") as log:
            for line in self.values.get("ExecStartPre", []):
                code = subprocess.run(
                    [*enter, *self.command(line)],
                    env=environment,
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                ).returncode
                if code and not line.startswith("-"):
                    return self.failed()
            process = subprocess.Popen(
                [*enter, *self.command(self.value("ExecStart"))],
                env=environment,
                cwd=folder,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid_file.write_text(str(process.pid))
        ready.settimeout(1)
        deadline = time.monotonic() + 300
        while self.value("Type") == "notify":
            try:
                if b"READY=1" in ready.recv(4096):
                    break
            except TimeoutError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                return self.failed()
        return 0

    def failed(self) -> int:
        sys.stderr.write(
            f"Job for {self.name}.service failed. See {LOGS / self.name}\n"
        )
        return 1

    def stop(self) -> int:
        if pid := self.pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 90
            while self.pid and time.monotonic() < deadline:
                time.sleep(0.1)
            if self.pid:
                os.killpg(pid, signal.SIGKILL)
        self.pid_file.unlink(missing_ok=True)
        return 0

    def reload(self) -> int:
        if not (pid := self.pid):
            return 1
        environment = self.environment() | {"MAINPID": str(pid)}
        command = self.command(self.value("ExecReload"))
        return subprocess.run(command, env=environment).returncode

    def enable(self) -> int:
        if not self.path:
            sys.stderr.write(f"Unit {self.name}.service does not exist.\n")
            return 1
        link = Path(FOLDERS[0], "multi-user.target.wants", self.path.name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(self.path)
        return 0

    def disable(self) -> int:
        for link in Path(FOLDERS[0]).glob(f"*.wants/{self.name}.service"):
            link.unlink()
        return 0

    def is_enabled(self) -> bool:
        links = Path(FOLDERS[0]).glob(f"*.wants/{self.name}.service")
        return any(True for _ in links)


def say(is_so: object, word: str, other: str) -> int:
    if "--quiet" not in sys.argv:
        sys.stdout.write(f"{word if is_so else other}\n")
    return 0 if is_so else 3


def main() -> int:
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    words = [word for word in sys.argv[1:] if word[0] != "-"]
    codes = [0]
    action = words[0] if words else ""
    for name in words[1:]:
        # Timers, sockets and targets are there, and do nothing.
        if name.endswith((".timer", ".socket", ".target", ".path")):
            continue
        unit = Unit(name)
        if action == "is-active":
            codes.append(say(unit.pid, "active", "inactive"))
        elif action == "is-enabled":
            codes.append(say(unit.is_enabled(), "enabled", "disabled"))
        elif action in ("start", "stop", "reload", "enable", "disable"):
            codes.append(getattr(unit, action)())
            if "--now" in options:
                then = {"enable": unit.start, "disable": unit.stop}
                codes.append(then[action]())
        elif action == "restart" or (action == "try-restart" and unit.pid):
            unit.stop()
            codes.append(unit.start())
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
