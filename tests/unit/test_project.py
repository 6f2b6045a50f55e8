# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What the project's own files promise of each other."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

from profiler_bridge.check import NAMESPACES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "profiler_bridge"

# Each room may import those before it, and its own. See the architecture.
ROOMS = [
    "exceptions",
    "notification",
    "notifier",
    "osprofiler",
    "masking",
    "trace",
    "query",
    "report",
    "storage",
    "set_aside",
    "copying",
    "metrics",
    "endpoint",
    "collector",
    "queue",
    "listener",
    "purger",
    "service",
    "config",
    "check",
    "cmd",
]


def room(module: str) -> int:
    return ROOMS.index(module.split(".")[1])


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, wherever it does."""
    tree = ast.parse(path.read_text())
    # What only type checkers import is no dependency.
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))
    ]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                full = f"{node.module}.{each.name}"
                is_module = (ROOT / full.replace(".", "/")).with_suffix(
                    ".py"
                ).exists() or (ROOT / full.replace(".", "/")).is_dir()
                found.add(full if is_module else node.module)
    return {each for each in found if each.startswith(f"{PACKAGE.name}.")}


def modules() -> list[tuple[str, Path]]:
    return [
        (
            ".".join(
                path.relative_to(ROOT).with_suffix("").parts
            ).removesuffix(".__init__"),
            path,
        )
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE or path.name != "__init__.py"
    ]


def test_imports_point_upward() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, path in modules()
        if not module.startswith("profiler_bridge.testing")
        for other in imports(path)
        if room(other) > room(module)
    ]
    assert wrong == []


def test_core_never_imports_a_plugin() -> None:
    plugins = {"sqlalchemy", "redis", "redissentinel"}
    wrong = [
        f"{module} imports {other}"
        for module, path in modules()
        for other in imports(path)
        if other.rpartition(".")[0] == "profiler_bridge.storage"
        and other.rpartition(".")[2] in plugins
        and not module.startswith("profiler_bridge.storage.migrations")
        and (module, other)
        != (
            "profiler_bridge.storage.redissentinel",
            "profiler_bridge.storage.redis",
        )
    ]
    assert wrong == []


def test_reports_do_not_load_the_bus() -> None:
    """It takes longer to import than a report to make."""
    code = (
        "import sys, profiler_bridge.cmd.report;"
        "sys.exit('oslo_messaging' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def own_sections(text: str) -> list[str]:
    """The sections of our own options; others' follow their releases."""
    sections = ("\n" + text).split("\n[")
    return [
        each.strip()
        for each in sections
        if each.startswith(("bridge]", "osprofiler]"))
    ]


def test_sample_configuration_is_not_stale(tmp_path: Path) -> None:
    fresh = tmp_path / "bridge.conf"
    subprocess.run(
        [
            str(Path(sys.executable).with_name("oslo-config-generator")),
            "--config-file",
            str(ROOT / "etc" / "config-generator.conf"),
            "--output-file",
            str(fresh),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    assert own_sections(fresh.read_text())
    assert own_sections(fresh.read_text()) == own_sections(
        (ROOT / "etc" / "bridge.conf").read_text()
    ), "run: tox -e genconfig"


def test_sample_configuration_has_every_option() -> None:
    sample = (ROOT / "etc" / "bridge.conf").read_text()
    missing = [
        option.dest
        for name, path in modules()
        if "\nOPTS: " in path.read_text()
        for option in importlib.import_module(name).OPTS
        if f"\n#{option.dest} =" not in sample
    ]
    assert missing == []


def test_check_knows_the_options_of_the_sample() -> None:
    generator = (ROOT / "etc" / "config-generator.conf").read_text()
    namespaces = re.findall("^namespace = (.*)$", generator, re.MULTILINE)
    assert {*namespaces} == NAMESPACES


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [
        line.strip()
        for line in (ROOT / "README.rst").read_text().splitlines()
        if line.startswith("    python3 -m venv")
    ]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_source_files_name_their_licence() -> None:
    without = [
        str(path)
        for folder in ("profiler_bridge", "tests", "doc")
        for path in (ROOT / folder).rglob("*.py")
        if "Licensed under the Apache License" not in path.read_text()[:200]
    ]
    assert without == []
