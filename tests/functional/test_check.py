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

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import amqp
import kombu
import pytest
import sqlalchemy as sa

from profiler_bridge.check import Finding, Result, check, exit_code
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, script, wait_for

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


# The bus


@contextlib.contextmanager
def reading(transport_url: str, durable: bool = False) -> Iterator[None]:
    """Somebody else consumes from the queue meanwhile."""
    url = transport_url.replace("rabbit://", "amqp://")
    with kombu.Connection(url) as connection:
        queue = kombu.Queue(bus.QUEUE, durable=durable, no_declare=True)
        with connection.Consumer(queue, prefetch_count=1):
            yield


def test_unreachable_bus(configure: Configure) -> None:
    [(result, detail)] = found(configure())["bus"]
    assert result == FAILURE
    assert "127.0.0.1" in detail


def test_bus_that_cannot_be_looked_into(configure: Configure) -> None:
    for url, at_most_once, expected in (
        ("kombu+memory://", False, WARNING),
        ("kafka://127.0.0.1:1/", False, FAILURE),
        ("nonsense://", False, FAILURE),
    ):
        configured = configure(
            DEFAULT={"transport_url": url},
            bridge={"at_most_once": at_most_once},
        )
        [(result, _)] = found(configured)["bus"]
        assert result == expected, url


@pytest.mark.parametrize("durable", [False, True])
def test_durable_mismatch(
    configure: Configure, transport_url: str, durable: bool
) -> None:
    bus.publish(transport_url, [{}], durable=durable)
    [(result, detail)] = found(
        configure(
            DEFAULT={"transport_url": transport_url},
            oslo_messaging_rabbit={"amqp_durable_queues": not durable},
        )
    )["queue"]
    # oslo.messaging makes do with a queue that is not durable.
    assert result == (FAILURE if durable else WARNING)
    assert "profiler.info is" in detail
    assert "amqp_durable_queues" in detail


def test_queue_is_not_made(
    configure: Configure, rabbitmq: servers.RabbitMQ, transport_url: str
) -> None:
    results = found(configure(DEFAULT={"transport_url": transport_url}))
    [(result, detail)] = results["queue"]
    assert result == OK
    assert "profiler.info is not there yet" in detail
    assert "consumers" not in results
    with pytest.raises(amqp.NotFound):
        rabbitmq.queue_depth(bus.QUEUE, transport_url)


def test_queue_that_nobody_drains(
    configure: Configure, rabbitmq: servers.RabbitMQ, transport_url: str
) -> None:
    """Also where it is another queue that the bridge reads."""
    bus.publish(transport_url, [{}] * 3, durable=True)
    for bridge in ({}, {"pool": "bridge"}):
        results = found(
            configure(DEFAULT={"transport_url": transport_url}, bridge=bridge)
        )
        [(result, detail)] = results["messages"]
        assert result == WARNING
        assert "3 message(s) wait in profiler.info, and nobody" in detail
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 3


def test_prefetch(configure: Configure, transport_url: str) -> None:
    for rabbit, bridge, expected in (
        ({}, {}, OK),
        ({"rabbit_qos_prefetch_count": 0}, {}, WARNING),
        ({}, {"prefetch": 100}, WARNING),
        ({}, {"prefetch": 100, "batch_size": 100}, OK),
    ):
        [(result, _)] = found(
            configure(
                DEFAULT={"transport_url": transport_url},
                oslo_messaging_rabbit=rabbit,
                bridge=bridge,
            )
        )["prefetch"]
        assert result == expected, (rabbit, bridge)


def test_queues_that_are_not_durable(
    configure: Configure, transport_url: str
) -> None:
    bus.publish(transport_url, [{}])
    results = found(
        configure(
            DEFAULT={"transport_url": transport_url},
            oslo_messaging_rabbit={"amqp_durable_queues": False},
        )
    )
    [(result, detail)] = results["durability"]
    assert result == WARNING
    assert "amqp_durable_queues = true" in detail
    assert [each for each, _ in results["queue"]] == [OK]


# Storages


def test_unreachable_storages(configure: Configure) -> None:
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
        "SET GLOBAL init_connect ="
        " 'SET timestamp = UNIX_TIMESTAMP(SYSDATE(6)) - 600'"
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


# As it is run


def manage(configured: Daemon, *args: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code and findings."""
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
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


CHECKS = [
    *("configuration", "bus", "durability", "prefetch", "queue"),
    *("consumers", "messages", "storage", "set-aside"),
]


def test_a_bridge_and_a_second_reader(
    configure: Configure, transport_url: str, mariadb_url: str
) -> None:
    configured = configure(
        DEFAULT={"transport_url": transport_url},
        osprofiler={"connection_string": mariadb_url},
        bridge={"workers": 2},
    )
    with configured:
        wait_for(
            lambda: configured.log.count("Listening") == 2, "both workers"
        )
        code, findings = manage(configured, "--bridges", "1")
        assert [each["Check"] for each in findings] == CHECKS
        assert {each["Result"] for each in findings} == {"ok"}
        assert code == 0

        with reading(transport_url, durable=True):
            code, findings = manage(configured, "--bridges", "1")
        [second] = [each for each in findings if each["Result"] != "ok"]
        assert second["Check"] == "consumers"
        assert second["Result"] == "warning"
        seen = "has 3 consumer(s), expected are 2: 1 bridge(s)"
        assert seen in second["Detail"]
        assert code == 1
    configured.config_file.write_text("[bridge]\nworkers = none\n")
    code, findings = manage(configured)
    assert [each["Result"] for each in findings] == ["failure"]
    assert code == 2
