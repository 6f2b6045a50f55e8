# SPDX-License-Identifier: Apache-2.0

"""Run benchmarks: ``python -m tests.benchmarks``.

Prints a table and, when told so, writes everything that was measured to a
file. Servers are started by the benchmarks. Absolute figures are of the
machine; compare ratios. A full run takes 20 to 40 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from tests import servers
from tests.benchmarks import (
    building,
    cluster,
    finding,
    forwarding,
    ingest,
    memory,
    notifier,
    page,
    purging,
    reading,
    serving,
    settling,
    size,
    sizing,
    start_up,
    trickle,
    visibility,
    workers,
)
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Row, render

TOPICS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "ingest": ingest.run,
    "trickle": trickle.run,
    "cluster": cluster.run,
    "workers": workers.run,
    "memory": memory.run,
    "visibility": visibility.run,
    "notifier": notifier.run,
    "forwarding": forwarding.run,
    "settling": settling.run,
    "reading": reading.run,
    "finding": finding.run,
    "serving": serving.run,
    "purging": purging.run,
    "building": building.run,
    "page": page.run,
    "size": size.run,
    "sizing": sizing.run,
    "start-up": start_up.run,
}
_PACKAGES = (
    *("profiler_bridge", "osprofiler", "oslo.messaging", "SQLAlchemy"),
    *("PyMySQL", "psycopg", "redis"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Run benchmarks."
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, to see that everything works; nothing is judged",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=TOPICS,
        default=[*TOPICS],
        metavar="NAME",
        help=f"some of: {', '.join(TOPICS)}",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where all figures go"
    )
    args = parser.parse_args()
    rows: list[Row] = []
    began = time.monotonic()
    with Bench(quick=args.quick) as bench:
        for name in args.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                for row in TOPICS[name](bench):
                    rows.append(row)
                    print(f"  {row}", file=sys.stderr, flush=True)
            except servers.ServerMissing as error:
                print(f"{name} left out: {error}", file=sys.stderr)
            if args.json:
                args.json.write_text(
                    _as_json(rows, args.quick, time.monotonic() - began)
                )
    print(render(rows))
    return 0


def _as_json(rows: list[Row], quick: bool, seconds: float) -> str:
    return json.dumps(
        {
            "quick": quick,
            "seconds": round(seconds),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in _PACKAGES},
            "rows": [row.as_json() for row in rows],
        },
        indent=1,
    )


if __name__ == "__main__":
    sys.exit(main())
