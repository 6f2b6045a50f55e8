# SPDX-License-Identifier: Apache-2.0

"""What users can meet is in the documentation, and what is there is true."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import runpy
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

from oslo_config import cfg

from profiler_bridge.exceptions import Reason
from profiler_bridge.report.findings import Rule
from tests import examples
from tests.daemon import script

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "profiler_bridge").rglob("*.py"))
DOC = ROOT / "doc/source"
PAGES = {
    path.relative_to(DOC).as_posix(): path.read_text()
    for path in DOC.rglob("*.rst")
}
TEXT = "\n".join(PAGES.values())


def entry_points() -> list[EntryPoint]:
    """Those of setup.cfg: an installation may be older."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return [
        EntryPoint(name.strip(), value.strip(), group)
        for group, lines in setup["entry_points"].items()
        for line in lines.strip().splitlines()
        for name, _, value in [line.partition("=")]
    ]


def generated_from(directive: str) -> set[str]:
    """What all directives of this name are given, their options aside."""
    return {
        line.strip()
        for match in re.finditer(
            rf"^\.\. {re.escape(directive)}::(.*(?:\n(?: .*)?)*)", TEXT, re.M
        )
        for line in match[1].splitlines()
        if not line.strip().startswith(":")
    }


def list_opts() -> list[cfg.Opt]:
    """The project's options, as oslo.config's tools find them."""
    return [
        option
        for entry_point in entry_points()
        if entry_point.group == "oslo.config.opts"
        for _, options in entry_point.load()()
        for option in options
    ]


def opts_of_modules() -> Iterator[tuple[str, Sequence[cfg.Opt]]]:
    """The name of each module that has options, and the options."""
    for path in SOURCES:
        if "\nOPTS: " in path.read_text():
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name, importlib.import_module(name).OPTS


def metric_names() -> set[str]:
    """They begin with ``profiler_bridge_``, and no other text in code does."""
    return {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch("profiler_bridge_[a-z_]+", node.value)
    }


def test_every_console_script_has_a_page_and_a_man_page() -> None:
    scripts = [
        entry_point.name
        for entry_point in entry_points()
        if entry_point.group == "console_scripts"
    ]
    assert scripts
    man_pages = runpy.run_path(str(DOC / "conf.py"))["man_pages"]
    assert {(f"cli/{name}", name) for name in scripts} == {
        (page, name) for page, name, *_ in man_pages
    }
    assert {f"cli/{name}.rst" for name in scripts} <= PAGES.keys()


def test_every_command_is_documented() -> None:
    commands = [
        entry_point
        for entry_point in entry_points()
        if entry_point.module.startswith("profiler_bridge.cmd.")
        and entry_point.attr
        and entry_point.group != "console_scripts"
    ]
    assert commands
    pages = generated_from("autoprogram-cliff")
    assert [
        entry_point
        for entry_point in commands
        if entry_point.group not in pages
    ] == []
    # What the pages are generated from says something, too.
    wordless = []
    for entry_point in commands:
        command = entry_point.load()(None, None)
        if not command.get_description():
            wordless.append(entry_point.name)
        command.app_dist_name = "profiler_bridge"
        wordless += [
            f"{entry_point.name} {action.dest}"
            for action in command.get_parser(entry_point.name)._actions
            if not action.help
        ]
    assert wordless == []


def help_texts(path: Path) -> Iterator[str]:
    """What the code says of arguments, as far as it stands there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "help":
            if isinstance(node.value, ast.Constant):
                yield str(node.value.value)
            elif isinstance(node.value, ast.JoinedStr):
                end = node.value.values[-1]
                yield str(end.value) if isinstance(end, ast.Constant) else ""


def test_help_texts_end_as_sentences_do() -> None:
    texts = [text for path in SOURCES for text in help_texts(path)]
    texts += [str(option.help) for option in list_opts()]
    assert len(texts) > 50
    assert [text for text in texts if not text.endswith(".")] == []


def test_every_console_script_has_a_version() -> None:
    for entry_point in entry_points():
        if entry_point.group == "console_scripts":
            done = subprocess.run(
                [script(entry_point.name), "--version"],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert metadata.version("profiler_bridge") in done.stdout


def test_every_option_is_documented() -> None:
    namespaces = {
        entry_point.name
        for entry_point in entry_points()
        if entry_point.group == "oslo.config.opts"
    }
    assert namespaces <= generated_from("show-options")
    sample = (ROOT / "etc/config-generator.conf").read_text().splitlines()
    assert {f"namespace = {name}" for name in namespaces} <= set(sample)
    listed = list_opts()
    assert [option.name for option in listed if not option.help] == []
    assert [
        f"{option.name} of {module}"
        for module, options in opts_of_modules()
        for option in options
        if option not in listed
    ] == []


def test_every_metric_is_documented() -> None:
    assert [
        metric
        for metric in metric_names()
        if not re.search(f"``{metric}(_total)?``", TEXT)
    ] == []


def test_every_rule_of_findings_is_documented() -> None:
    page = PAGES["user/reports.rst"]
    assert [rule for rule in Rule if f"\n``{rule}`` " not in page] == []


def test_every_set_aside_reason_is_documented() -> None:
    page = PAGES["admin/delivery.rst"]
    assert [
        reason for reason in Reason if f"   * - ``{reason}``\n" not in page
    ] == []


def test_outputs_in_the_cookbook_are_what_commands_print() -> None:
    assert {
        path.name: path.read_text() for path in examples.FOLDER.glob("*.txt")
    } == dict(examples.outputs()), "run: tox -e examples"


def test_links_of_texts_at_the_top_lead_somewhere() -> None:
    for name in ("README.rst", "CONTRIBUTING.rst", "SECURITY.rst"):
        links = re.findall(r"<([^>\s:]+)>`_", (ROOT / name).read_text())
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []


def test_no_page_is_left_out_of_its_guide() -> None:
    """Guides name their pages, in the order of the work."""
    for guide in ("admin", "user"):
        listed = re.findall(
            r"^   ([a-z-]+)$", PAGES[f"{guide}/index.rst"], re.M
        )
        assert sorted(listed) == sorted(
            Path(name).stem
            for name in PAGES
            if name.startswith(f"{guide}/")
            and not name.endswith(("/index.rst", "/chaos-table.rst"))
        )


def test_lines_of_the_log_in_troubleshooting_are_in_the_code() -> None:
    quoted = [
        " ".join(text.split())
        for text in re.findall(
            r"^   \* - ``([A-Z][^`]*)``",
            PAGES["admin/troubleshooting.rst"],
            re.M,
        )
    ]
    assert len(quoted) > 5
    sources = "".join(
        "".join(
            f"{node.value}\n"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for path in SOURCES
    )
    of_others = {"PRECONDITION_FAILED"}
    assert [
        line
        for line in quoted
        if line.replace(" N ", " %d ") not in sources and line not in of_others
    ] == []
