# SPDX-License-Identifier: Apache-2.0

"""A bare Debian in a folder, in which what a page says is tried as written."""

from __future__ import annotations

import atexit
import functools
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers import ServerMissing, Startable, find

PROJECT = Path(__file__).parents[1]

# What a server of Debian has and mmdebstrap would leave out. Python runs the
# stand-in for systemctl; no more of it than that needs.
PACKAGES = (
    "ca-certificates",
    "iproute2",
    "python3-minimal",
    "systemd-sysv",
)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

# Where servers listen, no other test does: the network is the root's own. The
# first process ends when it is told to, and takes all others with it; bash
# sees to those whose parents have ended.
FIRST_PROCESS = r"""
set -eu
root=$1
shift
read -r pid _ < /proc/self/stat
hostname controller
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev/shm"
for path in "$@"; do
    mkdir -p "$root$path"
    mount --bind -o ro "$path" "$root$path"
done
exec chroot "$root" bash -c '
    ip link set lo up
    echo "$0"
    sleep infinity & wait
' "$pid"
"""


def pip_options() -> dict[str, str]:
    """What this machine's pip is told, such as where packages are."""
    printed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    options = re.findall(r"^(\S+)='(.*)'$", printed, re.M)
    # The environment goes before files.
    options.sort(key=lambda option: option[0].startswith(":env:"))
    return {name.replace(":env:", "global"): value for name, value in options}


def proxies() -> dict[str, str]:
    """The variables that lead this machine's programs to the network."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.lower().endswith("_proxy")
    }


def apt_options() -> str:
    """How this machine's apt reaches packages, but no hooks of programs."""
    printed = subprocess.run(
        ["apt-config", "dump", "--no-empty"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return "".join(re.findall("^Acquire::(?!IndexTargets).*\n", printed, re.M))


def apt_sources() -> list[Path]:
    paths = [
        Path("/etc/apt/sources.list"),
        *Path("/etc/apt/sources.list.d").glob("*.list"),
        *Path("/etc/apt/sources.list.d").glob("*.sources"),
    ]
    return [path for path in paths if path.exists()]


@functools.cache
def tarball() -> Path:
    """A bare root, packed; made once a run, of this machine's sources.

    :raises ServerMissing: it cannot be made here
    """
    program = find("mmdebstrap", "mmdebstrap")
    if os.geteuid() != 0:
        raise ServerMissing("only root can make a bare Debian and run in it")
    folder = tempfile.mkdtemp(prefix="test-bare-root-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "root.tar")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    command = [program, "--quiet", "--variant=minbase", "--mode=root"]
    command += ["--include=" + ",".join(PACKAGES)]
    # It is thrown away: nothing has to survive a loss of power.
    command += ["--dpkgopt=force-unsafe-io", release, str(path)]
    done = subprocess.run(
        [*command, *map(str, apt_sources())],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    if done.returncode:
        raise RuntimeError(f"mmdebstrap failed:\n{done.stderr}")
    return path


class BareRoot(Startable):
    """A bare Debian, with what its user starts, until close().

    It is the host ``controller``, with a network that nothing else is in.
    Processes that ``systemctl`` starts there are those of units, run by a
    stand-in (tests/systemctl.py); what they print is in ``/var/log/journal``.
    """

    def __init__(self) -> None:
        self.tarball = tarball()
        # Of this machine, for pip and apt: what they are told to read.
        self.folders: list[str] = []
        self.path = Path(tempfile.mkdtemp(prefix="test-bare-root-"))
        self._first_process: subprocess.Popen[str] | None = None
        self._pid = 0
        atexit.register(self.close)

    def start(self) -> None:
        subprocess.run(
            ["tar", "-x", "-f", self.tarball, "-C", self.path], check=True
        )
        self.path.chmod(0o755)
        self.folders = [*self._configure_pip(), *self._configure_apt()]
        self._bring(f"/etc/resolv.conf {CERTIFICATES}")
        hosts = Path("/etc/hosts").read_text()
        self.write("etc/hosts", f"127.0.0.1 controller\n{hosts}")
        self.write("etc/hostname", "controller\n")
        # In the place of the other: apt gives packages a PATH of its own.
        stand_in = self.path / "usr/bin/systemctl"
        stand_in.rename(f"{stand_in}.debian")
        shutil.copy(PROJECT / "tests/systemctl.py", stand_in)
        stand_in.chmod(0o755)
        # By this packages see that services are systemd's.
        (self.path / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        unshare = ["unshare", "--fork", "--kill-child"]
        unshare += ["--mount", "--net", "--pid", "--uts", "--ipc"]
        starting = ["bash", "-c", FIRST_PROCESS, "bash", str(self.path)]
        self._first_process = subprocess.Popen(
            [*unshare, *starting, *self.folders],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._first_process.stdout
        assert self._first_process.stderr
        pid = self._first_process.stdout.readline()
        if not pid:
            raise RuntimeError(self._first_process.stderr.read())
        self._pid = int(pid)

    def _configure_pip(self) -> list[str]:
        """Write its configuration; return folders that this is about."""
        sections: dict[str, str] = {}
        options = pip_options()
        for name, value in options.items():
            section, _, key = name.partition(".")
            line = f"{key} = " + value.replace("\\n", "\n    ") + "\n"
            sections[section] = sections.get(section, "") + line
        text = "".join(f"[{name}]\n{sections[name]}" for name in sections)
        self.write("etc/pip.conf", text)
        return self._bring(" ".join(options.values()))

    def _configure_apt(self) -> list[str]:
        # What is only recommended takes minutes, and shows nothing.
        options = 'APT::Install-Recommends "0";\n' + apt_options()
        self.write("etc/apt/apt.conf.d/90sources", options)
        return self._bring(f"{options} /etc/apt/auth.conf.d /etc/apt/keyrings")

    def _bring(self, text: str) -> list[str]:
        """Copy files that a text names; return the folders that it does."""
        folders = []
        for name in re.findall(r"(?<![\w.:/])(?:file://)?(/[\w./+-]+)", text):
            path = Path(name)
            if path.is_file():
                there = self.path / name.lstrip("/")
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, there)
            elif path.is_dir():
                # An index has its packages beside it.
                folders.append(str(path).removesuffix("/simple"))
        return folders

    def write(self, name: str, text: str) -> None:
        """Write a file; folders above it are made."""
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.path / name.lstrip("/")).read_text()

    def bring_project(self, name: str = "root/profiler_bridge") -> None:
        """Put a checkout of this project there, as its files are now."""
        there = self.path / name.lstrip("/")
        clone = ["git", "clone", "--quiet", "--no-hardlinks"]
        subprocess.run([*clone, PROJECT, there], check=True)
        listing = ["git", "ls-files", "-z", "--cached", "--others"]
        listed = subprocess.run(
            [*listing, "--exclude-standard"],
            cwd=PROJECT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for file in listed.split("\0"):
            if not (PROJECT / file).is_file():
                continue  # deleted, and not yet committed so
            (there / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / file, there / file)

    def run(
        self,
        commands: str,
        *,
        network: bool = False,
        check: bool = True,
        folder: str = "/root",
        timeout: float = 900,
    ) -> subprocess.CompletedProcess[str]:
        """Run what a shell would be given, as root, until its first failure.

        :param network: in the network of this machine, for what apt and pip
            bring, not in the root's own
        :param check: that the exit code is 0; the error has what was printed
        """
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--root"]
        if not network:
            namespaces.append("--net")
        enter = ["nsenter", f"--target={self._pid}", *namespaces]
        bash = ["bash", "-e", "-o", "pipefail", "-c"]
        done = subprocess.run(
            [*enter, f"--wd={self.path}{folder}", *bash, commands],
            env=ENVIRONMENT | proxies(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            output = "\n".join(done.stdout.splitlines()[-60:])
            raise AssertionError(f"failed:\n{commands}\n{output}")
        return done

    def close(self) -> None:
        """End all that runs there, and remove it."""
        if self._first_process:
            # The kernel ends all processes and mounts with it.
            if self._pid and self._first_process.poll() is None:
                os.kill(self._pid, signal.SIGKILL)
            self._first_process.kill()
            self._first_process.wait(60)
            self._first_process = None
        shutil.rmtree(self.path, ignore_errors=True)
        atexit.unregister(self.close)
