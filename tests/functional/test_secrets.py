# SPDX-License-Identifier: Apache-2.0

"""Passwords with every special character: they work, and are not shown.

Without processes and servers in ``tests/unit/test_url.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

import profiler_bridge
from profiler_bridge.storage import get_storage
from tests import bus, servers
from tests.daemon import script, wait_for
from tests.functional.test_bridge import daemon, pieces
from tests.functional.test_monitoring import Watched
from tests.unit.test_url import leaks

PASSWORD = "Q/X#Z?K$J@q%x[z]k,j:Q XéZ;K'\"\\&=+"
VIRTUAL_HOST = "a/b#c?d%e@f"


def test_any_password_and_virtual_host_of_rabbitmq(
    rabbitmq: servers.RabbitMQ, sqlite_url: str, tmp_path: Path
) -> None:
    user = f"user-{uuid.uuid4().hex}"
    rabbitmq.ctl("add_user", "--", user, PASSWORD)
    rabbitmq.ctl("add_vhost", "--", VIRTUAL_HOST)
    for one in (user, "guest"):
        rabbitmq.ctl(
            "set_permissions", "-p", VIRTUAL_HOST, one, ".*", ".*", ".*"
        )
    host = rabbitmq.transport_url.rpartition("@")[2].partition("/")[0]
    place = f"{host}/{quote(VIRTUAL_HOST, safe='')}"
    written = quote(PASSWORD, safe="$").replace("$", "$$")
    running = Watched(
        tmp_path, f"rabbit://{user}:{written}@{place}", sqlite_url
    )
    with running.config_file.open("a") as file:
        file.write("[DEFAULT]\ndebug = true\n")
    with running:
        wait_for(lambda: "Listening" in running.log, "a listener")
        base_id = str(uuid.uuid4())
        bus.publish(
            f"rabbit://guest:guest@{place}",
            map(bus.envelope, pieces(base_id, 2)),
        )
        storage = get_storage(sqlite_url)
        wait_for(lambda: len(storage.notifications(base_id)) == 4, "stored")
        pages = [running.get(path)[1] for path in ("/metrics", "/readyz")]
        running.signal("USR2")
        wait_for(lambda: "transport_url" in running.log, "a report")
        assert running.terminate() == 0
    assert leaks("\n".join([running.log, *pages]), PASSWORD) == set()


SECRET = "QaXbZcKdJeqfxgzh"


@pytest.mark.parametrize(
    ("transport_url", "storage", "says"),
    [
        ("rabbit://u:#S@127.0.0.1:1/", "sqlite:///F/x", "write %23 for #"),
        ("rabbit://u:/S@127.0.0.1:1/", "sqlite:///F/x", "write %2F for /"),
        ("rabbit://u:?S@127.0.0.1:1/", "sqlite:///F/x", "write %3F for ?"),
        ("rabbit://u:[S@127.0.0.1:1/", "sqlite:///F/x", "write %5B for ["),
        ("rabbit://u:$S@127.0.0.1:1/", "sqlite:///F/x", "write $$ for $"),
        ("rabbit://u:S@::1:5672/", "sqlite:///F/x", "as in [::1]"),
        ("rabbit://u:S@h:1,u:/S@g:1/", "sqlite:///F/x", "write %2F for /"),
        ("rabbit://", "mysql+pymysql://b:p@S/x@h/d", "write %40 for @"),
        ("rabbit://", "redis://S@127.0.0.1/0", "redis://:password@host"),
        ("rabbit://", "redis://:$S@127.0.0.1/0", "write $$ for $"),
        ("rabbit://", "mysql://b:S@::1/h", "as in [::1]"),
    ],
)
def test_what_to_write_is_said_in_one_line(
    transport_url: str, storage: str, says: str, tmp_path: Path
) -> None:
    running = daemon(
        tmp_path,
        transport_url.replace("S", SECRET),
        storage.replace("S", SECRET).replace("F", str(tmp_path)),
    )
    commands = [
        ["profiler-bridge"],
        ["profiler-bridge-manage", "check", "-f", "value"],
    ]
    if transport_url == "rabbit://":
        commands = [["profiler-bridge"], ["profiler-bridge-report", "list"]]
    for program, *arguments in commands:
        done = subprocess.run(
            [
                script(program),
                f"--config-file={running.config_file}",
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        output = done.stdout + done.stderr
        assert done.returncode == (2 if "check" in arguments else 1)
        assert says in output
        assert leaks(output, SECRET) == set()
        assert "Traceback" not in output
        if "check" not in arguments:
            assert len(output.splitlines()) == 1, output


def test_a_percent_sign_in_the_path_of_the_installation(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "50%off %(here)s %d"
    package = Path(profiler_bridge.__file__).parent
    shutil.copytree(package, folder / package.name)
    path = folder / "traces.sqlite"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from profiler_bridge.storage import get_storage;"
            "storage = get_storage(f'sqlite:///{sys.argv[1]}');"
            "storage.prepare(); print(storage.check())",
            str(path),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
