# SPDX-License-Identifier: Apache-2.0

"""The root itself, without which the other tests here mean nothing."""

from __future__ import annotations

from pathlib import Path

from tests.bare_root import BareRoot


def test_it_is_a_bare_debian_alone_with_itself(bare_root: BareRoot) -> None:
    assert bare_root.run("hostname").stdout == "controller\n"
    assert bare_root.run("getent hosts controller").stdout.startswith("127.")
    assert bare_root.run("command -v git", check=False).stdout == ""
    links = bare_root.run("ls /sys/class/net || ip -o link").stdout
    assert links.count("\n") <= 2
    assert "lo" in links


def test_a_unit_starts_and_ends(bare_root: BareRoot) -> None:
    bare_root.write(
        "etc/systemd/system/sleeps.service",
        "[Service]\nUser=nobody\nExecStart=sleep infinity\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    bare_root.run("systemctl enable --now sleeps")
    assert bare_root.run("systemctl is-active sleeps").stdout == "active\n"
    pid = bare_root.read("run/systemctl/sleeps.pid")
    assert bare_root.run(f"stat -c %U /proc/{pid}").stdout == "nobody\n"
    bare_root.run("systemctl disable --now sleeps")
    printed = bare_root.run("systemctl is-active sleeps", check=False).stdout
    assert printed == "inactive\n"


def test_nothing_is_left_of_it() -> None:
    with BareRoot() as root:
        path = root.path
        root.run("sleep infinity >/dev/null 2>&1 &")
        assert path.exists()
    assert not path.exists()
    assert str(path) not in Path("/proc/self/mountinfo").read_text()
