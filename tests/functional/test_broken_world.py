# SPDX-License-Identifier: Apache-2.0


"""check, over a world in which one thing at a time is broken."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.exceptions import Reason
from profiler_bridge.preflight import Finding, Result, check
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import Daemon, wait_for
from tests.functional.test_check import manage, reading

WARNING, FAILURE = Result.WARNING, Result.FAILURE

Options = dict[str, dict[str, object]]


@dataclass
class World:
    """A bridge's surroundings, all of them right until something is broken.

    :param folder: for configuration and set-aside file
    :param database: of MariaDB, with its user
    """

    rabbitmq: servers.RabbitMQ
    mariadb: servers.MariaDB
    redis: servers.Redis
    folder: Path
    transport_url: str
    database: sa.URL
    options: Options = field(default_factory=dict)
    done: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.options = {
            "DEFAULT": {"transport_url": self.transport_url},
            "bridge": {},
            "osprofiler": {"connection_string": self.url(self.database)},
            "oslo_messaging_rabbit": {"amqp_durable_queues": True},
        }

    @staticmethod
    def url(parts: sa.URL) -> str:
        return parts.render_as_string(hide_password=False)

    @property
    def vhost(self) -> str:
        return self.transport_url.rpartition("/")[2]

    def set(self, section: str, **options: object) -> None:
        self.options.setdefault(section, {}).update(options)

    def store_in(self, url: str) -> None:
        self.set("osprofiler", connection_string=url)

    def publish(self) -> None:
        bus.publish(self.transport_url, [{}], durable=True)

    def permit(self, configure: str, write: str, read: str) -> None:
        """Have the bridge be a user of RabbitMQ with these rights."""
        self.rabbitmq.ctl("add_user", "confined", "word")
        self.done.callback(self.rabbitmq.ctl, "delete_user", "confined")
        self.rabbitmq.ctl(
            *("set_permissions", "-p", self.vhost, "confined"),
            *(configure, write, read),
        )
        url = self.transport_url.replace("guest:guest", "confined:word")
        self.set("DEFAULT", transport_url=url)

    def revoke(self, right: str) -> None:
        name, user = self.database.database, self.database.username
        self.mariadb.execute(f"REVOKE {right} ON {name}.* FROM {user}@'%'")

    def configure(self, name: str, value: str) -> None:
        """Set what Redis can change while it runs, for the time of a test."""
        before = self.redis.execute("CONFIG", "GET", name)
        assert isinstance(before, dict)
        self.redis.execute("CONFIG", "SET", name, value)
        self.done.callback(
            self.redis.execute, "CONFIG", "SET", name, before[name]
        )

    def daemon(self) -> Daemon:
        return Daemon(self.folder, {**self.options})

    def findings(self) -> list[Finding]:
        """What is not as it should be."""
        config_file = self.daemon().config_file
        return [
            finding
            for finding in check([str(config_file)])
            if finding.result != Result.OK
        ]


@pytest.fixture
def world(
    rabbitmq: servers.RabbitMQ,
    mariadb: servers.MariaDB,
    redis_server: servers.Redis,
    transport_url: str,
    mariadb_url: str,
    redis_url: str,
    tmp_path: Path,
) -> Iterator[World]:
    made = World(
        rabbitmq,
        mariadb,
        redis_server,
        tmp_path,
        transport_url,
        sa.make_url(mariadb_url),
    )
    with made.done:
        yield made


def keep_aside(world: World) -> None:
    file = SetAside(str(world.folder / "set-aside.sqlite"), 2**20)
    file.add([SetAsideMessage(Reason.NOT_JSON, "no JSON", "", b"x")] * 2)


def read_elsewhere(world: World) -> None:
    world.publish()
    world.done.enter_context(reading(world.transport_url, durable=True))


def redis_with(name: str, value: str) -> Callable[[World], None]:
    def breaks(world: World) -> None:
        world.store_in(world.redis.url)
        world.configure("appendonly", "yes")
        world.configure(name, value)

    return breaks


def write_raw(text: bytes) -> Callable[[World], None]:
    """Have the file end with something that no configuration has."""

    def breaks(world: World) -> None:
        folder = world.folder / "configured"
        folder.mkdir()
        daemon = world.daemon()
        path = folder / "bridge.conf"
        path.write_bytes(daemon.config_file.read_bytes() + text)
        world.daemon = lambda: _at(daemon, path)  # type: ignore[method-assign]

    return breaks


def _at(daemon: Daemon, path: Path) -> Daemon:
    daemon.config_file = path
    return daemon


def option(section: str, **options: object) -> Callable[[World], None]:
    return lambda world: world.set(section, **options)


def database(**parts: Any) -> Callable[[World], None]:
    return lambda world: world.store_in(world.url(world.database.set(**parts)))


def transport(old: str, new: str) -> Callable[[World], None]:
    return lambda world: world.set(
        "DEFAULT", transport_url=world.transport_url.replace(old, new)
    )


def revoke(right: str, **osprofiler: object) -> Callable[[World], None]:
    def breaks(world: World) -> None:
        get_storage(world.url(world.database)).prepare()
        world.set("osprofiler", **osprofiler)
        if right != "DELETE":  # which the user never has
            world.revoke(right)

    return breaks


#: What is broken, under which name check says so, how bad it is, and words
#: that have to be in its one line.
BROKEN: Mapping[
    str, tuple[Callable[[World], object], str, Result, tuple[str, ...]]
] = {
    "bus: password": (
        transport("guest:guest", "guest:wrong"),
        *("bus", FAILURE, ("refuse",)),
    ),
    "bus: nobody listens": (
        lambda w: w.set(
            "DEFAULT",
            transport_url=f"rabbit://u:p@127.0.0.1:{servers.free_port()}/",
        ),
        *("bus", FAILURE, ("Connection refused",)),
    ),
    "bus: virtual host": (
        lambda w: w.set("DEFAULT", transport_url=w.transport_url + "x"),
        *("bus", FAILURE, ("vhost",)),
    ),
    "bus: a # in the password": (
        transport("guest:guest", "guest:gu#st"),
        *("bus", FAILURE, ("transport_url", "%23")),
    ),
    "bus: no such driver": (
        transport("rabbit://", "rabit://"),
        *("bus", FAILURE, ("transport_url", "there are")),
    ),
    "bus: three slashes": (
        transport("://", ":///"),
        *("bus", FAILURE, ("transport_url", "two slashes")),
    ),
    "bus: an option of no type": (
        lambda w: w.set("DEFAULT", transport_url=w.transport_url + "?ssl=x"),
        *("bus", FAILURE, ("transport_url", "behind its ?")),
    ),
    "bus: certificate": (
        option("oslo_messaging_rabbit", ssl=True, ssl_ca_file="/no.pem"),
        *("bus", FAILURE, ("ssl_ca_file", "/no.pem")),
    ),
    "queue: not durable": (
        option("oslo_messaging_rabbit", amqp_durable_queues=False),
        *("durability", WARNING, ("set amqp_durable_queues = true",)),
    ),
    "queue: of another kind": (
        lambda w: bus.publish(w.transport_url, [], durable=False),
        *("queue", WARNING, ("set amqp_durable_queues = false",)),
    ),
    "queue: an exchange of another kind": (
        lambda w: bus.make_exchange(w.transport_url, "nova", durable=False),
        *("queue", WARNING, ("exchange nova is not durable", "set the same")),
    ),
    "queue: no right to configure": (
        lambda w: w.permit("^$", ".*", ".*"),
        *("queue", FAILURE, ("right to configure", "profiler.info")),
    ),
    "queue: no right to read": (
        lambda w: w.permit(".*", ".*", "^$"),
        *("queue", FAILURE, ("right to", "read")),
    ),
    "queue: no right to write": (
        lambda w: w.permit(".*", "^$", ".*"),
        *("queue", FAILURE, ("right to", "write")),
    ),
    "queue: nobody drains it": (
        lambda w: w.publish(),
        *("messages", WARNING, ("nobody drains it",)),
    ),
    "queue: somebody else reads it": (
        read_elsewhere,
        *("consumers", WARNING, ("another reader",)),
    ),
    "prefetch: unlimited": (
        option("oslo_messaging_rabbit", rabbit_qos_prefetch_count=0),
        *("prefetch", WARNING, ("take it out",)),
    ),
    "prefetch: less than a batch": (
        option("bridge", prefetch=100),
        *("prefetch", WARNING, ("set prefetch",)),
    ),
    "storage: none": (
        lambda w: w.options.pop("osprofiler"),
        *("storage", FAILURE, ("connection_string",)),
    ),
    "storage: no plugin": (
        lambda w: w.store_in("mongodb://127.0.0.1/x"),
        *("storage", FAILURE, ("mongodb", "there are")),
    ),
    "storage: an @ in the password": (
        lambda w: w.store_in("mysql+pymysql://b:p@ss/word@127.0.0.1/h"),
        *("storage", FAILURE, ("write %40 for @",)),
    ),
    "database: password": (
        database(password="wrong"),
        *("storage", FAILURE, ("check the connection string",)),
    ),
    "database: none": (
        database(database="nowhere"),
        *("storage", FAILURE, ("create the database",)),
    ),
    "database: nobody listens": (
        lambda w: database(port=servers.free_port())(w),
        *("storage", FAILURE, ("connect",)),
    ),
    "database: certificate": (
        database(query={"ssl_ca": "/nonexistent.pem"}),
        *("storage", FAILURE, ("ssl_ca", "/nonexistent.pem")),
    ),
    "database: an option of no type": (
        database(query={"connect_timeout": "soon"}),
        *("storage", FAILURE, ("connect_timeout", "whole number")),
    ),
    "database: no right to insert": (
        revoke("INSERT"),
        *("storage", FAILURE, ("INSERT",)),
    ),
    "database: no right to select": (
        revoke("SELECT"),
        *("storage", FAILURE, ("SELECT",)),
    ),
    "database: no right to delete": (
        revoke("DELETE", retention="7d"),
        *("storage", FAILURE, ("DELETE",)),
    ),
    "redis: password": (
        lambda w: w.store_in(w.redis.url.replace("://", "://:wrong@")),
        *("storage", FAILURE, ("password",)),
    ),
    "redis: no such database": (
        lambda w: w.store_in(w.redis.url.rpartition("/")[0] + "/99"),
        *("storage", FAILURE, ("99",)),
    ),
    "redis: evicts": (
        redis_with("maxmemory-policy", "allkeys-lru"),
        *("storage", WARNING, ("set maxmemory-policy to noeviction",)),
    ),
    "redis: keeps nothing": (
        redis_with("appendonly", "no"),
        *("storage", WARNING, ("set appendonly to yes",)),
    ),
    "redis: no sentinel": (
        lambda w: w.store_in(
            w.redis.url.replace("redis://", "redissentinel://")
        ),
        *("storage", FAILURE, ("sentinel",)),
    ),
    "set-aside file: nowhere": (
        option("bridge", set_aside="/nowhere/aside.sqlite"),
        *("set-aside", FAILURE, ("/nowhere", "set set_aside")),
    ),
    "set-aside file: something is in it": (
        keep_aside,
        *("set-aside", WARNING, ("1 message(s)",)),
    ),
    "file: misspelt": (
        option("bridge", batchsize=7),
        *("configuration", WARNING, ("batchsize in [bridge]",)),
    ),
    "file: a hyphen": (
        option("bridge", **{"batch-size": 7}),
        *("configuration", WARNING, ("batch-size in [bridge]",)),
    ),
    "file: the wrong section": (
        option("DEFAULT", connection_string="redis://x/"),
        *("configuration", WARNING, ("connection_string in [DEFAULT]",)),
    ),
    "file: a value of no type": (
        option("bridge", batch_timeout="0,5"),
        *("configuration", FAILURE, ("batch_timeout",)),
    ),
    "file: not UTF-8": (
        write_raw(b"# \xff\n"),
        *("configuration", FAILURE, ("UTF-8",)),
    ),
    "file: no configuration": (
        write_raw(b"what is this\n"),
        *("configuration", FAILURE, ("bridge.conf",)),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_one_line_says_what_is_broken_and_what_to_do(
    what: str, world: World
) -> None:
    breaks, name, result, words = BROKEN[what]
    breaks(world)
    [finding] = world.findings()
    assert (finding.check, finding.result) == (name, result)
    for word in words:
        assert word in finding.detail
    assert len(finding.detail.splitlines()) == 1


def test_a_right_world(world: World) -> None:
    """Before its bridges first start, and while they run."""
    assert world.findings() == []
    world.set("bridge", workers=2)
    running = world.daemon()
    with running:
        wait_for(lambda: running.log.count("Listening") == 2, "workers")
        code, findings = manage(running)
        assert {row["Result"] for row in findings} == {"ok"}
        assert code == 0
        assert running.terminate() == 0
    assert json.dumps(findings).count("\\n") == 0
