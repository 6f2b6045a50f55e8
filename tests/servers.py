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

    with servers.Redis() as server:
        server.execute("SET", "key", "value")
        server.kill()
        server.start()  # same port, same data

stop() and kill() keep the data for the next start(); close(), which is what
leaving the ``with`` block does, removes it as well.
"""

import atexit
from collections.abc import Callable
import contextlib
import glob
import itertools
import json
import os
from pathlib import Path
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any, Self
import urllib.parse

import kombu
import psycopg
import pymysql
import redis

# Servers are often in sbin folders, which a plain user's PATH leaves out.
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


class ServerMissing(Exception):
    """A server's program is not on this machine."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(
            f"{program} is not installed (Debian package: {package})"
        )


def _find(package: str, *names: str, folders: str = "") -> str:
    """Return the first of the names found, in the newest folder or in PATH."""

    def version(folder: str) -> list[int]:
        digits = "".join(c if c.isdigit() else " " for c in folder)
        return [int(number) for number in digits.split()]

    newest_first = sorted(glob.glob(folders), key=version, reverse=True)
    for path in [*newest_first, _PATH]:
        for name in names:
            if found := shutil.which(name, path=path):
                return found
    raise ServerMissing(names[0], package)


_ports_given: set[int] = set()
_ports_lock = threading.Lock()


def free_port() -> int:
    """Return a port nothing listens on and that was not returned before.

    The ports lie below those the system gives to outgoing connections:
    otherwise one of these could take a server's port while it is down, and
    even a client which tries to reach that server could connect to itself.
    """
    # Not random.randrange: seeded alike in parallel runs, it would clash.
    choose = random.SystemRandom().randrange
    for _ in range(1000):
        port = choose(10000, 16000)
        with _ports_lock, socket.socket() as probe:
            if port not in _ports_given:
                with contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    _ports_given.add(port)
                    return port
    raise RuntimeError("no free port found")


def wait_until(check: Callable[[], object], timeout: float) -> bool:
    """Return whether check() became true within timeout seconds."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _family(root: int) -> list[int]:
    """Return the process and all those it started, directly or not.

    Some servers give their children sessions of their own, so the process
    group alone does not hold them all.
    """
    children: dict[int, list[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if (fields := _stat(int(pid))) is not None:
            children.setdefault(int(fields[1]), []).append(int(pid))
    family = [root]
    for process in family:
        family += children.get(process, [])
    return family


def _stat(pid: int) -> list[str] | None:
    """Return a live process's state, parent and so on, else None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The program's name comes before, in brackets, and may hold spaces.
    fields = text.rpartition(")")[2].split()
    return fields if fields and fields[0] not in "ZX" else None


_to_close: list["Server"] = []


@atexit.register
def _close_all() -> None:
    for server in _to_close[:]:
        # A forked child must not end its parent's servers.
        if server.owner == os.getpid():
            server.kill()
            server.close()


class Server:
    """A server process with a folder for all that it writes."""

    name = "server"
    start_timeout = 60.0
    stop_timeout = 30.0
    stop_signal = signal.SIGTERM
    # The user to run as, for servers which refuse to be run by root.
    user: str | None = None

    def __init__(self) -> None:
        # Not pytest's folders: only their owner may enter these, and their
        # names can be too long for a Unix socket.
        self.folder = Path(tempfile.mkdtemp(prefix=f"bridge-{self.name}-"))
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.port = free_port()
        self.owner = os.getpid()
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        _to_close.append(self)

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        # Nothing else is passed on: PGHOST and the like would mislead.
        return {"PATH": _PATH, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def prepare(self) -> None:
        """Make the data folder's contents, before the first start."""

    def answers(self) -> bool:
        """Return true, else false or raise when not yet able to work."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, again with the same port and data, and wait for answers."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        if not self.data.exists():
            self.data.mkdir()
            if self.user:
                shutil.chown(self.folder, self.user)
                shutil.chown(self.data, self.user)
            self.prepare()
        self._process = self._open(self.command())
        error: Exception | None = None

        def settled() -> bool:
            nonlocal error
            try:
                return not self.running or self.answers()
            except Exception as exc:
                error = exc
                return False

        try:
            if wait_until(settled, self.start_timeout) and self.running:
                return
        except BaseException:
            self.kill()
            raise
        problem = "does not answer" if self.running else "ended at once"
        self.kill()
        raise RuntimeError(f"{self.name} {problem}; its log:\n{self.tail()}") \
            from error

    def stop(self) -> None:
        """End in good order."""
        self.resume()
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End at once, as a crash would."""
        if self.running:
            self.pause()  # So that it starts nothing while being killed.
        self._end(signal.SIGKILL)
        self.paused = False

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop answering, with connections left open."""
        self._signal(signal.SIGSTOP, _family(self.pid))
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self._signal(signal.SIGCONT, _family(self.pid))
            self.paused = False

    def close(self) -> None:
        """Stop and forget the data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self in _to_close:
            _to_close.remove(self)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def tail(self, lines: int = 40) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return ""
        text = self.log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def run(self, command: list[str], timeout: float = 60) -> str:
        """Run a program which belongs to the server, return its output."""
        process = self._open(command, stdout=subprocess.PIPE)
        try:
            output = process.communicate(timeout=timeout)[0].decode()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            raise RuntimeError(
                f"{command} ended with {process.returncode}:\n{output}\n"
                f"{self.tail()}"
            )
        return output

    def _open(
        self, command: list[str], stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
            )

    def _signal(self, number: int, pids: list[int]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        family = _family(self.pid)
        if number == signal.SIGKILL:
            self._signal(number, family)
        elif self.running:
            os.kill(self.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_timeout)

        def gone() -> bool:
            return not any(_stat(pid) for pid in family)

        if not wait_until(gone, 5):
            self._signal(signal.SIGKILL, [p for p in family if _stat(p)])
            wait_until(gone, 5)
        self._process.wait(5)
        self._process = None


class _Epmd(Server):
    """The name service of Erlang: ours, for one that ends with our broker."""

    name = "epmd"

    def __init__(self) -> None:
        self.program = _find("erlang-base", "epmd")
        super().__init__()

    def command(self) -> list[str]:
        return [self.program, "-address", "127.0.0.1", "-port", str(self.port)]

    def answers(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), 5).close()
        return True


class RabbitMQ(Server):
    name = "rabbitmq"
    start_timeout = 120.0
    # Asking for virtual hosts takes seconds, however many are asked for.
    vhosts_at_once = 10

    def __init__(self) -> None:
        # Not what Debian puts in PATH: that changes to another user.
        folders = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"
        package = "rabbitmq-server"
        self.program = _find(package, "rabbitmq-server", folders=folders)
        self.ctl_program = _find(package, "rabbitmqctl", folders=folders)
        self.epmd = _Epmd()
        super().__init__()
        self.dist_port = free_port()
        self._vhosts: list[str] = []

    @property
    def transport_url(self) -> str:
        return self._url("")

    def _url(self, vhost: str) -> str:
        return f"rabbit://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def command(self) -> list[str]:
        return [self.program]

    def environment(self) -> dict[str, str]:
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return super().environment() | {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.epmd.port),
            "ERL_FLAGS": loopback_only,
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
            "RABBITMQ_LOG_BASE": f"{self.folder}/log",
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": f"bridge{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
        }

    def prepare(self) -> None:
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq-env.conf").touch()
        (self.folder / "conf.d").mkdir()
        (self.folder / "rabbitmq.conf").write_text(
            "loopback_users = none\n"
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            "disk_free_limit.absolute = 10MB\n"
        )

    def start(self) -> None:
        if not self.epmd.running:
            self.epmd.start()
        super().start()

    def _end(self, number: int) -> None:
        super()._end(number)
        self.epmd._end(number)

    def close(self) -> None:
        super().close()
        self.epmd.close()

    def answers(self) -> bool:
        with self._connection(self.transport_url) as connection:
            connection.connect()
        return True

    def _connection(self, url: str) -> Any:
        url = url.replace("rabbit://", "amqp://", 1)
        return kombu.Connection(url, connect_timeout=5)

    def ctl(self, *args: str) -> str:
        """Run rabbitmqctl for this server."""
        return self.run([self.ctl_program, *args])

    def queue_depth(self, queue: str, url: str | None = None) -> int:
        """Return how many messages wait in a queue, by default of vhost /."""
        with self._connection(url or self.transport_url) as connection:
            reply = connection.channel().queue_declare(queue, passive=True)
            return int(reply.message_count)

    def vhost(self) -> str:
        """Return the transport URL of a virtual host nobody used before."""
        if not self._vhosts:
            names = [
                f"test-{next(self._numbers)}"
                for _ in range(self.vhosts_at_once)
            ]
            all_rights = {"configure": ".*", "write": ".*", "read": ".*"}
            definitions = {
                "vhosts": [{"name": name} for name in names],
                "permissions": [
                    {"user": "guest", "vhost": name} | all_rights
                    for name in names
                ],
            }
            path = self.folder / "vhosts.json"
            path.write_text(json.dumps(definitions))
            self.ctl("import_definitions", str(path))
            self._vhosts = names
        return self._url(self._vhosts.pop(0))


class MariaDB(Server):
    name = "mariadb"

    def __init__(self, *extra: str) -> None:
        """Take more arguments for the server, such as --version=5.5.62."""
        package = "mariadb-server"
        self.program = _find(package, "mariadbd", "mysqld")
        self.install = _find(package, "mariadb-install-db", "mysql_install_db")
        super().__init__()
        self.socket = self.folder / "socket"
        self.extra = extra

    def _options(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self.data}",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--character-set-server=utf8mb4",
            # Root is refused unless it is named.
            *(["--user=root"] if os.geteuid() == 0 else []),
        ]

    def prepare(self) -> None:
        self.run(
            [
                self.install,
                *self._options(),
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]
        )

    def command(self) -> list[str]:
        return [
            self.program,
            *self._options(),
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder}/pid",
            f"--tmpdir={self.folder}",
            "--skip-log-bin",
            "--skip-name-resolve",
            *self.extra,
        ]

    def answers(self) -> bool:
        # Accounts without a name would come before ours for local clients.
        for (host,) in self.execute(
            "SELECT Host FROM mysql.user WHERE User = ''"
        ):
            self.execute(f"DROP USER ''@'{host}'")
        return True

    def execute(self, sql: str, db: str | None = None) -> list[Any]:
        """Run a statement with all rights, return its rows."""
        connection = pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            database=db,
            autocommit=True,
            connect_timeout=5,
            read_timeout=30,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def database(self, grants: str = "CREATE, SELECT, INSERT") -> str:
        """Return the URL of a new database, for a new user with the rights."""
        number = next(self._numbers)
        user, name = f"u{number}", f"profiler_{number}"
        password = f"p@ss w0rd/{number}"
        self.execute(f"CREATE DATABASE {name}")
        self.execute(f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'")
        self.execute(f"GRANT {grants} ON {name}.* TO {user}@'%'")
        return (
            f"mysql+pymysql://{user}:{urllib.parse.quote(password, safe='')}"
            f"@127.0.0.1:{self.port}/{name}?charset=utf8"
        )


class PostgreSQL(Server):
    name = "postgresql"
    # The default, SIGTERM, would wait for the clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        def find(program: str) -> str:
            with contextlib.suppress(ServerMissing):
                return _find("postgresql", program)
            folders = "/usr/lib/postgresql/*/bin"
            return _find("postgresql", program, folders=folders)

        self.program, self.initdb = find("postgres"), find("initdb")
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self.user = "postgres" if "postgres" in names else "nobody"
        super().__init__()

    def prepare(self) -> None:
        self.run(
            [
                self.initdb,
                f"--pgdata={self.data}",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--no-sync",
            ]
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "shared_buffers": "16MB",
            # In the data folder, so that nothing is left behind by kill().
            "dynamic_shared_memory_type": "mmap",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self.program, "-D", str(self.data), *options]

    def answers(self) -> bool:
        return bool(self.execute("SELECT 1"))

    def execute(self, sql: str, db: str | None = None) -> list[Any]:
        """Run a statement with all rights, return its rows."""
        connection = psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="postgres",
            dbname=db or "postgres",
            autocommit=True,
            connect_timeout=5,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """Return the URL of a new database, for a new user who owns it."""
        number = next(self._numbers)
        user, name = f"u{number}", f"profiler_{number}"
        password = f"p@ss w0rd/{number}"
        self.execute(f"CREATE USER {user} PASSWORD '{password}'")
        self.execute(f"CREATE DATABASE {name} OWNER {user}")
        return (
            f"postgresql+psycopg://{user}:"
            f"{urllib.parse.quote(password, safe='')}"
            f"@127.0.0.1:{self.port}/{name}"
        )


class _Configured(Server):
    """A Redis or Sentinel, which both write to their configuration file."""

    password: str | None = None

    def __init__(self) -> None:
        self.program = _find("redis-server", "redis-server")
        super().__init__()
        self.config = self.folder / "redis.conf"

    def settings(self) -> list[str]:
        raise NotImplementedError

    def prepare(self) -> None:
        lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {self.data}"]
        lines += self.settings()
        if self.password is not None:
            lines.append(f"requirepass {json.dumps(self.password)}")
        self.config.write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.program, str(self.config)]

    def answers(self) -> bool:
        return bool(self.execute("PING"))

    def execute(self, *command: str | bytes | int | float) -> Any:
        """Run a command, with text in its answer instead of bytes."""
        client = redis.Redis(
            port=self.port,
            password=self.password,
            decode_responses=True,
            socket_timeout=5,
        )
        with client:
            return client.execute_command(*command)


class Redis(_Configured):
    name = "redis"

    def __init__(
        self,
        password: str | None = None,
        replicaof: "Redis | None" = None,
        appendonly: bool = True,
    ) -> None:
        super().__init__()
        self.password = password
        self.replicaof = replicaof
        self.appendonly = appendonly
        self.socket = self.folder / "socket"

    def settings(self) -> list[str]:
        lines = [
            f"unixsocket {self.socket}",
            'save ""',
            f"appendonly {'yes' if self.appendonly else 'no'}",
            "appendfsync everysec",
            "repl-diskless-sync-delay 0",
        ]
        if self.replicaof:
            lines.append(f"replicaof 127.0.0.1 {self.replicaof.port}")
        if self.password is not None:
            # Also for a master: it may come back as a replica.
            lines.append(f"masterauth {json.dumps(self.password)}")
        return lines

    @property
    def url(self) -> str:
        return self.url_for(0)

    def url_for(self, db: int) -> str:
        return (
            f"redis://{_credentials(self.password)}"
            f"127.0.0.1:{self.port}/{db}"
        )


def _credentials(password: str | None) -> str:
    if password is None:
        return ""
    return f":{urllib.parse.quote(password, safe='')}@"


class Sentinel(_Configured):
    """One of a group's sentinels, which ask each other on failures."""

    name = "sentinel"

    def __init__(self, group: "SentinelGroup") -> None:
        super().__init__()
        self.group = group
        self.password = group.sentinel_password

    def settings(self) -> list[str]:
        name, master = self.group.service_name, self.group.nodes[0]
        quorum = len(self.group.sentinels) // 2 + 1
        lines = [
            f"sentinel monitor {name} 127.0.0.1 {master.port} {quorum}",
            f"sentinel down-after-milliseconds {name} 1000",
            f"sentinel failover-timeout {name} 3000",
            f"sentinel parallel-syncs {name} 1",
        ]
        if master.password is not None:
            password = json.dumps(master.password)
            lines.append(f"sentinel auth-pass {name} {password}")
        if self.password is not None:
            password = json.dumps(self.password)
            lines.append(f"sentinel sentinel-pass {password}")
        return lines

    def command(self) -> list[str]:
        return [*super().command(), "--sentinel"]


class SentinelGroup:
    """A Redis master, its replicas, and the sentinels watching them."""

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
        self.sentinels: list[Sentinel] = []
        for _ in range(sentinels):
            self.sentinels.append(Sentinel(self))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels)
        return f"redissentinel://{_credentials(self.password)}{hosts}/0"

    def start(self) -> None:
        for server in [*self.nodes, *self.sentinels]:
            if not server.running:
                server.start()
        if not wait_until(self._complete, 60):
            raise RuntimeError(
                "the sentinels' group is not complete; a log:\n"
                + self.sentinels[0].tail()
            )

    def _complete(self) -> bool:
        """Return whether all replicas and sentinels know of each other."""
        master = self.master()
        for node in self.nodes:
            state = node.execute("INFO", "replication")
            if node is master:
                ...
        return True
