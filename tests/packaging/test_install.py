# SPDX-License-Identifier: Apache-2.0

"""The pages about installing and uninstalling, pasted into a bare Debian."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.bare_root import PROJECT, BareRoot
from tests.servers import wait_until

DOC = PROJECT / "doc/source"
INSTALL = DOC / "install/index.rst"
UNINSTALL = DOC / "admin/uninstall.rst"

# As the page says, what is in capitals is the reader's to replace.
REPLACED = {
    "DATABASE_PASSWORD": "db4Secret",
    "BUS_PASSWORD": "bus5Secret",
    "SECRET_KEY": "key6Secret",
}
CHECKOUT = "/root/profiler_bridge"


def commands(page: Path) -> list[str]:
    """The blocks of a page that are to be pasted."""
    blocks = re.findall(
        r"^( *)\.\. code-block:: bash\n\n((?:\1 +.*\n|\n)+)",
        page.read_text(),
        re.MULTILINE,
    )
    return [textwrap.dedent(block).strip() + "\n" for _, block in blocks]


def paste(root: BareRoot, block: str, **replaced: str) -> str:
    for word, value in (REPLACED | replaced).items():
        block = block.replace(word, value)
    network = bool(re.search("apt-get|pip install", block))
    return root.run(block, network=network, folder=CHECKOUT).stdout


@pytest.fixture(scope="module")
def root(bare_root: BareRoot) -> BareRoot:
    bare_root.bring_project(CHECKOUT)
    return bare_root


def test_the_pages_are_true_as_they_are_written(root: BareRoot) -> None:
    *before, trace, reports = commands(INSTALL)
    for block in before:
        printed = paste(root, block)
        if block.endswith(" check\n"):
            # It was pasted, so the exit code is 0: not even a warning.
            assert set(re.findall(r"^\| [\w-]+ +\| (\w+)", printed, re.M)) == {
                "Result",
                "ok",
            }
    check_service(root)

    base_id = paste(root, trace).splitlines()[-1]
    assert re.fullmatch("[0-9a-f-]{36}", base_id)
    printed = paste(root, reports, BASE_ID=base_id)
    assert printed.count(base_id) > 1

    for block in commands(UNINSTALL):
        paste(root, block)
    check_what_stays(root)


def processes(root: BareRoot) -> list[tuple[str, str]]:
    """The user and the title of each."""
    lines = root.run("ps -e -o user:20=,args=").stdout.splitlines()
    return [(line[:20].strip(), line[21:]) for line in lines]


def check_service(root: BareRoot) -> None:
    """It runs as its user, and systemd has nothing to say of its unit."""
    assert root.run("systemctl is-enabled profiler-bridge").stdout == (
        "enabled\n"
    )
    users = {
        user
        for user, title in processes(root)
        if title.startswith("profiler-bridge: ")
    }
    assert users == {"profiler_bridge"}
    log = "/var/log/journal/profiler-bridge"
    assert wait_until(lambda: "Listening" in root.read(log), 60), root.read(
        log
    )
    for word in REPLACED.values():
        assert word not in root.read(log)
    units = "etc/profiler-bridge.service etc/profiler-bridge-api.service"
    done = root.run(f"systemd-analyze verify {units}", folder=CHECKOUT)
    assert done.stdout == ""


def check_what_stays(root: BareRoot) -> None:
    """No more than the page names."""
    assert root.run("getent passwd profiler_bridge", check=False).stdout == ""
    assert root.run("getent group profiler_bridge", check=False).stdout == ""
    assert "profiler_bridge" not in dict(processes(root))
    named = root.run(
        f"find / -xdev -path {CHECKOUT} -prune -o"
        " -iname '*profiler[-_]bridge*' -print"
    ).stdout
    assert named.split() == [
        "/var/log/journal/profiler-bridge",
        # The stand-in's, as systemd would have some.
        "/run/systemctl/profiler-bridge.pid",
        "/run/systemctl/profiler-bridge.notify",
    ]
    databases = root.run("mariadb -N -e 'SHOW DATABASES'").stdout.split()
    assert "profiler" not in databases
    users = "SELECT user FROM mysql.user"
    assert "profiler" not in root.run(f"mariadb -N -e '{users}'").stdout
    assert root.run("rabbitmqctl -q list_queues").stdout == ""
    assert "openstack" in root.run("rabbitmqctl -q list_exchanges").stdout
    assert "openstack" in root.run("rabbitmqctl -q list_users").stdout
