# SPDX-License-Identifier: Apache-2.0

"""A soak: ``python -m tests.benchmarks.soak FOLDER``; an hour by default.

The bridge stores what ``simulate`` sends, in MariaDB, with a short retention
and somebody who reads over HTTP. After a third of the time the database is
away for a while; after two thirds the broker dies and comes back. Every ten
seconds it is written down how much memory each process has, how long points
take, how many messages wait, and how large the tables are: in ``soak.csv``,
and drawn in ``soak.svg``. At the end it says what was lost or doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from profiler_bridge.daemon.set_aside import SetAside
from profiler_bridge.storage import get_storage
from profiler_bridge.summary import ARRIVALS
from tests import bus, servers
from tests.benchmarks import chart
from tests.benchmarks.ledger import Ledger
from tests.daemon import Daemon, script, wait_for

# Seconds between samples; to count rows takes the database as long as much
# else, so that is done once in so many samples.
_EVERY = 10.0
_COUNTED = 6
# Its own defaults, but for a pool that is full after a while.
_MARIADB = ("--innodb-log-file-size=96M", "--innodb-buffer-pool-size=128M")
_TABLES = ("pieces", "marks", "index", "names", "leases")
_MIB = 2**20
_PROCESS = re.compile(r"profiler-bridge: (\w+) worker\((\d+)\)")


class Soak:
    """What is run, and what is measured of it."""

    def __init__(
        self, folder: Path, seconds: float, rate: float, workers: int
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        self.rate = rate
        self.workers = workers
        #: How long traces are kept, and the storage is away.
        self.retention = max(20, round(seconds / 6))
        self.outage = min(60.0, seconds / 10)
        self.rows: list[dict[str, float]] = []
        self.events: list[tuple[float, str]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Soak:
        enter = self._stack.enter_context
        self.rabbitmq = enter(servers.RabbitMQ())
        self.mariadb = enter(servers.MariaDB(*_MARIADB))
        self.url = self.mariadb.database("CREATE, SELECT, INSERT, DELETE")
        self.database = self.url.rpartition("/")[2].partition("?")[0]
        self.metrics_port = servers.free_port()
        self.api_port = servers.free_port()
        with contextlib.closing(get_storage(self.url)) as storage:
            storage.prepare()
        self.ledger = Ledger(self.url, min(60, self.retention // 4))
        self.daemon = enter(self._daemon())
        wait_for(
            lambda: self.daemon.log.count("Listening") == self.workers, "all"
        )
        self.api = self._popen("profiler-bridge-api", "api.log")
        self.simulate = self._popen(
            "profiler-bridge-manage",
            "simulate.log",
            *("simulate", f"--rate={self.rate}", "--driver=bridge"),
            *(f"--seconds={self.seconds}", "--points=1000000000"),
            *("-f", "json"),
            file=self._bus_only(),
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _daemon(self) -> Daemon:
        return Daemon(
            self.folder,
            {
                "DEFAULT": {"transport_url": self.rabbitmq.transport_url},
                "osprofiler": {
                    "connection_string": self.url,
                    "retention": f"{self.retention}s",
                },
                "bridge": {
                    "workers": self.workers,
                    "metrics_port": self.metrics_port,
                    "request_metrics": "true",
                },
                "forward": {"hold": self.retention},
                "settled": {"settle_at_most": max(20, self.retention // 5)},
                "oslo_messaging_rabbit": {"amqp_durable_queues": "true"},
                "api": {"port": self.api_port},
            },
        )

    def _bus_only(self) -> Path:
        """For who sends: most of what it sends is purged at its end."""
        path = self.folder / "bus.conf"
        path.write_text(
            f"[DEFAULT]\ntransport_url = {self.rabbitmq.transport_url}\n"
            "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
        )
        return path

    def _popen(
        self, name: str, log: str, *args: str, file: Path | None = None
    ) -> subprocess.Popen[bytes]:
        output = self._stack.enter_context((self.folder / log).open("wb"))
        process = self._stack.enter_context(
            subprocess.Popen(
                [
                    script(name),
                    f"--config-file={file or self.daemon.config_file}",
                    *args,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        )
        self._stack.callback(process.terminate)
        return process

    def run(self) -> None:
        """Sample until all has been sent and stored, and break things."""
        began = self.began = time.monotonic()
        # A daemon: SIGTERM does not wait for it.
        breaking = threading.Thread(target=self._break, daemon=True)
        breaking.start()
        ended = None
        for number in itertools.count(1):
            self.rows.append(self._sample())
            self._write()
            if self.simulate.poll() is not None:
                ended = ended or time.monotonic()
                # As long again as it takes until the purge has caught up.
                if time.monotonic() > ended + 3 * _EVERY:
                    break
            time.sleep(max(0.0, began + number * _EVERY - time.monotonic()))
        breaking.join()
        self.ledger.look(all_of_it=True)

    def _break(self) -> None:
        time.sleep(self.seconds / 3)
        with self._event("database away"):
            self.mariadb.stop()
            time.sleep(self.outage)
            self.mariadb.start()
        time.sleep(self.seconds / 3 - self.outage)
        with self._event("broker killed"):
            self.rabbitmq.kill()
            self.rabbitmq.start()

    @contextlib.contextmanager
    def _event(self, what: str) -> Iterator[None]:
        self.events.append((time.monotonic() - self.began, what))
        yield
        self.events.append((time.monotonic() - self.began, ""))

    # Samples

    def _sample(self) -> dict[str, float]:
        row = {"seconds": round(time.monotonic() - self.began, 1)}
        measures: list[Callable[[], dict[str, float]]] = [
            self._memory,
            self._cpu,
            self._metrics,
            self._waiting,
            self._reading,
        ]
        if len(self.rows) % _COUNTED == 0:
            measures.append(self._tables)
        for measure in measures:
            # What is away is not measured.
            with contextlib.suppress(*servers.UNANSWERED):
                row |= measure()
        with contextlib.suppress(Exception):  # it may be away
            self.ledger.look()
        return row

    def _processes(self) -> Iterator[tuple[str, int]]:
        """Our own processes, with a name for each."""
        process = self.daemon.process
        assert process is not None
        yield "daemon", process.pid
        for pid in self.daemon.workers():
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_text()
                if match := _PROCESS.search(title):
                    kind = match[1].lower()
                    several = self.workers > 1 and kind == "collector"
                    yield f"{kind} {match[2]}" if several else kind, pid
        yield "api", self.api.pid

    def _memory(self) -> dict[str, float]:
        row = {
            f"rss {name}": _resident(pid) for name, pid in self._processes()
        }
        for server in (self.mariadb, self.rabbitmq):
            if server.running:
                row[f"rss {server.name}"] = sum(
                    map(_resident, server._family())
                )
        return row

    def _cpu(self) -> dict[str, float]:
        row = {
            f"cpu {name}": servers.cpu(pid) for name, pid in self._processes()
        }
        for server in (self.mariadb, self.rabbitmq):
            if server.running:
                row[f"cpu {server.name}"] = server.cpu()
        return row

    def _metrics(self) -> dict[str, float]:
        """Sums since the start, and the mean lag since the last sample."""
        text = _get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        row = {}
        for name in ("stored", "redelivered", "set_aside", "requeued"):
            metric = f"profiler_bridge_notifications_{name}_total"
            row[name] = _total(text, metric)
        row["purged"] = _total(text, "profiler_bridge_traces_purged_total")
        seconds = _total(text, "profiler_bridge_lag_seconds_sum")
        batches = _total(text, "profiler_bridge_lag_seconds_count")
        row |= {"lag sum": seconds, "lag count": batches}
        before = next(
            (old for old in reversed(self.rows) if "lag sum" in old), None
        )
        if before and batches > before["lag count"]:
            row["lag"] = (seconds - before["lag sum"]) / (
                batches - before["lag count"]
            )
        return row

    def _waiting(self) -> dict[str, float]:
        return {"waiting": self.rabbitmq.queue_depth(bus.QUEUE)}

    def _tables(self) -> dict[str, float]:
        row: dict[str, float] = {}
        for table in _TABLES:
            [[count]] = self.mariadb.execute(
                f"SELECT COUNT(*) FROM {self.database}.bridge_{table}"
            )
            path = self.mariadb.data / self.database / f"bridge_{table}.ibd"
            row[f"rows {table}"] = count
            row[f"bytes {table}"] = path.stat().st_size
        # Those of what settled traces set off stay for a day.
        [[row["rows arrivals"]]] = self.mariadb.execute(
            f"SELECT COUNT(*) FROM {self.database}.bridge_index"
            f" WHERE term = {ARRIVALS}"
        )
        row["rows index"] -= row["rows arrivals"]
        return row

    def _reading(self) -> dict[str, float]:
        """Somebody who looks at the list, and at a trace."""
        began = time.monotonic()
        page = _get(f"http://127.0.0.1:{self.api_port}/traces")
        if link := re.search(r"/traces/([0-9a-f-]{36})", page):
            _get(f"http://127.0.0.1:{self.api_port}{link[0]}")
        return {"reading": time.monotonic() - began}

    def _write(self) -> None:
        names = dict.fromkeys(name for row in self.rows for name in row)
        with (self.folder / "soak.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*names])
            writer.writeheader()
            writer.writerows(self.rows)
        (self.folder / "soak.svg").write_text(
            chart.draw(self.rows, self.events)
        )

    def verdict(self) -> str:
        """What became of everything."""
        # The last sample may be one without an answer.
        last = next(row for row in reversed(self.rows) if "stored" in row)
        set_aside = len(
            list(SetAside(str(self.daemon.set_aside), 2**30).messages())
        )
        return (
            f"{self.ledger}\nstored {last['stored']:.0f}, again"
            f" {last['redelivered']:.0f}, requeued {last['requeued']:.0f},"
            f" set aside {set_aside}, purged {last['purged']:.0f} traces\n"
            + (self.folder / "simulate.log").read_text(errors="replace")
        )


def _resident(pid: int) -> float:
    """MiB."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        if match := re.search(r"^VmRSS:\s*(\d+) kB", status, re.M):
            return round(int(match[1]) / 1024, 1)
    return 0.0


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read(), "utf-8")


def _total(text: str, metric: str) -> float:
    values = re.findall(rf"^{metric}(?:{{.*?}})? (\S+)$", text, re.M)
    return sum(map(float, values))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.soak", description="Run a soak."
    )
    parser.add_argument("folder", type=Path, help="for what is measured")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument(
        "--rate", type=float, default=3.0, help="requests a second"
    )
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    # So that the servers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Soak(args.folder, args.seconds, args.rate, args.workers) as soak:
        soak.run()
        verdict = soak.verdict()
    (args.folder / "verdict.txt").write_text(verdict)
    print(verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())
