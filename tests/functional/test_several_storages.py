# SPDX-License-Identifier: Apache-2.0

"""Several storages at once, each with a delivery of its own."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from oslo_config import cfg
from osprofiler import profiler

from profiler_bridge import config, exceptions
from profiler_bridge import storage as storages
from profiler_bridge.bus import transport
from profiler_bridge.daemon import set_aside
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.exceptions import Reason
from profiler_bridge.storage import get_storage, get_storages
from tests import bus, servers
from tests.daemon import Daemon, script, wait_for
from tests.functional.test_bridge import pieces, stored


def configuration(folder: Path, urls: Sequence[str]) -> cfg.ConfigOpts:
    path = folder / "several.conf"
    path.write_text(
        f"[bridge]\nset_aside = {folder / 'set-aside.sqlite'}\n"
        "[osprofiler]\n"
        + "".join(f"connection_string = {url}\n" for url in urls)
    )
    return config.prepare(
        [f"--config-file={path}"], storages, transport, set_aside
    )


def pools(folder: Path, *urls: str) -> list[str | None]:
    conf = configuration(folder, urls)
    return transport.get_pools(conf, get_storages(conf))


def daemon(folder: Path, transport_url: str, urls: list[str]) -> Daemon:
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": transport_url},
            "osprofiler": {"connection_string": urls},
            "bridge": {"batch_timeout": 0.1},
        },
    )


def profile(
    transport_url: str, exchange: str, requests: int = 10
) -> list[str]:
    """Requests of a service that has an exchange; their base_ids."""
    base_ids = []
    with bus.osprofiler_to(transport_url, exchange=exchange):
        for _ in range(requests):
            base_ids.append(profiler.init("SECRET_KEY").get_base_id())
            with profiler.Trace("wsgi"):
                pass
            profiler.clean()
    return base_ids


def wait_for_stored(url: str, base_ids: Sequence[str], count: int) -> None:
    storage = get_storage(url)
    wait_for(
        lambda: stored(storage, base_ids) == count, f"{count} in {storage}"
    )


def test_one_that_is_down_neither_stalls_the_others_nor_loses_anything(
    rabbitmq: servers.RabbitMQ,
    mariadb: servers.MariaDB,
    transport_url: str,
    redis_url: str,
    mariadb_url: str,
    tmp_path: Path,
) -> None:
    [_, pool] = pools(tmp_path, redis_url, mariadb_url)
    assert pool is not None
    for exchange in ("nova", "neutron"):
        bus.make_exchange(transport_url, exchange)
    with daemon(tmp_path, transport_url, [redis_url, mariadb_url]) as running:
        wait_for(lambda: running.log.count("Listening") == 2, "two listeners")
        base_ids = profile(transport_url, "nova")
        wait_for_stored(redis_url, base_ids, 20)
        wait_for_stored(mariadb_url, base_ids, 20)

        mariadb.stop()
        base_ids += profile(transport_url, "neutron")
        # What waits for MariaDB does not keep Redis waiting.
        wait_for_stored(redis_url, base_ids, 40)
        wait_for(lambda: "Waiting for" in running.log, "a word of it")
        mariadb.start()
        wait_for_stored(mariadb_url, base_ids, 40)
        assert running.terminate() == 0
    assert rabbitmq.queue_depth(bus.QUEUE, transport_url) == 0
    assert rabbitmq.queue_depth(pool, transport_url) == 0


def test_one_that_is_down_at_the_start_gets_everything_later(
    mariadb: servers.MariaDB,
    transport_url: str,
    redis_url: str,
    mariadb_url: str,
    tmp_path: Path,
) -> None:
    bus.make_exchange(transport_url, "keystone")
    mariadb.stop()
    with daemon(tmp_path, transport_url, [redis_url, mariadb_url]) as running:
        wait_for(lambda: running.log.count("Listening") == 2, "two listeners")
        base_ids = profile(transport_url, "keystone")
        wait_for_stored(redis_url, base_ids, 20)
        # Or MariaDB can be there before the first attempt.
        wait_for(lambda: "Waiting for" in running.log, "the storage missed")
        mariadb.start()
        # Which makes its tables.
        wait_for(lambda: "is back" in running.log, "MariaDB")
        wait_for_stored(mariadb_url, base_ids, 20)
        assert running.terminate() == 0


def test_what_arrives_while_the_bridge_is_away_reaches_all(
    transport_url: str, redis_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    """The queues outlive the bridge."""
    bus.make_exchange(transport_url, "nova")
    urls = [redis_url, sqlite_url]
    with daemon(tmp_path, transport_url, urls) as running:
        wait_for(lambda: running.log.count("Listening") == 2, "two listeners")
        assert running.terminate() == 0
    base_ids = profile(transport_url, "nova")
    with daemon(tmp_path, transport_url, urls):
        for url in urls:
            wait_for_stored(url, base_ids, 20)


def test_a_pool_has_the_same_name_whatever_its_password_and_place(
    tmp_path: Path,
) -> None:
    redis, database = "redis://localhost/0", "mysql+pymysql://u:{}@localhost/p"
    [first, pool] = pools(tmp_path, redis, database.format("secret"))
    [_, _, other] = pools(
        tmp_path, redis, "sqlite:////tmp/x", database.format("changed")
    )
    assert first is None
    assert pool == other
    assert pool is not None
    assert pool.startswith("profiler_bridge-mysql-")
    assert pools(tmp_path, redis, "redis://localhost/1") != pools(
        tmp_path, redis, "redis://localhost/2"
    )


def test_sighup_takes_a_new_password_but_no_other_storages(
    transport_url: str, redis_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    bus.make_exchange(transport_url, "nova")
    running = daemon(tmp_path, transport_url, [redis_url, sqlite_url])
    with running:
        wait_for(lambda: running.log.count("Listening") == 2, "two listeners")
        text = running.config_file.read_text()
        running.config_file.write_text(
            text.replace(f"connection_string = {sqlite_url}\n", "")
        )
        running.signal("HUP")
        wait_for(lambda: running.log.count("Listening") == 4, "new workers")
        assert "Going on with the storages of before" in running.log
        base_ids = profile(transport_url, "nova")
        for url in (redis_url, sqlite_url):
            wait_for_stored(url, base_ids, 20)
        assert running.terminate() == 0


def test_the_section_of_services_counts_where_ours_says_nothing(
    tmp_path: Path,
) -> None:
    conf = configuration(tmp_path, ["redis://one", "redis://two"])
    path = tmp_path / "several.conf"
    services = "[profiler]\nconnection_string = messaging://\n"
    path.write_text(services + path.read_text())
    conf.reload_config_files()
    assert storages.connection_strings(conf) == ["redis://one", "redis://two"]
    path.write_text(services.replace("messaging://", "redis://three"))
    conf.reload_config_files()
    assert storages.connection_strings(conf) == ["redis://three"]


def test_the_same_storage_twice_is_refused(tmp_path: Path) -> None:
    urls = ["mysql://u:one@localhost/p", "mysql://u:two@localhost/p"]
    with pytest.raises(
        exceptions.ConfigurationError, match="more than once"
    ) as caught:
        get_storages(configuration(tmp_path, urls))
    assert "two" not in str(caught.value)


def test_set_aside_messages_are_replayed_into_every_storage(
    redis_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    conf = configuration(tmp_path, [redis_url, sqlite_url])
    [payload, _] = pieces(str(uuid.uuid4()), 1)
    SetAside.from_conf(conf).add(
        [
            SetAsideMessage(
                Reason.STORAGE_REFUSED,
                "not that",
                "api",
                json.dumps(bus.envelope(payload)),
            )
        ]
    )
    done = subprocess.run(
        [
            script("profiler-bridge-manage"),
            f"--config-file={tmp_path / 'several.conf'}",
            *("set-aside", "replay", "--all"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1 stored, 0 left\n", "")
    for url in (redis_url, sqlite_url):
        assert stored(get_storage(url), [payload["base_id"]]) == 1
