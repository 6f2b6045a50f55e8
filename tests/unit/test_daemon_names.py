# SPDX-License-Identifier: Apache-2.0

"""What the daemon uses of its libraries that these do not document.

A release that changes it fails here, and not in a cloud.
"""

from __future__ import annotations

import errno
import inspect
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import cotyledon
import prometheus_client
import pytest
from oslo_log import log
from prometheus_client import multiprocess, values

from profiler_bridge import config, exceptions
from profiler_bridge.daemon import manager, metrics, service


def parameters(function: Any) -> list[str]:
    return [*inspect.signature(function).parameters]


def is_called(owner: type, name: str) -> bool:
    """Whether a method of a class, or of one of its bases, calls it."""
    return any(
        name in method.__code__.co_names
        for base in owner.__mro__
        for method in vars(base).values()
        if inspect.isfunction(method)
    )


def run(code: str, *args: str) -> str:
    """Run Python code in a process of its own; what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


# cotyledon


def test_the_manager_is_told_of_signals() -> None:
    base = cotyledon.ServiceManager
    assert parameters(base._on_signal_received) == ["self", "sig"]
    assert is_called(base, "_on_signal_received")


def test_the_manager_slows_down_before_it_starts_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGHUP, here while it sleeps, makes it forget the times of starts."""
    base = cotyledon.ServiceManager
    assert parameters(base._slowdown_respawn_if_needed) == ["self"]
    assert is_called(base, "_slowdown_respawn_if_needed")
    made: Any = object.__new__(manager.ServiceManager)
    made._services = {}
    made._wait_interval = 0.0
    made._forktimes = [float("inf")]
    monkeypatch.setattr("time.sleep", lambda _: made._forktimes.clear())
    made._slowdown_respawn_if_needed()


def test_there_is_no_manager_that_could_start_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse = mock.Mock(side_effect=OSError(errno.EROFS, "Read-only"))
    monkeypatch.setattr("multiprocessing.Event", refuse)
    with pytest.raises(
        exceptions.ConfigurationError,
        match=r"^no semaphores in /dev/shm: Read-only: see to it that",
    ):
        manager.ServiceManager(lambda: True)


def test_the_master_process_is_known_by_its_title() -> None:
    code = (
        "from pathlib import Path\n"
        "from profiler_bridge.daemon.manager import ServiceManager\n"
        "import sys; sys.argv[0] = '/usr/bin/profiler-bridge'\n"
        "ServiceManager(lambda: True)\n"
        "print(Path('/proc/self/cmdline').read_text())"
    )
    title = run(code, "--config-file=/etc/bridge.conf")
    assert manager.is_master(title, "profiler-bridge")
    assert "--config-file=/etc/bridge.conf" in title
    assert not manager.is_master(title, "profiler-bridge-manage")


# prometheus_client


def test_values_are_kept_as_the_bridge_says() -> None:
    assert parameters(values.MultiProcessValue) == ["process_identifier"]
    for metric in (
        prometheus_client.Counter,
        prometheus_client.Gauge,
        prometheus_client.Histogram,
    ):
        assert is_called(metric, "ValueClass")


def test_metrics_of_several_processes() -> None:
    assert parameters(multiprocess.MultiProcessCollector.merge) == [
        "files",
        "accumulate",
    ]
    assert parameters(multiprocess.mark_process_dead) == ["pid", "path"]
    [description] = metrics.CONNECTED.describe()
    assert description.name == "profiler_bridge_workers_connected"


def test_a_file_that_a_process_is_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "counter_0-0.db").touch()
    collector: Any = multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    with pytest.raises((struct.error, RuntimeError)):
        collector.collect()


# oslo.config and oslo.log


def test_a_wrong_value_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "bridge.conf"
    file.write_text("[bridge]\nworkers = many\n")
    with pytest.raises(
        exceptions.ConfigurationError,
        match=rf"^workers in \[bridge\] of {file}: invalid .*'many'$",
    ):
        config.prepare([f"--config-file={file}"], service)


LOG_CONFIG = """
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
level = {level}
handlers =
"""
SET_UP = """if True:
    import logging, sys
    from profiler_bridge import config
    conf = config.prepare([f"--config-file={sys.argv[1]}"])
    config.set_up_logging(conf)
    print(logging.getLogger().level)
"""


def test_a_changed_log_configuration_is_read_whatever_its_time(
    tmp_path: Path,
) -> None:
    assert parameters(log._load_log_config) == ["log_config_append"]
    log_config = tmp_path / "log.ini"
    changed = tmp_path / "changed.ini"
    for file, level in (log_config, "ERROR"), (changed, "CRITICAL"):
        file.write_text(LOG_CONFIG.format(level=level))
        os.utime(file, (0, 1))
    conf = tmp_path / "bridge.conf"
    conf.write_text(f"[DEFAULT]\nlog_config_append = {log_config}\n")
    again = f"""if True:
    import os
    os.replace({str(changed)!r}, {str(log_config)!r})
    config.set_up_logging(conf)
    print(logging.getLogger().level)
    """
    assert run(SET_UP + again, str(conf)).split() == ["40", "50"]
