#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Real servers for the tests, on free loopback ports, in own folders.

stop() and kill() keep the data for the next start(), which uses the same
port; close(), which is also what leaving a ``with`` block does, removes it.
"""

import atexit
import contextlib
import itertools
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg
import pymysql
import redis
from kombu.transport import pyamqp
from redis.backoff import NoBackoff
from redis.retry import Retry

# Servers are often in sbin folders, which a plain user's PATH leaves out.
PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"

# Below the ports the system gives to outgoing connections: one of these could
# take a server's port while it is down, and even a client that tries to reach
# the server could then connect to itself. SystemRandom, as parallel runs of
# the tests may have seeded the usual generator alike.
# Tests that run beside these, in a process of pytest-xdist, have others: a
# server's port stays its own while it is down.
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_range = range(10000 + _process % 8, 16000, 8)
_ports = iter(random.SystemRandom().sample(_range, len(_range)))


class ServerMissing(Exception):
    """A server's program is not on this machine."""


def find(package: str, *names: str, folders: str = "") -> str:
    """Return the first program found, in the newest folder or in PATH."""
    found = [str(path) for path in Path("/").glob(folders or "nowhere")]
    found.sort(key=lambda path: [int(n) for n in re.findall(r"\d+", path)])
    for path in [*reversed(found), PATH]:
        for name in names:
            if program := shutil.which(name, path=path):
                return program
    message = f"{names[0]} is not installed (Debian package: {package})"
    raise ServerMissing(message)


def free_port() -> int:
    """Return a port nothing listens on and that was not returned before."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port is left")


def wait_until(check: Callable[[], object], timeout: float) -> bool:
    """Return whether check() became true within timeout seconds."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _processes() -> dict[int, tuple[int, int]]:
    """Return the parent and the process group of each live process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            # After the program's name, in brackets, which may hold anything.
            state, parent, group = text.rpartition(")")[2].split()[:3]
            if state not in "ZX":
                found[int(path.parent.name)] = int(parent), int(group)
    return found


class Startable:
    """What the ``with`` statement starts, and closes at its end."""

    def start(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Server(Startable):
    """A server process with a folder for all that it writes."""

    start_timeout = 60
    stop_timeout = 30
    stop_signal = signal.SIGTERM
    # Another user to run as, for servers which refuse to be run by root.
    user: str | None = None

    def __init__(self) -> None:
        self.name = type(self).__name__
        # Not one of pytest's folders: only their owner may enter them, and
        # their names may be too long for a Unix socket.
        self.folder = Path(tempfile.mkdtemp(prefix=f"test-{self.name}-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.socket = self.folder / "socket"
        self.port = free_port()
        self.paused = False
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        atexit.register(self._at_exit)

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        # No more than this: PGHOST and the like must not get through.
        return {"PATH": PATH, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def prepare(self) -> None:
        """Make what is needed before the first start."""

    def check(self) -> None:
        """Raise unless the server answers."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait for answers."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        if not self.data.exists():
            self.data.mkdir()
            if self.user:
                shutil.chown(self.folder, self.user)
                shutil.chown(self.data, self.user)
            self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, **self._options()
            )
        deadline = time.monotonic() + self.start_timeout
        try:
            while True:
                try:
                    return self.check()
                except Exception as exc:
                    if not self.running or time.monotonic() > deadline:
                        message = f"{self.name} did not start:\n{self.tail()}"
                        raise RuntimeError(message) from exc
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End in good order."""
        if self._process is not None:
            self.resume()
            family = self._family()
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_timeout)
            self._end(family, self.stop_signal, signal.SIGKILL)

    def kill(self) -> None:
        """End at once, as in a crash."""
        if self._process is not None:
            self.pause()  # So that nothing new starts meanwhile.
            self._end(self._family(), signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop answering, with all connections left open."""
        self._signal(signal.SIGSTOP, self._family())
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self._signal(signal.SIGCONT, self._family())
            self.paused = False

    def close(self) -> None:
        """Stop and forget the data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self._at_exit)

    def tail(self) -> str:
        """Return the end of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-40:])

    def run(self, *command: str) -> str:
        """Run one of the server's own tools and return its output."""
        done = subprocess.run(
            command, capture_output=True, timeout=60, **self._options()
        )
        if done.returncode:
            output = (done.stdout + done.stderr).decode(errors="replace")
            raise RuntimeError(f"{command} failed:\n{output}")
        return str(done.stdout, "utf-8")

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "cwd": self.folder,
            "env": self.environment(),
            "start_new_session": True,
        }
        if self.user:
            group = pwd.getpwnam(self.user).pw_gid
            options |= {"user": self.user, "group": group, "extra_groups": []}
        return options

    def _family(self) -> list[int]:
        """Return the server's process group and all that it started.

        Some servers give their children sessions and groups of their own.
        """
        assert self._process is not None
        processes, group = _processes(), self._process.pid
        family = [pid for pid, ids in processes.items() if ids[1] == group]
        for member in family:  # Which grows meanwhile.
            for pid, (parent, _) in processes.items():
                if parent == member and pid not in family:
                    family.append(pid)
        return family

    def _signal(self, number: int, family: list[int]) -> None:
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, family: list[int], *numbers: int) -> None:
        """Send the signals, one after the other, until all have ended."""
        assert self._process is not None

        def alive() -> list[int]:
            return [pid for pid in _processes() if pid in family]

        for number in numbers:
            self._signal(number, alive())
            if wait_until(lambda: not alive(), 5):
                break
        self._process.wait(5)
        self._process = None
        self.paused = False

    def _at_exit(self) -> None:
        # Unless in a forked child, which must leave its parent's servers be.
        if self._owner == os.getpid():
            self.close()


class RabbitMQ(Server):
    start_timeout = 120

    def __init__(self) -> None:
        # Debian's program in PATH would change to another user.
        package = "rabbitmq-server"
        folders = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"
        self.program = find(package, "rabbitmq-server", folders=folders)
        self.ctl_program = find(package, "rabbitmqctl", folders=folders)
        self.epmd = find("erlang-base", "epmd")
        super().__init__()
        self.epmd_port, self.dist_port = free_port(), free_port()
        self._vhosts: list[str] = []

    @property
    def transport_url(self) -> str:
        return f"rabbit://guest:guest@127.0.0.1:{self.port}/"

    def command(self) -> list[str]:
        # Erlang's name service is ours as well, so that it ends with us.
        return ["sh", "-c", '"$1" & exec "$0"', self.program, self.epmd]

    def environment(self) -> dict[str, str]:
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return super().environment() | {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_FLAGS": f"-start_epmd false {loopback}",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self.folder}/advanced.config",
            "RABBITMQ_CONFIG_FILE": f"{self.folder}/rabbitmq.conf",
            "RABBITMQ_CONFIG_FILES": f"{self.folder}/conf.d",
            "RABBITMQ_CONF_ENV_FILE": f"{self.folder}/rabbitmq-env.conf",
            # Any free port, instead of one of ten fixed ones.
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.folder}/enabled_plugins",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
        }

    def prepare(self) -> None:
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq-env.conf").touch()
        (self.folder / "rabbitmq.conf").write_text(
            "loopback_users = none\n"
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            "disk_free_limit.absolute = 10MB\n"
        )

    def check(self) -> None:
        self._connect("/").close()

    def _connect(self, vhost: str) -> Any:
        # Not through kombu's own class, which waits between its attempts.
        host = f"127.0.0.1:{self.port}"
        link = pyamqp.Connection(host, virtual_host=vhost, read_timeout=30)
        link.connect()
        return link

    def ctl(self, *args: str) -> str:
        """Run rabbitmqctl for this server."""
        return self.run(self.ctl_program, *args)

    def queue_depth(self, queue: str, url: str = "") -> int:
        """Return how many messages wait in a queue, by default of vhost /."""
        vhost = url.removeprefix(self.transport_url) or "/"
        with self._connect(vhost) as link:
            reply = link.channel().queue_declare(queue, passive=True)
            return int(reply.message_count)

    def vhost(self) -> str:
        """Return the transport URL of a virtual host nobody used before."""
        if not self._vhosts:
            # Many at once, as each call of rabbitmqctl takes long.
            names = [f"test{next(self._numbers)}" for _ in range(10)]
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            users = [{"user": "guest", "vhost": n} | rights for n in names]
            vhosts = [{"name": name} for name in names]
            path = self.folder / "vhosts.json"
            path.write_text(
                json.dumps({"vhosts": vhosts, "permissions": users})
            )
            self.ctl("import_definitions", str(path))
            self._vhosts = names
        return self.transport_url + self._vhosts.pop(0)


class Epmd(Server):
    """Erlang's name service, by which the nodes of a cluster meet."""

    def __init__(self) -> None:
        self.program = find("erlang-base", "epmd")
        super().__init__()

    def environment(self) -> dict[str, str]:
        return super().environment() | {"ERL_EPMD_ADDRESS": "127.0.0.1"}

    def command(self) -> list[str]:
        return [self.program, "-port", str(self.port)]

    def check(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), 10).close()


class RabbitMQNode(RabbitMQ):
    """One of the nodes of a RabbitMQCluster."""

    def __init__(self, cluster: "RabbitMQCluster") -> None:
        super().__init__()
        self.epmd_port = cluster.epmd.port
        self.cluster = cluster

    @property
    def node_name(self) -> str:
        return self.environment()["RABBITMQ_NODENAME"]

    def command(self) -> list[str]:
        return [self.program]

    def prepare(self) -> None:
        super().prepare()
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("thecookieofthetests")
        cookie.chmod(0o400)
        if self is self.cluster.nodes[0]:
            return
        # The first makes a cluster at once, and the others wait for it.
        lines = ["peer_discovery_backend = classic_config"]
        lines += ["discovery_retry_limit = 100"]
        lines += [
            f"classic_config.nodes.{number} = {node.node_name}"
            for number, node in enumerate(self.cluster.nodes, 1)
        ]
        with (self.folder / "rabbitmq.conf").open("a") as settings:
            for line in lines:
                settings.write(f"cluster_formation.{line}\n")


class RabbitMQCluster(Startable):
    """Nodes of RabbitMQ that know the same queues.

    With three of them a quorum queue survives the loss of any one.
    """

    def __init__(self, nodes: int = 3) -> None:
        self.epmd = Epmd()
        self.nodes: list[RabbitMQNode] = []
        self.nodes += [RabbitMQNode(self) for _ in range(nodes)]

    @property
    def transport_url(self) -> str:
        logins = [f"guest:guest@127.0.0.1:{each.port}" for each in self.nodes]
        return f"rabbit://{','.join(logins)}/"

    def start(self) -> None:
        """Start all nodes at once, wait for all to be in one cluster."""
        self.epmd.start()
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(RabbitMQNode.start, self.nodes))
        if not wait_until(self._complete, 60):
            raise RuntimeError(f"incomplete:\n{self.nodes[0].tail()}")
        # Quorum queues are one. Nodes that meet while they start may leave
        # some of them off.
        self.nodes[0].ctl("enable_feature_flag", "all")

    def _complete(self) -> bool:
        status = json.loads(
            self.nodes[0].ctl("cluster_status", "--formatter=json")
        )
        return len(status["running_nodes"]) == len(self.nodes)

    def leader(self, queue: str) -> RabbitMQNode:
        """Return the node that leads a quorum queue."""
        node = next(each for each in self.nodes if each.running)
        queues = json.loads(
            node.ctl("list_queues", "--formatter=json", "name", "leader")
        )
        [name] = [each["leader"] for each in queues if each["name"] == queue]
        return next(each for each in self.nodes if each.node_name == name)

    def queue_depth(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        node = next(each for each in self.nodes if each.running)
        return node.queue_depth(queue)

    def close(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(RabbitMQNode.close, self.nodes))
        self.epmd.close()


class SQLServer(Server):
    """A database server, which can make new databases and users."""

    def connect(self, db: str | None) -> Any:
        """Connect with all rights, over the Unix socket."""
        raise NotImplementedError

    def check(self) -> None:
        self.connect(None).close()

    def execute(self, sql: str, db: str | None = None) -> list[Any]:
        """Run a statement with all rights, return its rows."""
        with contextlib.closing(self.connect(db)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def _names(self) -> tuple[str, str, str, str]:
        """Return a new database, user, password and their part of a URL."""
        n = next(self._numbers)
        db, user, password = f"profiler_{n}", f"u{n}", f"p@ss w0rd/{n}"
        login = f"{user}:{quote(password, safe='')}"
        return db, user, password, f"{login}@127.0.0.1:{self.port}/{db}"


class MariaDB(SQLServer):
    def __init__(self, *extra: str) -> None:
        """Take more arguments, such as --version=5.5.62-MariaDB."""
        package = "mariadb-server"
        self.program = find(package, "mariadbd", "mysqld")
        self.install = find(package, "mariadb-install-db", "mysql_install_db")
        super().__init__()
        self.extra = extra
        self.settings = [
            "--no-defaults",
            f"--datadir={self.data}",
            f"--tmpdir={self.folder}",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--character-set-server=utf8mb4",
        ]
        if os.geteuid() == 0:
            self.settings.append("--user=root")

    def prepare(self) -> None:
        login = "--auth-root-authentication-method=normal"
        self.run(self.install, *self.settings, login, "--skip-test-db")

    def command(self) -> list[str]:
        return [
            self.program,
            *self.settings,
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder}/pid",
            "--skip-log-bin",
            # Also so that the accounts of localhost are for the socket only.
            "--skip-name-resolve",
            *self.extra,
        ]

    def connect(self, db: str | None) -> Any:
        return pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            database=db,
            autocommit=True,
            read_timeout=30,
        )

    def database(self, grants: str = "CREATE, SELECT, INSERT") -> str:
        """Return the URL of a new database, for a new user with the rights."""
        db, user, password, url = self._names()
        self.execute(f"CREATE DATABASE {db}")
        self.execute(f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'")
        self.execute(f"GRANT {grants} ON {db}.* TO {user}@'%'")
        return f"mysql+pymysql://{url}?charset=utf8"


class PostgreSQL(SQLServer):
    # SIGTERM would wait for the clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        folders = "usr/lib/postgresql/*/bin"
        self.program = find("postgresql", "postgres", folders=folders)
        self.initdb = find("postgresql", "initdb", folders=folders)
        if os.geteuid() == 0:
            users = [entry.pw_name for entry in pwd.getpwall()]
            self.user = "postgres" if "postgres" in users else "nobody"
        super().__init__()

    def prepare(self) -> None:
        self.run(
            self.initdb,
            f"--pgdata={self.data}",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
        )

    def command(self) -> list[str]:
        return [
            self.program,
            "-D",
            str(self.data),
            "--listen_addresses=127.0.0.1",
            f"--port={self.port}",
            f"--unix_socket_directories={self.folder}",
            "--shared_buffers=16MB",
            # What a killed process had written is there all the same; only a
            # power cut would tell the difference.
            "--fsync=off",
            # In the data folder, so that nothing outlives kill().
            "--dynamic_shared_memory_type=mmap",
        ]

    def connect(self, db: str | None) -> Any:
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="postgres",
            dbname=db or "postgres",
            autocommit=True,
            connect_timeout=10,
        )

    def database(self) -> str:
        """Return the URL of a new database, for a new user who owns it."""
        db, user, password, url = self._names()
        self.execute(f"CREATE USER {user} PASSWORD '{password}'")
        self.execute(f"CREATE DATABASE {db} OWNER {user}")
        return f"postgresql+psycopg://{url}"


def _login(password: str | None) -> str:
    """Return a password as in URLs."""
    return "" if password is None else f":{quote(password, safe='')}@"


def _secret(setting: str, password: str | None) -> list[str]:
    """Return a password as in settings."""
    return [] if password is None else [f"{setting} {json.dumps(password)}"]


class Redis(Server):
    # Short, as a replica ignores the first signal while it writes its first
    # append-only file. The second one follows.
    stop_timeout = 2

    def __init__(
        self,
        password: str | None = None,
        replicaof: "Redis | None" = None,
        appendonly: bool = True,
    ) -> None:
        self.program = find("redis-server", "redis-server")
        super().__init__()
        self.password = password
        self.settings = [
            f"unixsocket {self.socket}",
            'save ""',
            f"appendonly {'yes' if appendonly else 'no'}",
            "appendfsync everysec",
            "repl-diskless-sync-delay 0",
            # Also for a master, which may come back as a replica.
            *_secret("masterauth", password),
        ]
        if replicaof:
            self.settings.append(f"replicaof 127.0.0.1 {replicaof.port}")

    def prepare(self) -> None:
        # A file, as sentinels have servers write their changes to it.
        settings = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.data}",
            *_secret("requirepass", self.password),
            *self.settings,
        ]
        (self.folder / "redis.conf").write_text("\n".join(settings) + "\n")

    def command(self) -> list[str]:
        return [self.program, f"{self.folder}/redis.conf"]

    def check(self) -> None:
        self.execute("PING")

    def execute(self, *command: str | bytes | float) -> Any:
        """Run a command, with text in the answer in place of bytes."""
        with redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password,
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return client.execute_command(*command)

    @property
    def url(self) -> str:
        return self.url_for(0)

    def url_for(self, db: int) -> str:
        return f"redis://{_login(self.password)}127.0.0.1:{self.port}/{db}"


class Sentinel(Redis):
    """One of the processes of a SentinelGroup."""

    def __init__(self, group: "SentinelGroup", quorum: int) -> None:
        super().__init__(group.sentinel_password)
        self.service_name = name = group.service_name
        port = group.nodes[0].port
        self.settings = [
            f"sentinel monitor {name} 127.0.0.1 {port} {quorum}",
            f"sentinel down-after-milliseconds {name} 1000",
            f"sentinel failover-timeout {name} 3000",
            f"sentinel parallel-syncs {name} 1",
            *_secret(f"sentinel auth-pass {name}", group.password),
            *_secret("sentinel sentinel-pass", self.password),
        ]

    def command(self) -> list[str]:
        return [*super().command(), "--sentinel"]

    def master_port(self) -> int:
        query = "SENTINEL GET-MASTER-ADDR-BY-NAME"
        return int(self.execute(query, self.service_name)[1])


class SentinelGroup(Startable):
    """A Redis master and its replicas, watched by sentinels.

    No spaces or quotes in passwords: sentinels do not escape them when they
    write their configuration, and could not start again.
    """

    def __init__(
        self,
        replicas: int = 2,
        sentinels: int = 3,
        service_name: str = "mymaster",
        password: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self.service_name = service_name
        self.password = password
        self.sentinel_password = sentinel_password
        first = Redis(password)
        others = [Redis(password, first) for _ in range(replicas)]
        self.nodes = [first, *others]
        quorum = sentinels // 2 + 1
        self.sentinels = [Sentinel(self, quorum) for _ in range(sentinels)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels)
        return f"redissentinel://{_login(self.password)}{hosts}/0"

    def start(self) -> None:
        """Start what does not run, wait for all to know of each other."""
        for server in [*self.nodes, *self.sentinels]:
            server.resume()
            if not server.running:
                server.start()
        if not wait_until(self._complete, 60):
            raise RuntimeError(f"incomplete:\n{self.sentinels[0].tail()}")

    def _complete(self) -> bool:
        master = self.master()
        for node in self.nodes:
            info = node.execute("INFO", "replication")
            if node is not master and info.get("master_link_status") != "up":
                return False
        for sentinel in self.sentinels:
            info = sentinel.execute("INFO", "sentinel")["master0"]
            numbers = info["slaves"] + 1, info["sentinels"]
            if numbers != (len(self.nodes), len(self.sentinels)):
                return False
        return True

    def master(self) -> Redis:
        """Return the server which most of the live sentinels name."""
        live = [s for s in self.sentinels if s.running and not s.paused]
        port = statistics.mode(s.master_port() for s in live)
        return next(node for node in self.nodes if node.port == port)

    def kill_master(self) -> Redis:
        """Kill the master, without waiting for another; return it."""
        master = self.master()
        master.kill()
        return master

    def wait_for_failover(self, old: Redis, timeout: float = 30) -> Redis:
        """Wait until another server is the master; return it."""

        def changed() -> bool:
            new = self.master()
            return new is not old and new.execute("ROLE")[0] == "master"

        if not wait_until(changed, timeout):
            raise RuntimeError(f"no failover:\n{self.sentinels[0].tail()}")
        return self.master()

    def stop(self) -> None:
        # The sentinels first, or they would begin a failover.
        for server in [*self.sentinels, *self.nodes]:
            server.stop()

    def close(self) -> None:
        for server in [*self.sentinels, *self.nodes]:
            server.close()
