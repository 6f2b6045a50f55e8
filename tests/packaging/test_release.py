# SPDX-License-Identifier: Apache-2.0

"""A release, from its tag to commands of it, with each Python there is.

What is released is what is committed.
"""

from __future__ import annotations

import configparser
import functools
import os
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.commands import run

ROOT = Path(__file__).parents[2]
VERSION = "1.0.0"
EXTRAS = "api,demo,keystone,postgresql,zstd"

# pip without what this machine tells it about packages.
OFFLINE = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("PIP_") and name != "PYTHONPATH"
} | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@functools.cache
def pythons() -> dict[str, str]:
    """Where those are that the project knows: pyenv's, or the system's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    interpreters = {}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        own = sorted(versions.glob(f"versions/{version}.*/bin/python"))
        for candidate in [*map(str, own), f"python{version}"]:
            try:
                run(candidate, "--version")
            except (OSError, AssertionError):
                continue
            interpreters[version] = candidate
    return interpreters


@dataclass
class Environment:
    """A virtual environment, with pip and nothing else at first."""

    python: str
    path: Path

    def __post_init__(self) -> None:
        run(self.python, "-m", "venv", self.path)

    def program(self, name: str) -> Path:
        return self.path / "bin" / name

    def pip(
        self, *arguments: str | Path, env: dict[str, str] | None = None
    ) -> None:
        run(self.program("pip"), "--quiet", *arguments, env=env)


class Release:
    """A clone of this checkout, and what is built from it.

    :param folder: where they are
    :param tag: of what is committed; without one there is no tag at all
    """

    def __init__(self, folder: Path, tag: str | None) -> None:
        self.source = folder / "source"
        run("git", "clone", "--quiet", "--no-tags", ROOT, self.source)
        if tag:
            self.git("tag", "--annotate", "--message", f"Release {tag}", tag)
        self.built = folder / "dist"

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return run("git", *who, *arguments, cwd=self.source)

    def build(self, *what: str) -> None:
        command = [sys.executable, "-m", "build", *what]
        run(*command, "--outdir", self.built, self.source)

    @property
    def wheel(self) -> Path:
        [path] = self.built.glob("*.whl")
        return path

    @property
    def sdist(self) -> Path:
        [path] = self.built.glob("*.tar.gz")
        return path


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    made = Release(tmp_path_factory.mktemp("release"), VERSION)
    # The wheel is made from the sdist, so what that lacks this lacks, too.
    made.build()
    return made


def test_the_version_is_the_tag(release: Release) -> None:
    assert release.wheel.name == f"profiler_bridge-{VERSION}-py3-none-any.whl"
    assert release.sdist.name == f"profiler_bridge-{VERSION}.tar.gz"


def test_a_checkout_without_tags_precedes_every_release(
    tmp_path: Path,
) -> None:
    untagged = Release(tmp_path, None)
    untagged.build("--wheel")
    assert untagged.wheel.name.startswith("profiler_bridge-0.0.1.dev")


def test_what_follows_a_tag_follows_the_release(tmp_path: Path) -> None:
    ahead = Release(tmp_path, VERSION)
    ahead.git("commit", "--quiet", "--allow-empty", "--message", "Go on")
    ahead.build("--wheel")
    assert ahead.wheel.name.startswith("profiler_bridge-1.0.1.dev1-")


def test_the_wheel_has_the_package_and_its_data_and_nothing_else(
    release: Release,
) -> None:
    files = {*release.git("ls-files", "profiler_bridge").split()}
    assert {"css", "html", "js", "py"} <= {
        name.rpartition(".")[2] for name in files
    }
    with zipfile.ZipFile(release.wheel) as wheel:
        names = {*wheel.namelist()}
        own = f"profiler_bridge-{VERSION}"
        metadata = wheel.read(f"{own}.dist-info/METADATA").decode()
        scripts = configparser.ConfigParser()
        scripts.read_string(
            wheel.read(f"{own}.dist-info/entry_points.txt").decode()
        )
    installed = {name for name in names if not name.startswith(own)}
    assert installed == files
    data = f"{own}.data/data/etc/profiler_bridge/"
    assert {
        name.removeprefix(data)
        for name in names
        if name.startswith(f"{own}.data/")
    } == {path.name for path in (ROOT / "etc").iterdir()} - {
        # For who builds: the sample, or an image.
        "Containerfile",
        "config-generator.conf",
    }
    assert "Requires-Python: >=3.11" in metadata
    assert "License: Apache-2.0" in metadata
    assert "profiler-bridge" in scripts["console_scripts"]


def test_the_sdist_has_what_is_in_git(release: Release) -> None:
    """Distributions build, test and document from it."""
    with tarfile.open(release.sdist) as sdist:
        names = {
            member.name.partition("/")[2]
            for member in sdist.getmembers()
            if member.isfile()
        }
    tracked = {*release.git("ls-files").split()}
    assert tracked - names == {".gitignore"}
    assert {name for name in names - tracked if "egg-info/" not in name} == {
        "AUTHORS",
        "ChangeLog",
        "PKG-INFO",
    }


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_it_installs_offline_and_works(
    version: str, release: Release, tmp_path: Path
) -> None:
    """As doc/source/install/offline.rst has it."""
    if version not in pythons():
        pytest.skip(f"Python {version} is not installed")
    python = pythons()[version]
    online = Environment(python, tmp_path / "online")
    house = tmp_path / "wheelhouse"
    wanted = f"{release.wheel}[{EXTRAS}]"
    to_build = ["pbr>=6.1.0", "setuptools>=64.0.0", "wheel"]
    online.pip("wheel", "--wheel-dir", house, wanted, *to_build)
    there = ["--no-index", f"--find-links={house}"]

    fresh = Environment(python, tmp_path / "from-wheel")
    fresh.pip("install", *there, f"profiler_bridge[{EXTRAS}]", env=OFFLINE)
    check_commands(fresh, tmp_path)

    # The same from source, where wheels of others are not trusted.
    built = Environment(python, tmp_path / "from-sdist")
    built.pip("install", *there, *to_build, env=OFFLINE)
    there.append("--no-build-isolation")
    built.pip("install", *there, release.sdist, env=OFFLINE)
    assert VERSION in run(
        built.program("profiler-bridge"), "--version", env=OFFLINE
    )


def check_commands(installed: Environment, folder: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["entry_points"]["console_scripts"].split("\n")
    names = [line.partition(" = ")[0] for line in scripts if line]
    assert len(names) > 3
    for name in names:
        printed = run(installed.program(name), "--version", env=OFFLINE)
        assert VERSION in printed, name
    demo = installed.program("profiler-bridge-demo")
    printed = run(demo, f"--directory={folder}/demo", env=OFFLINE)
    assert "The database is " in printed
    report = installed.program("profiler-bridge-report")
    storage = f"--connection-string=sqlite:///{folder}/demo/traces.sqlite"
    listed = run(report, storage, "list", "-f", "value", env=OFFLINE)
    base_id = listed.split()[0]
    page = run(report, storage, "show", "-f", "html", base_id, env=OFFLINE)
    assert page.rstrip().endswith("</html>")
