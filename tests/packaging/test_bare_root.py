# SPDX-License-Identifier: Apache-2.0

"""The root itself, without which the other tests here mean nothing."""

from __future__ import annotations

from tests.bare_root import BareRoot


def test_it_is_a_debian_of_its_own(bare_root: BareRoot) -> None:
    assert bare_root.run("hostname").stdout == "controller\n"
    assert bare_root.run("getent hosts controller").stdout.split()[0] == (
        "127.0.0.1"
    )
    # Alone with its first process.
    assert "1" in bare_root.run("echo /proc/[0-9]*").stdout
    assert bare_root.run("ls /opt /srv /root").stdout
    mounts = bare_root.run("cat /proc/self/mounts").stdout
    assert "/proc proc" in mounts
