# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-demo: the whole way of a trace, on one machine, no servers.

The bridge is the one that production runs; only the bus is oslo.messaging's
in-process ``fake://``, and the storage a SQLite file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from oslo_config import cfg

from profiler_bridge import config, exceptions, storage
from profiler_bridge.api import options
from profiler_bridge.bus.transport import get_transport
from profiler_bridge.cmd import api
from profiler_bridge.daemon.worker import Bridge
from profiler_bridge.query import TraceQuery

CONFIG = """\
[DEFAULT]
transport_url = fake://

[osprofiler]
connection_string = sqlite:///{database}

[bridge]
set_aside = {directory}/set-aside.sqlite

[api]
port = {port}
"""
_WAIT = 10.0
[_PORT] = (option.default for option in options.OPTS if option.name == "port")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="profiler-bridge-demo",
        description="Profile a small workload with osprofiler, bridge it into"
        " a SQLite database, and report on it.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {metadata.version(config.PROJECT)}",
        help="Show the version and exit.",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("profiler-bridge-demo"),
        help="Where the database goes (default: %(default)s).",
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        type=_port,
        const=_PORT,
        metavar="PORT",
        help="At the end serve the traces to a browser on this machine, until"
        f" Ctrl-C (default port: {_PORT}); needs profiler_bridge[api].",
    )
    args = parser.parse_args()
    try:
        return run(args.directory.absolute(), args.serve)
    except ImportError as error:
        print(
            f"{error.name} is missing: install profiler_bridge[demo], from a"
            " checkout with pip install '.[demo]'",
            file=sys.stderr,
        )
    except (
        exceptions.BridgeError,
        subprocess.CalledProcessError,
        OSError,
    ) as error:
        print(f"profiler-bridge-demo: {error}", file=sys.stderr)
    return 1


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError("must be a port, 1 to 65535")
    return int(text)


def run(directory: Path, port: int | None) -> int:
    """Trace, bridge and report; print what a user can do next.

    :param port: where pages are served then; None: they are not
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = directory / "traces.sqlite"
    config_file = directory / "bridge.conf"
    config_file.write_text(
        CONFIG.format(
            database=database, directory=directory, port=port or _PORT
        )
    )
    # First what may be in the way.
    server: Any = None
    if port is not None:
        try:
            server = api.make(
                config.load_api([f"--config-file={config_file}"])
            )
        except exceptions.ConfigurationError as error:
            raise exceptions.ConfigurationError(
                f"--serve {port}: {error}"
            ) from None
    conf = config.prepare([f"--config-file={config_file}"], *config.modules())
    transport = get_transport(conf)
    [traces] = storage.get_storages(conf)

    traces.prepare()
    print("Starting the bridge: bus fake://, storage SQLite.")
    bridge = Bridge(conf, transport, traces)
    bridge.start()
    print("Profiling two requests with osprofiler.\n")
    base_ids = _profile_requests(conf)
    end = time.monotonic() + _WAIT
    while time.monotonic() < end:
        stored = traces.list_traces(TraceQuery())
        complete = {trace.base_id for trace in stored if trace.complete}
        if complete >= {*base_ids}:
            break
        time.sleep(0.1)
    bridge.stop()

    sys.stdout.flush()
    given = f"--config-file={os.path.relpath(config_file)}"
    report = [_command("profiler-bridge-report"), given]
    for command in (["list"], ["show", base_ids[0]]):
        print("$", *report, *command, flush=True)
        subprocess.run([*report, *command], check=True)  # noqa: S603 - ours
        print()
    print(f"The database is {database}")
    print("Next, try:")
    print(" ", *report, "show", base_ids[1])
    print(
        "and with transport_url set to your RabbitMQ in a configuration file:"
        "\n  profiler-bridge --config-file /etc/profiler_bridge/bridge.conf"
    )
    pages = f"http://127.0.0.1:{port or _PORT}/"
    if server is None:
        print(f"In a browser, at {pages}, once this runs:")
        print(" ", _command("profiler-bridge-api"), given)
    else:
        print(f"In a browser, until you press Ctrl-C: {pages}", flush=True)
        server.run()
        server.close()
    return 0


def _command(name: str) -> str:
    """The path of a command beside this one."""
    return os.path.relpath(Path(sys.argv[0]).with_name(name))


def _profile_requests(conf: cfg.ConfigOpts) -> list[str]:
    """Two requests to a little web service, one of which fails.

    :returns: the base_id of each, the good one first
    """
    import osprofiler.sqlalchemy
    import sqlalchemy as sa
    from osprofiler import notifier, profiler

    notifier.set(
        notifier.create(
            "messaging://",
            context={},
            project="demo",
            service="api",
            host="localhost",
            conf=conf,
        )
    )
    engine = sa.create_engine("sqlite://")
    osprofiler.sqlalchemy.add_tracing(sa, engine, "db")

    def request(method: str, path: str) -> profiler.Trace:
        return profiler.Trace(
            "wsgi",
            info={
                "request": {
                    "path": path,
                    "query": "",
                    "method": method,
                    "scheme": "http",
                }
            },
        )

    @profiler.trace("rpc")  # type: ignore[untyped-decorator]
    def build(server: int) -> None:
        with engine.begin() as connection:
            connection.execute(
                sa.text("INSERT INTO servers VALUES (:id, 'bob')"),
                {"id": server},
            )

    @profiler.trace("scheduler")  # type: ignore[untyped-decorator]
    def schedule() -> None:
        raise LookupError("No valid host was found.")

    base_ids = []
    base_ids.append(profiler.init("SECRET_KEY").get_base_id())
    with request("POST", "/v2.1/servers"):
        with engine.begin() as connection:
            connection.execute(
                sa.text("CREATE TABLE servers (id INTEGER, owner TEXT)")
            )
        for server in range(3):
            build(server)
    profiler.clean()

    base_ids.append(profiler.init("SECRET_KEY").get_base_id())
    try:
        with request("POST", "/v2.1/servers"):
            schedule()
    except LookupError:
        pass  # what the trace shows
    profiler.clean()
    return base_ids
