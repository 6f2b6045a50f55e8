# SPDX-License-Identifier: Apache-2.0

"""The container image: built as its file says, and what runs in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bare_root import PROJECT, BareRoot
from tests.servers import find, wait_until

PAGE = PROJECT / "doc/source/install/container.rst"
CONFIGURATION = """
[DEFAULT]
# Nobody is there: no reason to be unhealthy.
transport_url = rabbit://guest:guest@127.0.0.1:1/

[osprofiler]
connection_string = sqlite:////var/lib/profiler_bridge/traces.sqlite
"""


class Images:
    """Buildah, with images of its own in a folder."""

    base = "localhost/bare:latest"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = find("buildah", "buildah")
        self.image = ""
        self.config: dict[str, Any] = {}

    def build(self, root: BareRoot) -> None:
        """Build the bridge's on what a bare Debian is."""
        container = self("from", "scratch")
        self("add", container, str(root.path), "/")
        self("commit", container, self.base)
        self("rm", container)
        volumes = (f"--volume={path}:{path}:ro" for path in root.folders)
        root.bring_project("srv/checkout")
        checkout = root.path / "srv/checkout"
        self.image = self(
            "build",
            "--quiet",
            "--format=docker",
            "--network=host",
            "--pull-never",
            f"--build-arg=BASE={self.base}",
            f"--file={checkout}/etc/Containerfile",
            *volumes,
            str(checkout),
        )
        inspected = self("inspect", "--type=image", self.image)
        self.config = json.loads(inspected)["Docker"]["config"]

    def command(self, *args: str) -> list[str]:
        places = [
            f"--root={self.folder}/images",
            f"--runroot={self.folder}/run",
        ]
        return [self.program, *places, *args]

    def __call__(self, *args: str) -> str:
        done = subprocess.run(
            self.command(*args),
            capture_output=True,
            text=True,
            timeout=1200,
            env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
        )
        if done.returncode:
            raise AssertionError(f"{args[0]}: {done.stdout}{done.stderr}")
        return done.stdout.strip()


@pytest.fixture(scope="module")
def images(bare_root: BareRoot) -> Iterator[Images]:
    with tempfile.TemporaryDirectory(prefix="test-images-") as folder:
        images = Images(Path(folder))
        try:
            images.build(bare_root)
            yield images
        finally:
            # What is mounted, too.
            images("rm", "--all")


def test_no_more_is_in_it_than_what_runs(images: Images) -> None:
    assert images.config["User"] == "42800:42800"
    assert images.config.get("ExposedPorts", {}) == {}
    assert {entry.partition("=")[0] for entry in images.config["Env"]} == {
        "PATH",
        "OS_BRIDGE__METRICS_PORT",
    }
    container = images("from", "--pull-never", images.image)
    root = Path(images("mount", container))
    assert not (root / "src").exists()
    assert not (root / "usr/bin/git").exists()
    assert list((root / "etc/profiler_bridge").iterdir()) == []
    images("rm", container)


def master(process: subprocess.Popen[bytes]) -> int | None:
    """The daemon's first process, which has its network with this one."""
    network = Path(f"/proc/{process.pid}/ns/net").readlink()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (path / "cmdline").read_bytes()
            is_ours = (path / "ns/net").readlink() == network
            if is_ours and title.startswith(b"profiler-bridge: master"):
                return int(path.name)
    return None


def test_it_runs_as_nobody_of_privileges_until_it_is_told_to_end(
    images: Images, tmp_path: Path
) -> None:
    configuration = tmp_path / "bridge.conf"
    configuration.write_text(CONFIGURATION)
    configuration.chmod(0o640)
    tmp_path.chmod(0o750)
    for path in (tmp_path, configuration):
        os.chown(path, 0, 42800)
    there = f"--volume={tmp_path}:/etc/profiler_bridge:ro"
    container = images("from", "--pull-never", images.image)
    run = images.command("run", "--isolation=chroot", there, container, "--")
    alone = ["unshare", "--net", "--pid", "--fork", "--kill-child"]
    alone += ["bash", "-c", 'ip link set lo up; exec "$@"', "bash"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*alone, *run, *images.config["Cmd"]], stdout=file, stderr=file
        )
    try:
        kind, *check = images.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        enter = ["nsenter", f"--target={process.pid}", "--net"]

        def is_healthy() -> bool:
            assert process.poll() is None, log.read_text()
            command = [*enter, *run, *check]
            done = subprocess.run(command, capture_output=True)
            return done.returncode == 0

        assert wait_until(is_healthy, 120), log.read_text()
        pid = master(process)
        assert pid
        assert Path(f"/proc/{pid}").stat().st_uid == 42800
        number = getattr(signal, images.config["StopSignal"])
        os.kill(pid, number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    images("rm", container)


class Podman:
    """Podman, with a page's commands, buildah's images, and its own network.

    What the commands make of the host is below a folder.
    """

    def __init__(self, images: Images, folder: Path) -> None:
        self.program = shutil.which("podman")
        if not self.program:
            pytest.skip("podman is not installed (Debian package: podman)")
        self.folder = folder
        # No more than anybody may have; and crun takes no hybrid cgroups.
        lines = [
            "[containers]",
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]',
            "[engine]",
            'cgroup_manager = "cgroupfs"',
            'events_logger = "none"',
        ]
        if shutil.which("runc"):
            lines.append('runtime = "runc"')
        self.configuration = folder / "containers.conf"
        self.configuration.write_text("\n".join(lines) + "\n")
        places = images.command()[1:]
        self.command = [self.program, *places, f"--tmpdir={folder}/podman"]
        network = ["unshare", "--net", "bash", "-c"]
        self.network = subprocess.Popen(
            [*network, "ip link set lo up && echo && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self.network.stdout
        self.network.stdout.readline()

    def bash(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run what the page has, in one shell, with paths of the folder."""
        lines = [
            line
            if "--config-file" in line
            else re.sub(
                r"(?<!:)/((etc|var/lib)/profiler_bridge)",
                rf"{self.folder}/\1",
                line,
            )
            for line in commands.splitlines()
        ]
        alias = f"alias podman={shlex.quote(shlex.join(self.command))}"
        bash = ["bash", "-O", "expand_aliases", "-c"]
        return subprocess.run(
            [
                *("nsenter", f"--target={self.network.pid}", "--net"),
                *(*bash, "\n".join([alias, *lines])),
            ],
            env=os.environ | {"CONTAINERS_CONF": str(self.configuration)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def close(self) -> None:
        self.bash("podman rm --all --force --time 1")
        self.network.kill()
        self.network.wait()


@pytest.fixture
def podman(images: Images, tmp_path: Path) -> Iterator[Podman]:
    podman = Podman(images, tmp_path)
    try:
        done = podman.bash(f"podman run --rm {images.image} true")
        if done.returncode:
            pytest.skip(f"podman runs no container here: {done.stderr}")
        podman.bash(f"podman tag {images.image} profiler-bridge")
        yield podman
    finally:
        podman.close()


def test_the_page_is_true_with_podman(podman: Podman) -> None:
    blocks = [
        textwrap.dedent(block)
        for block in re.findall(r"::\n\n((?: {4}.*\n)+)", PAGE.read_text())
    ]
    _, configuration, running, _, _, report, upgrade = blocks
    folder = podman.folder / "etc/profiler_bridge"
    folder.mkdir(parents=True)
    (folder / "bridge.conf").write_text(CONFIGURATION)
    done = podman.bash(configuration)
    assert done.returncode == 0, done.stderr
    done = podman.bash(running)
    assert done.returncode == 0, done.stderr
    # This one is as nobody is there: the page's check says so.
    assert re.search(r"^\| bus +\| failure ", done.stdout, re.M)

    def is_healthy() -> bool:
        done = podman.bash("podman healthcheck run profiler-bridge")
        return done.returncode == 0

    assert wait_until(is_healthy, 120)
    done = podman.bash(report)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("nothing is stored")
    # The image is that which was built, so that is not done again.
    alias = re.findall(r"^alias .*\n(?: .*\n)+", running, re.MULTILINE)
    done = podman.bash("".join(alias) + upgrade.partition("\n")[2])
    assert done.returncode == 0, done.stderr
    assert wait_until(is_healthy, 120)
    log = "podman logs profiler-bridge"
    done = podman.bash(f"podman stop profiler-bridge; {log}")
    assert "exiting of master process" in done.stdout + done.stderr, done
    state = "podman inspect --format '{{.State.ExitCode}}' profiler-bridge"
    assert podman.bash(state).stdout == "0\n"
