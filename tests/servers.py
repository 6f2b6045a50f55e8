# SPDX-License-Identifier: Apache-2.0

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
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pymysql
import redis
from amqp.exceptions import AMQPError
from kombu.transport import pyamqp
from redis.backoff import ConstantBackoff
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
    directories = [str(path) for path in Path("/").glob(folders or "nowhere")]
    directories.sort(
        key=lambda path: [int(n) for n in re.findall(r"\d+", path)]
    )
    for path in [*reversed(directories), PATH]:
        for name in names:
            if program := shutil.which(name, path=path):
                return program
    message = f"{names[0]} is not installed (Debian package: {package})"
    raise ServerMissing(message)


def _user(name: str) -> str:
    users = [entry.pw_name for entry in pwd.getpwall()]
    return name if name in users else "nobody"


def free_port() -> int:
    """Return a port nothing listens on and that was not returned before."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port is left")


# A server that starts, ends or changes its part closes its connections.
UNANSWERED = (
    OSError,
    AMQPError,
    psycopg.OperationalError,
    pymysql.InterfaceError,
    pymysql.OperationalError,
    redis.ConnectionError,
    redis.TimeoutError,
)


def wait_until(check: Callable[[], object], timeout: float) -> bool:
    """Return whether check() became true within timeout seconds."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _wait_for_servers(check: Callable[[], object], timeout: float) -> bool:
    """The same, of servers: one that does not answer is not yet ready."""

    def answers() -> bool:
        with contextlib.suppress(*UNANSWERED):
            return bool(check())
        return False

    return wait_until(answers, timeout)


def _processes() -> dict[int, tuple[int, int]]:
    """Return the parent and the process group of each live process."""
    processes = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            # After the program's name, in brackets, which may hold anything.
            state, parent, group = text.rpartition(")")[2].split()[:3]
            if state not in "ZX":
                processes[int(path.parent.name)] = int(parent), int(group)
    return processes


def cpu(pid: int) -> float:
    """CPU seconds of a process, and of its children that have ended.

    0 where there is no such process any more.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # After the name, which may have anything in it.
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


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

    def cpu(self) -> float:
        """Seconds that all its processes have had, those that ended too."""
        return sum(map(cpu, self._family()))

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
            if _wait_for_servers(lambda: not alive(), 5):
                break
        self._process.wait(5)
        self._process = None
        self.paused = False

    def _at_exit(self) -> None:
        # Unless in a forked child, which must leave its parent's servers be.
        if self._owner == os.getpid():
            self.close()


class RabbitMQ(Server):
    """A node by itself.

    :param certificates: for TLS, on a port beside the other
    """

    start_timeout = 120

    def __init__(self, certificates: "Certificates | None" = None) -> None:
        self.certificates = certificates
        self.tls_port = free_port() if certificates else 0
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

    @property
    def tls_url(self) -> str:
        return f"rabbit://guest:guest@127.0.0.1:{self.tls_port}/"

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
            "disk_free_limit.absolute = 10MB\n" + self._tls_settings()
        )

    def _tls_settings(self) -> str:
        if self.certificates is None:
            return ""
        return (
            f"listeners.ssl.local = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.certificates.authority}\n"
            f"ssl_options.certfile = {self.certificates.certificate}\n"
            f"ssl_options.keyfile = {self.certificates.key}\n"
            "ssl_options.verify = verify_peer\n"
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
        logins = [f"guest:guest@127.0.0.1:{node.port}" for node in self.nodes]
        return f"rabbit://{','.join(logins)}/"

    def start(self) -> None:
        """Start all nodes at once, wait for all to be in one cluster."""
        self.epmd.start()
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(RabbitMQNode.start, self.nodes))
        if not _wait_for_servers(self._complete, 60):
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
        node = next(node for node in self.nodes if node.running)
        queues = json.loads(
            node.ctl("list_queues", "--formatter=json", "name", "leader")
        )
        [name] = [row["leader"] for row in queues if row["name"] == queue]
        return next(node for node in self.nodes if node.node_name == name)

    def queue_depth(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        node = next(node for node in self.nodes if node.running)
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


class GaleraNode(MariaDB):
    """One of the nodes of a GaleraCluster."""

    def __init__(self, cluster: "GaleraCluster") -> None:
        library = Path("/usr/lib/galera/libgalera_smm.so")
        if not library.exists():
            raise ServerMissing(f"{library} is missing (Debian: galera-4)")
        super().__init__()
        if os.geteuid() == 0:
            # What copies the data to another node is nobody where it is root.
            self.user = _user("mysql")
            self.settings.remove("--user=root")
        self.cluster = cluster
        self.group_port = free_port()
        self.transfer_ports = free_port(), free_port()
        self.library = library

    def command(self) -> list[str]:
        others = [n for n in self.cluster.nodes if n is not self]
        first = not any(node.running for node in others)
        incremental, whole = self.transfer_ports
        options = [
            f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port}",
            f"ist.recv_addr=127.0.0.1:{incremental}",
            "gcache.size=16M",
            # A node that is away is missed soon.
            "evs.keepalive_period=PT0.3S",
            "evs.suspect_timeout=PT1S",
            "evs.inactive_check_period=PT0.3S",
            "evs.inactive_timeout=PT3S",
            "evs.install_timeout=PT3S",
            "pc.wait_prim=no",
        ]
        # Where another is at work, its list of members counts.
        members = ",".join(f"127.0.0.1:{n.group_port}" for n in others)
        return [
            *super().command(),
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--innodb-flush-log-at-trx-commit=2",
            "--wsrep-on=ON",
            f"--wsrep-provider={self.library}",
            f"--wsrep-cluster-name=test-{self.cluster.nodes[0].port}",
            f"--wsrep-cluster-address=gcomm://{'' if first else members}",
            "--wsrep-node-address=127.0.0.1",
            f"--wsrep-provider-options={';'.join(options)}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{whole}",
        ]

    def check(self) -> None:
        if self.state() != "Synced":
            raise RuntimeError(f"{self.name} is {self.state()}")

    def state(self) -> str:
        """Return what the node is at; Synced when it takes part."""
        sql = "SHOW STATUS LIKE 'wsrep_local_state_comment'"
        return str(self.execute(sql)[0][1])

    def isolate(self) -> None:
        """Cut it off from the others, so that it refuses all statements."""
        self._isolate("1")
        if not _wait_for_servers(lambda: self.state() != "Synced", 30):
            raise RuntimeError(f"not isolated:\n{self.tail()}")

    def rejoin(self) -> None:
        """Undo that."""
        self._isolate("0")
        if not _wait_for_servers(lambda: self.state() == "Synced", 60):
            raise RuntimeError(f"not back:\n{self.tail()}")

    def _isolate(self, value: str) -> None:
        self.execute(
            f"SET GLOBAL wsrep_provider_options='gmcast.isolate={value}'"
        )


class GaleraCluster(Startable):
    """Nodes of MariaDB, each of which takes writes for all of them."""

    def __init__(self, nodes: int = 3) -> None:
        self.nodes: list[GaleraNode] = []
        self.nodes += [GaleraNode(self) for _ in range(nodes)]

    def start(self) -> None:
        """Start what does not run; the first of a new cluster comes first."""
        for node in self.nodes:
            node.resume()
            if not node.running:
                node.start()

    def database(self) -> list[str]:
        """Return a new database's URL at each of the nodes."""
        url = self.nodes[0].database()
        port = f":{self.nodes[0].port}/"
        return [url.replace(port, f":{node.port}/") for node in self.nodes]

    def close(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(GaleraNode.close, self.nodes))


class PgBouncer(Server):
    """A pooler before a database of PostgreSQL.

    :param url: the database's
    :param mode: session, transaction or statement
    """

    stop_signal = signal.SIGINT

    def __init__(self, url: str, mode: str) -> None:
        self.program = find("pgbouncer", "pgbouncer")
        if os.geteuid() == 0:
            self.user = _user("postgres")
        super().__init__()
        self.mode = mode
        self.parts = urlsplit(url)
        self.url = url.replace(f":{self.parts.port}/", f":{self.port}/")

    def prepare(self) -> None:
        password = unquote(self.parts.password or "")
        (self.folder / "users").write_text(
            f'"{self.parts.username}" "{password}"\n'
        )
        (self.folder / "config").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={self.parts.port}\n"
            "[pgbouncer]\n"
            "listen_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\n"
            "unix_socket_dir =\n"
            "auth_type = scram-sha-256\n"
            f"auth_file = {self.folder}/users\n"
            f"pool_mode = {self.mode}\n"
            # Fewer than clients, so that they get each other's.
            "default_pool_size = 2\n"
            # Not 15 seconds, until it looks again for one that was away.
            "server_login_retry = 1\n"
        )

    def command(self) -> list[str]:
        return [self.program, f"{self.folder}/config"]

    def check(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), 10).close()


class Proxy(Startable):
    """An address that can be moved, or that packets are lost behind.

    :param target: the port at which new connections end
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.accepted = 0
        # Seconds before each piece of an answer.
        self.delay = 0.0
        self._swallowing = threading.Event()
        # After which of a client's words, in how many pieces of them.
        self._trigger: tuple[bytes, int] | None = None
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Take what comes, and pass nothing on."""
        self._swallowing.set()

    def swallow_after(self, word: bytes, times: int = 1) -> None:
        """Pass all on until a client has sent a word so often; then none."""
        self._trigger = (word, times)

    def pass_on(self) -> None:
        """Undo that, for new connections."""
        self.end_connections()
        self._swallowing.clear()

    def end_connections(self) -> None:
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # close() alone would leave the thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.end_connections()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.accepted += 1
                try:
                    server = socket.create_connection(
                        ("127.0.0.1", self.target)
                    )
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                for pair in (client, server), (server, client):
                    threading.Thread(
                        target=self._pump,
                        args=(*pair, pair[0] is client),
                        daemon=True,
                    ).start()

    def _pump(
        self, source: socket.socket, end: socket.socket, from_client: bool
    ) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if self._swallowing.is_set():
                    continue
                if from_client:
                    self._count(data)
                else:
                    time.sleep(self.delay)
                end.sendall(data)
            end.shutdown(socket.SHUT_RDWR)

    def _count(self, data: bytes) -> None:
        if self._trigger and self._trigger[0] in data:
            word, times = self._trigger
            self._trigger = (word, times - 1)
            if times == 1:
                self._trigger = None
                self._swallowing.set()


class HAProxy(Server):
    """An address that reaches the first of some servers that is there."""

    # In good order it would wait for the clients to leave.
    stop_signal = signal.SIGKILL

    def __init__(self, ports: Sequence[int]) -> None:
        self.program = find("haproxy", "haproxy")
        super().__init__()
        self.ports = ports

    def prepare(self) -> None:
        lines = [
            "defaults",
            "  mode tcp",
            "  timeout connect 5s",
            "  timeout client 1h",
            "  timeout server 1h",
            "  default-server check inter 200ms fall 1 rise 2"
            " on-marked-down shutdown-sessions",
            "listen database",
            f"  bind 127.0.0.1:{self.port}",
        ]
        lines += [
            f"  server s{number} 127.0.0.1:{port}{' backup' * (number > 0)}"
            for number, port in enumerate(self.ports)
        ]
        (self.folder / "config").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.program, "-db", "-f", f"{self.folder}/config"]

    def check(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), 10).close()


class PostgreSQL(SQLServer):
    # SIGTERM would wait for the clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        folders = "usr/lib/postgresql/*/bin"
        self.program = find("postgresql", "postgres", folders=folders)
        self.initdb = find("postgresql", "initdb", folders=folders)
        if os.geteuid() == 0:
            self.user = _user("postgres")
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


class Certificates:
    """An authority, and what it signed for servers at 127.0.0.1."""

    def __init__(self) -> None:
        self.program = find("openssl", "openssl")
        self.folder = Path(tempfile.mkdtemp(prefix="test-certificates-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.authority = self.folder / "authority.pem"
        self.certificate = self.folder / "server.pem"
        self.key = self.folder / "server.key"
        self._run(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=authority", "-keyout", "authority.key"),
            *("-out", self.authority.name),
        )
        self._run(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server"),
            *("-keyout", self.key.name, "-out", "server.csr"),
        )
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        self._run(
            *("x509", "-req", "-in", "server.csr", "-days", "2"),
            *("-CA", self.authority.name, "-CAkey", "authority.key"),
            *("-CAcreateserial", "-extfile", "names"),
            *("-out", self.certificate.name),
        )

    def _run(self, *args: str) -> None:
        subprocess.run(
            [self.program, *args],
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=60,
        )


class Redis(Server):
    # Short, as a replica ignores the first signal while it writes its first
    # append-only file. The second one follows.
    stop_timeout = 2

    def __init__(
        self,
        password: str | None = None,
        replicaof: "Redis | None" = None,
        appendonly: bool = True,
        certificates: Certificates | None = None,
    ) -> None:
        self.program = find("redis-server", "redis-server")
        super().__init__()
        self.password = password
        self.certificates = certificates
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
            f"dir {self.data}",
            *self._port(),
            *_secret("requirepass", self.password),
            *self.settings,
        ]
        (self.folder / "redis.conf").write_text("\n".join(settings) + "\n")

    def _port(self) -> list[str]:
        if self.certificates is None:
            return [f"port {self.port}"]
        return [
            "port 0",
            f"tls-port {self.port}",
            f"tls-ca-cert-file {self.certificates.authority}",
            f"tls-cert-file {self.certificates.certificate}",
            f"tls-key-file {self.certificates.key}",
            "tls-auth-clients no",
            # It is for what sentinels connect to as well.
            "tls-replication yes",
        ]

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
            ssl=self.certificates is not None,
            ssl_ca_certs=str(self.certificates.authority)
            if self.certificates
            else None,
            decode_responses=True,
            socket_timeout=10,
            # A node whose part changes closes all its connections.
            retry=Retry(ConstantBackoff(0.1), 3, (redis.ConnectionError,)),
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
        super().__init__(
            group.sentinel_password, certificates=group.certificates
        )
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
        certificates: Certificates | None = None,
    ) -> None:
        self.service_name = service_name
        self.certificates = certificates
        self.password = password
        self.sentinel_password = sentinel_password
        first = Redis(password, certificates=certificates)
        others = [
            Redis(password, first, certificates=certificates)
            for _ in range(replicas)
        ]
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
        if not _wait_for_servers(self._complete, 60):
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

        if not _wait_for_servers(changed, timeout):
            raise RuntimeError(f"no failover:\n{self.sentinels[0].tail()}")
        return self.master()

    def stop(self) -> None:
        # The sentinels first, or they would begin a failover.
        for server in [*self.sentinels, *self.nodes]:
            server.stop()

    def close(self) -> None:
        for server in [*self.sentinels, *self.nodes]:
            server.close()


class RedisClusterNode(Redis):
    """One of the processes of a RedisCluster."""

    def __init__(self, cluster: "RedisCluster") -> None:
        super().__init__(cluster.password, certificates=cluster.certificates)
        self.settings += [
            "cluster-enabled yes",
            # So long nobody waits for one that is busy only.
            "cluster-node-timeout 2000",
        ]
        if self.certificates:
            self.settings.append("tls-cluster yes")

    def is_master(self) -> bool:
        """Return whether it is one, and has slots."""
        mine = self.execute("CLUSTER NODES")[f"127.0.0.1:{self.port}"]
        return "master" in mine["flags"] and bool(mine["slots"])


class RedisCluster(Startable):
    """Masters that have the slots among them, each with a replica, or none."""

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 1,
        password: str | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.program = find("redis-tools", "redis-cli")
        self.replicas = replicas
        self.password = password
        self.certificates = certificates
        self.nodes = [
            RedisClusterNode(self) for _ in range(masters * (1 + replicas))
        ]
        self._made = False

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        return f"rediscluster://{_login(self.password)}{hosts}"

    def revive(self) -> None:
        """Start, unless all run."""
        if not all(node.running and not node.paused for node in self.nodes):
            self.start()

    def start(self) -> None:
        """Start what does not run, wait for all to be well."""
        for node in self.nodes:
            node.resume()
            if not node.running:
                node.start()
        if not self._made:
            self.cli(
                "create",
                *(f"127.0.0.1:{node.port}" for node in self.nodes),
                "--cluster-replicas",
                str(self.replicas),
                "--cluster-yes",
            )
            self._made = True
        if not _wait_for_servers(self._complete, 60):
            raise RuntimeError(f"incomplete:\n{self.nodes[0].tail()}")

    def cli(self, *command: str) -> str:
        """Run a command of redis-cli that is about the cluster."""
        options = []
        if self.password:
            options += ["-a", self.password, "--no-auth-warning"]
        if self.certificates:
            options += ["--tls", "--cacert", str(self.certificates.authority)]
        return self.nodes[0].run(self.program, *options, "--cluster", *command)

    def _complete(self) -> bool:
        slots: list[dict[str, object]] = []
        for node in self.nodes:
            if node.execute("CLUSTER INFO")["cluster_state"] != "ok":
                return False
            info = node.execute("INFO", "replication")
            if info["role"] == "master":
                if info["connected_slaves"] != self.replicas:
                    return False
            elif info["master_link_status"] != "up":
                return False
            known = node.execute("CLUSTER NODES").values()
            if any(not other["connected"] for other in known):
                return False
            if any("fail" in other["flags"] for other in known):
                return False
            # redis-cli moves no slots until all nodes say the same of them.
            slots.append({other["node_id"]: other["slots"] for other in known})
        return all(one == slots[0] for one in slots)

    def masters(self) -> list[RedisClusterNode]:
        """Return the live nodes that have slots."""
        return [
            node
            for node in self.nodes
            if node.running and not node.paused and node.is_master()
        ]

    def clear(self) -> None:
        """Delete all keys."""
        for node in self.nodes:
            with contextlib.suppress(redis.ReadOnlyError):  # a replica
                node.execute("FLUSHALL")

    def close(self) -> None:
        for node in self.nodes:
            node.close()
