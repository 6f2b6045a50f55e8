# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage check: what it finds, on real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import amqp
import kombu
import pytest
import sqlalchemy as sa

from profiler_bridge.bus import broker
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.exceptions import Reason
from profiler_bridge.preflight import Finding, Result, check, exit_code
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from tests import bus, otlp_server, recorded, servers
from tests.daemon import Daemon, script, wait_for
from tests.functional.test_queue import user_with

ROOT = Path(__file__).parents[2]
OK, WARNING, FAILURE = Result
SECRET = "s3cret"


def run_check(
    configured: Daemon, bridges: int | None = None
) -> dict[str, list[tuple[Result, str]]]:
    """By check: results and details."""
    results: dict[str, list[tuple[Result, str]]] = {}
    for finding in check([str(configured.config_file)], None, bridges):
        assert finding.detail.isprintable()
        assert SECRET not in finding.detail
        results.setdefault(finding.check, []).append(
            (finding.result, finding.detail)
        )
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
    [(result, detail)] = run_check(configure())["bus"]
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
        [(result, _)] = run_check(configured)["bus"]
        assert result == expected, url


@pytest.mark.parametrize("durable", [False, True])
def test_durable_mismatch(
    configure: Configure, transport_url: str, durable: bool
) -> None:
    bus.publish(transport_url, [{}], durable=durable)
    [(result, detail)] = run_check(
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
    results = run_check(configure(DEFAULT={"transport_url": transport_url}))
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
        results = run_check(
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
        [(result, _)] = run_check(
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
    results = run_check(
        configure(
            DEFAULT={"transport_url": transport_url},
            oslo_messaging_rabbit={"amqp_durable_queues": False},
        )
    )
    [(result, detail)] = results["durability"]
    assert result == WARNING
    assert "amqp_durable_queues = true" in detail
    assert [result for result, _ in results["queue"]] == [OK]


def test_a_broker_that_takes_no_such_queue(
    configure: Configure, transport_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RabbitMQ 4.3, by its version: there is no package of it to run."""
    monkeypatch.setattr(broker, "refuses_transient", lambda _version: True)
    options = {
        "DEFAULT": {"transport_url": transport_url},
        "oslo_messaging_rabbit": {"amqp_durable_queues": False},
    }
    [(result, detail)] = run_check(configure(**options))["durability"]
    assert result == FAILURE
    assert re.search(r"RabbitMQ \d+\.\d+\.\d+ takes no queues", detail)
    assert "set amqp_durable_queues = true, or rabbit_quorum_queue" in detail
    options["oslo_messaging_rabbit"] = {"rabbit_quorum_queue": True}
    [(result, _)] = run_check(configure(**options))["durability"]
    assert result == OK


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.10.8", False),
        ("4.2.9", False),
        ("4.3.0", True),
        ("4.10.1-rc.1", True),
        ("5.0", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_versions(version: str, expected: bool) -> None:
    assert broker.refuses_transient(version) == expected


class ManagedRabbitMQ(servers.RabbitMQ):
    """With its management plugin."""

    def __init__(self) -> None:
        super().__init__()
        self.management_port = servers.free_port()

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "enabled_plugins").write_text(
            "[rabbitmq_management].\n"
        )
        with (self.folder / "rabbitmq.conf").open("a") as file:
            file.write(
                f"management.tcp.port = {self.management_port}\n"
                "management.tcp.ip = 127.0.0.1\n"
            )


@pytest.fixture(scope="module")
def managed() -> Iterator[ManagedRabbitMQ]:
    with ManagedRabbitMQ() as server:
        yield server


def consuming(url: str, name: str) -> amqp.Connection:
    """A consumer whose connection has a name."""
    parts = sa.make_url(url)
    link = amqp.Connection(
        f"127.0.0.1:{parts.port}",
        userid=parts.username,
        password=parts.password,
        virtual_host=parts.database,
        client_properties={"connection_name": name},
    )
    link.connect()
    link.channel().basic_consume(bus.QUEUE)
    return link


def test_readers_are_known_by_their_names(
    configure: Configure, managed: ManagedRabbitMQ
) -> None:
    url = managed.vhost()
    configured = configure(
        DEFAULT={"transport_url": url},
        bridge={"workers": 2, "management_url": managed.management},
    )
    with configured:
        wait_for(lambda: configured.log.count("Listening") == 2, "workers")
        ours = "2 worker(s) of bridges read profiler.info"
        wait_for(
            lambda: run_check(configured)["consumers"] == [(OK, ours)],
            "what the plugin knows some seconds later",
        )
        assert run_check(configured, 1)["consumers"] == [(OK, ours)]
        [(result, detail)] = run_check(configured, 2)["consumers"]
        assert result == WARNING
        assert "expected are 4" in detail
        with contextlib.ExitStack() as stack:
            for name in (
                "ceilometer-agent-notification:7:uuid",
                "osprofiler:8:uuid",
                "",
            ):
                stack.callback(consuming(url, name).close)

            def others() -> list[str]:
                return sorted(
                    detail
                    for result, detail in run_check(configured)["consumers"]
                    if result == WARNING
                )

            wait_for(lambda: len(others()) == 3, "all of them")
            first, second, third = others()
        assert "ceilometer-agent-notification:7:uuid (user guest, at" in first
        assert "take profiler out of topics" in first
        assert "osprofiler:8:uuid (user guest, at 127.0.0.1)" in second
        assert "py-amqp (user guest" in third
        assert configured.terminate() == 0


def test_policies_that_lose_messages(
    configure: Configure, managed: ManagedRabbitMQ
) -> None:
    """The daemon says so, too."""
    url = managed.vhost()
    bus.publish(url, [{}], durable=True)
    configured = configure(
        DEFAULT={"transport_url": url},
        bridge={"management_url": managed.management},
    )
    assert [result for result, _ in run_check(configured)["queue"]] == [OK]
    limits = {
        "expires": 60_000,
        "max-length": 1000,
        "max-length-bytes": 10_000,
        "message-ttl": 60_001,
    }
    managed.ctl(
        *("set_policy", "-p", url.rpartition("/")[2], "cloud", "^profiler"),
        json.dumps(limits),
    )

    def warnings() -> list[str]:
        results = run_check(configured)["queue"]
        return sorted(
            detail for result, detail in results if result == WARNING
        )

    wait_for(warnings, "what the plugin knows some seconds later")
    assert [detail.rpartition(":")[0] for detail in warnings()] == [
        f"profiler.info: {limit} is {value} in policy cloud"
        for limit, value in limits.items()
    ]
    with configured:
        wait_for(
            lambda: configured.log.count("Queue profiler.info loses") == 4,
            "warnings",
        )
        assert configured.terminate() == 0


def test_a_user_whom_the_plugin_does_not_answer(
    configure: Configure, managed: ManagedRabbitMQ
) -> None:
    url = managed.vhost()
    bus.publish(url, [{}], durable=True)
    managed.ctl("add_user", "plain", SECRET)
    managed.ctl(
        "set_permissions", "-p", url.rpartition("/")[2], "plain", *[".*"] * 3
    )
    options = {"transport_url": url.replace("guest:guest", f"plain:{SECRET}")}
    [(result, detail)] = run_check(
        configure(
            DEFAULT=options, bridge={"management_url": managed.management}
        )
    )["consumers"]
    assert result == OK
    assert "401 Unauthorized, for its user has no tag management" in detail
    for wrong in ("15672", "ftp://127.0.0.1", "http://u:a#b@127.0.0.1"):
        [(result, detail)] = run_check(
            configure(DEFAULT=options, bridge={"management_url": wrong})
        )["bus"]
        assert result == FAILURE
        assert detail.startswith("management_url cannot be used: ")


def test_the_bridges_of_this_host_are_known_without_the_plugin(
    configure: Configure, transport_url: str
) -> None:
    configured = configure(
        DEFAULT={"transport_url": transport_url}, bridge={"workers": 2}
    )
    with configured:
        wait_for(lambda: configured.log.count("Listening") == 2, "workers")
        [(result, detail)] = run_check(configured)["consumers"]
        assert result == OK
        assert "has 2 consumer(s), expected are 2: 1 bridge(s) on" in detail
        assert "only RabbitMQ's management plugin could say (" in detail
        with reading(transport_url, durable=True):
            [(result, detail)] = run_check(configured)["consumers"]
        assert result == WARNING
        assert "openstack-helm" in detail
        assert configured.terminate() == 0


def test_a_missing_right_of_the_bus(
    configure: Configure, rabbitmq: servers.RabbitMQ, transport_url: str
) -> None:
    name, url = user_with(rabbitmq, transport_url, "^$", ".*", ".*")
    for bridge, queue in (
        ({}, "profiler.info"),
        ({"pool": "mine", "exchanges": "cinder,nova"}, "mine"),
    ):
        results = run_check(
            configure(DEFAULT={"transport_url": url}, bridge=bridge)
        )["queue"]
        assert results[0][0] == FAILURE
        right = f"user {name} has no right to configure queue {queue} in"
        assert right in results[0][1]
    vhost = transport_url.rpartition("/")[2]
    rabbitmq.ctl(
        *("set_permissions", "-p", vhost, name, ".*", ".*", "^(mine|nova)$")
    )
    results = run_check(
        configure(DEFAULT={"transport_url": url}, bridge=bridge)
    )["queue"]
    assert "no right to read exchange cinder in" in results[0][1]


# Storages


def test_unreachable_storages(configure: Configure) -> None:
    for scheme in ("mysql+pymysql", "postgresql", "redis", "redissentinel"):
        port = servers.free_port()
        url = f"{scheme}://u:{SECRET}@127.0.0.1:{port}/0"
        [(result, detail)] = run_check(
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
    [(result, detail)] = run_check(configured)["storage"]
    assert result == OK
    mariadb.execute(
        f"REVOKE INSERT ON {parts.database}.* FROM {parts.username}@'%'"
    )
    [(result, detail)] = run_check(configured)["storage"]
    assert result == FAILURE
    assert "the user needs CREATE, SELECT and INSERT" in detail
    assert str(parts.password) not in detail


def test_missing_right_to_delete(
    configure: Configure, mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    get_storage(mariadb_url).prepare()
    for retention, expected in (("0", OK), ("7d", FAILURE)):
        configured = configure(
            osprofiler={
                "connection_string": mariadb_url,
                "retention": retention,
            }
        )
        [(result, detail)] = run_check(configured)["storage"]
        assert result == expected
    assert "DELETE command denied" in detail
    parts = sa.make_url(mariadb_url)
    mariadb.execute(
        f"GRANT DELETE ON {parts.database}.* TO {parts.username}@'%'"
    )
    [(result, detail)] = run_check(configured)["storage"]
    assert result == OK


def test_eviction(
    configure: Configure, redis_server: servers.Redis, redis_url: str
) -> None:
    configured = configure(osprofiler={"connection_string": redis_url})
    [(result, _)] = run_check(configured)["storage"]
    assert result == OK
    redis_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis_server.execute("CONFIG", "SET", "appendonly", "no")
    try:
        [eviction, append_only] = run_check(configured)["storage"]
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
        [(result, detail)] = run_check(configured)["storage"]
    finally:
        mariadb.execute("SET GLOBAL init_connect = ''")
    assert result == WARNING
    assert "its clock is 600" in detail
    assert "behind" in detail


def store(storage: Storage, bodies: Iterable[bytes]) -> None:
    for trace in recorded.traces(bodies):
        storage.write([*trace.notifications()])


def test_threads_that_keep_a_profiler(
    configure: Configure, tmp_path: Path
) -> None:
    """The create was recorded with Nova on threads."""
    with contextlib.closing(
        get_storage(f"sqlite:///{tmp_path}/traces.sqlite")
    ) as storage:
        storage.prepare()
        assert "traces" not in run_check(configure())
        store(storage, recorded.keystone())
        [(result, _)] = run_check(configure())["traces"]
        assert result == OK
        store(storage, recorded.server_create())
    [(result, detail)] = run_check(configure())["traces"]
    assert result == WARNING
    assert "1 of the newest" in detail
    assert "(nova:nova-compute, nova:nova-conductor)" in detail
    assert "profiler-bridge-instrument" in detail


def test_no_storage(configure: Configure) -> None:
    for url, says in (("", "set connection_string"), ("redi://x", "redi://")):
        configured = configure(osprofiler={"connection_string": url})
        [(result, detail)] = run_check(configured)["storage"]
        assert result == FAILURE
        assert says in detail


# The service for reading


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, []),
        ("127.0.0.1", []),
        ("::1", []),
        ("0.0.0.0", [WARNING]),
        ("192.0.2.1", [WARNING]),
        ("nowhere.invalid", [FAILURE]),
    ],
)
def test_an_api_without_tls(
    configure: Configure, host: str | None, expected: list[Result]
) -> None:
    results = run_check(configure(api={"host": host} if host else {}))
    lines = results.get("api", [])
    assert [result for result, _ in lines] == expected
    for _, detail in lines:
        assert (
            f"host in [api]{':' if FAILURE in expected else ' is'} {host}"
            in detail
        )


# The set-aside file


def test_set_aside(configure: Configure, tmp_path: Path) -> None:
    configured = configure()
    assert run_check(configured)["set-aside"][0][0] == OK
    assert not configured.set_aside.exists()  # the daemon's user makes it

    configured.set_aside.write_text("no database " * 100)
    [(result, detail)] = run_check(configured)["set-aside"]
    assert result == FAILURE
    assert "not a database" in detail

    configured.set_aside.unlink()
    SetAside(str(configured.set_aside), 2**20).add(
        SetAsideMessage(Reason.BAD_ID, "", "", str(number))
        for number in range(7)
    )
    [(result, detail)] = run_check(configured)["set-aside"]
    assert result == WARNING
    assert f"{configured.set_aside} has 7 message(s)" in detail

    nowhere = tmp_path / "nowhere" / "set-aside.sqlite"
    [(result, detail)] = run_check(configure(bridge={"set_aside": nowhere}))[
        "set-aside"
    ]
    assert result == FAILURE
    assert "No such file or directory: set set_aside in [bridge]" in detail


def test_set_aside_on_a_full_disk(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    none_free = os.statvfs_result(
        [4096, 4096, 10**6, 1000, 0, 9, 9, 9, 0, 255]
    )
    monkeypatch.setattr(os, "statvfs", lambda _path: none_free)
    configured = configure()
    [(result, detail)] = run_check(configured)["set-aside"]
    assert result == FAILURE
    assert f"{configured.set_aside}: No space left on device" in detail


# Configuration


def test_names_that_are_no_options(configure: Configure) -> None:
    configured = configure(
        bridge={"worker": 3, "mask-keys": "a", "\x1b[2J": "\x1b"},
        DEFAULT={"log-dir": "/tmp", "log_file": "x"},
        Bridge={"mask_keys": "b"},
        osprofilr={"connection_string": "x"},
        # Where osprofiler has it, and with a name of its own.
        profiler={"sentinel-service-name": "x"},
        oslo_messaging_notifications={"transport_url": "fake://"},
    )
    [(result, detail)] = run_check(configured)["configuration"]
    assert result == WARNING
    assert "worker in [bridge] of" in detail
    assert "connection_string in [osprofilr] of" in detail
    # oslo.config ignores them, and says nothing.
    assert "mask-keys in [bridge] of" in detail
    assert "(write mask_keys)" in detail
    assert "(write log_dir)" in detail
    assert "(write sentinel_service_name)" in detail
    assert detail.count(" of ") == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[bridge]\nworkers = many\n", "workers"),
        ("[bridge]\ntopics =\n", "topics"),
        ("[oslo_messaging_rabbit]\nssl = perhaps\n", "ssl in"),
        (f"[osprofiler\nx = redis://u:{SECRET}@localhost\n", "line 1: Inv"),
    ],
)
def test_configuration_that_cannot_be_used(
    configure: Configure, text: str, says: str
) -> None:
    configured = configure()
    configured.config_file.write_text(text)
    [(result, detail)] = run_check(configured)["configuration"]
    assert result == FAILURE
    assert says in detail


def test_oslo_config_validator(tmp_path: Path) -> None:
    """As the page has it, knows every option of the sample, and no other."""
    page = (ROOT / "doc/source/admin/check.rst").read_text()
    _, _, rest = page.partition("\n    oslo-config-validator")
    arguments = rest.partition("\n\n")[0].replace("\\", "").split()
    path = tmp_path / "bridge.conf"
    arguments[arguments.index("/etc/profiler_bridge/bridge.conf")] = str(path)
    # Of the HTTP service, which the paragraph after it names.
    for namespace in re.findall(
        r"``((?:oslo|keystone)middleware\.\w+|oslo\.middleware\.\w+)``", rest
    ):
        arguments += ["--namespace", namespace]

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
    results = [Finding("a", result, "") for result in Result]
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
        assert [row["Check"] for row in findings] == CHECKS
        assert {row["Result"] for row in findings} == {"ok"}
        assert code == 0

        with reading(transport_url, durable=True):
            code, findings = manage(configured, "--bridges", "1")
        [second] = [row for row in findings if row["Result"] != "ok"]
        assert second["Check"] == "consumers"
        assert second["Result"] == "warning"
        seen = "has 3 consumer(s), expected are 2: 1 bridge(s)"
        assert seen in second["Detail"]
        assert code == 1
    configured.config_file.write_text("[bridge]\nworkers = none\n")
    code, findings = manage(configured)
    assert [row["Result"] for row in findings] == ["failure"]
    assert code == 2


# Forwarding


def test_others_that_get_traces(configure: Configure) -> None:
    with otlp_server.collector() as serving:
        path = serving.url.replace("://", f"://u:{SECRET}@")
        results = run_check(configure(forward={"endpoint": path}))
        ((result, detail),) = results["forward"]
        assert (result, detail.endswith(": it takes traces")) == (OK, True)
        assert serving.requests[0].spans == 0
        serving.acts.append(otlp_server.Reply(401))
        ((result, detail),) = run_check(configure(forward={"endpoint": path}))[
            "forward"
        ]
        assert result == WARNING
        assert "it answers 401" in detail
    ((result, detail),) = run_check(configure(forward={"endpoint": path}))[
        "forward"
    ]
    assert result == WARNING
    assert "Connection refused" in detail
    wrong = configure(forward={"endpoint": f"http://u:{SECRET}@collector"})
    ((result, detail),) = run_check(wrong)["forward"]
    assert result == FAILURE
    assert "otlp+http://" in detail
    assert "forward" not in run_check(configure())
