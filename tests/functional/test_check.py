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

"""profiler-bridge-manage check: what it finds, on real servers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_bridge.check import Finding, Result, check, exit_code
from profiler_bridge.storage import get_storage
from tests import servers
from tests.daemon import Daemon, script

ROOT = Path(__file__).parents[2]
OK, WARNING, FAILURE = Result
SECRET = "s3cret"


def found(
    configured: Daemon, bridges: int = 0
) -> dict[str, list[tuple[Result, str]]]:
    """By check: results and details."""
    results: dict[str, list[tuple[Result, str]]] = {}
    for each in check([str(configured.config_file)], None, bridges):
        assert each.detail.isprintable()
        assert SECRET not in each.detail
        results.setdefault(each.check, []).append((each.result, each.detail))
    return results


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Daemon]:
    """Give the configuration of a bridge, by section; all are well."""

    def configure(**options: dict[str, object]) -> Daemon:
        defaults: dict[str, dict[str, object]] = {
            "DEFAULT": {
                "transport_url": f"rabbit://u:{SECRET}@127.0.0.1:"
                f"{servers.free_port()}/"
            },
            "osprofiler": {
                "connection_string": f"sqlite:///{tmp_path}/traces.sqlite"
            },
            "oslo_messaging_rabbit": {"amqp_durable_queues": True},
        }
        for section, values in options.items():
            defaults[section] = defaults.get(section, {}) | values
        return Daemon(tmp_path, defaults)

    return configure


Configure = Callable[..., Daemon]


# Storages


def test_unreachable_storages(
    configure: Configure, sentinel: servers.SentinelGroup
) -> None:
    for scheme in ("mysql+pymysql", "postgresql", "redis", "redissentinel"):
        port = servers.free_port()
        url = f"{scheme}://u:{SECRET}@127.0.0.1:{port}/0"
        [(result, detail)] = found(
            configure(osprofiler={"connection_string": url})
        )["storage"]
        assert result == FAILURE
        assert str(port) in detail


@pytest.mark.parametrize("prepared", [False, True])
def test_missing_right_to_insert(
    configure: Configure, mariadb: servers.MariaDB, prepared: bool
) -> None:
    url = mariadb.database("CREATE, SELECT, INSERT")
    parts = sa.make_url(url)
    configured = configure(osprofiler={"connection_string": url})
    if prepared:
        get_storage(url).prepare()
    [(result, detail)] = found(configured)["storage"]
    assert result == OK
    mariadb.execute(
        f"REVOKE INSERT ON {parts.database}.* FROM {parts.username}@'%'"
    )
    [(result, detail)] = found(configured)["storage"]
    assert result == FAILURE
    assert "the user needs CREATE, SELECT and INSERT" in detail
    assert str(parts.password) not in detail


def test_eviction(
    configure: Configure, redis_server: servers.Redis, redis_url: str
) -> None:
    configured = configure(osprofiler={"connection_string": redis_url})
    [(result, _)] = found(configured)["storage"]
    assert result == OK
    redis_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis_server.execute("CONFIG", "SET", "appendonly", "no")
    try:
        [eviction, append_only] = found(configured)["storage"]
    finally:
        redis_server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
        redis_server.execute("CONFIG", "SET", "appendonly", "yes")
    assert eviction[0] == append_only[0] == WARNING
    assert "maxmemory-policy to noeviction" in eviction[1]
    assert "appendonly" in append_only[1]


def test_a_clock_that_is_wrong(
    configure: Configure, mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    get_storage(mariadb_url).prepare()
    configured = configure(osprofiler={"connection_string": mariadb_url})
    mariadb.execute(
        "SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - 600'"
    )
    try:
        [(result, detail)] = found(configured)["storage"]
    finally:
        mariadb.execute("SET GLOBAL init_connect = ''")
    assert result == WARNING
    assert "its clock is 600" in detail
    assert "behind" in detail


def test_no_storage(configure: Configure) -> None:
    for url, says in (("", "set connection_string"), ("redi://x", "redi://")):
        configured = configure(osprofiler={"connection_string": url})
        [(result, detail)] = found(configured)["storage"]
        assert result == FAILURE
        assert says in detail


# The set-aside file


def test_set_aside(configure: Configure, tmp_path: Path) -> None:
    configured = configure()
    assert found(configured)["set-aside"][0][0] == OK
    assert not configured.set_aside.exists()  # the daemon's user makes it

    configured.set_aside.write_text("no database " * 100)
    [(result, detail)] = found(configured)["set-aside"]
    assert result == FAILURE
    assert "not a database" in detail

    nowhere = tmp_path / "nowhere" / "set-aside.sqlite"
    [(result, detail)] = found(configure(bridge={"set_aside": nowhere}))[
        "set-aside"
    ]
    assert result == FAILURE
    assert "No such file or directory: set set_aside in [bridge]" in detail


# Configuration


def test_names_that_are_no_options(configure: Configure) -> None:
    configured = configure(
        bridge={"worker": 3, "mask-keys": "a", "\x1b[2J": "\x1b"},
        osprofilr={"connection_string": "x"},
        # Where osprofiler has it, and with a name of its own.
        profiler={"sentinel-service-name": "x"},
        oslo_messaging_notifications={"transport_url": "fake://"},
    )
    [(result, detail)] = found(configured)["configuration"]
    assert result == WARNING
    assert "worker in [bridge] of" in detail
    assert "connection_string in [osprofilr] of" in detail
    assert detail.count(" of ") == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[bridge]\nworkers = many\n", "workers"),
        (f"[osprofiler\nx = redis://u:{SECRET}@localhost\n", "parse"),
    ],
)
def test_configuration_that_cannot_be_used(
    configure: Configure, text: str, says: str
) -> None:
    configured = configure()
    configured.config_file.write_text(text)
    [(result, detail)] = found(configured)["configuration"]
    assert result == FAILURE
    assert says in detail


def test_oslo_config_validator(tmp_path: Path) -> None:
    """As the page has it, knows every option of the sample, and no other."""
    page = (ROOT / "doc/source/admin/check.rst").read_text()
    _, _, rest = page.partition("\n    oslo-config-validator")
    arguments = rest.partition("\n\n")[0].replace("\\", "").split()
    path = tmp_path / "bridge.conf"
    arguments[arguments.index("/etc/profiler_bridge/bridge.conf")] = str(path)

    def validate(text: str) -> subprocess.CompletedProcess[str]:
        path.write_text(text)
        return subprocess.run(
            [script("oslo-config-validator"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    sample = (ROOT / "etc/bridge.conf").read_text()
    every = re.sub(r"^#(\w+ =)", r"\1", sample, flags=re.MULTILINE)
    assert "\nset_aside = " in every
    assert validate(every).returncode == 0
    wrong = validate(every.replace("\nset_aside = ", "\nset_asid = "))
    assert wrong.returncode == 1
    assert "bridge/set_asid is not part of the sample" in wrong.stderr


def test_exit_codes() -> None:
    assert exit_code([]) == 0
    results = [Finding("a", each, "") for each in Result]
    assert [exit_code(results[:at]) for at in (1, 2, 3)] == [0, 1, 2]
    assert exit_code(results[::-1]) == 2


def manage(
    configured: Daemon, *args: str
) -> tuple[int, list[dict[str, str]], str]:
    """Exit code, findings, and what else there is to read."""
    environment = dict(os.environ)
    environment.pop("OSPROFILER_CONNECTION_STRING", None)
    done = subprocess.run(
        [
            script("profiler-bridge-manage"),
            f"--config-file={configured.config_file}",
            *("check", "-f", "json", *args),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout), done.stderr
