# SPDX-License-Identifier: Apache-2.0

"""SIGHUP: new options when all of them can be used, otherwise the old ones.

What cannot be used then cannot be used at a start either, with the same words.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from profiler_bridge.storage import get_storage
from tests import bus
from tests.daemon import Daemon, script, wait_for
from tests.functional.test_bridge import daemon, pieces

REFUSED = "Going on with the options of before: "

LOG_CONFIG = """
[loggers]
keys = root
[handlers]
keys = nothing
[formatters]
keys =
[logger_root]
handlers = nothing
[handler_nothing]
class = NoSuchHandler
args = ()
"""

# Of a file: what is put into its sections, and what is said of it.
WRONG: list[tuple[dict[str, str], str]] = [
    ({"bridge": "batch_timeout = 0,5"}, "batch_timeout in [bridge] of "),
    ({"bridge": "batch_timeout = nan"}, "batch_timeout in [bridge]: "),
    ({"bridge": "batch_timeout = 1e300"}, "batch_timeout in [bridge] of "),
    ({"bridge": "batch_size = 0"}, "batch_size in [bridge] of "),
    ({"bridge": "prefetch = 70000"}, "prefetch in [bridge]"),
    ({"bridge": "workers = many"}, "workers in [bridge] of "),
    (
        {"bridge": "transport_url = rabbit://a\ntransport_url = rabbit://a/"},
        "rabbit://a:5672/ is given more than once as transport_url",
    ),
    ({"bridge": "topics ="}, "topics in [bridge]: "),
    ({"bridge": "topics = a,,b"}, "topics in [bridge]: "),
    ({"bridge": f"topics = {'x' * 300}"}, "has more than 250 bytes: xxx"),
    ({"bridge": "exchanges = ,"}, "exchanges in [bridge]: "),
    ({"bridge": f"pool = {'x' * 300}"}, "has more than 250 bytes: xxx"),
    ({"bridge": "mask_secrets = perhaps"}, "mask_secrets in [bridge] of "),
    ({"bridge": "set_aside = /nowhere/file"}, "/nowhere/file: No such file"),
    ({"bridge": "set_aside = a\0b"}, "set_aside in [bridge]: has a NUL"),
    ({"bridge": "set_aside_limit = -1"}, "set_aside_limit in [bridge] of "),
    ({"bridge": "metrics_port = 0"}, "metrics_port in [bridge] of "),
    ({"bridge": "no assignment"}, "bridge.conf: line "),
    ({"bridge": "[unclosed"}, "bridge.conf: line "),
    ({"DEFAULT": "debug = perhaps"}, "argument --debug: Invalid Boolean"),
    ({"DEFAULT": "control_exchange = $x"}, "control_exchange in [DEFAULT]: "),
    ({"DEFAULT": "log_config_append = /nowhere"}, "/nowhere"),
    ({"DEFAULT": "log_config_append = FOLDER/log.ini"}, "FOLDER/log.ini"),
    ({"DEFAULT": "log_file = /nowhere/log"}, "logging cannot be set up: "),
    ({"DEFAULT": "default_log_levels = amqp=LOUD"}, "'LOUD'"),
    (
        {"DEFAULT": "logging_default_format_string = %(message)"},
        "logging cannot be set up: unsupported format",
    ),
    (
        {"DEFAULT": "use_syslog = true\nsyslog_log_facility = none"},
        "logging cannot be set up: ",
    ),
    (
        {"oslo_messaging_notifications": "transport_url = kafka://127.0.0.1/"},
        "this bus takes no message back",
    ),
    (
        {"oslo_messaging_notifications": "retry = often"},
        "retry in [oslo_messaging_notifications] of ",
    ),
    (
        {"oslo_messaging_rabbit": "heartbeat_rate = often"},
        "heartbeat_rate in [oslo_messaging_rabbit] of ",
    ),
    (
        {"oslo_messaging_rabbit": "heartbeat_rate = 0"},
        "[oslo_messaging_rabbit] cannot be used: ",
    ),
    (
        {"oslo_messaging_rabbit": "rabbit_qos_prefetch_count = 70000"},
        "rabbit_qos_prefetch_count in [oslo_messaging_rabbit]",
    ),
    (
        {"oslo_messaging_rabbit": "heartbeat_timeout_threshold = -5"},
        "heartbeat_timeout_threshold in [oslo_messaging_rabbit] is -5",
    ),
    (
        {"oslo_messaging_rabbit": "heartbeat_timeout_threshold = 70000"},
        "heartbeat_timeout_threshold in [oslo_messaging_rabbit]: at most",
    ),
    (
        {"DEFAULT": f"control_exchange = {'x' * 300}"},
        "control_exchange in [DEFAULT]: at most 255 bytes",
    ),
    (
        {
            "oslo_messaging_rabbit": "rabbit_quorum_queue = true\n"
            "rabbit_ha_queues = true"
        },
        "quorum or HA",
    ),
    (
        {"oslo_messaging_rabbit": "ssl = true\nssl_version = SSLv9"},
        "Invalid SSL version",
    ),
    (
        {"oslo_messaging_rabbit": "ssl = true\nssl_ca_file = /nowhere.pem"},
        "ssl_ca_file in [oslo_messaging_rabbit]: /nowhere.pem: No such file",
    ),
    (
        {
            "oslo_messaging_rabbit": "ssl = true\n"
            "ssl_cert_file = FOLDER/log.ini"
        },
        "ssl_cert_file and ssl_key_file in [oslo_messaging_rabbit] cannot be",
    ),
    ({"osprofiler": "retention = 7y"}, "retention in [osprofiler] of "),
    ({"osprofiler": "connection_string = redi://x"}, "plugin for redi://"),
    (
        {"osprofiler": "connection_string = redis://:p4$ssword@h/0"},
        "connection_string in [osprofiler]: write $$ for $",
    ),
    (
        {"osprofiler": "connection_string = sqlite:///FOLDER/profiler.db"},
        "is given more than once",
    ),
    (
        {
            "osprofiler": "connection_string = redis://127.0.0.1/0\n"
            "wait_replicas = all"
        },
        "wait_replicas in [osprofiler]",
    ),
    (
        {"retention:a": "match = error\nkeep = 1d\nwhen = now"},
        "[retention:a] of FOLDER/bridge.conf has no option when",
    ),
    (
        {"retention:a": "match = error and slow\nkeep = 1d"},
        "match in [retention:a]: 'slow' is no condition",
    ),
    ({"retention:a": "match = error"}, "[retention:a] needs both match"),
]


def with_values(text: str, values: dict[str, str], folder: Path) -> str:
    """The text of a file with further lines, which count."""
    for section, lines in values.items():
        text += f"[{section}]\n{lines}\n"
    return text.replace("FOLDER", str(folder))


def refused(running: Daemon) -> str:
    """Send SIGHUP, and give what the log says then: one line."""
    before = len(running.log)
    workers = sorted(running.workers())
    running.signal("HUP")
    wait_for(lambda: REFUSED in running.log[before:], "a refusal")
    assert sorted(running.workers()) == workers
    [line] = running.log[before:].splitlines()
    assert "ERROR" in line
    return line.partition(REFUSED)[2]


def stores(running: Daemon, transport_url: str, url: str) -> None:
    base_id = str(uuid.uuid4())
    bus.publish(transport_url, map(bus.envelope, pieces(base_id, 3)))
    storage = get_storage(url)
    wait_for(lambda: len(storage.notifications(base_id)) == 6, "stored")


def test_values_that_cannot_be_used_change_nothing(
    transport_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "log.ini").write_text(LOG_CONFIG)
    running = daemon(tmp_path, transport_url, sqlite_url)
    file = running.config_file
    right = file.read_text()
    unlike: list[str] = []

    def compare(says: str) -> None:
        line = refused(running)
        if says not in line or "p4" in line:
            unlike.append(f"{line}, but not {says}")

    with running:
        wait_for(lambda: "Listening" in running.log, "a worker")
        for values, says in WRONG:
            file.write_text(with_values(right, values, tmp_path))
            compare(says.replace("FOLDER", str(tmp_path)))
        file.write_bytes(right.encode() + b"# \xff\n")
        compare(f"{file}: line {right.count(chr(10)) + 1} is not in UTF-8")
        file.unlink()
        compare(f"Failed to find some config files: {file}")
        file.mkdir()
        compare(f"{file}: Is a directory")
        assert unlike == []

        # Who starts now has what was right, and so does who reports.
        starts = running.log.count("Listening")
        [worker] = running.workers()
        running.signal("KILL", worker)
        wait_for(lambda: running.log.count("Listening") > starts, "a worker")
        stores(running, transport_url, sqlite_url)

        file.rmdir()
        file.write_text(
            with_values(
                right,
                {"bridge": "workers = 3\nbatch_timeout = 0.125"},
                tmp_path,
            )
        )
        running.signal("HUP")
        wait_for(
            lambda: running.log.count("Listening") == starts + 4, "new workers"
        )
        stores(running, transport_url, sqlite_url)
        assert "Traceback" not in running.log
        running.signal("USR2")
        wait_for(lambda: "batch_timeout = 0.125" in running.log, "a report")
        assert running.terminate() == 0


def test_values_that_cannot_be_used_are_said_at_the_start(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Only some of those above are tried, as each takes a second."""
    (tmp_path / "log.ini").write_text(LOG_CONFIG)
    running = daemon(tmp_path, "rabbit://127.0.0.1:1/", sqlite_url)
    right = running.config_file.read_text()
    for values, says in WRONG[::5]:
        running.config_file.write_text(with_values(right, values, tmp_path))
        done = subprocess.run(
            [
                script("profiler-bridge"),
                f"--config-file={running.config_file}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1, values
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert says.replace("FOLDER", str(tmp_path)) in done.stderr
        assert done.stdout == ""
