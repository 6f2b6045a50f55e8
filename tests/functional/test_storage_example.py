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

"""The storage plugin that the documentation shows does what it has to."""

from __future__ import annotations

import configparser
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stevedore import ExtensionManager

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
    path = [str(folder), str(EXAMPLES)]
    sys.path[:0] = path
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    yield
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    for each in path:
        sys.path.remove(each)


def _suite() -> Any:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("test_shelf").TestShelf
    finally:
        sys.path.remove(str(EXAMPLES))


class TestExample(_suite()):  # type: ignore[misc]
    """Its own tests."""
