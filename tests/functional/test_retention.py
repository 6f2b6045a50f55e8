# SPDX-License-Identifier: Apache-2.0

"""Old traces go: by the daemon, and by hand."""

from __future__ import annotations

import datetime
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_bridge.notification import Notification
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.retention import seconds
from profiler_bridge.storage.traces import Storage
from tests import servers
from tests.daemon import Daemon, script, wait_for
from tests.functional.test_bridge import pieces, stored

DATABASES = ["sqlite_url", "mariadb_url", "postgresql_url"]


def write(storage: Storage, age: datetime.timedelta) -> str:
    """A trace that ended so long ago; its base_id."""
    base_id = str(uuid.uuid4())
    when = datetime.datetime.now(datetime.UTC) - age
    timestamp = when.strftime("%Y-%m-%dT%H:%M:%S.%f")
    storage.write(
        [
            Notification.from_payload({**payload, "timestamp": timestamp})
            for payload in pieces(base_id, 1)
        ]
    )
    return base_id


OLD = datetime.timedelta(days=8)
NEW = datetime.timedelta(days=6)


def daemon(folder: Path, *urls: str) -> Daemon:
    folder.mkdir(exist_ok=True)
    # A bus that is not there: purging is no business of its.
    nobody = f"rabbit://guest:guest@127.0.0.1:{servers.free_port()}/"
    return Daemon(
        folder,
        {
            "DEFAULT": {"transport_url": nobody},
            "osprofiler": {
                "connection_string": [*urls],
                # So short that it is looked at every second.
                "retention": "10s",
            },
        },
    )


@pytest.mark.parametrize("database", DATABASES)
def test_the_daemon_deletes_what_is_old(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url: str = request.getfixturevalue(database)
    if database == "mariadb_url":
        request.getfixturevalue("mariadb").execute(
            "GRANT DELETE ON *.* TO " + get_user(url)
        )
    storage = get_storage(url)
    storage.prepare()
    old = write(storage, OLD)
    new = write(storage, -NEW)
    with daemon(tmp_path, url) as running:
        wait_for(lambda: stored(storage, [old]) == 0, "a purge")
        wait_for(lambda: "Deleted 1 old traces" in running.log, "its word")
        assert stored(storage, [new]) == 2
        assert running.terminate() == 0


def get_user(url: str) -> str:
    return f"{url.split('//')[1].split(':')[0]}@'%'"


def test_a_user_without_the_right_gets_one_warning(
    mariadb_url: str, tmp_path: Path, mariadb: servers.MariaDB
) -> None:
    storage = get_storage(mariadb_url)
    storage.prepare()
    old = write(storage, OLD)
    with daemon(tmp_path, mariadb_url) as running:
        wait_for(lambda: "not deleted" in running.log, "a warning")
        # It goes on trying, and says no more of it.
        mariadb.execute(f"GRANT DELETE ON *.* TO {get_user(mariadb_url)}")
        wait_for(lambda: stored(storage, [old]) == 0, "a purge")
        assert running.terminate() == 0
    [line] = [line for line in running.log.splitlines() if "not del" in line]
    assert "DELETE for purging" in line
    assert "Traceback" not in running.log


def test_two_daemons_at_once_do_no_harm(
    mariadb: servers.MariaDB, mariadb_url: str
) -> None:
    mariadb.execute(f"GRANT DELETE ON *.* TO {get_user(mariadb_url)}")
    storages = [get_storage(mariadb_url) for _ in range(3)]
    storages[0].prepare()
    old = [write(storages[0], OLD) for _ in range(100)]
    new = [write(storages[0], NEW) for _ in range(10)]
    with ThreadPoolExecutor() as pool:
        purged = [
            *pool.map(lambda storage: storage.purge(before(7)), storages)
        ]
    assert max(purged) <= 100 <= sum(purged)
    assert stored(storages[0], old) == 0
    assert stored(storages[0], new) == 20


def before(days: int) -> int:
    ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days)
    return int(ago.timestamp() * 1_000_000)


def purge(
    folder: Path, urls: list[str], *args: str
) -> subprocess.CompletedProcess[str]:
    config = folder / "purge.conf"
    config.write_text(
        "[osprofiler]\n"
        + "".join(f"connection_string = {url}\n" for url in urls)
    )
    return subprocess.run(
        [
            script("profiler-bridge-manage"),
            f"--config-file={config}",
            "purge",
            *args,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_purge_by_hand(
    redis_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    urls = [redis_url, sqlite_url]
    old, new = [], []
    for url in urls:
        storage = get_storage(url)
        storage.prepare()
        old.append(write(storage, OLD))
        new.append(write(storage, NEW))

    tried = purge(tmp_path, urls, "--older-than", "7d", "--dry-run")
    assert tried.stdout == "".join(
        f"1 traces would be deleted from {url}\n" for url in urls
    )
    for url, base_id in zip(urls, old, strict=True):
        assert stored(get_storage(url), [base_id]) == 2

    done = purge(tmp_path, urls, "--older-than", "7d")
    assert done.stdout == "".join(
        f"1 traces were deleted from {url}\n" for url in urls
    )
    assert done.returncode == 0
    for url, gone, left in zip(urls, old, new, strict=True):
        assert stored(get_storage(url), [gone]) == 0
        assert stored(get_storage(url), [left]) == 2


def test_a_dry_run_needs_the_right_to_delete(
    mariadb: servers.MariaDB, mariadb_url: str, tmp_path: Path
) -> None:
    get_storage(mariadb_url).prepare()
    args = ("--older-than", "7d", "--dry-run")
    tried = purge(tmp_path, [mariadb_url], *args)
    assert tried.returncode == 1
    [line] = tried.stderr.splitlines()
    assert "DELETE for purging" in line
    mariadb.execute(f"GRANT DELETE ON *.* TO {get_user(mariadb_url)}")
    assert purge(tmp_path, [mariadb_url], *args).returncode == 0


def test_a_purge_needs_the_right_to_insert(
    mariadb: servers.MariaDB, mariadb_url: str, tmp_path: Path
) -> None:
    """What comes while a trace is deleted is indexed anew."""
    storage = get_storage(mariadb_url)
    storage.prepare()
    old = write(storage, OLD)
    user, database = get_user(mariadb_url), sa.make_url(mariadb_url).database
    mariadb.execute(f"REVOKE ALL ON {database}.* FROM {user}")
    mariadb.execute(f"GRANT SELECT, DELETE ON {database}.* TO {user}")
    for args in (["--dry-run"], []):
        tried = purge(tmp_path, [mariadb_url], "--older-than", "7d", *args)
        assert tried.returncode == 1
        [line] = tried.stderr.splitlines()
        assert "INSERT" in line
        assert "DELETE for purging" in line
    mariadb.execute(f"GRANT INSERT ON {database}.* TO {user}")
    assert stored(get_storage(mariadb_url), [old]) == 2
    purge(tmp_path, [mariadb_url], "--older-than", "7d")
    assert stored(get_storage(mariadb_url), [old]) == 0


def test_a_storage_that_is_down_keeps_no_other_from_being_purged(
    sqlite_url: str, tmp_path: Path
) -> None:
    storage = get_storage(sqlite_url)
    storage.prepare()
    old = write(storage, OLD)
    nobody = f"redis://127.0.0.1:{servers.free_port()}/0"
    done = purge(tmp_path, [nobody, sqlite_url], "--older-than", "7d")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert stored(storage, [old]) == 0


@pytest.mark.parametrize("age", ["", "7 days", "-1d", "d", "7y", "1.5h"])
def test_what_is_no_age_is_refused(age: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not like"):
        seconds(age)


def test_ages() -> None:
    assert [seconds(text) for text in ("0", "90", "90s", "2m", "1h")] == [
        *(0, 90, 90, 120, 3600)
    ]
    assert [seconds(text) for text in ("7d", "2w")] == [604800, 1209600]
