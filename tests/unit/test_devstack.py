# SPDX-License-Identifier: Apache-2.0

"""DevStack's plugin: what it does in which phase, with stubs for DevStack."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profiler_bridge import config

ROOT = Path(__file__).parents[2]

# What DevStack's functions are called with goes to the file "calls". Those
# that write configuration write it, so that it can be read.
STUBS = r"""
set -eu
DEST=$PWD DATA_DIR=$PWD/data STACK_USER=$(id -un)
ENABLE_DEBUG_LOG_LEVEL=False NOVA_NUM_CELLS=2
BASE_SQL_CONN=mysql+pymysql://root:secret@127.0.0.1
PLACEMENT_CONF=$PWD/placement.conf
declare -A enabled

note() { echo "$*" >> calls; }
for name in define_plugin plugin_requires setup_develop recreate_database \
    run_process stop_process; do
    eval "$name() { note $name \"\$@\"; }"
done
enable_service() { for name in "$@"; do enabled[$name]=1; done; }
is_service_enabled() { [[ -v enabled[$1] ]]; }
echo_summary() { :; }
sudo() { "$@"; }
get_python_exec_prefix() { echo /venv/bin; }
get_notification_url() { echo rabbit://stack:secret@10.0.0.1:5672/; }
conductor_conf() { echo "$PWD/nova_cell$1.conf"; }
iniset() { printf '[%s]\n%s = %s\n' "$2" "$3" "$4" >> "$1"; }
iniset_rpc_backend() {
    iniset "$2" DEFAULT transport_url "$(get_notification_url)"
}
"""
DEFAULTS = "PROFILER_BRIDGE_CONF_DIR=$PWD/etc\n"
SETTINGS = f"source {ROOT}/devstack/settings\n"


def run(folder: Path, *phases: str, settings: str = "") -> list[str]:
    """Return what was called, line by line.

    :param phases: what DevStack gives the plugin, such as "stack install"
    :param settings: lines of a local.conf
    """
    calls = folder / "calls"
    calls.write_text("")
    plugin = "".join(
        f"source {ROOT}/devstack/plugin.sh {phase}\n" for phase in phases
    )
    script = f"{STUBS}{DEFAULTS}{settings}\n{SETTINGS}: > calls\n{plugin}"
    subprocess.run(["bash", "-c", script], check=True, cwd=folder)
    return calls.read_text().splitlines()


def test_it_is_installed_for_the_python_of_the_services(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, "stack install") == [
        f"setup_develop {tmp_path}/profiler_bridge api"
    ]
    assert run(
        tmp_path, "stack install", settings="enable_service postgresql"
    ) == [f"setup_develop {tmp_path}/profiler_bridge api,postgresql"]


def test_its_configuration_is_one_that_the_daemon_takes(
    tmp_path: Path,
) -> None:
    # Twice, as stack.sh is run again.
    phase = "stack post-config"
    assert (
        run(tmp_path, phase, phase)
        == ["recreate_database profiler_bridge"] * 2
    )
    path = tmp_path / "etc/bridge.conf"
    assert path.stat().st_mode & 0o777 == 0o600
    conf = config.load([f"--config-file={path}"])
    assert conf.transport_url == "rabbit://stack:secret@10.0.0.1:5672/"
    assert conf.osprofiler.connection_string == [
        "mysql+pymysql://root:secret@127.0.0.1/profiler_bridge"
    ]
    state = tmp_path / "data/profiler_bridge"
    assert state.stat().st_mode & 0o777 == 0o700
    assert conf.bridge.set_aside == str(state / "set-aside.sqlite")


def test_a_storage_of_ones_own_gets_no_database(tmp_path: Path) -> None:
    url = "redis://127.0.0.1:6379/3"
    assert (
        run(
            tmp_path,
            "stack post-config",
            settings=f"PROFILER_BRIDGE_CONNECTION_STRING={url}",
        )
        == []
    )
    conf = config.load([f"--config-file={tmp_path}/etc/bridge.conf"])
    assert conf.osprofiler.connection_string == [url]


def test_services_without_a_bus_get_one(tmp_path: Path) -> None:
    names = ("placement.conf", "nova_cell1.conf", "glance-api.conf")
    for name in names:
        (tmp_path / name).write_text("")
    run(tmp_path, "stack post-config")
    given = (
        "[oslo_messaging_notifications]\n"
        "transport_url = rabbit://stack:secret@10.0.0.1:5672/\n"
    )
    assert [(tmp_path / name).read_text() for name in names] == [
        given,
        given,
        "",
    ]
    # Not installed here, so not made.
    assert not (tmp_path / "nova_cell2.conf").exists()


def test_it_runs_and_ends(tmp_path: Path) -> None:
    conf = tmp_path / "etc/bridge.conf"
    assert run(tmp_path, "stack extra", "unstack") == [
        *(
            f"run_process {name} /venv/bin/{name} --config-file {conf}"
            for name in ("profiler-bridge", "profiler-bridge-api")
        ),
        "stop_process profiler-bridge-api",
        "stop_process profiler-bridge",
    ]
    run(tmp_path, "stack post-config", "unstack", "clean")
    assert not conf.parent.exists()
    assert not (tmp_path / "data/profiler_bridge").exists()


@pytest.mark.parametrize(
    "phase", ["stack pre-install", "stack test-config", "override-defaults"]
)
def test_other_phases_are_not_its_own(tmp_path: Path, phase: str) -> None:
    assert run(tmp_path, phase) == []


def test_where_it_is_disabled_nothing_happens(tmp_path: Path) -> None:
    phases = ("stack install", "stack post-config", "stack extra", "unstack")
    assert run(tmp_path, *phases, settings="enable_service() { :; }") == []
