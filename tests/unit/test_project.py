# SPDX-License-Identifier: Apache-2.0

"""What the project's own files promise of each other."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import sys
from importlib import metadata
from pathlib import Path

from profiler_bridge import config
from profiler_bridge.preflight import NAMESPACES
from profiler_bridge.storage.redis import plugin as redis
from tests import sample

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "profiler_bridge"

# Each room may import those before it, and its own. See the architecture.
ROOMS = [
    "exceptions",
    "url",
    "retry",
    "timed",
    "text",
    "notification",
    "body",
    "allow_list",
    "masking",
    "statement",
    "path",
    "operation",
    "roots",
    "trace",
    "late",
    "critical",
    "summary",
    "settled",
    "query",
    "rules",
    "report",
    "storage",
    "arguments",
    "forward",
    "bus",
    "daemon",
    "archive",
    "transfer",
    "api",
    "config",
    "reading",
    "sender",
    "simulation",
    "wsgi",
    "preflight",
    "cmd",
    "osprofiler",
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
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / full.replace(".", "/")).with_suffix(
                    ".py"
                ).exists() or (ROOT / full.replace(".", "/")).is_dir()
                names.add(full if is_module else node.module)
    return {name for name in names if name.startswith(f"{PACKAGE.name}.")}


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


def test_reports_and_storages_know_nothing_of_each_other() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, path in modules()
        for other in imports(path)
        for one, another in (("report", "storage"), ("storage", "report"))
        if module.startswith(f"profiler_bridge.{one}")
        and other.startswith(f"profiler_bridge.{another}")
    ]
    assert wrong == []


def test_core_never_imports_a_plugin() -> None:
    """Ours have no other way in than a third party's."""
    plugins = ("profiler_bridge.storage.sql", "profiler_bridge.storage.redis")
    wrong = [
        f"{module} imports {other}"
        for module, path in modules()
        for other in imports(path)
        if other.startswith(plugins) and not module.startswith(plugins)
    ]
    assert wrong == []


def own_sections(text: str) -> list[str]:
    """Those of our own options; others' follow their releases."""
    return [part.strip() for part in sample.sections(text)[: len(sample.OWN)]]


def test_sample_configuration_is_not_stale() -> None:
    text = sample.SAMPLE.read_text()
    assert own_sections(sample.generate()) == own_sections(text), (
        "run: tox -e genconfig"
    )


def test_own_options_come_first_in_the_sample() -> None:
    names = re.findall(r"(?m)^\[(.+)\]$", sample.SAMPLE.read_text())
    assert names[: len(sample.OWN) + 1] == [*sample.OWN, "DEFAULT"]
    listed = {
        group.partition(":")[0]
        for options in (config.list_opts(), redis.list_opts())
        for group, _ in options
    }
    assert listed == {name.partition(":")[0] for name in sample.OWN}


def test_sample_configuration_has_every_option() -> None:
    text = sample.SAMPLE.read_text()
    missing = [
        option.dest
        for name, path in modules()
        if "\nOPTS: " in path.read_text()
        for option in importlib.import_module(name).OPTS
        if f"\n#{option.dest} =" not in text
    ]
    assert missing == []


def test_check_knows_the_options_of_the_sample() -> None:
    generator = (ROOT / "etc" / "config-generator.conf").read_text()
    namespaces = re.findall("^namespace = (.*)$", generator, re.MULTILINE)
    assert {*namespaces} == NAMESPACES


def minima() -> dict[str, str]:
    """The oldest release of each library, as requirements name it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    lines += setup["options.extras_require"]["test"].split()
    versions = {}
    for line in lines:
        name, _, version = line.partition(",")[0].partition(">=")
        versions[name.replace("[binary]", "")] = version
        if "[binary]" in name:
            versions[name.replace("[binary]", "-binary")] = version
    return versions


def test_the_oldest_libraries_are_those_that_tests_run_with() -> None:
    pinned = {
        line.partition("==")[0]: line.partition("==")[2]
        for line in (ROOT / "lower-constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    assert pinned == minima()


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever it does."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            packages.add(node.module.partition(".")[0])
    return packages


def test_what_is_imported_is_declared() -> None:
    """Not only what something else happens to bring along."""
    of_packages = metadata.packages_distributions()
    # The last is Python's own hook for what is installed.
    extras = {"osprofiler", "psycopg", "pytest", "sitecustomize"}
    declared = {name.lower() for name in minima()} | extras
    undeclared = {
        f"{module} imports {package}"
        for module, path in modules()
        for package in imported(path) - sys.stdlib_module_names
        if package != "profiler_bridge"
        and not {
            name.lower().replace("_", "-")
            for name in of_packages.get(package, [package])
        }
        & declared
    }
    assert undeclared == set()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [
        line.strip()
        for line in (ROOT / "README.rst").read_text().splitlines()
        if line.startswith("    python3 -m venv")
    ]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_no_log_line_has_its_error_twice() -> None:
    """oslo.log adds the error that is being handled to every line."""
    lines = [
        f"{module}:{call.lineno}"
        for module, path in modules()
        for handler in ast.walk(ast.parse(path.read_text()))
        if isinstance(handler, ast.ExceptHandler)
        for call in ast.walk(handler)
        if isinstance(call, ast.Call)
        and re.match(r"LOG\.(warning|error|critical)\(", ast.unparse(call))
        and "exc_info" not in ast.unparse(call)
    ]
    assert lines == []


def test_source_files_name_their_licence() -> None:
    without = [
        str(path)
        for folder in ("profiler_bridge", "tests", "doc")
        for path in (ROOT / folder).rglob("*.py")
        if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]
    ]
    assert without == []


def test_the_links_of_the_project_stand_in_one_place() -> None:
    """Whoever publishes it sets them there."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    home = setup["metadata"]["home_page"]
    links = setup["metadata"]["project_urls"].strip().splitlines()
    assert [line.partition(" = ")[0] for line in links] == [
        "Documentation",
        "Source",
        "Issues",
        "Security",
    ]
    files = [
        *ROOT.glob("*.rst"),
        *ROOT.glob("*.toml"),
        *(ROOT / "devstack").iterdir(),
        *(ROOT / "etc").iterdir(),
        *(ROOT / "doc/source").rglob("*.rst"),
        *(ROOT / "releasenotes/notes").iterdir(),
        *PACKAGE.rglob("*.py"),
    ]
    assert [path for path in files if home in path.read_text()] == []


def test_releases_of_python_are_the_same_wherever_they_stand() -> None:
    setup = (ROOT / "setup.cfg").read_text()
    supported = re.findall(r"Python :: (3\.\d+)\n", setup)
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r'PYTHONS:=([^}]*)}"', ci) == [" ".join(supported)]
    tox = (ROOT / "tox.ini").read_text()
    minors = re.findall(r"^\[testenv:py3\{([\d,]+)\}\]", tox, re.MULTILINE)
    [known] = re.findall(r"for version in ([^;]*);", ci)
    assert [f"3.{minor}" for minor in minors[0].split(",")] == known.split()
    assert {*supported} <= {*known.split()}
    compatibility = ROOT / "doc/source/admin/compatibility.rst"
    page = compatibility.read_text()
    assert [version for version in known.split() if version not in page] == []
