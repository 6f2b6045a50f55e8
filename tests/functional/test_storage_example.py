# SPDX-License-Identifier: Apache-2.0

"""The storage plugin that the documentation shows does what it has to.

And its tests would notice if it did not.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import functools
import importlib
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from stevedore import ExtensionManager

from profiler_bridge.storage import get_storage
from profiler_bridge.storage.plugin import (
    Entry,
    Inserted,
    Kind,
    Mark,
    Name,
    Piece,
    Place,
    StoragePlugin,
)
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing import concurrency
from profiler_bridge.testing.helpers import Intermediary
from profiler_bridge.testing.storage import StorageConformance

EXAMPLES = Path(__file__).parents[2] / "doc/source/contributor/examples"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The entry points of the example, as if it had been installed."""
    setup = configparser.ConfigParser()
    setup.read(EXAMPLES / "setup.cfg")
    folder = tmp_path_factory.mktemp("site-packages")
    metadata = folder / "profiler_bridge_shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: profiler_bridge_shelf\n")
    (metadata / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n{lines}\n"
            for group, lines in setup["options.entry_points"].items()
        )
    )
    folders = [str(folder), str(EXAMPLES)]
    sys.path[:0] = folders
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    yield
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    for added in folders:
        sys.path.remove(added)


def _suite() -> Any:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("test_shelf").TestShelf
    finally:
        sys.path.remove(str(EXAMPLES))


class TestExample(_suite()):  # type: ignore[misc]
    """Its own tests."""


# The suite


def test_no_test_of_the_suite_hides_another() -> None:
    """Test groups are base classes: of two equal names only one would run."""
    names = [
        name
        for group in StorageConformance.__mro__
        for name in vars(group)
        if name.startswith("test_")
    ]
    assert len(names) > 100
    assert sorted({*names}) == sorted(names)


THIRD_PARTY = """
import importlib, pkgutil
from profiler_bridge import testing
from profiler_bridge.testing.storage import StorageConformance

class TestMine(StorageConformance):
    def test_assertions_say_what_they_compared(self):
        for _, name, _ in pkgutil.iter_modules(testing.__path__):
            module = importlib.import_module(f"{testing.__name__}.{name}")
            loader = type(module.__loader__).__name__
            assert loader == "AssertionRewritingHook"

    def raw_payloads(self, connection_string):
        return ["this should not be there"]

    def test_that_fails(self):
        self.assert_stored("", [])
"""


def test_assertions_of_the_suite_are_explained_to_others(
    tmp_path: Path,
) -> None:
    """In a project that says nothing of profiler_bridge to pytest."""
    (tmp_path / "test_mine.py").write_text(THIRD_PARTY)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "assertions or fails"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "1 failed, 1 passed" in run.stdout
    assert "assert ['\"this should not be there\"'] == []" in run.stdout


def test_the_page_promises_what_the_example_uses() -> None:
    used = set()
    for node in ast.walk(ast.parse((EXAMPLES / "shelf.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.startswith("profiler_bridge"):
                names = {name.name for name in node.names}
                used |= {
                    f"{node.module}.{name}" if name.islower() else name
                    for name in names
                }
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
            "plugin",
            "exceptions",
        ):
            used.add(node.attr)
    page = (EXAMPLES.parent / "storage-plugin.rst").read_text()
    assert used
    assert [name for name in used if not re.search(rf"\b{name}\b", page)] == []


# Mistakes that whoever writes a storage could make. With each of them traces
# are missing from lists, though all that was written is stored.


def told_by(marks: Collection[Mark]) -> dict[str, Place]:
    """The places of those traces that have all kinds of marks."""
    values: dict[tuple[str, Kind], set[int]] = {}
    for base_id, kind, value in marks:
        values.setdefault((base_id, kind), set()).add(value)
    return {
        base_id: Place(
            min(starts),
            max(values[base_id, Kind.FINISH]),
            frozenset(values.get((base_id, Kind.TERM), ())),
        )
        for (base_id, kind), starts in values.items()
        if kind == Kind.START and (base_id, Kind.FINISH) in values
    }


class _AddsNothing(Intermediary):
    """Leaves out the entries that the marks show to be missing."""

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        if not pieces and not marks:
            return Inserted((), {})
        return self.plugin.insert(pieces, marks, entries, names)


class _ReadsNothing(Intermediary):
    """Reads only the marks that it wrote itself."""

    def __init__(self, plugin: StoragePlugin) -> None:
        super().__init__(plugin)
        self._marks: set[Mark] = set()

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        others = self.marks_of_others([piece.base_id for piece in pieces])
        inserted = self.plugin.insert(pieces, marks, entries, names)
        self._marks |= {*marks, *others}
        return Inserted(inserted.known, told_by(self._marks))

    def marks_of_others(self, base_ids: Collection[str]) -> list[Mark]:
        return []


class _ReadsTooEarly(_ReadsNothing):
    """Reads the marks of others before its own are committed."""

    def marks_of_others(self, base_ids: Collection[str]) -> list[Mark]:
        path = str(self.plugin).removeprefix("shelf://")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            marks = [
                Mark(base_id, Kind(kind), value)
                for base_id in base_ids
                for kind, value in connection.execute(
                    "SELECT kind, value FROM marks WHERE base_id = ?",
                    [base_id],
                )
            ]
        time.sleep(0.02)  # others read now, too
        return marks


class _SkipsWhatIsKnown(Intermediary):
    """Does nothing when everything is stored already."""

    def insert(
        self,
        pieces: Sequence[Piece],
        marks: Collection[Mark],
        entries: Collection[Entry],
        names: Collection[Name] = (),
    ) -> Inserted:
        if pieces:
            inserted: Inserted = self.plugin.insert(pieces, (), ())
            if len(inserted.known) == len(pieces):
                return Inserted(inserted.known, told_by(marks))
        return self.plugin.insert(pieces, marks, entries, names)


@pytest.mark.parametrize(
    ("mistake", "count"),
    [
        (_AddsNothing, 40),
        (_ReadsNothing, 40),
        (_SkipsWhatIsKnown, 80),
        (_ReadsTooEarly, 80),
    ],
)
def test_the_suite_notices_mistakes(
    tmp_path: Path, mistake: Any, count: int
) -> None:
    connection_string = f"shelf://{tmp_path}/traces.shelf"
    storage = get_storage(connection_string)
    storage.prepare()
    traces = concurrency.make_traces(count)
    concurrency.write_and_crash(
        connection_string, traces, functools.partial(_storage, mistake)
    )
    with pytest.raises(AssertionError):
        concurrency.assert_listed(storage, traces)


def _storage(mistake: Any, plugin: StoragePlugin) -> Storage:
    return Storage(mistake(plugin))
