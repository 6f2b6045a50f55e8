# SPDX-License-Identifier: Apache-2.0

"""The demo, as the README has it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests import servers
from tests.daemon import script, wait_for

ROOT = Path(__file__).parents[2]


def demo(folder: Path, *args: str) -> list[str]:
    command = script("profiler-bridge-demo")
    return [command, "--directory", str(folder / "d"), *args]


def test_demo(tmp_path: Path) -> None:
    shown = subprocess.run(
        demo(tmp_path), capture_output=True, text=True, check=True, timeout=120
    )
    assert shown.stderr == ""
    assert "POST /v2.1/servers" in shown.stdout
    assert f"The database is {tmp_path / 'd' / 'traces.sqlite'}" in (
        shown.stdout
    )
    assert "In a browser, at http://127.0.0.1:8095/, once this runs:" in (
        shown.stdout
    )
    [command] = re.findall("(?m)^.*profiler-bridge-api.*$", shown.stdout)
    path, option = command.split()
    assert Path(path).resolve() == Path(script("profiler-bridge-api"))
    assert Path(option.partition("=")[2]).exists()


def test_it_stays_to_be_looked_at(tmp_path: Path) -> None:
    readme = (ROOT / "README.rst").read_text()
    [args] = re.findall("(?m)^    python3 .*profiler-bridge-demo(.*)$", readme)
    port = servers.free_port()
    out = tmp_path / "out"
    with out.open("w") as stdout:
        running = subprocess.Popen(
            demo(tmp_path, *args.split(), str(port)),
            stdout=stdout,
            stderr=subprocess.STDOUT,
            # As on a terminal; in the background shells have it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        wait_for(lambda: "Ctrl-C" in out.read_text(), "the address", 120)
        last = out.read_text().splitlines()[-1]
        url = last.rpartition(" ")[2]
        assert url == f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(url) as answer:
            page = answer.read().decode()
        assert page.count(">POST /v2.1/servers</a>") == 2
        assert "No authentication" not in page
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
    assert out.read_text().splitlines()[-1] == last


def failure(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = failure(demo(tmp_path, "--serve", str(port)))
    assert told.startswith(f"profiler-bridge-demo: --serve {port}: ")
    assert "Address already in use" in told


def test_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['flask'] = None;"
        "from profiler_bridge.cmd.demo import main; sys.exit(main())"
    )
    _, *args = demo(tmp_path, "--serve")
    told = failure([sys.executable, "-c", program, *args])
    assert "install profiler_bridge[api]" in told
