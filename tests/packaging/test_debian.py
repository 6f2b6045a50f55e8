# SPDX-License-Identifier: Apache-2.0

"""The Debian package: built, installed, at work, removed, and purged.

As doc/source/install/debian.rst has it; what is built is what is here.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.bare_root import BareRoot
from tests.packaging.commands import run
from tests.servers import find, wait_until

ROOT = Path(__file__).parents[2]
CONFIGURATION = "/etc/profiler_bridge/bridge.conf"
STATE = "/var/lib/profiler_bridge"
AS_USER = "setpriv --reuid profiler_bridge --regid profiler_bridge"

# What a service does, with osprofiler alone.
PROFILED = """
from oslo_config import cfg
from osprofiler import initializer, profiler

conf = cfg.ConfigOpts()
from osprofiler import opts
opts.set_defaults(
    conf, enabled=True, connection_string="messaging://", hmac_keys="SECRET"
)
conf(["--config-file", "/root/service.conf"], project="nova")
initializer.init_from_conf(conf, {}, "nova", "nova-api", "controller")
profiler.init("SECRET")
with profiler.Trace("wsgi", {"request": {"method": "GET", "path": "/v2.1"}}):
    pass
print(profiler.get().get_base_id())
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of this checkout's files, by the system's tools."""
    find("dpkg-dev", "dpkg-buildpackage")
    find("dh-virtualenv", "dh_virtualenv")
    source = tmp_path_factory.mktemp("debian") / "source"
    tracked = ["git", "ls-files", "-z", "--cached"]
    listed = run(*tracked, "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    # Neither the tests' environment nor another Python than Debian's.
    environment = os.environ | {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
    }
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)
    run("dpkg-buildpackage", "-us", "-uc", "-b", cwd=source, env=environment)
    [path] = source.parent.glob("*.deb")
    return path


def test_lintian_has_no_errors(package: Path) -> None:
    run(find("lintian", "lintian"), "--fail-on", "error,warning", package)


def test_man_pages_are_of_use(package: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "-x", package, tmp_path)
    pages = sorted(tmp_path.glob("usr/share/man/man*/*.gz"))
    assert [page.name for page in pages] == [
        "profiler-bridge-demo.1.gz",
        "profiler-bridge-report.1.gz",
        "profiler-bridge-api.8.gz",
        "profiler-bridge-manage.8.gz",
        "profiler-bridge.8.gz",
    ]
    named = run(find("man-db", "lexgrog"), *pages)
    for page in pages:
        name = page.name.partition(".")[0]
        assert f': "{name} - ' in named


@pytest.fixture(scope="module")
def installed(bare_root: BareRoot, package: Path) -> BareRoot:
    shutil.copy(package, bare_root.path / "root")
    bare_root.run(
        "apt-get update -q && apt-get install -y -q --no-install-recommends"
        f" ./{package.name} rabbitmq-server python3-venv",
        network=True,
        timeout=1800,
    )
    return bare_root


def test_what_it_installs(installed: BareRoot) -> None:
    """Rights as passwords and messages need them; nothing runs yet."""
    stat = "stat -c '%a %U %G'"
    assert installed.run(f"{stat} /etc/profiler_bridge").stdout == (
        "750 root profiler_bridge\n"
    )
    assert installed.run(f"{stat} {CONFIGURATION}").stdout == (
        "640 root profiler_bridge\n"
    )
    assert installed.run(f"{stat} {STATE}").stdout == (
        "700 profiler_bridge profiler_bridge\n"
    )
    conffiles = installed.run(
        "dpkg-query -W -f '${Conffiles}' profiler-bridge"
    ).stdout
    assert CONFIGURATION in conffiles
    units = "profiler-bridge profiler-bridge-api"
    for question in ("is-enabled", "is-active"):
        for unit in units.split():
            asked = installed.run(f"systemctl {question} {unit}", check=False)
            assert asked.returncode != 0
    verified = installed.run(
        "systemd-analyze verify /lib/systemd/system/profiler-bridge*.service"
    )
    assert verified.stdout == ""
    user = installed.run("getent passwd profiler_bridge").stdout
    assert user.endswith(f":{STATE}:/usr/sbin/nologin\n")
    for unit in units.split():
        parsed = configparser.RawConfigParser(strict=False)
        parsed.read_string(
            installed.read(f"lib/systemd/system/{unit}.service")
        )
        program = parsed["Service"]["ExecStart"].split()[0]
        installed.run(f"test -x {program}")
        assert "1.0.0" in installed.run(f"{program} --version").stdout


def configure(root: BareRoot) -> None:
    root.run("systemctl start rabbitmq-server && rabbitmqctl await_startup")
    root.run("rabbitmqctl add_user openstack secret")
    root.run("rabbitmqctl set_permissions openstack '.*' '.*' '.*'")
    root.run(
        f"cat > {CONFIGURATION} <<'END'\n"
        "[DEFAULT]\n"
        "transport_url = rabbit://openstack:secret@controller:5672/\n"
        "[oslo_messaging_rabbit]\n"
        "amqp_durable_queues = true\n"
        "[osprofiler]\n"
        f"connection_string = sqlite:///{STATE}/traces.sqlite\n"
        "END"
    )
    root.write(
        "root/service.conf",
        "[DEFAULT]\n"
        "transport_url = rabbit://openstack:secret@controller:5672/\n"
        "[oslo_messaging_rabbit]\n"
        "amqp_durable_queues = true\n",
    )
    root.write("root/profiled.py", PROFILED)


def test_a_trace_is_profiled_stored_and_reported(installed: BareRoot) -> None:
    configure(installed)
    checked = installed.run(
        f"{AS_USER} --init-groups profiler-bridge-manage"
        f" --config-file {CONFIGURATION} check",
        check=False,
    )
    assert checked.returncode in (0, 1), checked.stdout
    installed.run("systemctl enable --now profiler-bridge")
    installed.run("systemctl is-active profiler-bridge")
    base_id = installed.run(
        "/opt/profiler_bridge/bin/python /root/profiled.py"
    ).stdout.split()[-1]
    report = (
        f"{AS_USER} --init-groups profiler-bridge-report --config-file"
        f" {CONFIGURATION}"
    )

    def is_shown() -> bool:
        shown = installed.run(f"{report} show {base_id}", check=False).stdout
        return "GET /v2.1" in shown

    assert wait_until(is_shown, 120)


def test_what_stays_when_it_is_removed_and_purged(
    installed: BareRoot,
) -> None:
    installed.write(f"{STATE}/set-aside.sqlite", "messages")
    installed.run("apt-get remove -y -q profiler-bridge")
    running = installed.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert not re.search("/opt/profiler_bridge/bin/profiler-bridge", running)
    installed.run("test ! -e /opt/profiler_bridge")
    installed.run("test ! -e /usr/bin/profiler-bridge")
    assert "controller:5672" in installed.read(CONFIGURATION)
    installed.run("apt-get purge -y -q profiler-bridge")
    installed.run("test ! -e /etc/profiler_bridge")
    for name in ("set-aside.sqlite", "traces.sqlite"):
        installed.run(f"test -s {STATE}/{name}")
    installed.run("getent passwd profiler_bridge")
    queues = installed.run("rabbitmqctl -q list_queues name").stdout
    assert "profiler.info" in queues
