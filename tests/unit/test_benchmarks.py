# SPDX-License-Identifier: Apache-2.0

"""The benchmarks still run: the part that needs no server."""

from __future__ import annotations

import json
from pathlib import Path

from profiler_bridge.notification import Notification
from profiler_bridge.testing.sample import seeded
from tests.benchmarks import building, clients, payloads, serving
from tests.benchmarks.bench import Bench
from tests.benchmarks.service import serving as served
from tests.benchmarks.table import compare, render, single
from tests.osprofiler_report import equal_reports


def test_building_is_measured() -> None:
    with Bench(quick=True) as bench:
        rows = [*building.run(bench)]
    assert len(rows) == 4
    assert all(row.met is None and row.ratio for row in rows)


def test_both_sides_build_the_same() -> None:
    trace = payloads.trace(seeded(1), points=1000)
    ours = building.ours(map(Notification.from_payload, trace))
    assert equal_reports(ours, building.theirs(trace))
    assert ours["stats"]


def test_payloads_are_as_large_as_keystones() -> None:
    sizes = [len(json.dumps(payload)) for payload in payloads.points(2000)]
    assert len(sizes) == 2000
    assert 420 < sum(sizes) / len(sizes) < 460


def test_clients_tell_what_fails(tmp_path: Path) -> None:
    """Of a service that is asked at once by several, and then has ended."""
    url = f"sqlite:///{tmp_path}/traces.sqlite"
    stored = serving.fill(url, 400, long_every=10)
    with served(tmp_path, url) as service:
        done = clients.ask(service, stored, 3, 2.0)
    assert done
    assert not [request for request in done if request.failed]
    gone = clients.ask(service, stored, 1, 0.2)
    assert gone
    assert all("refused" in request.failed for request in gone)


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
