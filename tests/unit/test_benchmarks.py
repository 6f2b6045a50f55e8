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

"""The benchmarks still run: the part that needs no server."""

from __future__ import annotations

import json

from tests.benchmarks import building, payloads
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import compare, render, single


def test_building_is_measured() -> None:
    with Bench(quick=True) as bench:
        rows = [*building.run(bench)]
    assert len(rows) == 4
    assert all(row.met is None and row.ratio for row in rows)


def test_both_sides_build_the_same() -> None: ...


def test_payloads_are_as_large_as_keystones() -> None:
    sizes = [len(json.dumps(each)) for each in payloads.points(2000)]
    assert len(sizes) == 2000
    assert 420 < sum(sizes) / len(sizes) < 460


def test_table_says_what_is_met() -> None:
    rows = [
        compare("more", "/s", [3, 1], "other", [2, 1], at_least=1.2),
        compare("less", "ms", [1], "other", [60], inverse=True, at_least=50),
        single("memory", "MiB", [201], at_most=200),
    ]
    assert [row.met for row in rows] == [True, True, False]
    table = render(rows)
    assert table.splitlines()[4].split("  ")[-1].strip() == "at least 50: met"
    assert "at most 200: NOT MET" in table
